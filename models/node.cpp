#include "models/node.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/philox.h"
#include "core/sha256.h"
#include "models/component_options.h"
#include "models/recalibrate.h"
#include "models/weights_file.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

double seconds(dist::Nanos t) { return static_cast<double>(t) * 1e-9; }

bool mixes_buffers(const Options& options) { return options.scheme.bn == "average"; }
// Of the vector that the scheme mixes.
int64_t mixed_size(const RunContext& context) {
  return (mixes_buffers(context.options) ? context.model.state_layout() : context.model.layout()).size();
}

// Gives an evaluation point the statistics that it is tested with.
void settle_buffers(const RunContext& context, Vec& point) {
  constexpr int64_t kBatches = 100;
  if (context.options.scheme.bn == "recalibrate")
    recalibrate(context.model, point, *context.data.train, context.options.train.batch, kBatches);
}

// Averages over the steps since the last record and writes one now and then: about a hundred in a run.
class Recorder {
 public:
  Recorder(const RunContext& context, dist::World& world, Trainer& trainer, const dist::Scheme& scheme,
           const std::vector<int64_t>& validation)
      : context_(context), world_(world), trainer_(trainer), scheme_(scheme), validation_(validation) {}

  // Of this life of the worker.
  double elapsed() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

  Status add(const StepReport& step) {
    loss_ += step.loss, accuracy_ += step.accuracy, ++count_;
    const int64_t every = std::max<int64_t>(1, context_.steps / 100);
    if (context_.metrics && (step.step % every == 0 || step.step == context_.steps)) {
      SINEW_RETURN_IF_ERROR(write(step.step, "own", {{"loss", loss_ / count_}, {"accuracy", accuracy_ / count_}}));
      loss_ = accuracy_ = count_ = 0;
    }
    const int64_t chosen = context_.options.train.eval_every;
    const int64_t eval_every = chosen > 0 ? chosen : context_.steps_per_epoch;
    if (context_.metrics && world_.rank() == 0 && step.step % eval_every == 0) {
      // An average of all is for the end: here the others would have to stop for it.
      const bool alone = scheme_.evaluated() == dist::Evaluated::average;
      Result<Vec> point = alone ? Result<Vec>(trainer_.theta().clone()) : trainer_.evaluation_point();
      if (!point.ok()) return point.status();
      settle_buffers(context_, *point);
      const Evaluation e = evaluate(context_.model, *point, *context_.data.test);
      std::vector<std::pair<std::string, double>> values = {{"test_loss", e.loss}, {"test_accuracy", e.accuracy}};
      if (!validation_.empty()) {
        const Evaluation v = evaluate(context_.model, *point, *context_.data.train, validation_);
        values.insert(values.end(), {{"validation_loss", v.loss}, {"validation_accuracy", v.accuracy}});
      }
      SINEW_RETURN_IF_ERROR(
          write(step.step, to_string(alone ? dist::Evaluated::own : scheme_.evaluated()), std::move(values)));
    }
    return Status::Ok();
  }

  // An exchange whose weights were not alpha, and why.
  Status add(int64_t step, const dist::WeighedContact& contact) {
    const dist::Weights& w = contact.weights;
    if (context_.on_note)
      context_.on_note(world_.rank(),
                       detail::concat("exchange ", contact.round, ": weights ", w.worker, " (worker) and ", w.center,
                                      " (center): ", w.reason, "; score ", w.score, ", distance ", contact.distance));
    if (!context_.metrics) return Status::Ok();
    return write(step, "exchange",
                 {{"h1", w.worker}, {"h2", w.center}, {"score", w.score}, {"distance", contact.distance}}, w.reason);
  }

  // A round of a leader scheme.
  Status add(int64_t step, const dist::LeaderRound& round) {
    const bool nobody = round.local == dist::kAnyRank && round.global == dist::kAnyRank;
    if (nobody && context_.on_note)
      context_.on_note(world_.rank(), detail::concat("round ", round.round,
                                                     ": no leader to follow; none has a finite loss, or it did not "
                                                     "answer, or this worker is suppressed"));
    if (!context_.metrics) return Status::Ok();
    return write(step, "round",
                 {{"round", static_cast<double>(round.round)},
                  {"leader", static_cast<double>(round.local)},
                  {"leader_of_all", static_cast<double>(round.global)},
                  {"own_loss", round.loss},
                  {"distance", round.distance},
                  {"steps", static_cast<double>(round.steps)}},
                 nobody ? "no_leader" : "");
  }

