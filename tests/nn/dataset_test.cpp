#include "nn/data/dataset.h"

#include <gtest/gtest.h>

#include <array>

#include "nn/data/loader.h"
#include "nn/data/u8_dataset.h"
#include "tests/support/guard_device.h"

namespace sinew::nn {
namespace {

U8Samples samples() {
  return {.name = "four",
          .sample_shape = {1, 2},
          .classes = 3,
          .class_names = {"a", "b", "c"},
          .mean = {0.5},
          .std = {0.25},
          .values = {0, 255, 51, 102, 10, 20, 30, 40},
          .labels = {2, 0, 1, 2}};
}

TEST(OpenData, SyntheticByDefault) {
  DataOptions options;
  options.train_size = 100;
  const Result<DataSplit> data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->name(), "synthetic");
  EXPECT_EQ(data->train->size(), 100);
}

TEST(OpenData, OneLineForWhatCannotBe) {
  Result<DataSplit> data = open_data({.name = "imagenet", .dir = "", .seed = 1, .train_size = 0});
  ASSERT_FALSE(data.ok());
  EXPECT_EQ(data.status().code(), StatusCode::not_found);
  EXPECT_TRUE(data.status().message().starts_with("no data set 'imagenet', known are synthetic, mnist, "))
      << data.status().message();
  for (int64_t size : {int64_t{-1}, int64_t{1} << 40}) {
    data = open_data({.name = "synthetic", .dir = "", .seed = 1, .train_size = size});
    ASSERT_FALSE(data.ok());
    EXPECT_EQ(data.status().code(), StatusCode::invalid_argument);
    EXPECT_NE(data.status().message().find(std::to_string(size)), std::string::npos);
  }
  data = open_data({.name = "mnist", .dir = ".", .seed = 1, .train_size = 5});
  ASSERT_FALSE(data.ok());
  EXPECT_EQ(data.status().code(), StatusCode::invalid_argument);
}

TEST(OpenData, NamesAreKnown) {
  for (const std::string& name : dataset_names()) {
    const Result<DataSplit> data = open_data({.name = name, .dir = "", .seed = 1, .train_size = 0});
    EXPECT_FALSE(!data.ok() && data.status().message().starts_with("no data set")) << name;
  }
}

TEST(ReadBatch, ShapesTypesAndValues) {
  const U8Dataset data(samples());
  const Batch batch = read_batch(data, std::array<int64_t, 3>{1, 0, 1});
  EXPECT_EQ(batch.size(), 3);
  EXPECT_EQ(batch.inputs.shape(), (Shape{3, 1, 2}));
  EXPECT_EQ(batch.inputs.dtype(), DType::f32);
  EXPECT_EQ(batch.labels.shape(), Shape{3});
  auto normal = [](double v) { return static_cast<float>((v / 255 - 0.5) / 0.25); };
  EXPECT_EQ(batch.inputs.to_vector<float>(),
            (std::vector<float>{normal(51), normal(102), normal(0), normal(255), normal(51), normal(102)}));
  EXPECT_EQ(batch.labels.to_vector<int64_t>(), (std::vector<int64_t>{0, 2, 0}));
  EXPECT_EQ(read_batch(data, {}).size(), 0);
  EXPECT_THROW(read_batch(data, std::array<int64_t, 1>{4}), Error);
}

// A device whose memory the host cannot touch gets the same batches, also from a prefetch thread.
TEST(ReadBatch, OtherDevices) {
  testing::install_guard_device();
  const auto data = std::make_shared<U8Dataset>(samples());
  const Batch batch = read_batch(*data, std::array<int64_t, 2>{3, 1}, Device::guard);
  EXPECT_EQ(batch.inputs.device(), Device::guard);
  EXPECT_EQ(batch.labels.device(), Device::guard);
  const Batch host = read_batch(*data, std::array<int64_t, 2>{3, 1});
  EXPECT_EQ(batch.inputs.to_vector<float>(), host.inputs.to_vector<float>());
  EXPECT_EQ(batch.labels.to_vector<int64_t>(), (std::vector<int64_t>{2, 0}));

  LoaderOptions options;
  options.batch = 3;
  for (int prefetch : {0, 2}) {
    options.prefetch = prefetch;
    options.device = Device::cpu;
    Loader plain(data, options);
    options.device = Device::guard;
    Loader loader(data, options);
    for (int step = 0; step < 5; ++step) {
      const Batch expected = plain.next(), got = loader.next();
      EXPECT_EQ(got.inputs.device(), Device::guard);
      EXPECT_EQ(got.inputs.to_vector<float>(), expected.inputs.to_vector<float>());
      EXPECT_EQ(got.labels.to_vector<int64_t>(), expected.labels.to_vector<int64_t>());
    }
  }
}

TEST(U8Dataset, RefusesPartsThatDoNotFit) {
  EXPECT_NO_THROW(U8Dataset{samples()});
  U8Samples bad = samples();
  bad.values.pop_back();
  EXPECT_THROW(U8Dataset{bad}, Error);
  bad = samples();
  bad.labels[0] = 3;
  EXPECT_THROW(U8Dataset{bad}, Error);
  bad = samples();
  bad.class_names.pop_back();
  EXPECT_THROW(U8Dataset{bad}, Error);
}

}  // namespace
}  // namespace sinew::nn
