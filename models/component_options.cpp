#include "models/component_options.h"

#include <algorithm>

#include "core/kernel_api.h"
#include "dist/nccl.h"

namespace sinew::train {

nn::DataOptions data_options(const Options& o) {
  // The generated set is part of the task: it stays the same when train.seed changes.
  return {.name = o.data.name,
          .dir = o.data.dir,
          .train_size = o.data.train_size,
          .image = {.augment = nn::augment_named(o.data.augment).value(),
                    .crop = o.data.crop,
                    .padding = o.data.padding,
                    .resize = o.data.resize,
                    .mean = o.data.mean,
                    .std = o.data.std},
          .file = o.data.file,
          .test_file = o.data.test_file,
          .test_share = o.data.test_share,
          .channels_first = o.data.layout == "nchw",
          .label = o.data.label};
}

nn::LoaderOptions loader_options(const Options& o, int worker) {
  return {.batch = o.train.batch,
          .seed = static_cast<uint64_t>(o.train.seed),
          .worker = worker,
          .workers = static_cast<int>(o.run.workers),
          .sharding = nn::sharding_named(o.data.sharding).value(),
          .overlap = o.data.overlap,
          .concentration = o.data.concentration,
          .stratify = o.data.stratify,
          .validation = o.data.validation,
          .order = nn::order_named(o.data.order).value(),
          .chunk = o.data.chunk,
          .chunk_loaders = static_cast<int>(o.data.chunk_loaders),
          .chunk_parts = o.data.chunk_parts,
          .prefetch = o.data.threads == 0 ? 0 : static_cast<int>(o.data.threads) + 1,
          .threads = std::max(1, static_cast<int>(o.data.threads)),
          .device = device_of(o)};
}

optim::OptimizerOptions optimizer_options(const Options& o, int64_t total_steps) {
  return {.name = o.optim.name,
          .lr = o.optim.lr,
          .momentum = o.optim.momentum,
          .weight_decay = o.optim.weight_decay,
          .decoupled_decay = o.optim.decoupled_decay,
          .clip_norm = o.optim.clip_norm,
          .beta1 = o.optim.beta1,
          .beta2 = o.optim.beta2,
          .eps = o.optim.eps,
          .rho = o.optim.rho,
          .trust = o.optim.trust,
          .hessian_power = o.optim.hessian_power,
          .hessian_every = o.optim.hessian_every,
          .hessian_dense_steps = o.optim.hessian_dense_steps,
          .hessian_samples = static_cast<int>(o.optim.hessian_samples),
          .hessian_average = o.optim.hessian_average,
          .hessian_block = o.optim.hessian_block,
          .hessian_stale = o.optim.hessian_stale,
          .bias_correction = o.optim.bias_correction,
          .schedule = o.optim.schedule,
          .gamma = o.optim.gamma,
          .step_every = o.optim.step_every,
          .total_steps = total_steps,
          .warmup_steps = o.optim.warmup_steps};
}

dist::SchemeOptions scheme_options(const Options& o, uint64_t fingerprint) {
  return {.name = o.scheme.name,
          .workers = static_cast<int>(o.run.workers),
          .period = o.scheme.period,
          .alpha = o.scheme.alpha,
          .beta = o.scheme.beta,
          .order = o.scheme.order,
          .tree = o.scheme.tree,
          .fan_out = o.scheme.fan_out,
          .far_period = o.scheme.far_period,
          .outer = o.scheme.outer,
          .outer_lr = o.scheme.outer_lr,
          .outer_momentum = o.scheme.outer_momentum,
          .average_rate = o.scheme.average_rate,
          .weighting = {.rule = o.scheme.weighting,
                        .kappa = o.scheme.kappa,
                        .s0 = o.scheme.s0,
                        .score_sign = static_cast<double>(o.scheme.score_sign),
                        .coefficients = o.scheme.score_coefficients,
                        .warmup_rounds = o.scheme.warmup_rounds,
                        .peers = o.scheme.peer_normalisation},
          .update_order = o.scheme.update_order,
          .shard = o.scheme.shard,
          .servers = o.scheme.servers,
          .communicator = o.run.communicator,
          .wire = o.scheme.wire,
          .probability = o.scheme.probability,
          .collision = o.scheme.collision,
          .topology = o.scheme.topology,
          .edges = o.scheme.edges,
          .mode = o.scheme.mode,
          .mixing = o.scheme.mixing,
          .direction = o.scheme.direction,
          .overlap = o.scheme.overlap,
          .global_average_every = o.scheme.global_average_every,
          .pull = o.scheme.pull,
          .pull_global = o.scheme.pull_global,
          .period_global = o.scheme.period_global,
          .groups = o.scheme.groups,
          .leader = o.scheme.leader,
          .loss_window = o.scheme.loss_window,
          .proximal = o.scheme.proximal,
          .proximal_global = o.scheme.proximal_global,
          .deadline = o.scheme.deadline,
          .seed = static_cast<uint64_t>(o.train.seed),
          .fingerprint = fingerprint};
}

dist::SimOptions sim_options(const Options& o, dist::FaultPlan faults) {
  return {.seed = static_cast<uint64_t>(o.train.seed),
          .latency = o.sim.latency,
          .bandwidth = o.sim.bandwidth,
          .service_cost = o.sim.service,
          .step_cost = o.sim.step_seconds,
          .jitter = o.sim.jitter,
          .detection = o.sim.detection,
          .always_yield = o.sim.always_yield,
          .threads = static_cast<int>(o.sim.threads),
          .restarts = dist::takes_workers_back(scheme_options(o, 0)) ? static_cast<int>(o.run.restarts) : 0,
          .faults = std::move(faults)};
}

Device device_of(const Options& o) { return o.run.device == "cuda" ? Device::cuda : Device::cpu; }

int64_t total_steps(const Options& o, int64_t batches_per_epoch) {
  return o.train.steps > 0 ? o.train.steps : o.train.epochs * batches_per_epoch;
}

namespace {
Status check_communicator(const Options& o) {
  if (o.run.communicator != "nccl") return Status::Ok();
  auto bad = [](const auto&... parts) {
    return make_status(StatusCode::invalid_argument, "run.communicator nccl: ", parts...);
  };
  if (o.run.device != "cuda")
    return bad("NCCL works on GPUs, and run.device is ", o.run.device, "; for example --device cuda");
  if (o.run.world == "sim") return bad("simulated workers share one process; for example --run.communicator ring");
  if (const Status status = dist::nccl_available(); !status.ok()) return bad(status.message());
  return Status::Ok();
}
// Simulated workers are fibers of one process; real ones each take a process, and connections to the others.
Status check_processes(const Options& o) {
  constexpr int64_t kMost = 1024;
  if (o.run.world == "sim" || o.run.workers <= kMost) return Status::Ok();
  return make_status(StatusCode::invalid_argument, "run.workers ", o.run.workers,
                     ": each is a process of its own, and there can be ", kMost, "; for example --workers ", kMost,
                     ", or sinew sim for more, in virtual time");
}
}  // namespace

Status check_components(const Options& o) {
  if (!has_kernels(device_of(o)))
    return make_status(StatusCode::invalid_argument, "run.device ", o.run.device,
                       ": this program has no such backend; for example --device cpu");
  // The schedule's length is known only with the data; any positive number stands for it here.
  SINEW_RETURN_IF_ERROR(optim::validate(optimizer_options(o, total_steps(o, 1))));
  SINEW_RETURN_IF_ERROR(nn::check_loader_options(loader_options(o, 0)));
  SINEW_RETURN_IF_ERROR(dist::validate(scheme_options(o, 0)));
  SINEW_RETURN_IF_ERROR(check_processes(o));
  return check_communicator(o);
}

}  // namespace sinew::train
