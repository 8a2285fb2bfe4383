#include "nn/data/resize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/philox.h"
#include "nn/data/u8_dataset.h"

namespace sinew::nn {
namespace {

std::vector<uint8_t> noise(int64_t n) {
  const RngKey key{.seed = 4, .purpose = static_cast<uint32_t>(RngPurpose::test), .rank = 0, .step = 0};
  std::vector<uint8_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<uint8_t>(philox_u32(key, static_cast<uint64_t>(i))));
  return out;
}

// Weight of input k for output i: a triangle around the output's centre, at least one input pixel wide on each side.
double weight(int64_t from, int64_t to, int64_t i, int64_t k) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), half = scale > 1 ? scale : 1;
  return std::max(0.0, 1 - std::abs(static_cast<double>(k) + 0.5 - (static_cast<double>(i) + 0.5) * scale) / half);
}

// The same in real numbers, every pixel from the whole row and column.
std::vector<double> slow(const std::vector<uint8_t>& image, int64_t image_width, int64_t channels, const Window& w,
                         int64_t height, int64_t width) {
  std::vector<double> out;
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0, weights = 0;
        for (int64_t v = 0; v < w.height; ++v)
          for (int64_t u = 0; u < w.width; ++u) {
            const double wt = weight(w.height, height, y, v) * weight(w.width, width, x, u);
            sum += wt * image[static_cast<size_t>(((w.top + v) * image_width + w.left + u) * channels + c)];
            weights += wt;
          }
        out.push_back(sum / weights);
      }
  return out;
}

TEST(Resize, AgreesWithTheSlowLoop) {
  struct Row {
    int64_t height, width, channels;
    Window window;
    int64_t to_height, to_width;
  };
  for (const Row& r :
       {Row{20, 30, 3, {.height = 20, .width = 30}, 7, 9}, Row{20, 30, 1, {.height = 20, .width = 30}, 50, 33},
        Row{20, 30, 3, {.top = 3, .left = 5, .height = 11, .width = 13}, 8, 8},
        Row{20, 30, 2, {.top = 19, .left = 29, .height = 1, .width = 1}, 4, 4},
        Row{64, 3, 1, {.height = 64, .width = 3}, 1, 1}}) {
    const std::vector<uint8_t> image = noise(r.height * r.width * r.channels);
    std::vector<uint8_t> got(static_cast<size_t>(r.to_height * r.to_width * r.channels));
    resize_window(image.data(), r.width, r.channels, r.window, r.to_height, r.to_width, got.data());
    const std::vector<double> expected = slow(image, r.width, r.channels, r.window, r.to_height, r.to_width);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], 1.02) << i;  // half a step for each of two roundings
  }
}

TEST(Resize, TheSameSizeIsTheSameImage) {
  const std::vector<uint8_t> image = noise(12 * 10 * 3);
  std::vector<uint8_t> got(image.size());
  resize_window(image.data(), 10, 3, {.height = 12, .width = 10}, 12, 10, got.data());
  EXPECT_EQ(got, image);
}

TEST(Resize, ByHand) {
  // Four pixels to two: the triangle of half-width 2 around 1 weighs them 1.5/2, 1.5/2, 0.5/2 and 0.
  const std::vector<uint8_t> row = {0, 70, 140, 255};
  std::vector<uint8_t> got(2);
  resize_window(row.data(), 4, 1, {.height = 1, .width = 4}, 1, 2, got.data());
  EXPECT_EQ(got[0], 50);   // (3 * 0 + 3 * 70 + 140) / 7
  EXPECT_EQ(got[1], 179);  // (70 + 3 * 140 + 3 * 255) / 7 = 179.28...
}

TEST(Resize, ResizedCropOfADataSet) {
  U8Samples samples{
      .name = "one", .sample_shape = {40, 50, 3}, .classes = 1, .class_names = {"a"}, .values = {}, .labels = {0}};
  samples.values = noise(40 * 50 * 3);
  const std::vector<uint8_t> image = samples.values;
  const ImageOptions options{.augment = Augment::resized_crop, .crop = 16};
  const U8Dataset data(std::move(samples), options);
  bool flipped = false, straight = false;
  for (uint64_t pass = 0; pass < 8; ++pass) {
    const Draw draw{.seed = 1, .pass = pass};
    const Window w = training_window(options, 40, 50, 16, 16, draw, 0);
    const std::vector<double> expected = slow(image, 50, 3, w, 16, 16);
    const int64_t index = 0;
    const std::vector<float> got = read_batch(data, std::span(&index, 1), Device::cpu, &draw).inputs.to_vector<float>();
    for (size_t y = 0; y < 16; ++y)
      for (size_t x = 0; x < 16; ++x)
        for (size_t c = 0; c < 3; ++c)
          ASSERT_NEAR(got[(y * 16 + x) * 3 + c] * 255, expected[(y * 16 + (w.flip ? 15 - x : x)) * 3 + c], 1.02);
    (w.flip ? flipped : straight) = true;
  }
  EXPECT_TRUE(flipped && straight);
}

}  // namespace
}  // namespace sinew::nn
