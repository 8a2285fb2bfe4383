// The numbers of the EASGD specification, section 4, through the real schemes in the simulation.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kStep = 10 * kMillisecond;

Toy golden(const std::string& scheme, double momentum, int64_t period) {
  Toy toy;
  toy.scheme.name = scheme;
  toy.scheme.workers = 2;
  toy.scheme.alpha = 0.2;
  toy.scheme.period = period;
  toy.momentum = momentum;
  toy.steps = 6;
  return toy;
}

struct Trace {
  std::vector<double> center, velocity, measured;  // the center variable, its momentum, what is reported
  std::vector<double> x[2], v[2];
};

// Steps of 10 ms, worker 1 half a step behind worker 0, links far faster than that: the workers act in turn. The
// center is read at nine tenths of each row, a row later where workers exchange at the end of a step.
Trace trace_of(Toy toy) {
  Trace trace;
  toy.stagger = kStep / 2;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == toy.scheme.workers) {
      auto center = toy_center(toy, world);
      world.sleep(kStep * 9 / 10 + (toy.scheme.name == "mdownpour" ? kStep : 0));
      for (int64_t row = 0; row < toy.steps; ++row, world.sleep(kStep)) {
        const SchemeState state = center->save();
        trace.center.push_back(to_doubles(state.vectors.at("center.0").view())[0]);
        if (auto v = state.vectors.find("velocity.0"); v != state.vectors.end())
          trace.velocity.push_back(to_doubles(v->second.view())[0]);
        Vec reported = Vec::zeros(1, DType::f64);
        center->snapshot(reported.mutable_view());
        trace.measured.push_back(to_doubles(reported.view())[0]);
      }
      Result<bool> done = center->serve(INT64_MAX);
      if (!done.ok()) return done.status();
      return Numbers{};
    }
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    world.sleep(toy.stagger * world.rank());
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      trace.x[world.rank()].push_back(to_doubles(worker.theta().view())[0]);
      const SchemeState state = worker.scheme().save();
      if (auto base = state.vectors.find("base"); base != state.vectors.end())  // moved since the last exchange
        trace.v[world.rank()].push_back(trace.x[world.rank()].back() - to_doubles(base->second.view())[0]);
      else
        trace.v[world.rank()].push_back(to_doubles(worker.velocity().view())[0]);
      if (!needs_center(toy.scheme) && world.rank() == 0) {
        Vec c = Vec::zeros(1, DType::f64);
        SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), c.mutable_view()));
        trace.center.push_back(to_doubles(c.view())[0]);
      }
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return Numbers{};
  };
  SimulatedRun run = simulate(node_count(toy.scheme), body, {.latency = kMicrosecond, .step_cost = kStep, .jitter = 0});
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return trace;
}

void expect_row(const std::vector<double>& column, int row, double value) {
  ASSERT_LE(row, static_cast<int>(column.size()));
  EXPECT_NEAR(column[row - 1], value, 1e-12) << "row " << row;
}

void expect_column(const std::vector<double>& column, const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) expect_row(column, static_cast<int>(i) + 1, values[i]);
}

TEST(Golden, Easgd) {
  Trace t = trace_of(golden("easgd", 0, 2));
  expect_column(t.center, {1, 1, 0.943, 0.943, 0.87061, 0.87061});
  expect_column(t.x[0], {1, 1, 1, 1, 0.9886, 0.98974});
  expect_column(t.x[1], {0.85, 0.715, 0.6505, 0.53545, 0.515695, 0.4141255});
}

TEST(Golden, Eamsgd) {
  Trace t = trace_of(golden("eamsgd", 0.9, 2));
  expect_column(t.center, {1, 1, 0.9187, 0.9187, 0.75097867, 0.75097867});
  expect_column(t.x[0], {1, 1, 1, 1, 0.98374, 0.985366});
  expect_column(t.x[1], {0.85, 0.5935, 0.357685, 0.01505335, -0.1300022915, -0.433522009265});
  expect_column(t.v[0], {0, 0, 0, 0, 0, 0.001626});
  expect_column(t.v[1], {-0.15, -0.2565, -0.317115, -0.34263165, -0.3290369715, -0.303519717765});
}

TEST(Golden, Jacobi) {
  Trace t = trace_of(golden("easgd_sync", 0, 1));
  expect_column(t.center, {1, 0.97, 0.931});
  expect_column(t.x[0], {1, 1, 0.994});
  expect_column(t.x[1], {0.85, 0.745, 0.6655});
  expect_row(t.center, 6, 0.813673);
  expect_row(t.x[0], 6, 0.946072);
  expect_row(t.x[1], 6, 0.5048965);
}

