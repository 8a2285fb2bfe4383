// `sinew probe` on lenet, resnet20 and vgg16 against PyTorch in f64, through vectors that scripts/parity_torch.sh
// --record wrote to data/parity.safetensors.
//
// Weights, running statistics, inputs and directions follow a rule (scripts/parity/networks.py) and are not in the
// file. It holds, for every network and mode, the number and size of the batch, loss, logits, and of every gradient,
// Hessian-vector product and buffer {norm, products with tensors of noise}. With noise of variance 1/3, 3 times the
// mean square of the products' errors estimates the square of the whole error.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "models/probe.h"
#include "models/weights_file.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

constexpr double kSmall = 0.01;  // of the whole's norm: below it a single parameter's error counts against the whole
constexpr size_t kProducts = 4;

template <class T>
std::vector<T> values_of(const NamedArray& array) {
  std::vector<T> out(array.bytes.size() / sizeof(T));
  std::memcpy(out.data(), array.bytes.data(), array.bytes.size());
  return out;
}
template <class T>
NamedArray array_of(const std::vector<T>& values, const Shape& shape) {
  NamedArray array{dtype_of<T>, shape, std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

// The first numbers of the noise of that name, in [-1, 1): FNV-1a of the name, MurmurHash3's finalizer of each number.
std::vector<float> noise(const std::string& name, int64_t count) {
  uint32_t key = 0x811C9DC5u;
  for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x01000193u;
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    uint32_t x = static_cast<uint32_t>(i) * 0x9E3779B1u + key;
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    x ^= x >> 16;
    out[i] = static_cast<float>(static_cast<int32_t>(x >> 8)) * 0x1p-23f - 1;  // exact
  }
  return out;
}

// A parameter, buffer, direction or input of the rule. shape: the file's.
NamedArray draw(const std::string& name, const Shape& shape) {
  double centre = 0, spread = 0.25;
  if (name.starts_with("inputs.") || name.starts_with("z."))
    spread = std::sqrt(3.0);
  else if (name.ends_with("running_var"))
    centre = 1.5, spread = 0.75;
  else if (shape.ndim() > 1)
    spread = std::sqrt(6.0 / static_cast<double>(shape.numel() / shape[0]));
  else if (name.ends_with("weight"))
    centre = 1;
  std::vector<float> out = noise(name, shape.numel());
  for (float& v : out) v = static_cast<float>(centre + spread * v);
  return array_of(out, shape);
}

// Squares of the norm of what was expected, and of the estimated error.
struct Squares {
  double norm = 0, error = 0;
  bool within(double bound, double whole) const {
    return std::sqrt(error) <= bound * std::max(std::sqrt(norm), kSmall * whole);
  }
};
Squares compare(const NamedArray& got, const NamedArray& recorded, const std::vector<std::vector<float>>& noises) {
  const std::vector<float> values = values_of<float>(got);
  const std::vector<double> expected = values_of<double>(recorded);
  Squares squares{.norm = expected[0] * expected[0]};
  for (size_t k = 0; k < kProducts; ++k) {
    double product = 0;
    for (size_t i = 0; i < values.size(); ++i) product += double{values[i]} * noises[k][i];
    squares.error += 3 * std::pow(product - expected.at(k + 1), 2) / kProducts;
  }
  return squares;
}

struct Case {
  const char *model, *mode;
  Shape sample;  // C, H, W
};
class Parity : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    Result<SafetensorsFile> file = read_safetensors(SINEW_TEST_DATA "/parity.safetensors");
    ASSERT_TRUE(file.ok()) << file.status().message();
    const std::string prefix = std::string(GetParam().model) + "." + GetParam().mode + ".";
    for (auto& [name, array] : file->tensors)
      if (name.starts_with(prefix)) recorded_.emplace(name.substr(prefix.size()), std::move(array));
    ASSERT_TRUE(recorded_.contains("batch"));
    dir_ = ::testing::TempDir() + "/sinew_parity_XXXXXX";
    ASSERT_NE(mkdtemp(dir_.data()), nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // The files that compare.py gives to `sinew probe`, and what comes of them.
  void run() {
    const auto& [name, mode, sample] = GetParam();
    const bool training = std::string(mode) == "train";
    Options options;
    options.model.name = name;
    options.model.dropout = training ? 0 : default_dropout(name);  // masks differ; evaluation must not have any
    const Result<nn::Model> model = make_model(options.model, {sample[1], sample[2], sample[0]}, 10);
    ASSERT_TRUE(model.ok()) << model.status().message();
    const std::vector<int64_t> batch = values_of<int64_t>(recorded_.at("batch"));
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < batch[1]; ++i) labels.push_back(i * 7 % 10);
    SafetensorsFile weights, given;
    const std::vector<Segment>& segments = model->state_layout().segments();
    for (size_t i = 0; i < segments.size(); ++i) {
      const std::string& segment = segments[i].name;
      const Shape shape = nn::file_shape(model->file_layout(i), segments[i].shape);
      weights.tensors.emplace(segment, draw(segment, shape));
      if (model->layout().find(segment) >= 0) given.tensors.emplace("z." + segment, draw("z." + segment, shape));
    }
    given.tensors.emplace("inputs",
                          draw("inputs." + std::to_string(batch[0]), Shape{batch[1], sample[0], sample[1], sample[2]}));
    given.tensors.emplace("labels", array_of(labels, {batch[1]}));
    const ProbeFiles files{dir_ + "/w.safetensors", dir_ + "/b.safetensors", dir_ + "/o.safetensors"};
    ASSERT_TRUE(write_safetensors(files.weights, weights).ok());
    ASSERT_TRUE(write_safetensors(files.batch, given).ok());
    const Status status = probe(options, files, training);
    ASSERT_TRUE(status.ok()) << status.message();
    Result<SafetensorsFile> out = read_safetensors(files.out);
    ASSERT_TRUE(out.ok()) << out.status().message();
    out_ = std::move(out->tensors);
  }

  void expect_values(const std::string& name, double bound) {
    const std::vector<float> got = values_of<float>(out_.at(name));
    const std::vector<double> expected = values_of<double>(recorded_.at(name));
    ASSERT_EQ(got.size(), expected.size());
    double norm = 0, error = 0;
    for (size_t i = 0; i < got.size(); ++i)
      norm += expected[i] * expected[i], error += std::pow(got[i] - expected[i], 2);
    EXPECT_LE(std::sqrt(error / norm), bound) << name;
  }

  // All tensors of a kind ("grad."), together and each.
  void expect_tensors(const std::string& kind, double bound) {
    int64_t longest = 0;
    for (const auto& [name, array] : out_) longest = std::max(longest, array.shape.numel());
    std::vector<std::vector<float>> noises;
    for (size_t k = 0; k < kProducts; ++k) noises.push_back(noise("projection." + std::to_string(k), longest));
    std::map<std::string, Squares> each;
    Squares whole;
    for (const auto& [name, array] : recorded_) {
      if (!name.starts_with(kind)) continue;
      const Squares squares = each[name] = compare(out_.at(name), array, noises);
      whole.norm += squares.norm, whole.error += squares.error;
    }
    EXPECT_TRUE(whole.within(bound, 0)) << kind << " " << std::sqrt(whole.error / whole.norm);
    for (const auto& [name, squares] : each)
      EXPECT_TRUE(squares.within(bound, std::sqrt(whole.norm)))
          << name << " " << std::sqrt(squares.error) << " of " << std::sqrt(squares.norm);
  }

  std::string dir_;
  std::map<std::string, NamedArray> recorded_, out_;
};

TEST_P(Parity, WithPyTorch) {
  ASSERT_NO_FATAL_FAILURE(run());
  ASSERT_EQ(out_.size() + 1, recorded_.size());  // all but the batch's number
  for (const auto& [name, array] : out_) ASSERT_TRUE(recorded_.contains(name)) << name;
  expect_values("loss", 1e-4);
  expect_values("logits", 1e-4);
  expect_tensors("grad.", 1e-4);
  expect_tensors("hv.", 1e-3);
  expect_tensors("buffer.", 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Networks, Parity,
                         ::testing::Values(Case{"lenet", "train", {1, 28, 28}}, Case{"lenet", "eval", {1, 28, 28}},
                                           Case{"resnet20", "train", {3, 32, 32}},
                                           Case{"resnet20", "eval", {3, 32, 32}}, Case{"vgg16", "train", {3, 32, 32}},
                                           Case{"vgg16", "eval", {3, 32, 32}}),
                         [](const auto& info) { return std::string(info.param.model) + "_" + info.param.mode; });

}  // namespace
}  // namespace sinew::train
