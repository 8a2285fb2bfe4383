// Trajectories of every optimizer against scalar loops written from the papers' formulas, independent of optim/.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "optim/transforms.h"
#include "tests/optim/trajectory.h"

namespace sinew::optim {
namespace {

using Values = std::vector<double>;

// A filter (out, rows, columns, in), a matrix (out, in) and a bias.
ParamLayout small_layout() {
  ParamLayout layout;
  layout.add("conv.weight", {2, 3, 3, 4});
  layout.add("fc.weight", {3, 5});
  layout.add("fc.bias", {3});
  return layout;
}

// x after one more update; t = 0, 1, ... Padding is in the vectors, all zero.
using Rule = std::function<void(Values& x, Values g, Values d, int t)>;

double noise(int t, size_t i) {
  const RngKey key{3, static_cast<uint32_t>(RngPurpose::test), 0, static_cast<uint64_t>(t)};
  return 2 * static_cast<double>(uniform01(philox_u32(key, i))) - 1;
}

// Values on the parameters by f(i), zero on the padding.
Values on_parameters(const ParamLayout& layout, const std::function<double(size_t)>& f) {
  Values v(static_cast<size_t>(layout.size()), 0);
  for (const Segment& s : layout.segments())
    for (int64_t i = s.offset; i < s.offset + s.numel; ++i) v[static_cast<size_t>(i)] = f(static_cast<size_t>(i));
  return v;
}

// Both run 12 steps from the same point, with gradients that depend on where it is and diagonals of both signs.
void expect_same_path(Optimizer& optimizer, const Rule& rule, const char* what, double tolerance = 1e-13) {
  const ParamLayout layout = small_layout();
  optimizer.init(layout, DType::f64, Device::cpu);
  Values x = on_parameters(layout, [](size_t i) { return noise(1000, i); }), y = x;
  auto gradient = [&](const Values& at, int t) {
    return on_parameters(layout, [&](size_t i) { return std::sin(3 * at[i]) + 0.5 * noise(t, i); });
  };
  auto diagonal = [&](int t) { return on_parameters(layout, [&](size_t i) { return 0.3 + 2 * noise(t + 100, i); }); };
  int asked = 0;
  for (int t = 0; t < 12; ++t) {
    Values g = gradient(y, t), d = diagonal(t);
    rule(y, g, d, t);
    Values mine = gradient(x, t);
    const bool wanted = optimizer.needs().curvature != Curvature::none;
    asked += wanted;
    optimizer.step(x, mine, wanted ? VecView(d) : VecView());
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance) << what << " step " << t << " at " << i;
  }
  Values start = on_parameters(layout, [](size_t i) { return noise(1000, i); });
  EXPECT_NE(x, start) << what;
}

double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

// Kingma and Ba 2015, Algorithm 1; decay: Loshchilov and Hutter 2019, Algorithm 2.
Rule adam_rule(double lr, double b1, double b2, double eps, double decay) {
  return [=, m = Values(1000), v = Values(1000)](Values& x, const Values& g, const Values&, int t) mutable {
    for (size_t i = 0; i < x.size(); ++i) {
      m[i] = b1 * m[i] + (1 - b1) * g[i];
      v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
      const double m_hat = m[i] / (1 - std::pow(b1, t + 1)), v_hat = v[i] / (1 - std::pow(b2, t + 1));
      x[i] -= lr * (m_hat / (std::sqrt(v_hat) + eps) + decay * x[i]);
    }
  };
}

TEST(Rules, AdamAndAdamW) {
  expect_same_path(*make_optimizer({.name = "adam"}), adam_rule(1e-3, 0.9, 0.999, 1e-8, 0), "adam");
  expect_same_path(*make_optimizer({.name = "adam", .lr = 0.1, .beta1 = 0.5, .beta2 = 0.7, .eps = 0.01}),
                   adam_rule(0.1, 0.5, 0.7, 0.01, 0), "adam with other numbers");
  expect_same_path(*make_optimizer({.name = "adamw", .lr = 0.1}), adam_rule(0.1, 0.9, 0.999, 1e-8, 0.01), "adamw");
}

// Chen et al. 2023, Program 1.
TEST(Rules, Lion) {
  const double lr = 0.01, b1 = 0.9, b2 = 0.99, decay = 0.2;
  expect_same_path(
      *make_optimizer({.name = "lion", .lr = lr, .decoupled_decay = decay}),
      [=, m = Values(1000)](Values& x, const Values& g, const Values&, int) mutable {
        for (size_t i = 0; i < x.size(); ++i) {
          x[i] -= lr * (sign(b1 * m[i] + (1 - b1) * g[i]) + decay * x[i]);
          m[i] = b2 * m[i] + (1 - b2) * g[i];
        }
      },
      "lion");
}

// You, Gitman and Ginsburg 2017, eq. 6, per layer, and momentum.
TEST(Rules, Lars) {
  const double lr = 0.5, trust = 0.02, decay = 0.1, momentum = 0.9;
  auto rule = [=, v = Values(1000)](Values& x, const Values& g, const Values&, int) mutable {
    const ParamLayout layout = small_layout();
    for (const Segment& s : layout.segments()) {
      const size_t begin = static_cast<size_t>(s.offset), end = begin + static_cast<size_t>(s.numel);
      double ww = 0, gg = 0;
      for (size_t i = begin; i < end; ++i) ww += x[i] * x[i], gg += g[i] * g[i];
      const double ratio = trust * std::sqrt(ww) / (std::sqrt(gg) + decay * std::sqrt(ww));
      for (size_t i = begin; i < end; ++i) {
        v[i] = momentum * v[i] + ratio * (g[i] + decay * x[i]);
        x[i] -= lr * v[i];
      }
    }
  };
  expect_same_path(*make_optimizer({.name = "lars", .lr = lr, .weight_decay = decay, .trust = trust}), rule, "lars");
}

TEST(Rules, LarsTakesAPlainStepWhereAParameterIsZero) {
  ParamLayout layout;
  layout.add("w", {2, 2});
  auto optimizer = make_optimizer({.name = "lars", .lr = 0.1, .weight_decay = 0.1});
  optimizer->init(layout, DType::f64, Device::cpu);
  Values x(16), g(16);
  g[1] = 2;
  optimizer->step(x, g);
  EXPECT_DOUBLE_EQ(x[1], -0.2);
  EXPECT_EQ(x[0], 0);
}

// optax's scale_by_sophia_h.
TEST(Rules, SophiaH) {
  const double lr = 0.05, b1 = 0.965, b2 = 0.99, eps = 1e-8, gamma = 0.3;
  expect_same_path(
      *make_optimizer({.name = "sophia_h", .lr = lr, .rho = gamma, .hessian_every = 4}),
      [=, m = Values(1000), h = Values(1000)](Values& x, const Values& g, const Values& d, int t) mutable {
        for (size_t i = 0; i < x.size(); ++i) {
          m[i] = b1 * m[i] + (1 - b1) * g[i];
          if (t % 4 == 0) h[i] = b2 * h[i] + (1 - b2) * d[i];
          const double m_hat = m[i] / (1 - std::pow(b1, t + 1));
          x[i] -= lr * std::max(-1.0, std::min(1.0, m_hat / std::max(gamma * h[i], eps)));
        }
      },
      "sophia_h");
}

// The authors' SophiaG, with the batch size where they have it: their h is ours divided by it.
TEST(Rules, SophiaG) {
  const double lr = 0.05, b1 = 0.965, b2 = 0.99, rho = 0.5, decay = 0.1, batch = 32;
  auto rule = [=, m = Values(1000), h = Values(1000)](Values& x, const Values& g, const Values& d, int t) mutable {
    for (size_t i = 0; i < x.size(); ++i) {
      const double g_hat = std::sqrt(std::fabs(d[i]) / batch);  // of sampled labels
      if (t % 3 == 0) h[i] = b2 * h[i] + (1 - b2) * g_hat * g_hat;
      x[i] *= 1 - lr * decay;
      m[i] = b1 * m[i] + (1 - b1) * g[i];
      const double ratio = std::min(std::fabs(m[i]) / (rho * batch * h[i] + 1e-15), 1.0);
      x[i] -= lr * sign(m[i]) * ratio;
    }
  };
  // The optimizer is given D = batch * g_hat^2 = |d|.
  class AbsoluteDiagonal : public Transform {
   public:
    std::string name() const override { return "absolute"; }
    void apply(VecView, VecView, const StepInfo& info) override {
      auto* d = static_cast<double*>(info.diagonal.data);
      for (int64_t i = 0; i < info.diagonal.size; ++i) d[i] = std::fabs(d[i]);
    }
  };
  std::vector<TransformPtr> chain;
  chain.push_back(std::make_unique<AbsoluteDiagonal>());
  chain.push_back(sophia({.curvature = Curvature::gauss_newton,
                          .beta1 = b1,
                          .beta2 = b2,
                          .rho = rho,
                          .eps = 1e-15,
                          .every = 3,
                          .bias_correction = false}));
  chain.push_back(decoupled_decay(decay));
  Optimizer optimizer(std::move(chain), constant_schedule(), lr);
  expect_same_path(optimizer, rule, "sophia_g");
}

// The specification's pseudocode (section 2.4), with every switch.
struct AdaHessianCase {
  const char* what;
  OptimizerOptions options;
};
Values averaged(const Values& d, bool absolute, int64_t block) {
  auto value = [&](int64_t i) { return absolute ? std::fabs(d[static_cast<size_t>(i)]) : d[static_cast<size_t>(i)]; };
  Values out = d;
  const ParamLayout layout = small_layout();
  const Segment &conv = layout.segments()[0], &fc = layout.segments()[1];
  for (int64_t k = 0; k < 2; ++k)
    for (int64_t c = 0; c < 4; ++c) {
      auto at = [&](int64_t r, int64_t s) { return conv.offset + ((k * 3 + r) * 3 + s) * 4 + c; };
      double sum = 0;
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t s = 0; s < 3; ++s) sum += value(at(r, s));
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t s = 0; s < 3; ++s) out[static_cast<size_t>(at(r, s))] = sum / 9;
    }
  if (block > 1)
    for (int64_t row = 0; row < 3; ++row)
      for (int64_t begin = 0; begin < 5; begin += block) {
        const int64_t end = std::min<int64_t>(5, begin + block);
        double sum = 0;
        for (int64_t i = begin; i < end; ++i) sum += value(fc.offset + row * 5 + i);
        for (int64_t i = begin; i < end; ++i)
          out[static_cast<size_t>(fc.offset + row * 5 + i)] = sum / static_cast<double>(end - begin);
      }
  return out;
}