 private:
  Status write(int64_t step, const std::string& measured, std::vector<std::pair<std::string, double>> values,
               const std::string& reason = {}) {
    const dist::TrafficCounters traffic = world_.traffic();
    return context_.metrics->append({.step = step,
                                     .epoch = static_cast<double>(step) / static_cast<double>(context_.steps_per_epoch),
                                     .wall_seconds = context_.earlier.train_seconds + elapsed(),
                                     .virtual_seconds = world_.simulated() ? seconds(world_.now()) : 0,
                                     .bytes_sent = context_.earlier.bytes_sent + traffic.bytes_sent,
                                     .bytes_received = context_.earlier.bytes_received + traffic.bytes_received,
                                     .worker = world_.rank(),
                                     .measured = measured,
                                     .values = std::move(values),
                                     .reason = reason});
  }

  const RunContext& context_;
  dist::World& world_;
  Trainer& trainer_;
  const dist::Scheme& scheme_;
  const std::vector<int64_t>& validation_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double loss_ = 0, accuracy_ = 0, count_ = 0;
};

// The same on all processes of a host, and on no other host that has a name of its own; with a launcher that numbers
// hosts (torchrun's GROUP_RANK), that number.
int64_t host_number() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) name[0] = 0;
  const char* number = std::getenv("GROUP_RANK");
  Sha256 hash;
  hash.update(number ? number : name, std::strlen(number ? number : name));
  uint32_t h;
  std::memcpy(&h, hash.digest().data(), sizeof h);
  return h >> 1;
}

// Leaders are chosen by their loss on a batch that is the same for all workers. theta: the worker's whole vector, which
// is copied for what the scheme does not mix.
void set_probe(const RunContext& context, const Vec& theta, dist::SchemeOptions& options) {
  const int64_t all = context.data.train->size(), asked = context.options.scheme.probe;
  const int64_t count = asked == 0 ? all : std::min(asked, all);
  std::vector<int64_t> samples(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    samples[static_cast<size_t>(i)] =
        count == all ? i
                     : static_cast<int64_t>(uniform01(philox_u64({static_cast<uint64_t>(context.options.train.seed),
                                                                  uint32_t(RngPurpose::scheme)},
                                                                 static_cast<uint64_t>(i))) *
                                            static_cast<double>(all));
  options.probe_cost = static_cast<double>(count) / static_cast<double>(context.options.train.batch) / 3;
  options.probe = [&context, theta, samples = std::move(samples)](ConstVecView x) {
    Vec point = theta.clone();
    copy(x, point.mutable_view().slice(0, x.size));
    return evaluate(context.model, point, *context.data.train, samples).loss;
  };
}

void count(NodeCounters& counters, const dist::World& world, const dist::SchemeCounters& scheme) {
  const dist::TrafficCounters traffic = world.traffic();
  counters.bytes_sent = traffic.bytes_sent, counters.bytes_received = traffic.bytes_received;
  counters.exchanges = scheme.exchanges, counters.missed = scheme.missed;
  counters.refused = scheme.refused, counters.exchanges_lost = scheme.lost;
  counters.staleness = scheme.staleness;
}

uint64_t leading_bytes(const Sha256& hash) {
  uint64_t h;
  std::memcpy(&h, hash.digest().data(), sizeof h);
  return h;
}

// Of the settings that the workers of one job must have in common beyond the scheme's own.
uint64_t common_options_hash(const Options& options) {
  Sha256 hash;
  for (const OptionSpec& spec : option_table()) {
    const std::string key = spec.key;
    if (!key.starts_with("optim.") && !key.starts_with("data.") && key != "train.steps" && key != "train.epochs" &&
        key != "train.batch" && key != "train.precision" && key != "scheme.bn" && key != "scheme.probe")
      continue;
    if (key == "data.dir" || key == "data.file" || key == "data.test_file" || key == "data.threads")
      continue;  // each host may keep and read its data in its own way
    const std::string text = key + "=" + option_text(options, spec) + "\n";
    hash.update(text.data(), text.size());
  }
  return leading_bytes(hash);
}

uint64_t hash_of(const Vec& weights) {
  Sha256 hash;
  hash.update(weights.view().data, weights.view().bytes());
  return leading_bytes(hash);
}

// What every worker and the center begin with.
Vec starting_point(const RunContext& context, Device device) {
  if (!context.weights.defined())
    return context.model.initialize(static_cast<uint64_t>(context.options.train.seed), DType::f32, device);
  Vec theta = Vec::empty(context.weights.size(), context.weights.dtype(), device);
  upload(context.weights.view().data, theta.mutable_view());
  return theta;
}

}  // namespace

