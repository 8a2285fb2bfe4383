// Optimizers as chains of transforms on flat vectors.
//
// The update vector u starts as the gradient and flows through the transforms (clip -> precondition -> decay -> ...); the last
// link is theta -= lr * u. A transform declares what it needs; nobody else pays for it. State is flat vectors
// keyed by name. A chain that matches a fused kernel (SGD with momentum and decay) runs as that one kernel, with
// the same values up to rounding (tested against the unfused chain).
//
// One step, as the trainer runs it:
//   optimizer.before_gradient(theta)      // Nesterov's look-ahead moves theta; undone inside step()
//   ... forward, backward -> gradient ...
//   optimizer.step(theta, gradient)       // gradient may be overwritten
//
// Thread safety: one thread per optimizer. Padding of the vectors stays zero.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/param_layout.h"
#include "core/status.h"
#include "core/vec.h"

namespace sinew::optim {

struct StepInfo {
  int64_t step = 0;  // of this optimizer, from 0
  double lr = 0;     // after the schedule
};

// What a transform asks the trainer for.
struct Needs {
  int hessian_diag_every = 0;  // 0: never
};

struct State {
  std::map<std::string, Vec> vectors;
  std::map<std::string, double> numbers;
};

class Transform {
 public:
  virtual ~Transform() = default;
  virtual std::string name() const = 0;
  virtual Needs needs() const { return {}; }
  virtual void init(const ParamLayout& layout, DType dtype, Device device) {}
  // Before the gradient is taken; may move theta, and then must move it back in apply().
  virtual void before_gradient(VecView theta, const StepInfo& info) {}
  // Rewrites the update u (the gradient so far). theta may be moved too (decoupled decay).
  virtual void apply(VecView u, VecView theta, const StepInfo& info) = 0;
  // Others moved theta: the relative strength of the move, |delta| / |theta|.
  virtual void on_external_write(double strength) {}
  virtual void save(State& state) const {}
  virtual Status load(const State& state) { return Status::Ok(); }
};

// Learning-rate factor by step.
class Schedule {
 public:
  virtual ~Schedule() = default;
  virtual double factor(int64_t step) const = 0;
};

struct OptimizerOptions {
  std::string name = "sgd";        // sgd | momentum | nesterov | nag  (see optim/README.md)
  double lr = 0.1;
  double momentum = 0.9;           // ignored by sgd
  double weight_decay = 0;         // coupled (added to the gradient)
  double decoupled_decay = 0;      // theta *= 1 - lr * factor * decoupled_decay
  double clip_norm = 0;            // 0: off
  std::string schedule = "constant";  // constant | step | cosine | inverse_sqrt
  double gamma = 0;                // inverse_sqrt: 1 / (1 + gamma t)^0.5; step: factor at each milestone
  int64_t step_every = 0;          // step schedule: steps between drops
  int64_t total_steps = 0;         // cosine
  int64_t warmup_steps = 0;        // linear from 0
};

class Optimizer {
 public:
  Optimizer(std::vector<std::unique_ptr<Transform>> chain, std::unique_ptr<Schedule> schedule, double lr);
  ~Optimizer();
  void init(const ParamLayout& layout, DType dtype, Device device);
  Needs needs() const;
  void before_gradient(VecView theta);
  void step(VecView theta, VecView gradient);
  void on_external_write(double strength);
  int64_t steps() const;
  double lr() const;  // of the next step
  State save() const;
  Status load(const State& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// invalid_argument with the allowed names or ranges.
Status validate(const OptimizerOptions& options);
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options);  // REQUIRES: validate(options).ok()
std::vector<std::string> optimizer_names();
std::vector<std::string> schedule_names();

}  // namespace sinew::optim
