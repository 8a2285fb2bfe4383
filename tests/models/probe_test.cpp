// `sinew probe` against a network written out in double with PyTorch's layouts, and the layouts of weight files.
#include "models/probe.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "models/weights_file.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

constexpr int kN = 3, kC = 2, kH = 3, kW = 2, kFeatures = kC * kH * kW, kHidden = 4, kClasses = 3;

std::vector<double> numbers(const NamedArray& array) {
  std::vector<double> out;
  for (size_t i = 0; i < array.bytes.size(); i += 4) {
    float v;
    std::memcpy(&v, &array.bytes[i], 4);
    out.push_back(v);
  }
  return out;
}
template <class T>
NamedArray array_of(const std::vector<T>& values, const Shape& shape) {
  NamedArray array{dtype_of<T>, shape, std::vector<std::byte>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}
std::vector<float> wave(int n, double phase) {
  std::vector<float> out;
  for (int i = 0; i < n; ++i) out.push_back(static_cast<float>(std::sin(phase + 1.7 * i)));
  return out;
}

// Loss, logits and gradients of tanh(x W1' + b1) W2' + b2 with mean cross entropy.
struct Oracle {
  std::vector<double> w1, b1, w2, b2, x;
  std::vector<int64_t> labels;
  double loss = 0;
  std::vector<double> logits, g_w1, g_b1, g_w2, g_b2;
  void run() {
    logits.assign(kN * kClasses, 0), g_w1.assign(w1.size(), 0), g_b1.assign(b1.size(), 0);
    g_w2.assign(w2.size(), 0), g_b2.assign(b2.size(), 0), loss = 0;
    for (int n = 0; n < kN; ++n) {
      double h[kHidden], p[kClasses], sum = 0;
      for (int j = 0; j < kHidden; ++j) {
        double a = b1[j];
        for (int i = 0; i < kFeatures; ++i) a += w1[j * kFeatures + i] * x[n * kFeatures + i];
        h[j] = std::tanh(a);
      }
      for (int k = 0; k < kClasses; ++k) {
        double a = b2[k];
        for (int j = 0; j < kHidden; ++j) a += w2[k * kHidden + j] * h[j];
        logits[n * kClasses + k] = a, p[k] = std::exp(a), sum += p[k];
      }
      loss -= std::log(p[labels[n]] / sum) / kN;
      for (int k = 0; k < kClasses; ++k) p[k] = (p[k] / sum - (k == labels[n])) / kN;
      for (int k = 0; k < kClasses; ++k) {
        g_b2[k] += p[k];
        for (int j = 0; j < kHidden; ++j) g_w2[k * kHidden + j] += p[k] * h[j];
      }
      for (int j = 0; j < kHidden; ++j) {
        double d = 0;
        for (int k = 0; k < kClasses; ++k) d += p[k] * w2[k * kHidden + j];
        d *= 1 - h[j] * h[j];
        g_b1[j] += d;
        for (int i = 0; i < kFeatures; ++i) g_w1[j * kFeatures + i] += d * x[n * kFeatures + i];
      }
    }
  }
};

class Probe : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/sinew_probe_XXXXXX";
    ASSERT_NE(mkdtemp(dir_.data()), nullptr);
    options_.model.name = "mlp";
    options_.model.hidden = {kHidden};
    options_.model.activation = "tanh";
    files_ = {dir_ + "/w.safetensors", dir_ + "/b.safetensors", dir_ + "/o.safetensors"};
    weights_.tensors = {{"fc1.weight", array_of(wave(kHidden * kFeatures, 0.1), {kHidden, kFeatures})},
                        {"fc1.bias", array_of(wave(kHidden, 0.2), {kHidden})},
                        {"fc2.weight", array_of(wave(kClasses * kHidden, 0.3), {kClasses, kHidden})},
                        {"fc2.bias", array_of(wave(kClasses, 0.4), {kClasses})}};
    batch_.tensors = {{"inputs", array_of(wave(kN * kFeatures, 0.5), {kN, kC, kH, kW})},
                      {"labels", array_of(std::vector<int64_t>{2, 0, 1}, {kN})}};
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  Status run() {
    SINEW_RETURN_IF_ERROR(write_safetensors(files_.weights, weights_));
    SINEW_RETURN_IF_ERROR(write_safetensors(files_.batch, batch_));
    SINEW_RETURN_IF_ERROR(probe(options_, files_, false));
    Result<SafetensorsFile> out = read_safetensors(files_.out);
    if (!out.ok()) return out.status();
    out_ = std::move(*out);
    return Status::Ok();
  }
  Oracle oracle() {
    Oracle o{.w1 = numbers(weights_.tensors["fc1.weight"]),
             .b1 = numbers(weights_.tensors["fc1.bias"]),
             .w2 = numbers(weights_.tensors["fc2.weight"]),
             .b2 = numbers(weights_.tensors["fc2.bias"]),
             .x = numbers(batch_.tensors["inputs"]),
             .labels = {2, 0, 1}};
    o.run();
    return o;
  }
  void expect_near(const std::string& name, const std::vector<double>& expected, double tolerance) {
    ASSERT_TRUE(out_.tensors.contains(name)) << name;
    const std::vector<double> got = numbers(out_.tensors[name]);
    ASSERT_EQ(got.size(), expected.size()) << name;
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], tolerance) << name << " " << i;
  }

  std::string dir_;
  Options options_;
  ProbeFiles files_;
  SafetensorsFile weights_, batch_, out_;
};

