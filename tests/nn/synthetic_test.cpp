#include "nn/data/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <thread>

#include "core/sha256.h"
#include "nn/data/u8_dataset.h"

namespace sinew::nn {
namespace {

using Image = std::array<uint8_t, kSyntheticPixels>;

Image draw(uint64_t seed, SyntheticPart part, int64_t i) {
  Image image;
  draw_synthetic(seed, part, i, image);
  return image;
}
std::string hash_of(uint64_t seed, SyntheticPart part, int64_t count) {
  Sha256 hash;
  for (int64_t i = 0; i < count; ++i) {
    const Image image = draw(seed, part, i);
    const auto label = static_cast<uint8_t>(synthetic_label(seed, part, i));
    hash.update(image.data(), image.size());
    hash.update(&label, 1);
  }
  return hash.hex();
}

// The contract: these bytes, on every machine. A change of the generator needs a new name, not a new hash.
TEST(Synthetic, SameBytesEverywhere) {
  EXPECT_EQ(hash_of(1, SyntheticPart::train, 2000), "11d1ef4a664376086fa441449120a31ff710a14dc1a275c80b2d165c220008d7");
  EXPECT_EQ(hash_of(1, SyntheticPart::test, 500), "5ef7363fe8b0c7e5190781b3a048d3b00211021a55bf9a369abbbd8bbe9dd035");
  EXPECT_EQ(hash_of(0xfedcba9876543210u, SyntheticPart::train, 500),
            "14c19084036d333f5411171d1274406133c064a93e4034545811f74475ca0b72");
}

TEST(Synthetic, ADataSetIsItsSamples) {
  const DataSplit data = open_synthetic(7, 300).value();
  EXPECT_EQ(data.train->size(), 300);
  EXPECT_EQ(data.test->size(), kSyntheticTestSize);
  for (const auto& [part, set] :
       {std::pair(SyntheticPart::train, data.train), std::pair(SyntheticPart::test, data.test)}) {
    EXPECT_EQ(set->sample_shape(), (Shape{28, 28, 1}));
    EXPECT_EQ(set->classes(), 10);
    const U8Samples& samples = dynamic_cast<const U8Dataset&>(*set).samples();
    for (int64_t i : {299, 0, 17}) {  // drawn alone and in any order
      const Image image = draw(7, part, i);
      EXPECT_TRUE(std::equal(image.begin(), image.end(), samples.values.begin() + i * kSyntheticPixels));
      EXPECT_EQ(samples.labels[static_cast<size_t>(i)], synthetic_label(7, part, i));
    }
  }
}

TEST(Synthetic, SeedsPartsAndSamplesDiffer) {
  std::set<Image> images;
  for (uint64_t seed : {1, 2, 3})
    for (SyntheticPart part : {SyntheticPart::train, SyntheticPart::test})
      for (int64_t i = 0; i < 20; ++i) images.insert(draw(seed, part, i));
  EXPECT_EQ(images.size(), 3u * 2u * 20u);
}

TEST(Synthetic, LabelsAreBalancedAndShuffled) {
  std::set<std::array<int, 10>> orders;
  for (int64_t block = 0; block < 100; ++block) {
    std::array<int, 10> labels;
    for (int64_t k = 0; k < 10; ++k)
      labels[static_cast<size_t>(k)] = synthetic_label(1, SyntheticPart::train, 10 * block + k);
    orders.insert(labels);
    std::ranges::sort(labels);
    EXPECT_EQ(labels, (std::array<int, 10>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  }
  EXPECT_GT(orders.size(), 95u);
}

TEST(Synthetic, ThreadsDrawTheSame) {
  std::array<std::string, 4> hashes;
  std::vector<std::thread> threads;
  for (std::string& hash : hashes) threads.emplace_back([&hash] { hash = hash_of(3, SyntheticPart::train, 50); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& hash : hashes) EXPECT_EQ(hash, hashes[0]);
}

// Classes can be told apart, but not by their mean images alone. Integers throughout: an exact count.
TEST(Synthetic, NeitherTrivialNorNoise) {
  constexpr int64_t kTrain = 4000, kTest = 1000;
  std::vector<std::array<int64_t, kSyntheticPixels>> sums(10);
  for (int64_t i = 0; i < kTrain; ++i) {
    const Image image = draw(1, SyntheticPart::train, i);
    auto& sum = sums[static_cast<size_t>(synthetic_label(1, SyntheticPart::train, i))];
    for (size_t p = 0; p < image.size(); ++p) sum[p] += image[p];
  }
  int64_t right = 0;
  for (int64_t i = 0; i < kTest; ++i) {
    const Image image = draw(1, SyntheticPart::test, i);
    std::array<int64_t, 10> distances{};
    for (size_t c = 0; c < 10; ++c)
      for (size_t p = 0; p < image.size(); ++p) {
        const int64_t d = image[p] - sums[c][p] / (kTrain / 10);
        distances[c] += d * d;
      }
    right += std::ranges::min_element(distances) - distances.begin() == synthetic_label(1, SyntheticPart::test, i);
  }
  EXPECT_GT(right, kTest / 2);
  EXPECT_LT(right, kTest * 85 / 100);
}

TEST(Synthetic, SizesOutOfRange) {
  EXPECT_THROW(static_cast<void>(open_synthetic(1, 0)), Error);
  EXPECT_THROW(static_cast<void>(open_synthetic(1, kSyntheticMaxSize + 1)), Error);
}

}  // namespace
}  // namespace sinew::nn
