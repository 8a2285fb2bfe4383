#include "nn/data/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "nn/data/loader.h"
#include "nn/data/u8_dataset.h"

namespace sinew::nn {
namespace {

constexpr int64_t kH = 9, kW = 11, kC = 3, kN = 64;

// Pixel value of sample n, a formula of its own.
int pixel(int64_t n, int64_t y, int64_t x, int64_t c) {
  return static_cast<int>((n * 131 + y * 37 + x * 11 + c * 83) % 256);
}

U8Samples images() {
  U8Samples s{.name = "images",
              .sample_shape = {kH, kW, kC},
              .classes = 2,
              .class_names = {"a", "b"},
              .mean = {0.1, 0.2, 0.3},
              .std = {0.5, 0.25, 2},
              .values = {},
              .labels = {}};
  for (int64_t n = 0; n < kN; ++n) {
    s.labels.push_back(static_cast<uint8_t>(n % 2));
    for (int64_t y = 0; y < kH; ++y)
      for (int64_t x = 0; x < kW; ++x)
        for (int64_t c = 0; c < kC; ++c) s.values.push_back(static_cast<uint8_t>(pixel(n, y, x, c)));
  }
  return s;
}

// What a sample must be, pixel by pixel; black outside of the image.
std::vector<float> expected_sample(int64_t n, int64_t top, int64_t left, int64_t h, int64_t w, bool flip) {
  const double mean[] = {0.1, 0.2, 0.3}, std[] = {0.5, 0.25, 2};
  std::vector<float> out;
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      for (int64_t c = 0; c < kC; ++c) {
        const int64_t iy = top + y, ix = left + (flip ? w - 1 - x : x);
        const int v = iy < 0 || iy >= kH || ix < 0 || ix >= kW ? 0 : pixel(n, iy, ix, c);
        out.push_back(static_cast<float>((v / 255.0 - mean[c]) / std[c]));
      }
  return out;
}

std::vector<float> read_one(const Dataset& data, int64_t index, const Draw* draw) {
  return read_batch(data, std::span(&index, 1), Device::cpu, draw).inputs.to_vector<float>();
}

TEST(Augment, Names) {
  EXPECT_EQ(augment_names(), (std::vector<std::string>{"none", "flip", "crop", "crop_flip", "resized_crop"}));
  EXPECT_EQ(*augment_named("crop_flip"), Augment::crop_flip);
  EXPECT_EQ(augment_named("cutout").status().message(),
            "data.augment 'cutout' is not one of none, flip, crop, crop_flip, resized_crop");
}

TEST(Augment, TestsSeeTheMiddle) {
  for (Augment a : {Augment::none, Augment::flip, Augment::crop, Augment::crop_flip, Augment::resized_crop}) {
    const U8Dataset data(images(), {.augment = a, .crop = 6, .padding = 2});
    EXPECT_EQ(data.sample_shape(), (Shape{6, 6, 3}));
    EXPECT_EQ(read_one(data, 5, nullptr), expected_sample(5, 1, 2, 6, 6, false));  // (9 - 6) / 2, (11 - 6) / 2
  }
  const U8Dataset whole(images());
  EXPECT_EQ(whole.sample_shape(), (Shape{9, 11, 3}));
  EXPECT_EQ(read_one(whole, 63, nullptr), expected_sample(63, 0, 0, 9, 11, false));
  const Draw draw{.seed = 1, .pass = 7};
  EXPECT_EQ(read_one(whole, 63, &draw), expected_sample(63, 0, 0, 9, 11, false)) << "without augmentation";
}

// Every sample is one of the allowed windows, and all of them occur about equally often.
TEST(Augment, CropsAndFlipsAreEquallyLikely) {
  struct Row {
    Augment augment;
    int64_t padding;
    int64_t tops, lefts, flips;  // how many there are
  };
  for (const Row& row : {Row{Augment::crop_flip, 0, 4, 6, 2}, Row{Augment::crop_flip, 2, 8, 10, 2},
                         Row{Augment::crop, 1, 6, 8, 1}, Row{Augment::flip, 3, 1, 1, 2}}) {
    const ImageOptions options{.augment = row.augment, .crop = 6, .padding = row.padding};
    const U8Dataset data(images(), options);
    std::map<std::tuple<int64_t, int64_t, bool>, int> seen;
    const int64_t passes = 60;
    for (int64_t pass = 0; pass < passes; ++pass)
      for (int64_t n = 0; n < kN; ++n) {
        const Draw draw{.seed = 5, .pass = static_cast<uint64_t>(pass)};
        const Window w = training_window(options, kH, kW, 6, 6, draw, n);
        ++seen[{w.top, w.left, w.flip}];
        if (pass < 5) {
          ASSERT_EQ(read_one(data, n, &draw), expected_sample(n, w.top, w.left, 6, 6, w.flip)) << pass << " " << n;
        }
      }
    const int64_t kinds = row.tops * row.lefts * row.flips;
    EXPECT_EQ(static_cast<int64_t>(seen.size()), kinds);
    const double mean = static_cast<double>(passes * kN) / static_cast<double>(kinds);
    for (const auto& [window, count] : seen) {
      const auto& [top, left, flip] = window;
      if (row.augment != Augment::flip) {
        EXPECT_TRUE(top >= -row.padding && top + 6 <= kH + row.padding) << top;
        EXPECT_TRUE(left >= -row.padding && left + 6 <= kW + row.padding) << left;
      }
      EXPECT_NEAR(count, mean, 5 * std::sqrt(mean));
    }
  }
}

TEST(Augment, WindowsMayLieOutside) {
  const Normalisation normal(3, {0.1, 0.2, 0.3}, {0.5, 0.25, 2});
  const U8Samples all = images();
  for (int64_t top : {-20, -6, -3, 0, 5, 9, 30})
    for (int64_t left : {-20, -6, -3, 0, 7, 11, 30})
      for (bool flip : {false, true}) {
        std::vector<float> out(6 * 5 * 3);
        normal.write(all.values.data(), kH, kW, {.top = top, .left = left, .height = 6, .width = 5, .flip = flip},
                     out.data());
        ASSERT_EQ(out, expected_sample(0, top, left, 6, 5, flip)) << top << " " << left << " " << flip;
      }
}

// The draws are part of the reproducibility contract.
TEST(Augment, GoldenWindows) {
  const ImageOptions crop{.augment = Augment::crop_flip, .crop = 32, .padding = 4};
  const ImageOptions resized{.augment = Augment::resized_crop, .crop = 224};
  std::vector<int64_t> got;
  for (int64_t sample : {0, 3, 49999}) {
    for (const auto& [options, side] : {std::pair(&crop, 32), std::pair(&resized, 500)}) {
      const Window w =
          training_window(*options, side, side, options->crop, options->crop, {.seed = 1, .pass = 2}, sample);
      got.insert(got.end(), {w.top, w.left, w.height, w.width, w.flip ? 1 : 0});
    }
  }
  EXPECT_EQ(got, (std::vector<int64_t>{-1, -1,  32,  32,  1, 138, 67, 297, 292, 1, 1,  1,  32,  32,  1,
                                       31, 124, 269, 202, 1, 2,   -2, 32,  32,  1, 45, 22, 440, 444, 1}));
}

TEST(Augment, KeyedBySeedPassAndSample) {
  const ImageOptions options{.augment = Augment::crop_flip, .crop = 32, .padding = 4};
  auto windows = [&](uint64_t seed, uint64_t pass, int64_t first) {
    std::vector<int64_t> all;
    for (int64_t n = first; n < first + 50; ++n) {
      const Window w = training_window(options, 32, 32, 32, 32, {.seed = seed, .pass = pass}, n);
      all.insert(all.end(), {w.top, w.left, w.flip ? 1 : 0});
    }
    return all;
  };
  EXPECT_EQ(windows(1, 0, 0), windows(1, 0, 0));
  std::set<std::vector<int64_t>> different;
  for (uint64_t seed : {1, 2})
    for (uint64_t pass : {0, 1, 2})
      for (int64_t first : {0, 50}) different.insert(windows(seed, pass, first));
  EXPECT_EQ(different.size(), 12u);
}

// Area and ratio of a resized crop: within what was asked, over the whole range, the log of the ratio evenly.
TEST(Augment, ResizedCropsCoverTheirRange) {
  const ImageOptions options{.augment = Augment::resized_crop, .crop = 32};
  double least_area = 1, most_area = 0, sum_area = 0, sum_log_ratio = 0, flips = 0;
  constexpr int kDraws = 4000;
  for (int n = 0; n < kDraws; ++n) {
    const Window w = training_window(options, 400, 400, 32, 32, {.seed = 9, .pass = 1}, n);
    ASSERT_TRUE(w.top >= 0 && w.left >= 0 && w.top + w.height <= 400 && w.left + w.width <= 400);
    const double area = static_cast<double>(w.height * w.width) / 160000;
    const double ratio = static_cast<double>(w.width) / static_cast<double>(w.height);
    ASSERT_TRUE(area > 0.078 && area <= 1 && ratio > 0.74 && ratio < 1.35) << area << " " << ratio;
    least_area = std::min(least_area, area), most_area = std::max(most_area, area);
    sum_area += area, sum_log_ratio += std::log(ratio), flips += w.flip;
  }
  EXPECT_LT(least_area, 0.09);
  EXPECT_GT(most_area, 0.97);
  // Drawn again when it does not fit, so large areas are a little rarer than evenly drawn ones (mean 0.54).
  EXPECT_NEAR(sum_area / kDraws, 0.5, 0.04);
  EXPECT_NEAR(sum_log_ratio / kDraws, 0, 0.015);
  EXPECT_NEAR(flips / kDraws, 0.5, 0.04);
  // A sliver has no window of the ratio in ten attempts, or hardly: the middle is taken.
  const Window sliver = training_window(options, 1000, 10, 32, 32, {.seed = 9, .pass = 1}, 1);
  EXPECT_EQ(sliver.width, 10);
  EXPECT_EQ(sliver.height, 13);
  EXPECT_EQ(sliver.top, (1000 - 13) / 2);
}

TEST(Augment, WorkersAndThreadsSeeTheSameSample) {
  const auto data =
      std::make_shared<U8Dataset>(images(), ImageOptions{.augment = Augment::crop_flip, .crop = 8, .padding = 4});
  // With `full` each worker reads every sample once in an epoch, in its own order.
  std::map<int64_t, std::vector<float>> first;
  for (int worker : {2, 0, 1})
    for (int threads : {1, 4}) {
      LoaderOptions options{.batch = 1, .worker = worker, .workers = 3, .prefetch = 4, .threads = threads};
      Loader loader(data, options);
      std::vector<int64_t> order = shard_of(*data, options).training;
      // Which sample a batch holds is not visible: recompute it from the pixels of the same draw.
      std::multiset<std::vector<float>> got, expected;
      for (int64_t n : order) {
        got.insert(loader.next().inputs.to_vector<float>());
        const Draw draw{.seed = 1, .pass = 0};
        expected.insert(read_one(*data, n, &draw));
      }
      EXPECT_EQ(got, expected) << worker << " " << threads;
    }
}

TEST(Augment, Overrides) {
  const U8Dataset data(images(), {.mean = {0}, .std = {1}});
  EXPECT_EQ(read_one(data, 3, nullptr)[5], static_cast<float>(pixel(3, 0, 1, 2) / 255.0));
  const U8Dataset each(images(), {.mean = {0, 0.5, 0}, .std = {1, 2, 3}});
  EXPECT_EQ(read_one(each, 3, nullptr)[4], static_cast<float>((pixel(3, 0, 1, 1) / 255.0 - 0.5) / 2));
}

TEST(Augment, OneLineForWhatDoesNotFit) {
  auto message = [](const ImageOptions& o) { return check_image_options(o, {kH, kW, kC}).message(); };
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.crop = 10}), "data.crop 10 is more than the images' 9 x 11; 0 takes the whole image");
  EXPECT_EQ(message({.mean = {1, 2}}), "data.mean: 2 values for 3 channels; give one, or one for each");
  EXPECT_EQ(message({.std = {1, 0, 1}}), "data.std: 0 is not positive");
  EXPECT_EQ(check_image_options({.augment = Augment::flip}, {5}).message(),
            "data.crop, data.augment: samples of shape (5) are not images (H, W, C); leave these options out");
  EXPECT_THROW(U8Dataset(images(), {.crop = 10}), Error);
}

}  // namespace
}  // namespace sinew::nn