TEST_F(Probe, SpeaksPyTorchsLayoutsInAndOut) {
  ASSERT_TRUE(run().ok()) << run().message();
  const Oracle o = oracle();
  expect_near("loss", {o.loss}, 1e-6);
  expect_near("logits", o.logits, 1e-5);
  expect_near("grad.fc1.weight", o.g_w1, 1e-6);
  expect_near("grad.fc1.bias", o.g_b1, 1e-6);
  expect_near("grad.fc2.weight", o.g_w2, 1e-6);
  expect_near("grad.fc2.bias", o.g_b2, 1e-6);
  EXPECT_FALSE(out_.tensors.contains("hv.fc1.weight"));
}

// The columns of a file are in the order of (C, H, W), in which a batch of rows has its features.
TEST_F(Probe, TakesRowsOfFeatures) {
  for (const auto& [name, array] : weights_.tensors)
    batch_.tensors["z." + name] = array_of(wave(static_cast<int>(array.shape.numel()), 0.9), array.shape);
  ASSERT_TRUE(run().ok()) << run().message();
  const SafetensorsFile images = out_;
  batch_.tensors["inputs"].shape = {kN, kFeatures};
  ASSERT_TRUE(run().ok()) << run().message();
  expect_near("logits", oracle().logits, 1e-5);
  ASSERT_EQ(out_.tensors.size(), images.tensors.size());
  EXPECT_TRUE(images.tensors.contains("hv.fc1.weight"));
  for (const auto& [name, array] : images.tensors) {
    EXPECT_EQ(out_.tensors[name].shape, array.shape) << name;
    expect_near(name, numbers(array), 1e-6);
  }
}

TEST_F(Probe, MultipliesTheHessianWithTheGivenDirections) {
  const std::vector<float> z = wave(kHidden * kFeatures, 0.9);
  batch_.tensors["z.fc1.weight"] = array_of(z, {kHidden, kFeatures});
  ASSERT_TRUE(run().ok()) << run().message();
  EXPECT_TRUE(out_.tensors.contains("hv.fc1.weight"));
  for (const char* name : {"hv.fc1.bias", "hv.fc2.weight", "hv.fc2.bias"})
    EXPECT_FALSE(out_.tensors.contains(name)) << "no direction was given for " << name;
  for (const auto& [name, array] : weights_.tensors)
    if (name != "fc1.weight")
      batch_.tensors["z." + name] = array_of(std::vector<float>(array.bytes.size() / 4), array.shape);
  ASSERT_TRUE(run().ok()) << run().message();
  constexpr double kStep = 1e-5;
  Oracle plus = oracle(), minus = oracle();
  for (size_t i = 0; i < z.size(); ++i) plus.w1[i] += kStep * z[i], minus.w1[i] -= kStep * z[i];
  plus.run(), minus.run();
  auto difference = [](const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> d;
    for (size_t i = 0; i < a.size(); ++i) d.push_back((a[i] - b[i]) / (2 * kStep));
    return d;
  };
  expect_near("hv.fc1.weight", difference(plus.g_w1, minus.g_w1), 2e-6);
  expect_near("hv.fc1.bias", difference(plus.g_b1, minus.g_b1), 2e-6);
  expect_near("hv.fc2.weight", difference(plus.g_w2, minus.g_w2), 2e-6);
  expect_near("hv.fc2.bias", difference(plus.g_b2, minus.g_b2), 2e-6);
}

TEST_F(Probe, SaysWhatDoesNotFit) {
  auto failure = [&] {
    const Status status = run();
    EXPECT_EQ(status.code(), StatusCode::data_error);
    return status.message();
  };
  const auto good = batch_.tensors;
  batch_.tensors["z.fc9.weight"] = array_of(std::vector<float>{1}, {1});
  EXPECT_NE(failure().find("z.fc9.weight"), std::string::npos);
  batch_.tensors = good;
  batch_.tensors["labels"] = array_of(std::vector<int64_t>{2, 0, 3}, {kN});
  EXPECT_NE(failure().find("label 3"), std::string::npos);
  batch_.tensors.erase("labels");
  EXPECT_NE(failure().find("labels"), std::string::npos);
  batch_.tensors = good;
  weights_.tensors["fc1.weight"] = array_of(wave(kFeatures, 0), {1, kFeatures});
  EXPECT_NE(failure().find("fc1.weight"), std::string::npos);
}

