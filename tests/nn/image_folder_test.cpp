#include "nn/data/image_folder.h"

#include <algorithm>

#include "nn/data/loader.h"
#include "nn/data/resize.h"
#include "tests/nn/image_files.h"

namespace sinew::nn {
namespace {

// An image of one colour.
Bytes plain(uint32_t width, uint32_t height, uint8_t value) {
  return png_of(width, height, 2, Bytes(size_t{width} * height * 3, value));
}
// Value 10 y + x in all channels.
Bytes slope(uint32_t width, uint32_t height) {
  Bytes pixels;
  for (uint32_t y = 0; y < height; ++y)
    for (uint32_t x = 0; x < width; ++x) pixels.insert(pixels.end(), 3, static_cast<uint8_t>(10 * y + x));
  return png_of(width, height, 2, pixels);
}

class ImageFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto formats = image_formats();
    if (std::ranges::find(formats, "PNG") == formats.end()) GTEST_SKIP() << "built without libpng";
  }
  DataOptions options(int64_t crop = 4, int64_t resize = 4) const {
    DataOptions o{.name = "images", .dir = folder.path};
    o.image = {.crop = crop, .resize = resize, .mean = {0}, .std = {1.0 / 255}};
    return o;
  }
  TemporaryFolder folder;
};

std::vector<float> read_one(const Dataset& data, int64_t index, const Draw* draw = nullptr) {
  return read_batch(data, std::span(&index, 1), Device::cpu, draw).inputs.to_vector<float>();
}

TEST_F(ImageFolderTest, ClassesAndFilesAreSorted) {
  folder.put("train/dog/b.PNG", plain(4, 4, 1));
  folder.put("train/dog/a.png", plain(4, 4, 2));
  folder.put("train/cat/z.png", plain(4, 4, 3));
  folder.put("train/cat/notes.txt", "no image");
  folder.put("train/.hidden/x.png", plain(4, 4, 9));
  folder.put("val/dog/c.png", plain(4, 4, 4));
  const Result<DataSplit> data = open_data(options());
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->class_names(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(data->train->size(), 3);
  EXPECT_EQ(data->test->size(), 1);
  EXPECT_EQ(data->train->sample_shape(), (Shape{4, 4, 3}));
  const std::array<int64_t, 3> all = {0, 1, 2};
  const Batch batch = read_batch(*data->train, all);
  EXPECT_EQ(batch.labels.to_vector<int64_t>(), (std::vector<int64_t>{0, 1, 1}));
  const std::vector<float> inputs = batch.inputs.to_vector<float>();
  EXPECT_NEAR(inputs[0], 3, 1e-5);
  EXPECT_NEAR(inputs[48], 2, 1e-5);
  EXPECT_NEAR(inputs[96], 1, 1e-5);
  EXPECT_EQ(data->test->label(0), 1);
}

TEST_F(ImageFolderTest, ResizesTheShorterSideAndTakesTheMiddle) {
  folder.put("train/a/x.png", slope(12, 8));
  folder.put("test/a/x.png", slope(12, 8));
  const Result<DataSplit> data = open_data(options(3, 4));
  ASSERT_TRUE(data.ok()) << data.status().message();
  Bytes image, resized(4 * 6 * 3);
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 12; ++x) image.insert(image.end(), 3, static_cast<uint8_t>(10 * y + x));
  resize_window(image.data(), 12, 3, {.height = 8, .width = 12}, 4, 6, resized.data());
  for (const DatasetPtr& part : {data->train, data->test}) {
    const std::vector<float> got = read_one(*part, 0);
    for (size_t y = 0; y < 3; ++y)
      for (size_t x = 0; x < 3; ++x)
        for (size_t c = 0; c < 3; ++c)
          EXPECT_NEAR(got[(y * 3 + x) * 3 + c], resized[(y * 6 + x + 1) * 3 + c],
                      1e-4);  // (4 - 3) / 2 = 0, (6 - 3) / 2 = 1
  }
  // Without a resize the pixels are those of the file.
  const Result<DataSplit> same = open_data(options(8, 8));
  EXPECT_NEAR(read_one(*same->test, 0)[0], 2, 1e-4);
}

TEST_F(ImageFolderTest, ReadsJpegsBesidePngs) {
  if (const auto formats = image_formats(); std::ranges::find(formats, "JPEG") == formats.end())
    GTEST_SKIP() << "built without libjpeg";
  folder.put("train/a/x.jpg", jpeg_rgb());
  folder.put("train/a/y.JPEG", jpeg_rgb());
  folder.put("train/b/z.png", plain(16, 8, 7));
  folder.put("val/b/x.jpg", jpeg_rgb());
  const Result<DataSplit> data = open_data(options(8, 8));
  ASSERT_TRUE(data.ok()) << data.status().message();
  ASSERT_EQ(data->train->size(), 3);
  EXPECT_EQ(data->test->label(0), 1);
  EXPECT_NEAR(read_one(*data->train, 2)[0], 7, 1e-4);
  for (const auto& [part, index] : {std::pair{data->train, 0}, {data->train, 1}, {data->test, 0}}) {
    const std::vector<float> got = read_one(*part, index);
    for (size_t y = 0; y < 8; ++y)
      for (size_t x = 0; x < 8; ++x) {  // columns 4 to 11 of 16
        const double across = static_cast<double>(x + 4), down = static_cast<double>(y);
        EXPECT_NEAR(got[(y * 8 + x) * 3], 10 + 14 * across, 8);
        EXPECT_NEAR(got[(y * 8 + x) * 3 + 1], 200 - 20 * down, 8);
        EXPECT_NEAR(got[(y * 8 + x) * 3 + 2], 90 + 4 * across + 6 * down, 8);
      }
  }
}

