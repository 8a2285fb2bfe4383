#include "nn/data/image.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/fuzz/image_property.h"
#include "tests/nn/image_files.h"

namespace sinew::nn {
namespace {

bool reads(const std::string& format) {
  const auto formats = image_formats();
  return std::ranges::find(formats, format) != formats.end();
}
#define NEEDS(format)                                                                                           \
  if (!reads(format)) {                                                                                         \
    const Bytes some = std::string(format) == "PNG" ? png_of(1, 1, 0, {1}) : jpeg_rgb();                        \
    EXPECT_EQ(decode_image(some, "the-file").status().code(), StatusCode::unavailable);                         \
    EXPECT_HAS(decode_image(some, "the-file").status().message(), "the-file: this program was built without "); \
    GTEST_SKIP() << "built without " << format;                                                                 \
  }

std::string refused(const Bytes& bytes) {
  const Result<Image> image = decode_image(bytes, "the-file");
  EXPECT_FALSE(image.ok());
  if (image.ok()) return "";
  EXPECT_EQ(image.status().code(), StatusCode::data_error);
  EXPECT_TRUE(image.status().message().starts_with("the-file: ")) << image.status().message();
  EXPECT_TRUE(fuzz::is_one_line(image.status().message())) << image.status().message();
  return image.status().message();
}

TEST(Png, Decodes) {
  NEEDS("PNG");
  const Bytes pixels = {1, 2, 3, 4, 5, 6, 7, 8, 9, 250, 251, 252};
  const Result<Image> rgb = decode_image(png_of(2, 2, 2, pixels), "the-file");
  ASSERT_TRUE(rgb.ok()) << rgb.status().message();
  EXPECT_EQ(rgb->height, 2);
  EXPECT_EQ(rgb->width, 2);
  EXPECT_EQ(rgb->pixels, pixels);
  const Result<Image> grey = decode_image(png_of(3, 1, 0, {0, 128, 255}), "the-file");
  ASSERT_TRUE(grey.ok()) << grey.status().message();
  EXPECT_EQ(grey->pixels, (Bytes{0, 0, 0, 128, 128, 128, 255, 255, 255}));
  const Result<Image> clear = decode_image(png_of(2, 1, 6, {9, 8, 7, 255, 200, 100, 50, 0}), "the-file");
  ASSERT_TRUE(clear.ok()) << clear.status().message();
  EXPECT_EQ(clear->pixels, (Bytes{9, 8, 7, 0, 0, 0})) << "transparent is black";
}

TEST(Png, RefusesDamage) {
  NEEDS("PNG");
  const Bytes whole = png_of(4, 4, 2, Bytes(48, 77));
  for (size_t n = 8; n + 12 < whole.size(); ++n)  // the last chunk, of 12 bytes, holds nothing
    EXPECT_HAS(refused(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n))), "corrupt PNG image (");
  Bytes bad = whole;
  bad[whole.size() - 30] ^= 1;  // in the pixels
  EXPECT_HAS(refused(bad), "corrupt PNG image (");
}

TEST(Png, RefusesHugeSizesBeforeAllocating) {
  NEEDS("PNG");
  EXPECT_HAS(refused(png_of(60000, 60000, 0, {})), "an image of 60000 x 60000 pixels; at most 65500 on a side");
  EXPECT_HAS(refused(png_of(70000, 1, 0, {})), "an image of 70000 x 1 pixels; at most");
}

void expect_pixels(const Image& image, int64_t height, int64_t width, int tolerance, auto value) {
  ASSERT_EQ(image.height, height);
  ASSERT_EQ(image.width, width);
  ASSERT_EQ(static_cast<int64_t>(image.pixels.size()), height * width * 3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        EXPECT_NEAR(image.pixels[static_cast<size_t>((y * width + x) * 3 + c)], value(y, x, c), tolerance)
            << y << " " << x << " " << c;
}

TEST(Jpeg, Decodes) {
  NEEDS("JPEG");
  const Result<Image> rgb = decode_image(jpeg_rgb(), "the-file");
  ASSERT_TRUE(rgb.ok()) << rgb.status().message();
  expect_pixels(*rgb, 8, 16, 8, [](int y, int x, int c) {
    return c == 0 ? 10 + 14 * x : c == 1 ? 200 - 20 * y : 90 + 4 * x + 6 * y;
  });
  const Result<Image> grey = decode_image(jpeg_progressive(), "the-file");
  ASSERT_TRUE(grey.ok()) << grey.status().message();
  expect_pixels(*grey, 8, 8, 4, [](int y, int x, int) { return 20 + 10 * x + 15 * y; });
  const Result<Image> inks = decode_image(jpeg_cmyk(), "the-file");
  ASSERT_TRUE(inks.ok()) << inks.status().message();
  expect_pixels(*inks, 8, 8, 3, [](int, int, int c) { return (c == 0 ? 215 : c == 1 ? 175 : 135) * 235 / 255; });
}

TEST(Jpeg, RefusesTruncationAtEveryByte) {
  NEEDS("JPEG");
  for (const Bytes& whole : {jpeg_rgb(), jpeg_progressive(), jpeg_cmyk()})
    for (size_t n = 3; n + 2 < whole.size(); ++n)  // the last two bytes are the end marker
      EXPECT_HAS(refused(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n))), "corrupt JPEG image (");
}

TEST(Jpeg, RefusesHugeSizesBeforeAllocating) {
  NEEDS("JPEG");
  Bytes bytes = jpeg_rgb();
  const Bytes frame = {0xff, 0xc0};
  const auto at = std::search(bytes.begin(), bytes.end(), frame.begin(), frame.end()) - bytes.begin();
  for (size_t i : {5, 6, 7, 8}) bytes[static_cast<size_t>(at) + i] = 0xf0;
  EXPECT_HAS(refused(bytes), "an image of 61680 x 61680 pixels; at most");
}

// A progressive file whose first scan comes again and again.
TEST(Jpeg, RefusesEndlessScans) {
  NEEDS("JPEG");
  const Bytes bytes = jpeg_progressive();
  const Bytes scan_mark = {0xff, 0xda};
  const auto scan = std::search(bytes.begin(), bytes.end(), scan_mark.begin(), scan_mark.end());
  auto next = scan + 2;  // the marker behind the scan's data, where 0xff is followed by 0
  while (next[0] != 0xff || next[1] == 0) ++next;
  Bytes many(bytes.begin(), scan);
  for (int i = 0; i < 1000; ++i) many.insert(many.end(), scan, next);
  many.insert(many.end(), next, bytes.end());
  EXPECT_HAS(refused(many), "corrupt JPEG image (more than 200 scans)");
}

TEST(Image, TellsFormatsFromTheContent) {
  EXPECT_EQ(refused({}), "the-file: an empty file, expected a PNG or JPEG image");
  EXPECT_EQ(refused({'G', 'I', 'F', '8', '9', 'a'}), "the-file: not a PNG or JPEG image");
}

TEST(Image, MutationsNeverBreakIt) {
  for (const Bytes& seed :
       {png_of(4, 3, 2, Bytes(36, 9)), png_of(2, 2, 6, Bytes(16, 99)), jpeg_rgb(), jpeg_progressive(), jpeg_cmyk()})
    for (uint64_t i = 0; i < 1500; ++i) {
      const Bytes bytes = fuzz::mutate(seed, i);
      ASSERT_EQ(fuzz::check_image(bytes.data(), bytes.size()), "") << "mutation " << i;
    }
}

}  // namespace
}  // namespace sinew::nn