// The last tensor says how many outputs there are; nothing of the model's size may be allocated before all fit.
TEST_F(Probe, RefusesShapesThatAskForMemory) {
  auto failure = [&] {
    const Status status = run();
    EXPECT_EQ(status.code(), StatusCode::data_error);
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
    return status.message();
  };
  constexpr int64_t kHuge = int64_t{1} << 40;
  for (const Shape& shape : {Shape{kHuge, 0}, Shape{0}, Shape{kClasses, 1}, Shape{}}) {
    weights_.tensors["fc2.bias"] = array_of(std::vector<float>(static_cast<size_t>(shape.numel())), shape);
    EXPECT_EQ(failure(), files_.weights + ": fc2.bias is " + shape.str() + ", it must be (outputs), one or more");
  }
  weights_.tensors["fc2.bias"] = array_of(wave(kClasses, 0.4), {kClasses});
  // 2^20 hidden units for 2^18 pixels: a terabyte.
  options_.model.hidden = {1 << 20};
  batch_.tensors["inputs"] = array_of(std::vector<float>(1 << 18), {1, 1, 512, 512});
  batch_.tensors["labels"] = array_of(std::vector<int64_t>{0}, {1});
  EXPECT_NE(failure().find("fc1.weight is (4, 12) f32, the model has (1048576, 262144) f32"), std::string::npos);
}

// A network's parameters, saved and read again.
class WeightsFile : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void save(const nn::Model& model, const Vec& theta) {
    ASSERT_NE(mkdtemp(dir_.data()), nullptr);
    path_ = dir_ + "/w.safetensors";
    ASSERT_TRUE(save_weights(path_, model, theta.view()).ok());
  }
  void expect_loads(const nn::Model& model, const Vec& theta) {
    const Result<Vec> read = load_weights(path_, model);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(to_doubles(read->view()), to_doubles(theta.view()));
  }

  std::string dir_ = ::testing::TempDir() + "/sinew_weights_XXXXXX", path_;
};

TEST_F(WeightsFile, SkipsPyTorchsCounters) {
  Options options;
  options.model.name = "resnet20";
  const Result<nn::Model> model = make_model(options.model, {16, 16, 3}, 10);
  ASSERT_TRUE(model.ok());
  const Vec theta = model->initialize(3);
  ASSERT_NO_FATAL_FAILURE(save(*model, theta));
  Result<SafetensorsFile> file = read_safetensors(path_);
  ASSERT_TRUE(file.ok());
  for (const Segment& s : model->buffer_layout().segments())
    if (s.name.ends_with("running_mean"))
      file->tensors[s.name.substr(0, s.name.rfind('.')) + ".num_batches_tracked"] =
          array_of(std::vector<int64_t>{7}, Shape{});
  EXPECT_TRUE(file->tensors.contains("layer3.2.bn2.num_batches_tracked"));
  ASSERT_TRUE(write_safetensors(path_, *file).ok());
  ASSERT_NO_FATAL_FAILURE(expect_loads(*model, theta));
  file->tensors["bn1.num_batches"] = array_of(std::vector<int64_t>{7}, Shape{});
  ASSERT_TRUE(write_safetensors(path_, *file).ok());
  EXPECT_EQ(load_weights(path_, *model).status().message(),
            path_ + ": tensor bn1.num_batches is not a parameter of the model");
}

TEST_F(WeightsFile, KeepsEveryElementThroughAFile) {
  Options options;
  options.model.hidden = {5};
  const Result<nn::Model> model = make_model(options.model, {4, 3, 2}, 7);
  ASSERT_TRUE(model.ok());
  const Vec theta = model->initialize(3);
  ASSERT_NO_FATAL_FAILURE(save(*model, theta));
  ASSERT_NO_FATAL_FAILURE(expect_loads(*model, theta));
  // Column (c, h, w) of the file is column (h, w, c) of the model.
  Result<SafetensorsFile> file = read_safetensors(path_);
  ASSERT_TRUE(file.ok());
  const std::vector<double> outside = numbers(file->tensors["fc1.weight"]), inside = to_doubles(theta.view());
  for (int row = 0; row < 5; ++row)
    for (int c = 0; c < 2; ++c)
      for (int pixel = 0; pixel < 12; ++pixel)
        EXPECT_EQ(outside[static_cast<size_t>(row * 24 + c * 12 + pixel)],
                  inside[static_cast<size_t>(row * 24 + pixel * 2 + c)]);
}

TEST(FileLayout, FiltersGoFromKrscToKcrs) {
  const nn::FileLayout layout = nn::FileLayout::filters({2, 1, 2, 3});
  EXPECT_EQ(nn::file_shape(layout, {2, 1, 2, 3}), (Shape{2, 3, 1, 2}));
  const std::vector<int32_t> inside{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  std::vector<int32_t> outside(12), back(12);
  nn::to_file(layout, DType::i32, 12, inside.data(), outside.data());
  EXPECT_EQ(outside, (std::vector<int32_t>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
  nn::from_file(layout, DType::i32, 12, outside.data(), back.data());
  EXPECT_EQ(back, inside);
}

}  // namespace
}  // namespace sinew::train