TEST(Rules, AdaHessian) {
  const AdaHessianCase cases[] = {
      {"defaults", {}},
      {"signed mean, blocks of 2", {.hessian_average = "signed_mean", .hessian_block = 2}},
      {"blocks of 3, power 1/2", {.hessian_power = 0.5, .hessian_block = 3}},
      {"blocks longer than a row, power 0.3", {.hessian_power = 0.3, .hessian_block = 99}},
      {"power 0 is momentum", {.hessian_power = 0}},
      {"lazy", {.hessian_every = 4}},
      {"lazy after dense steps", {.hessian_every = 5, .hessian_dense_steps = 3}},
      {"lazy, stale diagonals repeated", {.hessian_every = 4, .hessian_stale = "repeat"}},
      {"coupled decay", {.weight_decay = 0.3, .hessian_every = 2}},
      {"decoupled decay", {.decoupled_decay = 0.3}},
      {"schedule", {.schedule = "inverse_sqrt", .gamma = 0.5}},
  };
  for (AdaHessianCase c : cases) {
    c.options.name = "adahessian";
    c.options.lr = 0.05;
    const OptimizerOptions o = with_defaults(c.options);
    Values m(1000), vsq(1000), stale(1000);
    int th = 0;
    Rule rule = [&](Values& x, Values g, Values d, int t) {
      const bool hessian_step = t < o.hessian_dense_steps || t % *o.hessian_every == 0;
      const double lr = 0.05 / std::sqrt(1 + o.gamma * t);
      for (size_t i = 0; i < x.size(); ++i) {
        const bool padding = g[i] == 0;
        g[i] += o.weight_decay * x[i];
        if (!padding) d[i] += o.weight_decay;  // the Hessian of decay / 2 |x|^2
      }
      const Values mean = averaged(d, o.hessian_average == "abs_mean", o.hessian_block);
      if (hessian_step) stale = mean;
      if (hessian_step || o.hessian_stale == "repeat") {
        ++th;
        for (size_t i = 0; i < x.size(); ++i) vsq[i] = *o.beta2 * vsq[i] + (1 - *o.beta2) * stale[i] * stale[i];
      }
      for (size_t i = 0; i < x.size(); ++i) {
        m[i] = *o.beta1 * m[i] + (1 - *o.beta1) * g[i];
        const double denom = std::pow(std::sqrt(vsq[i] / (1 - std::pow(*o.beta2, th))), o.hessian_power) + *o.eps;
        x[i] -= lr * (m[i] / (1 - std::pow(*o.beta1, t + 1)) / denom + *o.decoupled_decay * x[i]);
      }
    };
    expect_same_path(*make_optimizer(c.options), rule, c.what, 1e-12);
  }
}

TEST(Rules, AdaHessianWithoutBiasCorrection) {
  ScalarRun run(make_optimizer({.name = "adahessian", .lr = 1, .bias_correction = false}), 0);
  run.set_curvature([](double) { return -3; });
  run.step([](double) { return 2; });
  EXPECT_NEAR(run.x(), -0.2 / (std::sqrt(0.001 * 9) + 1e-4), 1e-14);
}

// A restarted worker begins with an empty state in the middle of the run: its first step must see a curvature.
TEST(Rules, AFreshStateAsksForTheCurvatureWhereverTheScheduleStands) {
  for (const char* name : {"adahessian", "sophia_h", "sophia_g"}) {
    ScalarRun run(make_optimizer({.name = name, .hessian_every = 10}), 1);
    run.optimizer().seek(7);
    EXPECT_NE(run.optimizer().needs().curvature, Curvature::none) << name;
    run.step([](double) { return 1; });
    EXPECT_EQ(run.optimizer().needs().curvature, Curvature::none) << name;
  }
}

}  // namespace
}  // namespace sinew::optim
