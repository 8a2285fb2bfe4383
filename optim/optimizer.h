// Optimizers as chains of transforms on flat vectors.
//
// The update vector u starts as the gradient and flows through the transforms (clip -> precondition -> decay -> ...);
// the last link is theta -= lr * u. A transform declares what it needs; nobody else pays for it. State is flat vectors
// keyed by name. A chain of the form clip, coupled decay, one rule, decoupled decay (each optional) whose rule has a
// kernel runs as that one pass over memory, with the same values up to rounding (tested against the unfused chain).
//
// One step, as the trainer runs it:
//   Needs needs = optimizer.needs();      // what this step takes besides the gradient; mostly nothing
//   optimizer.before_gradient(theta)      // Nesterov's look-ahead moves theta; undone inside step() or skip()
//   ... forward, backward -> gradient; the Hessian's diagonal where needs says so (optim/hutchinson.h) ...
//   optimizer.step(theta, gradient, diagonal)   // gradient and diagonal may be overwritten
//   (or, when the gradient is not usable: optimizer.skip(theta))
// Between before_gradient and step nobody else may write theta.
//
// Thread safety: one thread per optimizer. Padding of the vectors stays zero. step() allocates nothing after the first.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
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
  // What needs() asked for: an estimate of the Hessian's diagonal in the parameters' layout, signed, already combined
  // over the workers of a synchronous scheme. Empty (data null) when nobody asked. Transforms may rewrite it.
  VecView diagonal;
};

// How the Hessian's diagonal D is estimated. Both estimates are without bias.
//   hutchinson:    D = z (.) Hz with z of +1 and -1 (optim/hutchinson.h)
//   gauss_newton:  D = B g (.) g, g the gradient of the mean loss of B samples whose labels are drawn from the model's
//                  own softmax; of the Gauss-Newton matrix. Liu et al. 2023 (arXiv:2305.14342), Algorithm 2
enum class Curvature { none, hutchinson, gauss_newton };

// What a step takes besides the gradient.
struct Needs {
  Curvature curvature = Curvature::none;
  int samples = 1;  // hutchinson: draws of z to average over
};

struct State {
  std::map<std::string, Vec> vectors;
  std::map<std::string, double> numbers;
};

// The place of a transform in a fused chain, in their order (kernel::UpdateFrame). none: it cannot be fused.
enum class Stage { none, clip, coupled_decay, rule, decoupled_decay };

class Transform {
 public:
  virtual ~Transform() = default;
  // Prefixes the transform's entries in a State; unique in a chain.
  virtual std::string name() const = 0;
  // Of the next apply(). Must not depend on values, so that all workers of a synchronous scheme need the same.
  virtual Needs needs() const { return {}; }
  // Whether some steps' needs() are of the curvature.
  virtual bool uses_curvature() const { return false; }
  virtual void init(const ParamLayout& layout, DType dtype, Device device) {}
  // Before the gradient is taken; may move theta, and then must move it back in apply() or skip().
  virtual void before_gradient(VecView theta, const StepInfo& info) {}
  // Rewrites the update u (the gradient so far). theta may be moved too (decoupled decay).
  virtual void apply(VecView u, VecView theta, const StepInfo& info) = 0;
  // Instead of apply(), when the step has no usable gradient: undoes before_gradient() and changes nothing else.
  virtual void skip(VecView theta) {}

  // A chain whose transforms all have a stage other than none, in strictly rising order, is fused: in place of apply(),
  // the rule gets apply_fused() and the others set_frame(). Asked once, after init().
  virtual Stage stage() const { return Stage::none; }
  // Fills the transform's fields of the frame.
  virtual void set_frame(kernel::UpdateFrame& frame, ConstVecView gradient, const StepInfo& info) {}
  // Runs the rule's kernel, which also moves theta.
  virtual void apply_fused(const kernel::UpdateFrame& frame, const StepInfo& info) {}

