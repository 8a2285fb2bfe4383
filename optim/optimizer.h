// Optimizers as chains of transforms on flat vectors.
//
// The update vector u starts as the gradient and flows through the transforms (clip -> precondition -> decay -> ...);
// the last link is theta -= lr * u. A transform declares what it needs; nobody else pays for it. State is flat vectors
// keyed by name. A chain that matches a fused kernel (SGD with momentum and decay) runs as that one kernel, with
// the same values up to rounding (tested against the unfused chain).
//
// One step, as the trainer runs it:
//   optimizer.before_gradient(theta)      // Nesterov's look-ahead moves theta; undone inside step() or skip()
//   ... forward, backward -> gradient ...
//   optimizer.step(theta, gradient)       // gradient may be overwritten
//   (or, when the gradient is not usable: optimizer.skip(theta))
// Between before_gradient and step nobody else may write theta.
//
// Thread safety: one thread per optimizer. Padding of the vectors stays zero. step() allocates nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/kernel_api.h"
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

// The stages of the fused kernel (kernel::SgdArgs), in the order in which it applies them.
enum class SgdStage { none, clip, coupled_decay, momentum, decoupled_decay };

class Transform {
 public:
  virtual ~Transform() = default;
  // Prefixes the transform's entries in a State; unique in a chain.
  virtual std::string name() const = 0;
  virtual Needs needs() const { return {}; }
  virtual void init(const ParamLayout& layout, DType dtype, Device device) {}
  // Before the gradient is taken; may move theta, and then must move it back in apply() or skip().
  virtual void before_gradient(VecView theta, const StepInfo& info) {}
  // Rewrites the update u (the gradient so far). theta may be moved too (decoupled decay).
  virtual void apply(VecView u, VecView theta, const StepInfo& info) = 0;
  // Instead of apply(), when the step has no usable gradient: undoes before_gradient() and changes nothing else.
  virtual void skip(VecView theta) {}

  // A chain whose transforms all have a stage other than none, in strictly rising order, runs as the one kernel: each
  // then gets set_sgd_args() in place of apply(), to fill its fields from the defaults of a plain step.
  virtual SgdStage sgd_stage() const { return SgdStage::none; }
  virtual void set_sgd_args(kernel::SgdArgs& args, ConstVecView gradient, const StepInfo& info) {}

  // Others moved theta: the relative strength of the move, |delta| / |theta|.
  virtual void on_external_write(double strength) {}
  // Entries are called "<name()>.<what>". load() gets a state with exactly the entries that save() makes.
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
  std::string name = "sgd";  // sgd | momentum | nesterov | nag  (see optim/README.md)
  double lr = 0.1;
  double momentum = 0.9;              // ignored by sgd
  double weight_decay = 0;            // coupled (added to the gradient)
  double decoupled_decay = 0;         // theta *= 1 - lr * factor * decoupled_decay
  double clip_norm = 0;               // 0: off
  std::string schedule = "constant";  // constant | step | cosine | inverse_sqrt  (see optim/schedule.h)
  double gamma = 0;                   // inverse_sqrt: 1 / (1 + gamma t)^0.5; step: factor at each milestone
  int64_t step_every = 0;             // step schedule: steps between drops
  int64_t total_steps = 0;            // cosine
  int64_t warmup_steps = 0;           // linear: step t gets (t + 1) / warmup_steps of the schedule's factor
};

class Optimizer {
 public:
  // Throws Error when two transforms share a name. lr: finite, >= 0.
  Optimizer(std::vector<std::unique_ptr<Transform>> chain, std::unique_ptr<Schedule> schedule, double lr);
  ~Optimizer();
  // Allocates the state, all zero, and starts at step 0. Once, before anything below.
  void init(const ParamLayout& layout, DType dtype, Device device);
  Needs needs() const;
  void before_gradient(VecView theta);
  // theta, gradient: layout.size() elements of init's type and device, else Error.
  void step(VecView theta, VecView gradient);
  // Ends a step that has no usable gradient (not finite): takes back the look-ahead (up to one rounding); state, step
  // count and learning rate stay as they are.
  void skip(VecView theta);
  void on_external_write(double strength);
  int64_t steps() const;
  // Puts the schedule's clock at `step` and leaves the rest of the state: a restarted worker goes on where it was.
  void seek(int64_t step);
  double lr() const;  // of the next step
  // Whether steps run as the one fused kernel.
  bool fused() const;
  // Values, not references. Loading them into an optimizer of the same options and layout continues bit for bit.
  // Both belong between steps.
  State save() const;
  // data_error when the entries, their sizes or types are not this optimizer's; what was loaded before the error stays.
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
