// Training in miniature, for tests of schemes: g(x) = x - b(rank) + noise, plain SGD or Nesterov's momentum in
// Sutskever's form, through the real hooks of a scheme. Bodies are functions of a World (tests/support/spawn_nodes.h).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/kernel_api.h"
#include "dist/scheme.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::dist::testing {

struct Toy {
  SchemeOptions scheme;
  int64_t size = 1;
  DType dtype = DType::f64;
  Device device = Device::cpu;  // of the workers' vectors; the center is in host memory
  int64_t steps = 6;
  double lr = 0.1, momentum = 0, noise = 0;
  double start = 1;         // all parameters, at first
  double start_spread = 0;  // times rank, added: breaks "same start" on purpose
  Nanos stagger = 0;        // worker r starts r * stagger later
  double b(Rank r) const { return r % 2 == 0 ? 1.0 - 0.1 * (r / 2) : -0.5 + 0.1 * (r / 2); }
};

// One worker's training state; steps are separate so that tests can stop between them.
class ToyWorker {
 public:
  ToyWorker(const Toy& toy, World& world)
      : toy_(toy),
        world_(world),
        scheme_(make_scheme(toy.scheme, world, toy.size, toy.dtype, toy.device)),
        theta_(Vec::zeros(toy.size, toy.dtype, toy.device)),
        gradient_(Vec::zeros(toy.size, toy.dtype, toy.device)),
        velocity_(Vec::zeros(toy.size, toy.dtype, toy.device)) {
    fill(theta_.mutable_view(), toy.start + toy.start_spread * world.rank());
  }

  Scheme& scheme() { return *scheme_; }
  Vec& theta() { return theta_; }
  Vec& velocity() { return velocity_; }
  Vec& evaluated_at() { return evaluated_at_; }  // where the last gradient was taken
  // Called between before_step and the gradient.
  std::function<void(int64_t step)> after_exchange;
  // What the scheme learns as the loss of a step; without it half the squared norm of the gradient.
  std::function<double(int64_t step)> loss;

  Status start() { return scheme_->start(theta_.mutable_view()); }

  Status step(int64_t k) {
    world_.report_step(k, theta_.mutable_view());
    SINEW_RETURN_IF_ERROR(scheme_->before_step(k, theta_.mutable_view()));
    if (after_exchange) after_exchange(k);
    world_.compute(Cost{1}, [&] { gradient(k); });
    scheme_->observe(loss ? loss(k) : 0.5 * dot(gradient_.view(), gradient_.view()));
    SINEW_RETURN_IF_ERROR(scheme_->reduce(gradient_.mutable_view()));
    axpby(-toy_.lr, gradient_.view(), toy_.momentum, velocity_.view(), velocity_.mutable_view());
    axpby(1, velocity_.view(), 1, theta_.view(), theta_.mutable_view());
    return scheme_->after_step(k, theta_.mutable_view());
  }

 private:
  void gradient(int64_t k) {
    evaluated_at_ = theta_.clone();
    if (toy_.momentum != 0) axpby(toy_.momentum, velocity_.view(), 1, theta_.view(), evaluated_at_.mutable_view());
    Vec b = Vec::zeros(toy_.size, toy_.dtype, toy_.device);
    fill(b.mutable_view(), toy_.b(world_.rank()));
    axpby(1, evaluated_at_.view(), -1, b.view(), gradient_.mutable_view());
    if (toy_.noise == 0) return;
    Vec noise = Vec::zeros(toy_.size, toy_.dtype, toy_.device);
    kernels(toy_.device)
        .random({RandomDist::uniform,
                 toy_.dtype,
                 toy_.size,
                 {7, uint32_t(RngPurpose::test), uint32_t(world_.rank()), uint64_t(k)},
                 noise.mutable_view().data,
                 -toy_.noise,
                 toy_.noise});
    axpby(1, noise.view(), 1, gradient_.view(), gradient_.mutable_view());
  }

  const Toy toy_;
  World& world_;
  std::unique_ptr<Scheme> scheme_;
  Vec theta_, gradient_, velocity_, evaluated_at_;
};

inline std::unique_ptr<CenterNode> toy_center(const Toy& toy, World& world) {
  auto center = make_center(toy.scheme, world, toy.size, toy.dtype);
  Vec initial = Vec::zeros(toy.size, toy.dtype);
  fill(initial.mutable_view(), toy.start);
  Status status = center->start(initial.view());
  SINEW_CHECK(status.ok(), "toy_center", status.message());
  return center;
}

// A whole run of any scheme. Workers hand back theta, the center the center variable.
inline Result<Numbers> toy_run(World& world, const Toy& toy) {
  if (world.rank() >= toy.scheme.workers) {
    auto center = toy_center(toy, world);
    Result<bool> done = center->serve(INT64_MAX);
    if (!done.ok()) return done.status();
    Vec out = Vec::zeros(toy.size, toy.dtype);
    center->snapshot(out.mutable_view());
    return to_doubles(out.view());
  }
  ToyWorker worker(toy, world);
  SINEW_RETURN_IF_ERROR(worker.start());
  world.sleep(toy.stagger * world.rank());
  for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
  SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
  return to_doubles(worker.theta().view());
}

}  // namespace sinew::dist::testing