TEST(Golden, GaussSeidel) {
  Toy toy = golden("easgd_sync", 0, 1);
  toy.scheme.order = "gauss_seidel";
  Trace t = trace_of(toy);
  expect_column(t.center, {0.97, 0.92824, 0.88307008});
  expect_column(t.x[0], {1, 0.9946, 0.9831952});
  expect_column(t.x[1], {0.85, 0.7366, 0.6474352});
  expect_row(t.center, 6, 0.754989669499863);
  expect_row(t.x[0], 6, 0.9250121364299776);
  expect_row(t.x[1], 6, 0.4639303879499775);
}

TEST(Golden, Downpour) {
  Trace t = trace_of(golden("downpour", 0, 2));
  expect_column(t.center, {1, 1, 0.715, 0.715, 0.48415, 0.48415});
  expect_column(t.x[0], {1, 1, 1, 1, 0.7435, 0.76915});
  expect_column(t.x[1], {0.85, 0.715, 0.5935, 0.48415, 0.385735, 0.2971615});
  expect_column(t.v[0], {0, 0, 0, 0, 0.0285, 0.05415});
  expect_column(t.v[1], {-0.15, -0.285, -0.1215, -0.23085, -0.098415, -0.1869885});
  EXPECT_EQ(t.measured, t.center);
}

// z is the mean of the centers before each of the updates; before those of row 5 there were 1 (five times), then 0.715.
TEST(Golden, AveragedDownpour) {
  Trace t = trace_of(golden("adownpour", 0, 2)), plain = trace_of(golden("downpour", 0, 2));
  EXPECT_EQ(t.center, plain.center);
  expect_column(t.measured, {1, 1, 1, 1, (4 + 2 * 0.715) / 6, (4 + 2 * 0.715) / 6});
  Toy moving = golden("mvadownpour", 0, 2);
  moving.scheme.average_rate = 0.5;
  t = trace_of(moving);
  EXPECT_EQ(t.center, plain.center);
  expect_column(t.measured, {1, 1, 1, 1, 0.78625, 0.78625});
}

Toy golden_mdownpour() {
  Toy toy = golden("mdownpour", 0, 1);
  toy.scheme.outer_momentum = 0.9;
  return toy;
}

TEST(Golden, Mdownpour) {
  Trace t = trace_of(golden_mdownpour());
  expect_column(t.center, {0.85, 0.472, 0.058375, -0.21449795, -0.257799956, -0.092194384085});
  expect_column(t.velocity, {-0.15, -0.243, -0.235575, -0.14748495, -0.028551771, 0.067049826165});
  expect_column(t.x[0], {1, 0.5935, 0.133705, -0.1798622, -0.2425233965, -0.070544039075});
  expect_column(t.x[1], {0.715, 0.2533, -0.1536425, -0.347234405, -0.2834965499, -0.0318495405365});
  EXPECT_EQ(t.measured, t.center);
}

// The specification's b = -0.5 and x0 = 1 are these moved by 1.5.
constexpr double kShift = 1.5;

TEST(Golden, MsgdAndMdownpourOfOneWorker) {
  Toy toy = golden("msgd", 0.9, 1);
  toy.scheme.workers = 1;
  toy.start = 1 + kShift;
  Trace t = trace_of(toy);
  expect_row(t.x[0], 6, -0.641185273265 + kShift);
  expect_row(t.v[0], 6, -0.267933951765);
  toy = golden_mdownpour();
  toy.scheme.workers = 1;
  toy.start = 1 + kShift;
  t = trace_of(toy);
  expect_row(t.center, 6, -0.641185273265 + kShift);
  expect_row(t.velocity, 6, -0.267933951765);
}

// x_t - b = 1.5 * 0.9^t; z_6 is the mean of the first six.
TEST(Golden, AveragedSgd) {
  Toy toy = golden("asgd", 0, 1);
  toy.scheme.workers = 1;
  toy.start = 1 + kShift;
  double mean = 0, moving = 1 + kShift;
  for (int t = 0; t < 6; ++t) {
    const double x = 1 + 1.5 * std::pow(0.9, t);
    mean += x / 6, moving = 0.75 * moving + 0.25 * x;
  }
  Trace t = trace_of(toy);
  expect_row(t.x[0], 6, 1 + 1.5 * std::pow(0.9, 6));
  expect_row(t.center, 6, mean);
  toy.scheme.name = "mvasgd";
  toy.scheme.average_rate = 0.25;
  expect_row(trace_of(toy).center, 6, moving);
}

}  // namespace
}  // namespace sinew::dist::testing
