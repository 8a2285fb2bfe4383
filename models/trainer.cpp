#include "models/trainer.h"

#include <cmath>
#include <utility>

#include "core/autograd.h"
#include "core/kernel_api.h"
#include "core/ops.h"
#include "models/curvature.h"

namespace sinew::train {
namespace {

double share_correct(const Tensor& logits, const Tensor& labels) {
  if (logits.ndim() != 2 || labels.dtype() != DType::i64) return std::nan("");
  const std::vector<int64_t> guess = argmax(logits, 1).to_vector<int64_t>(), truth = labels.to_vector<int64_t>();
  int64_t correct = 0;
  for (size_t i = 0; i < truth.size(); ++i) correct += guess[i] == truth[i];
  return static_cast<double>(correct) / static_cast<double>(truth.size());
}

// Gradient memory of the executing thread, in use inside one computation only: simulated workers that take turns share
// it, and it stays in the cache. Padding stays zero: backward never writes it.
const Vec& thread_gradient(const Vec& parameters) {
  static thread_local Vec gradient;
  if (gradient.size() != parameters.size() || gradient.dtype() != parameters.dtype() ||
      gradient.device() != parameters.device())
    gradient = Vec::zeros(parameters.size(), parameters.dtype(), parameters.device());
  return gradient;
}

}  // namespace

Trainer::Trainer(const nn::Model& model, nn::Loader& loader, optim::Optimizer& optimizer, dist::Scheme& scheme,
                 dist::World& world, Vec theta, bool mix_buffers)
    : model_(model),
      loader_(loader),
      optimizer_(optimizer),
      scheme_(scheme),
      world_(world),
      theta_(std::move(theta)),
      parameter_vector_(theta_.slice(0, model.layout().size())),
      buffer_vector_(theta_.slice(model.layout().size(), model.buffer_layout().size())),
      parameters_(model.parameters(theta_)),
      buffers_(model.buffers(theta_)),
      mix_buffers_(mix_buffers) {
  optimizer_.init(model.layout(), theta_.dtype(), theta_.device());
  if (!scheme_.reduces()) return;
  reduced_ = Vec::zeros(mixed().size, theta_.dtype(), theta_.device());
  use_gradient(reduced_.slice(0, parameter_vector_.size()));
}

void Trainer::use_gradient(const Vec& gradient) {
  if (gradient_.storage().get() == gradient.storage().get()) return;
  gradient_ = gradient;
  gradient_views_ = nn::Parameters(model_.layout(), gradient_, false).all();
}

Status Trainer::run(const TrainerSettings& settings) {
  const bool has_graphs = kernels(theta_.device()).graph_begin != nullptr;
  replays_update_ = has_graphs && settings.graph == Recorded::step && !settings.skip_nonfinite && !scheme_.reduces() &&
                    optimizer_.recordable();
  SINEW_RETURN_IF_ERROR(scheme_.start(mixed()));
  loader_.seek(settings.first_step);
  optimizer_.seek(settings.first_step);
  for (int64_t step = settings.first_step; step < settings.steps; ++step) {
    SINEW_RETURN_IF_ERROR(world_.health());
    world_.report_step(step, mixed());
    StepReport report;
    SINEW_RETURN_IF_ERROR(one_step(settings, step, report));
    if (settings.on_step) SINEW_RETURN_IF_ERROR(settings.on_step(report));
  }
  world_.report_step(settings.steps);
  return finish(settings.grace);
}

Status Trainer::finish(dist::Nanos grace) {
  const dist::Deadline deadline(world_, grace > 0 ? grace : INT64_MAX);
  Status status = scheme_.finish(mixed());
  while (status.code() == StatusCode::timeout && deadline.left() > 0) {
    SINEW_RETURN_IF_ERROR(world_.health());
    world_.sleep(dist::kLook);
    status = scheme_.finish(mixed());
  }
  return status;
}

Status Trainer::one_step(const TrainerSettings& settings, int64_t step, StepReport& report) {
  report.step = step + 1;
  SINEW_RETURN_IF_ERROR(scheme_.before_step(step, mixed()));
  take_external_write();
  // Without a reduction the update is part of the computation: the gradient is then in use inside one closure only.
  const bool reduces = scheme_.reduces();
  bool usable = false;
  world_.compute({}, [&] {
    if (!reduces) use_gradient(thread_gradient(parameter_vector_));
    if (settings.skip_nonfinite) buffers_before_ = buffer_vector_.clone();
    forward_backward(settings, step, report);
    usable = std::isfinite(report.loss) && (!diagonal_.defined() || all_finite(diagonal_.view()));
    if (settings.skip_nonfinite && !usable) copy(buffers_before_.view(), buffer_vector_.mutable_view());
    if (!reduces && !replays_update_) update(usable);
  });
  if (!usable && !settings.skip_nonfinite)
    return make_status(StatusCode::non_finite, "the loss is ", report.loss, " at step ", step,
                       std::isfinite(report.loss) ? " and the Hessian's diagonal is not finite" : "",
                       "; lower --lr, or continue past such steps with --train.nonfinite skip");
  scheme_.observe(report.loss);
  if (reduces) {
    SINEW_RETURN_IF_ERROR(reduce(usable));
    update(true);
  }
  diagonal_ = Vec();
  SINEW_RETURN_IF_ERROR(scheme_.after_step(step, mixed()));
  take_external_write();
  return Status::Ok();
}

// Before the optimizer's step, too: a momentum that is not finite would spoil the parameters that were just adopted.
void Trainer::take_external_write() {
  const double moved2 = scheme_.take_external_write();
  if (moved2 <= 0) return;
  const double size = norm(parameter_vector_.view());
  optimizer_.on_external_write(std::sqrt(moved2) / (size > 0 ? size : 1));
}

// Every member of a synchronous scheme takes part, with a gradient that does no harm, and makes the same step.
Status Trainer::reduce(bool usable) {
  if (!usable) fill(gradient_.mutable_view(), 0);
  if (diagonal_.defined()) {
    if (!usable) fill(diagonal_.mutable_view(), 0);
    SINEW_RETURN_IF_ERROR(scheme_.reduce(diagonal_.mutable_view(), dist::Statistic::curvature));
  }
  Vec buffers = reduced_.slice(gradient_.size(), reduced_.size() - gradient_.size());
  if (mix_buffers_) copy(buffer_vector_.view(), buffers.mutable_view());
  SINEW_RETURN_IF_ERROR(scheme_.reduce(reduced_.mutable_view(), dist::Statistic::gradient));
  if (mix_buffers_) copy(buffers.view(), buffer_vector_.mutable_view());
  return Status::Ok();
}

void Trainer::update(bool usable) {
  if (usable)
    optimizer_.step(parameter_vector_.mutable_view(), gradient_.mutable_view(), diagonal_.mutable_view());
  else
    optimizer_.skip(parameter_vector_.mutable_view());
}

void Trainer::forward_backward(const TrainerSettings& settings, int64_t step, StepReport& report) {
  optimizer_.before_gradient(parameter_vector_.mutable_view());
  const nn::Batch batch = loader_.next();
  const optim::Needs needs = optimizer_.needs();
  const nn::Pass pass{.parameters = parameters_,
                      .training = true,
                      .seed = settings.seed,
                      .rank = static_cast<uint32_t>(world_.rank()),
                      .step = static_cast<uint64_t>(step),
                      .buffers = &buffers_,
                      .bf16 = settings.bf16 && needs.curvature == optim::Curvature::none};
  const auto both = [&](const nn::Batch& from) { return this->pass(settings, pass, needs, from); };
  const auto update_with = [this](StepGraph::Results& made) {
    diagonal_ = made.diagonal;
    update(true);
  };
  StepGraph::Results results;
  if (settings.graph != Recorded::nothing)
    results = (needs.curvature == optim::Curvature::none ? graph_ : curvature_graph_)
                  .run(batch, pass.step, gradient_.view().data, both,
                       replays_update_ ? StepGraph::Update(update_with) : StepGraph::Update());
  else
    results = both(batch);
  diagonal_ = results.diagonal;
  // Read when the backward pass is under way: a device has its work then while the host waits for these.
  report.loss = to_doubles(results.loss.view())[0];
  report.accuracy = share_correct(results.logits, batch.labels);
  report.samples = batch.size();
}

StepGraph::Results Trainer::pass(const TrainerSettings& settings, const nn::Pass& pass, const optim::Needs& needs,
                                 const nn::Batch& batch) {
  ForwardPass made{model_.forward(batch.inputs, pass), {}};
  made.loss = settings.loss(made.logits, batch.labels);
  StepGraph::Results results{made.loss.detach(), made.logits.detach()};
  if (needs.curvature == optim::Curvature::none) {
    grad({made.loss}, parameters_.all(), {}, {.into = gradient_views_});
    return results;
  }
  SINEW_CHECK(needs.curvature != optim::Curvature::gauss_newton || settings.loss == nn::cross_entropy, "trainer",
              "the Gauss-Newton diagonal is made for the cross-entropy loss");
  results.diagonal = gradient_and_diagonal(model_.layout(), std::move(made), parameters_.all(), gradient_views_, needs,
                                           {settings.seed, pass.rank, pass.step});
  return results;
}

Result<Vec> Trainer::evaluation_point() {
  Vec point = theta_.clone();
  const VecView own = mixed();
  SINEW_RETURN_IF_ERROR(scheme_.evaluation_point(own, point.mutable_view().slice(0, own.size)));
  return point;
}

}  // namespace sinew::train