TEST_F(ImageFolderTest, AugmentsByThePass) {
  folder.put("train/a/x.png", slope(12, 8));
  folder.put("test/a/x.png", slope(12, 8));
  for (Augment augment : {Augment::crop_flip, Augment::resized_crop}) {
    DataOptions o = options(5, 8);
    o.image.augment = augment;
    const Result<DataSplit> data = open_data(o);
    ASSERT_TRUE(data.ok()) << data.status().message();
    Bytes image;
    for (int y = 0; y < 8; ++y)
      for (int x = 0; x < 12; ++x) image.insert(image.end(), 3, static_cast<uint8_t>(10 * y + x));
    for (uint64_t pass = 0; pass < 10; ++pass) {
      const Draw draw{.seed = 3, .pass = pass};
      const Window w = training_window(o.image, 8, 12, 5, 5, draw, 0);
      Bytes part(5 * 5 * 3);
      resize_window(image.data(), 12, 3, w, 5, 5, part.data());
      const std::vector<float> got = read_one(*data->train, 0, &draw);
      for (size_t y = 0; y < 5; ++y)
        for (size_t x = 0; x < 5; ++x)
          ASSERT_NEAR(got[(y * 5 + x) * 3], part[(y * 5 + (w.flip ? 4 - x : x)) * 3], 1e-4);
    }
  }
}

TEST_F(ImageFolderTest, WithoutPartsSomeAreKeptForTests) {
  for (int i = 0; i < 20; ++i)
    folder.put("c" + std::to_string(i % 2) + "/" + std::to_string(i) + ".png", plain(4, 4, static_cast<uint8_t>(i)));
  DataOptions o = options();
  o.test_share = 0.25;
  const Result<DataSplit> data = open_data(o);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->size(), 15);
  EXPECT_EQ(data->test->size(), 5);
  std::vector<int> seen;
  for (const DatasetPtr& part : {data->train, data->test})
    for (int64_t i = 0; i < part->size(); ++i) {
      seen.push_back(static_cast<int>(read_one(*part, i)[0] + 0.5f));
      EXPECT_EQ(part->label(i), seen.back() % 2);
    }
  std::ranges::sort(seen);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST_F(ImageFolderTest, ABrokenImageIsOneLineFromAnyThread) {
  for (int i = 0; i < 6; ++i) folder.put("train/a/" + std::to_string(i) + ".png", plain(4, 4, 7));
  folder.put("val/a/x.png", plain(4, 4, 7));
  const Result<DataSplit> data = open_data(options());
  ASSERT_TRUE(data.ok()) << data.status().message();
  Bytes broken = plain(4, 4, 7);
  broken.resize(60);
  folder.put("train/a/3.png", broken);
  for (int prefetch : {0, 3}) {
    LoaderOptions loading{.batch = 6, .prefetch = prefetch, .threads = 2};
    Loader loader(data->train, loading);
    try {
      loader.next();
      FAIL() << "read a broken image";
    } catch (const DataError& error) {
      EXPECT_EQ(error.status().code(), StatusCode::data_error);
      EXPECT_HAS(error.status().message(), "train/a/3.png: corrupt PNG image (");
      EXPECT_TRUE(fuzz::is_one_line(error.status().message()));
    }
  }
  folder.remove("train/a/3.png");
  EXPECT_THROW(read_one(*data->train, 3), DataError);
  folder.put("train/a/3.png", png_of(65000, 1, 0, Bytes(65000)));
  const Result<DataSplit> large = open_data(options(4, 256));
  try {
    read_one(*large->train, 3);
    FAIL() << "resized a line of pixels to 16640000 x 256";
  } catch (const DataError& error) {
    EXPECT_HAS(error.status().message(), "an image of 65000 x 1 pixels is too slim for data.resize 256");
  }
}

TEST_F(ImageFolderTest, OneLineForWhatDoesNotFit) {
  EXPECT_HAS(refusal({.name = "images"}, StatusCode::not_found),
             "needs its files: type --data.dir DIR; expected are train/CLASS");
  EXPECT_HAS(refusal(options(), StatusCode::not_found), "no images in '");
  folder.put("train/a/x.png", plain(4, 4, 1));
  EXPECT_HAS(refusal(options(), StatusCode::not_found), "has a folder train, but neither val nor test");
  folder.put("val/b/x.png", plain(4, 4, 1));
  EXPECT_HAS(refusal(options()), "val: the class 'b' is not in ");
  EXPECT_HAS(refusal(options(8, 4), StatusCode::invalid_argument), "data.resize 4 is less than data.crop 8");
  EXPECT_EQ(default_resize(224), 256);
  EXPECT_EQ(default_resize(32), 37);
}

}  // namespace
}  // namespace sinew::nn
