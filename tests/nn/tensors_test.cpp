#include "nn/data/tensors.h"

#include <cstring>
#include <limits>

#include "nn/data/loader.h"
#include "tests/nn/data_files.h"

namespace sinew::nn {
namespace {

template <class T>
NamedArray array_of(const Shape& shape, const std::vector<T>& values) {
  NamedArray a{dtype_of<T>, shape, std::vector<std::byte>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(a.bytes.data(), values.data(), a.bytes.size());
  return a;
}

struct TensorFolder : TemporaryFolder {
  void write(const std::string& name, const NamedArray& x, const NamedArray& y) const {
    SafetensorsFile file;
    file.tensors.emplace("x", x);
    file.tensors.emplace("y", y);
    ASSERT_TRUE(write_safetensors(at(name), file).ok());
  }
  DataOptions options(bool with_test = true) const {
    DataOptions o{.name = "tensors"};
    o.file = at("train.safetensors");
    if (with_test) o.test_file = at("test.safetensors");
    return o;
  }
};

const NamedArray kTwoRows = array_of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
const NamedArray kTwoLabels = array_of<int64_t>({2}, {1, 2});

TEST(Tensors, FloatsWithLabels) {
  const TensorFolder folder;
  folder.write("train.safetensors", kTwoRows, kTwoLabels);
  folder.write("test.safetensors", array_of<float>({1, 3}, {7, 8, 9}), array_of<int32_t>({1}, {0}));
  Result<DataSplit> data = open_data(folder.options());
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->classes(), 3);
  EXPECT_EQ(data->train->sample_shape(), Shape{3});
  EXPECT_EQ(data->train->class_names().back(), "2");
  const std::array<int64_t, 2> order = {1, 0};
  const Batch batch = read_batch(*data->train, order);
  EXPECT_EQ(batch.inputs.to_vector<float>(), (std::vector<float>{4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(batch.labels.to_vector<int64_t>(), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(data->test->label(0), 0);
  DataOptions options = folder.options();
  options.image.mean = {1, 2, 3}, options.image.std = {2};
  data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(read_batch(*data->train, order).inputs.to_vector<float>(), (std::vector<float>{1.5, 1.5, 1.5, 0, 0, 0}));
}

TEST(Tensors, NumberTargets) {
  const TensorFolder folder;
  folder.write("train.safetensors", kTwoRows, array_of<float>({2, 2}, {0.5, 1.5, 2.5, 3.5}));
  folder.write("test.safetensors", kTwoRows, array_of<float>({2, 2}, {0, 1, 2, 3}));
  const Result<DataSplit> data = open_data(folder.options());
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_TRUE(data->train->has_number_targets());
  EXPECT_EQ(data->train->classes(), 2);
  LoaderOptions options{.batch = 2};
  options.shuffle = false;
  Loader loader(data->train, options);
  const Batch batch = loader.next();
  EXPECT_EQ(batch.size(), 2);
  EXPECT_EQ(batch.labels.shape(), (Shape{2, 2}));
  EXPECT_EQ(batch.labels.to_vector<float>(), (std::vector<float>{0.5, 1.5, 2.5, 3.5}));
  EXPECT_THROW(static_cast<void>(data->train->label(0)), Error);
  // One number each: a column, so that it never broadcasts against a network's output.
  folder.write("train.safetensors", kTwoRows, array_of<float>({2}, {3, 4}));
  const Result<DataSplit> one = open_data(folder.options(false));
  ASSERT_TRUE(one.ok()) << one.status().message();
  EXPECT_EQ(one->train->size() + one->test->size(), 2);
  const int64_t zero = 0;
  EXPECT_EQ(read_batch(*one->train, std::span(&zero, 1)).labels.shape(), (Shape{1, 1}));
}

TEST(Tensors, ImagesOfBytes) {
  const TensorFolder folder;
  // Two images of 2 x 3 with 2 channels, planes first: channel c, row y, column x of image n is 100 n + 50 c + 10 y +
  // x.
  std::vector<uint8_t> planes;
  for (int n = 0; n < 2; ++n)
    for (int c = 0; c < 2; ++c)
      for (int y = 0; y < 2; ++y)
        for (int x = 0; x < 3; ++x) planes.push_back(static_cast<uint8_t>(100 * n + 50 * c + 10 * y + x));
  folder.write("train.safetensors", array_of<uint8_t>({2, 2, 2, 3}, planes), array_of<int64_t>({2}, {300, 0}));
  folder.write("test.safetensors", array_of<uint8_t>({2, 2, 2, 3}, planes), array_of<int64_t>({2}, {0, 300}));
  DataOptions options = folder.options();
  options.channels_first = true;
  Result<DataSplit> data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->sample_shape(), (Shape{2, 3, 2}));
  EXPECT_EQ(data->train->classes(), 301);
  EXPECT_EQ(data->train->label(0), 300);
  const int64_t one = 1;
  const std::vector<float> got = read_batch(*data->train, std::span(&one, 1)).inputs.to_vector<float>();
  for (int y = 0; y < 2; ++y)
    for (int x = 0; x < 3; ++x)
      for (int c = 0; c < 2; ++c)
        EXPECT_EQ(got[static_cast<size_t>((y * 3 + x) * 2 + c)],
                  static_cast<float>((100 + 50 * c + 10 * y + x) / 255.0));
  options.image = {.augment = Augment::crop_flip, .crop = 2, .padding = 1};
  data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->sample_shape(), (Shape{2, 2, 2}));
  options.channels_first = false;
  EXPECT_EQ(open_data(options)->train->sample_shape(), (Shape{2, 2, 3}));
  options.channels_first = true, options.image.crop = 3;
  EXPECT_HAS(refusal(options, StatusCode::invalid_argument), "data.crop 3 is more than the images' 2 x 3");
}

TEST(Tensors, FloatImagesTurnLikeBytes) {
  const TensorFolder folder;
  folder.write("train.safetensors", array_of<float>({1, 2, 1, 2}, {1, 2, 3, 4}), array_of<int64_t>({1}, {0}));
  folder.write("test.safetensors", array_of<float>({1, 2, 1, 2}, {1, 2, 3, 4}), array_of<int64_t>({1}, {0}));
  DataOptions options = folder.options();
  options.channels_first = true;
  const Result<DataSplit> data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  const int64_t zero = 0;
  EXPECT_EQ(read_batch(*data->test, std::span(&zero, 1)).inputs.to_vector<float>(), (std::vector<float>{1, 3, 2, 4}));
  options.image.augment = Augment::flip;
  EXPECT_HAS(refusal(options, StatusCode::invalid_argument), "holds f32; they work on images of bytes (u8)");
}

TEST(Tensors, EveryDefectIsOneLine) {
  const TensorFolder folder;
  EXPECT_HAS(refusal({.name = "tensors"}, StatusCode::not_found), "type --data.file FILE.safetensors");
  EXPECT_HAS(refusal(folder.options(), StatusCode::not_found), "train.safetensors");
  auto defect = [&](const NamedArray& x, const NamedArray& y) {
    folder.write("train.safetensors", x, y);
    const std::string line = refusal(folder.options(false));
    EXPECT_HAS(line, "train.safetensors: ");
    return line;
  };
  EXPECT_HAS(defect(array_of<double>({2, 1}, {1, 2}), kTwoLabels), "x is f64, expected f32 or u8");
  EXPECT_HAS(defect(array_of<float>({2}, {1, 2}), kTwoLabels), "x is (2), expected (N, ...)");
  EXPECT_HAS(defect(array_of<float>({0, 3}, {}), array_of<int64_t>({0}, {})),
             "x is (0, 3), expected (N, ...) with at least one");
  EXPECT_HAS(defect(kTwoRows, array_of<int64_t>({3}, {0, 1, 2})),
             "y is (3) i64, expected (2), a label for each sample of x");
  EXPECT_HAS(defect(kTwoRows, array_of<int64_t>({2, 1}, {0, 1})), "y is (2, 1) i64");
  EXPECT_HAS(defect(kTwoRows, array_of<uint8_t>({2}, {0, 1})), "y is u8, expected labels i64 or number targets f32");
  EXPECT_HAS(defect(kTwoRows, array_of<int64_t>({2}, {0, -1})), "y has the label -1 in sample 1");
  EXPECT_HAS(defect(kTwoRows, array_of<int64_t>({2}, {int64_t{1} << 40, 0})),
             "y has the label 1099511627776 in sample 0");
  EXPECT_HAS(defect(kTwoRows, array_of<float>({3}, {0, 1, 2})), "y is (3) f32, expected (2) or (2, k)");
  EXPECT_HAS(defect(kTwoRows, array_of<float>({2, 0}, {})), "y is (2, 0) f32");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_HAS(defect(array_of<float>({2, 2}, {0, 1, nan, 3}), kTwoLabels), "x holds nan in sample 1");
  EXPECT_HAS(defect(kTwoRows, array_of<float>({2}, {0, nan})), "y is nan in sample 1");
  folder.write("train.safetensors", kTwoRows, kTwoLabels);
  folder.write("test.safetensors", array_of<float>({1, 2}, {7, 8}), array_of<int64_t>({1}, {0}));
  EXPECT_HAS(refusal(folder.options()),
             "test.safetensors: samples (2) f32 with labels do not match the training samples (3) f32 with labels");
  folder.write("test.safetensors", kTwoRows, array_of<int64_t>({2}, {0, 3}));
  EXPECT_HAS(refusal(folder.options()), "y has the label 3, but the training labels give only 3 classes");
  folder.write("test.safetensors", kTwoRows, array_of<float>({2}, {0, 3}));
  EXPECT_HAS(refusal(folder.options()), "samples (3) f32 with 1 target numbers do not match");
  SafetensorsFile file;
  file.tensors.emplace("x", kTwoRows);
  ASSERT_TRUE(write_safetensors(folder.at("train.safetensors"), file).ok());
  EXPECT_HAS(refusal(folder.options(false)), "no tensor named y; expected are x (N, ...) f32 or u8, and y");
  DataOptions options = folder.options();
  folder.write("train.safetensors", kTwoRows, kTwoLabels);
  options.image.mean = {1, 2};
  EXPECT_HAS(refusal(options, StatusCode::invalid_argument), "data.mean: 2 values for 3 channels");
}

}  // namespace
}  // namespace sinew::nn