  // Whether a device that records graphs may record apply(), or apply_fused() and set_frame() (models/step_graph.h): of
  // two steps with the same needs(), both make the same calls on the same memory with other numbers, allocate nothing
  // after the first and read no values on the host.
  virtual bool recordable() const { return false; }

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

// What is not set is the named optimizer's own published default (optim/README.md lists them).
struct OptimizerOptions {
  std::string name = "sgd";  // optimizer_names(); see optim/README.md
  std::optional<double> lr;
  double momentum = 0.9;                  // momentum, nesterov, nag, qgm, lars
  double weight_decay = 0;                // coupled (added to the gradient)
  std::optional<double> decoupled_decay;  // theta *= 1 - lr * factor * decoupled_decay
  double clip_norm = 0;                   // 0: off
  // Adaptive ones: averages of the gradient and of its squares or the curvature; smallest denominator.
  std::optional<double> beta1, beta2, eps;
  std::optional<double> rho;                 // sophia: the curvature's factor
  double trust = 0.001;                      // lars
  double hessian_power = 1;                  // adahessian: k
  std::optional<int64_t> hessian_every;      // steps between two estimates of the curvature
  int64_t hessian_dense_steps = 0;           // adahessian: at first it is estimated in every step
  int hessian_samples = 1;                   // draws of z per estimate
  std::string hessian_average = "abs_mean";  // abs_mean | signed_mean
  int64_t hessian_block = 1;                 // adahessian: block length in the rows of a matrix
  std::string hessian_stale = "keep";        // keep | repeat: what the average of squares does between estimates
  bool bias_correction = true;               // adahessian: of both averages
  std::string schedule = "constant";         // constant | step | cosine | inverse_sqrt  (see optim/schedule.h)
  double gamma = 0;                          // inverse_sqrt: 1 / (1 + gamma t)^0.5; step: factor at each milestone
  int64_t step_every = 0;                    // step schedule: steps between drops
  int64_t total_steps = 0;                   // cosine
  int64_t warmup_steps = 0;                  // linear: step t gets (t + 1) / warmup_steps of the schedule's factor
};

// A saved count: data_error unless it is a whole number >= 0 that a double holds exactly.
Result<int64_t> whole_number(const std::string& name, double value);

class Optimizer {
 public:
  // Throws Error when two transforms share a name. lr: finite, >= 0.
  Optimizer(std::vector<std::unique_ptr<Transform>> chain, std::unique_ptr<Schedule> schedule, double lr);
  ~Optimizer();
  // Allocates the state, all zero, and starts at step 0. Once, before anything below.
  void init(const ParamLayout& layout, DType dtype, Device device);
  // Of the next step. Throws Error when two transforms want different estimates.
  Needs needs() const;
  void before_gradient(VecView theta);
  // Each: layout.size() elements of init's type and device, else Error. diagonal: exactly when needs() asks for one.
  void step(VecView theta, VecView gradient, VecView diagonal = {});
  // Ends a step that has no usable gradient (not finite): takes back the look-ahead (up to one rounding); state, step
  // count and learning rate stay as they are.
  void skip(VecView theta);
  void on_external_write(double strength);
  int64_t steps() const;
  // Puts the schedule's clock at `step` and leaves the rest of the state, with the clocks of its own averages: a
  // restarted worker goes on where it was.
  void seek(int64_t step);
  double lr() const;  // of the next step
  // Whether steps run as one fused kernel; known after init().
  bool fused() const;
  // Whether step() may be recorded (Transform::recordable); known after init().
  bool recordable() const;
  // Values, not references. Loading them into an optimizer of the same options and layout continues bit for bit.
  // Both belong between steps.
  State save() const;
  // data_error when the entries, their sizes or types are not this optimizer's; what was loaded before the error stays.
  Status load(const State& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The options with everything set. REQUIRES: the name is one of optimizer_names().
OptimizerOptions with_defaults(OptimizerOptions options);
// invalid_argument with the allowed names or ranges.
Status validate(const OptimizerOptions& options);
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options);  // REQUIRES: validate(options).ok()
std::vector<std::string> optimizer_names();
std::vector<std::string> schedule_names();

}  // namespace sinew::optim
