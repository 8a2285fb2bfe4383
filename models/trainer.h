// Trainer: one worker's training loop over a scheme's hooks (architecture, section 3), the same in both worlds.
//
// One step: scheme.before_step -> optimizer.before_gradient -> forward and backward, the Hessian's diagonal where
// optimizer.needs() says so (models/curvature.h) -> scheme.observe(loss) -> scheme.reduce of both -> optimizer.step ->
// scheme.after_step.
//
// theta is the model's vector: its parameters and, after them, its buffers (nn/module.h). The optimizer sees the
// parameters; the scheme mixes both, or with mix_buffers off the parameters only. A scheme that reduces gradients
// reduces the buffers with them, so that equal parameters keep equal buffers.
//
// Invariants: theta, the gradient and the optimizer's state live in flat vectors of one layout that are allocated once;
// the gradient belongs to the executing thread (one for all simulated workers) unless the scheme reduces gradients. A
// step's randomness is keyed by (seed, worker, step), so a run does not depend on how it was interrupted.
//
// Thread safety: one thread per Trainer; the model and the data may be shared.
//
// Example (models/examples/local_mlp.cpp):
//   Trainer trainer(model, loader, *optimizer, *scheme, *world, model.initialize(seed));
//   Status status = trainer.run({.steps = 1000});
#pragma once

#include <functional>

#include "dist/scheme.h"
#include "models/step_graph.h"
#include "nn/data/loader.h"
#include "nn/loss.h"
#include "nn/module.h"
#include "optim/optimizer.h"

namespace sinew::train {

struct StepReport {
  int64_t step = 0;     // finished steps of this worker
  double loss = 0;      // of the step's batch, before the update
  double accuracy = 0;  // likewise
  int64_t samples = 0;
};

// What a device with graphs replays (models/step_graph.h); steps that estimate the curvature are a second graph.
enum class Recorded {
  nothing,
  pass,  // forward and backward
  step,  // and the update, where nothing on the host comes before it: not where the scheme reduces gradients, not with
         // skip_nonfinite, and not for optimizers that read values (Optimizer::recordable). It is made before the loss
         // is looked at; a step that cannot be recorded is an Error
};

struct TrainerSettings {
  int64_t steps = 0;       // run until this many steps are done, counted from 0
  int64_t first_step = 0;  // > 0 for a restarted worker
  uint64_t seed = 1;       // of dropout masks and the estimates of the curvature
  // Activations in bf16 (nn::Pass). Steps that estimate the curvature are f32 as a whole.
  bool bf16 = false;
  Recorded graph = Recorded::nothing;
  // A step whose loss (or Hessian's diagonal) is not finite changes nothing; else it ends the run (non_finite).
  bool skip_nonfinite = false;
  nn::Loss loss = nn::cross_entropy;
  // How long, at the end, what others have not confirmed within the scheme's deadline is tried again; 0: as long as it
  // takes. They may be cut off, or stopped, for that long without being gone.
  dist::Nanos grace = 30 * dist::kSecond;
  // After each step; a status that is not ok ends the run with it.
  std::function<Status(const StepReport&)> on_step;
};

class Trainer {
 public:
  // Takes theta over. The scheme was made for all of it, or with mix_buffers off for its first model.layout().size()
  // elements. All references must outlive the trainer.
  Trainer(const nn::Model& model, nn::Loader& loader, optim::Optimizer& optimizer, dist::Scheme& scheme,
          dist::World& world, Vec theta, bool mix_buffers = true);

  // Meets the other workers, trains, and delivers what is in flight.
  Status run(const TrainerSettings& settings);
  const Vec& theta() const { return theta_; }
  // Steps whose pass was a recorded one, and those of them whose update was part of it.
  int64_t replayed_steps() const { return graph_.replays() + curvature_graph_.replays(); }
  int64_t replayed_updates() const { return graph_.replayed_updates() + curvature_graph_.replayed_updates(); }
  // What the run's results are measured on: own parameters, an average or the center.
  Result<Vec> evaluation_point();

 private:
  Status one_step(const TrainerSettings& settings, int64_t step, StepReport& report);
  Status finish(dist::Nanos grace);
  void use_gradient(const Vec& gradient);
  VecView mixed() { return mix_buffers_ ? theta_.mutable_view() : parameter_vector_.mutable_view(); }
  Status reduce(bool usable);
  void update(bool usable);
  void take_external_write();
  void forward_backward(const TrainerSettings& settings, int64_t step, StepReport& report);
  StepGraph::Results pass(const TrainerSettings& settings, const nn::Pass& pass, const optim::Needs& needs,
                          const nn::Batch& batch);

  const nn::Model& model_;
  nn::Loader& loader_;
  optim::Optimizer& optimizer_;
  dist::Scheme& scheme_;
  dist::World& world_;
  Vec theta_, parameter_vector_, buffer_vector_;  // the whole, and its two parts
  Vec gradient_;
  Vec diagonal_;        // of the Hessian; only between the backward pass and the end of a step that needs it
  Vec reduced_;         // the gradient and the buffers as the scheme reduces them; gradient_ is its first part
  Vec buffers_before_;  // of a step whose loss may not be finite
  nn::Parameters parameters_;
  nn::Buffers buffers_;
  std::vector<Tensor> gradient_views_;
  StepGraph graph_, curvature_graph_;
  bool replays_update_ = false;  // the update is part of the graphs
  const bool mix_buffers_;
};

}  // namespace sinew::train
