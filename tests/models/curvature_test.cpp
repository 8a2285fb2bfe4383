#include "models/curvature.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd.h"
#include "core/ops.h"
#include "models/zoo/mlp.h"
#include "models/zoo/zoo.h"
#include "nn/loss.h"
#include "tests/support/guard_device.h"

namespace sinew::train {
namespace {

using Values = std::vector<double>;

constexpr int64_t kSamples = 12, kFeatures = 5, kClasses = 3;

// A small tanh network in f64 with dropout, on a batch of its own.
struct Net {
  nn::Model model =
      make_mlp({.input = {kFeatures}, .hidden = {6, 4}, .outputs = kClasses, .activation = "tanh", .dropout = 0.25});
  Vec theta, flat;
  std::unique_ptr<nn::Parameters> parameters, gradient;
  Tensor x, labels;

  explicit Net(Device device = Device::cpu) {
    theta = model.initialize(3, DType::f64, device);
    flat = Vec::zeros(theta.size(), DType::f64, device);
    parameters = std::make_unique<nn::Parameters>(model.layout(), theta);
    gradient = std::make_unique<nn::Parameters>(model.layout(), flat, false);
    const RngKey key{1, static_cast<uint32_t>(RngPurpose::test), 0, 0};
    x = random_normal({kSamples, kFeatures}, 0, 1, key, DType::f64, device);
    std::vector<int64_t> y(kSamples);
    for (size_t i = 0; i < y.size(); ++i) y[i] = below(philox_u32(key, 1000 + i), kClasses);
    labels = Tensor::from_vector(y, {kSamples}, device);
  }
  ForwardPass forward() const {
    const Tensor logits = model.forward(x, {.parameters = *parameters, .training = true, .seed = 1, .step = 4});
    return {logits, nn::cross_entropy(logits, labels)};
  }
  Vec diagonal(const optim::Needs& needs, const optim::ProbeKey& key = {}) const {
    return gradient_and_diagonal(model.layout(), forward(), parameters->all(), gradient->all(), needs, key);
  }
  Values plain_gradient() const {
    Vec g = Vec::zeros(theta.size(), DType::f64, theta.device());
    nn::Parameters into(model.layout(), g, false);
    grad({forward().loss}, parameters->all(), {}, {.into = into.all()});
    return to_doubles(g.view());
  }
};

TEST(Curvature, LeavesTheGradientThatABackwardPassLeaves) {
  Net net;
  for (optim::Curvature kind : {optim::Curvature::hutchinson, optim::Curvature::gauss_newton}) {
    fill(net.flat.mutable_view(), 0);
    net.diagonal({kind, 2});
    const Values mine = to_doubles(net.flat.view()), expected = net.plain_gradient();
    for (size_t i = 0; i < mine.size(); ++i) ASSERT_NEAR(mine[i], expected[i], 1e-15) << i;
  }
}

// With one sample, the product's pass makes the filters' gradients; with two, they are there before.
TEST(Curvature, LeavesTheGradientOfAConvolutionalNetwork) {
  Options::Model options;
  options.name = "resnet20";
  options.init = default_init(options.name);
  const Result<nn::Model> made = make_model(options, {16, 16, 3}, kClasses);
  ASSERT_TRUE(made.ok());
  const nn::Model& model = *made;
  const Vec theta = model.initialize(3, DType::f32);
  const nn::Parameters parameters(model.layout(), theta.slice(0, model.layout().size()));
  const Tensor x = random_normal({4, 16, 16, 3}, 0, 1, {1, static_cast<uint32_t>(RngPurpose::test), 0, 0});
  const Tensor labels = Tensor::from_vector(std::vector<int64_t>{0, 1, 2, 1}, {4});
  auto forward = [&] {
    const Tensor logits = model.forward(x, {.parameters = parameters, .training = true});
    return ForwardPass{logits, nn::cross_entropy(logits, labels)};
  };
  Vec flat = Vec::zeros(model.layout().size(), DType::f32);
  const std::vector<Tensor> views = nn::Parameters(model.layout(), flat, false).all();
  grad({forward().loss}, parameters.all(), {}, {.into = views});
  const Values expected = to_doubles(flat.view());
  for (int samples : {1, 2}) {
    fill(flat.mutable_view(), 0);
    gradient_and_diagonal(model.layout(), forward(), parameters.all(), views, {optim::Curvature::hutchinson, samples},
                          {});
    const Values mine = to_doubles(flat.view());
    double distance = 0, norm = 0;
    for (size_t i = 0; i < mine.size(); ++i)
      distance += std::pow(mine[i] - expected[i], 2), norm += std::pow(expected[i], 2);
    EXPECT_LE(std::sqrt(distance), 1e-5 * std::sqrt(norm)) << samples;
  }
}

// With the same dropout masks: a second draw would be a random number, not a derivative.
TEST(Curvature, HutchinsonsProductIsTheDerivativeOfTheGradient) {
  Net net;
  const optim::ProbeKey key{.seed = 7, .rank = 1, .step = 2};
  const Values d = to_doubles(net.diagonal({optim::Curvature::hutchinson, 1}, key).view());
  Vec z = Vec::zeros(net.theta.size(), DType::f64);
  optim::draw_probe(key, z.mutable_view());
  const Vec start = net.theta.clone();
  const double h = 1e-5;
  axpby(h, z.view(), 1, start.view(), net.theta.mutable_view());
  const Values up = net.plain_gradient();
  axpby(-h, z.view(), 1, start.view(), net.theta.mutable_view());
  const Values down = net.plain_gradient(), zs = to_doubles(z.view());
  double largest = 0;
  for (const Segment& s : net.model.layout().segments())
    for (size_t i = static_cast<size_t>(s.offset); i < static_cast<size_t>(s.offset + s.numel); ++i) {
      EXPECT_NEAR(d[i], zs[i] * (up[i] - down[i]) / (2 * h), 1e-9) << s.name << " " << i;
      largest = std::max(largest, std::fabs(d[i]));
    }
  EXPECT_GT(largest, 0.01);
}

// One row of logits with parameters as logits: the Gauss-Newton matrix of softmax cross-entropy is diag(p) - pp', whose
// diagonal is the mean of (softmax - onehot)^2 over labels drawn from p.
TEST(Curvature, GaussNewtonIsUnbiased) {
  ParamLayout layout;
  layout.add("logits", {1, kClasses});
  Vec theta = Vec::zeros(layout.size(), DType::f64), flat = Vec::zeros(layout.size(), DType::f64);
  const Values start = {0.5, -1, 1};
  upload(start.data(), theta.mutable_view().slice(0, kClasses));
  const nn::Parameters parameters(layout, theta), gradient(layout, flat, false);
  const Tensor logits = parameters.all()[0], labels = Tensor::from_vector<int64_t>({1}, {1});
  const Values p = softmax(logits.detach()).to_vector<double>();
  const int kDraws = 20000;
  Values mean(kClasses);
  for (int i = 0; i < kDraws; ++i) {
    const Tensor row = affine(logits, 1, 0);
    const Vec d = gradient_and_diagonal(layout, {row, nn::cross_entropy(row, labels)}, parameters.all(), gradient.all(),
                                        {optim::Curvature::gauss_newton}, {.step = static_cast<uint64_t>(i)});
    const Values values = to_doubles(d.view());
    for (size_t c = 0; c < kClasses; ++c) mean[c] += values[c] / kDraws;
  }
  for (size_t c = 0; c < kClasses; ++c) EXPECT_NEAR(mean[c], p[c] * (1 - p[c]), 4 * 0.5 / std::sqrt(kDraws)) << c;
}

// B g (.) g with g the mean gradient for the labels that sample_labels draws.
TEST(Curvature, GaussNewtonIsTheBatchTimesTheSquaredGradientOfSampledLabels) {
  Net net;
  const Vec d = net.diagonal({optim::Curvature::gauss_newton}, {.seed = 2, .rank = 3, .step = 4});
  const RngKey stream{2, static_cast<uint32_t>(RngPurpose::sampled_labels), 3, 4};
  net.labels = sample_labels(net.forward().logits, stream);
  const Values g = net.plain_gradient(), mine = to_doubles(d.view());
  double largest = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    EXPECT_NEAR(mine[i], kSamples * g[i] * g[i], 1e-15);
    largest = std::max(largest, mine[i]);
  }
  EXPECT_GT(largest, 1e-4);
}

TEST(Curvature, SampledLabelsFollowTheSoftmax) {
  constexpr int64_t kRows = 30000;
  Values logits;
  for (int64_t i = 0; i < kRows; ++i) logits.insert(logits.end(), {0.0, std::log(2.0), std::log(5.0)});
  const RngKey key{1, static_cast<uint32_t>(RngPurpose::test), 0, 0};
  Values count(3);
  for (int64_t label : sample_labels(Tensor::from_vector(logits, {kRows, 3}), key).to_vector<int64_t>())
    ++count.at(static_cast<size_t>(label));
  const double expected[] = {1 / 8.0, 2 / 8.0, 5 / 8.0};
  for (size_t c = 0; c < 3; ++c)
    EXPECT_NEAR(count[c] / kRows, expected[c], 4 * 0.5 / std::sqrt(static_cast<double>(kRows))) << c;
}

TEST(Curvature, RunsOnTheGuardDeviceAndLeavesNothingBehind) {
  testing::install_guard_device();
  Net host, device(Device::guard);
  for (optim::Curvature kind : {optim::Curvature::hutchinson, optim::Curvature::gauss_newton}) {
    EXPECT_EQ(to_doubles(host.diagonal({kind, 2}).view()), to_doubles(device.diagonal({kind, 2}).view()));
    const size_t before = testing::guard_bytes_in_use();
    for (int i = 0; i < 5; ++i) device.diagonal({kind, 2});
    EXPECT_EQ(testing::guard_bytes_in_use(), before);
  }
}

}  // namespace
}  // namespace sinew::train