Result<RunContext> prepare_run(const Options& options) {
  Result<nn::DataSplit> data = nn::open_data(data_options(options));
  if (!data.ok()) return data.status();
  Result<nn::Model> model = make_model(options.model, data->train->sample_shape(), data->train->classes());
  if (!model.ok()) return model.status();
  if (options.scheme.bn == "local" && model->buffer_layout().size() > 0 &&
      dist::needs_center(scheme_options(options, 0)))
    return make_status(StatusCode::invalid_argument, "scheme.bn = local: with scheme ", options.scheme.name,
                       " the center is tested, which has no statistics of its own; use average or recalibrate");
  uint64_t fingerprint = model->state_layout().fingerprint() ^ common_options_hash(options);
  Vec weights;
  if (!options.model.weights.empty()) {
    Result<Vec> read = load_weights(options.model.weights, *model);
    if (!read.ok()) return make_status(read.status().code(), "model.weights: ", read.status().message());
    weights = std::move(*read);
    fingerprint ^= hash_of(weights);  // of what it says: each host may have the file in a place of its own
  }
  RunContext context{.options = options,
                     .data = std::move(*data),
                     .model = std::move(*model),
                     .scheme = scheme_options(options, fingerprint),
                     .weights = std::move(weights)};
  context.scheme.parameters = context.model.layout().size();
  SINEW_RETURN_IF_ERROR(nn::check_loader_options(loader_options(options, 0), *context.data.train));
  // All workers take as many steps, so that none waits for another in vain.
  context.steps_per_epoch = nn::job_epoch_batches(context.data.train->size(), loader_options(options, 0));
  context.steps = total_steps(options, context.steps_per_epoch);
  return context;
}

Result<NodeResult> run_worker(const RunContext& context, dist::World& world, int64_t first_step) {
  const Options& o = context.options;
  nn::LoaderOptions loading = loader_options(o, world.rank());
  if (world.simulated()) loading.prefetch = 0;
  nn::Loader loader(context.data.train, loading);
  const auto optimizer = optim::make_optimizer(optimizer_options(o, context.steps));
  Vec theta = starting_point(context, loading.device);
  std::vector<dist::WeighedContact> weighed;  // since the last step's report
  std::vector<dist::LeaderRound> rounds;      // likewise
  dist::SchemeOptions own = context.scheme;
  own.on_weights = [&](const dist::WeighedContact& contact) { weighed.push_back(contact); };
  own.on_round = [&](const dist::LeaderRound& round) { rounds.push_back(round); };
  own.host = world.simulated() ? 0 : host_number();
  if (own.leader == "probe_batch") set_probe(context, theta, own);
  own.on_note = [&](const std::string& text) {
    if (context.on_note) context.on_note(world.rank(), text);
  };
  const auto scheme = dist::make_scheme(own, world, mixed_size(context), theta.dtype(), theta.device());
  Trainer trainer(context.model, loader, *optimizer, *scheme, world, std::move(theta), mixes_buffers(o));
  Recorder recorder(context, world, trainer, *scheme, loader.validation_indices());

  NodeResult result;
  const dist::Nanos begin = world.now();
  const TrainerSettings settings{
      .steps = context.steps,
      .first_step = first_step,
      .seed = static_cast<uint64_t>(o.train.seed),
      .bf16 = o.train.precision == "bf16",
      // Simulated workers would each keep the memory of a step.
      .graph = world.simulated() && o.run.workers > 1 ? Recorded::nothing
               : o.train.graph == "auto"              ? Recorded::step
               : o.train.graph == "pass"              ? Recorded::pass
                                                      : Recorded::nothing,
      .skip_nonfinite = o.train.nonfinite == "skip",
      .loss = context.data.train->has_number_targets() ? nn::mean_squared_error : nn::cross_entropy,
      .grace = o.run.grace,
      .on_step = [&](const StepReport& step) {
        NodeCounters& counters = result.report.counters;
        counters.steps = step.step, counters.samples += step.samples;
        counters.train_seconds = seconds(world.now() - begin);
        count(counters, world, scheme->counters());
        if (context.on_step) context.on_step(world.rank(), step, counters);
        for (const dist::WeighedContact& contact : std::exchange(weighed, {}))
          SINEW_RETURN_IF_ERROR(recorder.add(step.step, contact));
        for (const dist::LeaderRound& round : std::exchange(rounds, {}))
          SINEW_RETURN_IF_ERROR(recorder.add(step.step, round));
        return recorder.add(step);
      }};
  try {
    SINEW_RETURN_IF_ERROR(trainer.run(settings));
  } catch (const nn::DataError& unreadable) {
    return unreadable.status();
  }
  for (const dist::WeighedContact& contact : std::exchange(weighed, {}))  // those of late workers
    SINEW_RETURN_IF_ERROR(recorder.add(context.steps, contact));
  const bool has_center = scheme->evaluated() == dist::Evaluated::center && dist::needs_center(context.scheme);
  if (has_center) result.report.distance = scheme->counters().distance;
  if (!has_center || !dist::center_is_measured(context.scheme) || dist::is_lost(world.peer(context.scheme.workers))) {
    Result<Vec> point = trainer.evaluation_point();
    if (!point.ok()) return point.status();
    result.point = std::move(*point);
    const int64_t mixed = mixed_size(context);
    if (!has_center && scheme->evaluated() != dist::Evaluated::own)
      result.report.distance =
          std::sqrt(squared_distance(trainer.theta().view().slice(0, mixed), result.point.view().slice(0, mixed)));
  }
  count(result.report.counters, world, scheme->counters());
  result.report.rank = world.rank();
  result.report.role = "worker";
  result.report.counters.steps = context.steps;
  result.report.evaluated = to_string(scheme->evaluated());
  return result;
}

Result<NodeResult> run_center(const RunContext& context, dist::World& world) {
  Vec theta = starting_point(context, Device::cpu);
  Vec mixed = theta.slice(0, mixed_size(context));
  dist::SchemeOptions own = context.scheme;
  own.on_note = [&](const std::string& text) {
    if (context.on_note) context.on_note(world.rank(), text);
  };
  const auto center = dist::make_center(own, world, mixed.size(), mixed.dtype());
  SINEW_RETURN_IF_ERROR(center->start(mixed.view()));
  SINEW_RETURN_IF_ERROR(dist::serve_all(*center, world));
  NodeResult result;
  center->snapshot(mixed.mutable_view());
  // Other inner nodes of a tree are not measured; a center without a result, or with a part of it, leaves that to the
  // workers.
  if (world.rank() == context.scheme.workers && dist::center_is_measured(context.scheme) && center->has_result())
    result.point = theta;
  result.report.rank = world.rank();
  result.report.role = "center";
  count(result.report.counters, world, {.refused = center->refused()});
  result.report.evaluated = to_string(dist::Evaluated::center);
  return result;
}

Status measure(const RunContext& context, NodeResult& result) {
  if (const Device device = device_of(context.options); result.point.device() != device) {
    Vec there = Vec::empty(result.point.size(), result.point.dtype(), device);
    upload(result.point.view().data, there.mutable_view());  // a center's vector and a file's are in host memory
    result.point = there;
  }
  settle_buffers(context, result.point);
  try {
    result.report.evaluation = evaluate(context.model, result.point, *context.data.test);
  } catch (const nn::DataError& unreadable) {
    return unreadable.status();
  }
  result.report.parameters_sha256 = sha256_hex(result.point.view());
  if (std::isfinite(result.report.evaluation->loss)) return Status::Ok();
  return make_status(StatusCode::non_finite, "the trained parameters are useless: their test loss is ",
                     result.report.evaluation->loss, "; lower --lr");
}

Result<RunSummary> summarize(const RunContext& context, const std::vector<NodeReport>& reports) {
  const Options& o = context.options;
  RunSummary s;
  s.scheme = o.scheme.name, s.model = o.model.name, s.data = o.data.name, s.world = o.run.world;
  s.workers = o.run.workers, s.steps_per_worker = context.steps, s.seed = o.train.seed;
  s.parameters = context.model.layout().parameter_count();
  const NodeReport* measured = nullptr;
  double longest = 0;
  int64_t samples = 0;
  double distance2 = 0, apart = 0;
  dist::Staleness staleness;
  for (const NodeReport& r : reports) {
    samples += r.counters.samples;
    s.bytes_sent += r.counters.bytes_sent, s.exchanges += r.counters.exchanges, s.missed += r.counters.missed;
    s.refused += r.counters.refused, s.exchanges_lost += r.counters.exchanges_lost;
    staleness.add(r.counters.staleness);
    if (std::isfinite(r.distance)) distance2 += r.distance * r.distance, ++apart;
    longest = std::max(longest, r.counters.train_seconds);
    if (r.evaluation && (!measured || r.rank < measured->rank)) measured = &r;
  }
  if (!measured) return make_status(StatusCode::peer_lost, "no process lived to measure the result");
  s.test_accuracy = measured->evaluation->accuracy;
  s.test_loss = measured->evaluation->loss;
  s.evaluated = measured->evaluated;
  s.parameters_sha256 = measured->parameters_sha256;
  s.staleness_mean = staleness.mean(), s.staleness_most = staleness.most;
  if (apart > 0) s.consensus_distance = std::sqrt(distance2 / apart);
  s.samples_per_second = longest > 0 ? static_cast<double>(samples) / longest : 0;
  return s;
}

}  // namespace sinew::train
