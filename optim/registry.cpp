// Names to chains and schedules, and the checks of the options. Adding an optimizer: optim/README.md.
#include <cmath>
#include <utility>

#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "optim/transforms.h"

namespace sinew::optim {
namespace {

constexpr StatusCode kInvalid = StatusCode::invalid_argument;

// A name: what it puts between the coupled and the decoupled decay, and its published defaults.
struct OptimizerEntry {
  const char* name;
  void (*add_rule)(const OptimizerOptions& options, std::vector<TransformPtr>& chain);
  OptimizerOptions defaults;
};

using Chain = std::vector<TransformPtr>;

SophiaOptions sophia_options(const OptimizerOptions& o, Curvature curvature, bool bias_correction) {
  return {.curvature = curvature,
          .beta1 = *o.beta1,
          .beta2 = *o.beta2,
          .rho = *o.rho,
          .eps = *o.eps,
          .every = *o.hessian_every,
          .samples = o.hessian_samples,
          .bias_correction = bias_correction};
}

void add_adam(const OptimizerOptions& o, Chain& chain) {
  chain.push_back(adam({.beta1 = *o.beta1, .beta2 = *o.beta2, .eps = *o.eps}));
}

// Sources of the numbers: optim/README.md.
const std::vector<OptimizerEntry>& table() {
  static const std::vector<OptimizerEntry> entries = {
      {"sgd", [](const OptimizerOptions&, Chain&) {}, {}},
      {"momentum", [](const OptimizerOptions& o, Chain& chain) { chain.push_back(heavy_ball(o.momentum)); }, {}},
      {"nesterov", [](const OptimizerOptions& o, Chain& chain) { chain.push_back(pytorch_nesterov(o.momentum)); }, {}},
      {"nag", [](const OptimizerOptions& o, Chain& chain) { chain.push_back(look_ahead_momentum(o.momentum)); }, {}},
      {"qgm", [](const OptimizerOptions& o, Chain& chain) { chain.push_back(quasi_global_momentum(o.momentum)); }, {}},
      {"adam", add_adam, {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}},
      {"adamw", add_adam, {.lr = 1e-3, .decoupled_decay = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}},
      {"adahessian",
       [](const OptimizerOptions& o, Chain& chain) {
         chain.push_back(adahessian({.beta1 = *o.beta1,
                                     .beta2 = *o.beta2,
                                     .eps = *o.eps,
                                     .power = o.hessian_power,
                                     .every = *o.hessian_every,
                                     .dense_steps = o.hessian_dense_steps,
                                     .samples = o.hessian_samples,
                                     .signed_mean = o.hessian_average == "signed_mean",
                                     .block = o.hessian_block,
                                     .repeat_stale = o.hessian_stale == "repeat",
                                     .bias_correction = o.bias_correction}));
       },
       {.lr = 0.15, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-4, .hessian_every = 1}},
      {"sophia_h",
       [](const OptimizerOptions& o, Chain& chain) {
         chain.push_back(sophia(sophia_options(o, Curvature::hutchinson, true)));
       },
       {.lr = 1e-3, .beta1 = 0.965, .beta2 = 0.99, .eps = 1e-8, .rho = 0.01, .hessian_every = 10}},
      {"sophia_g",
       [](const OptimizerOptions& o, Chain& chain) {
         chain.push_back(sophia(sophia_options(o, Curvature::gauss_newton, false)));
       },
       {.lr = 1e-3,
        .decoupled_decay = 0.1,
        .beta1 = 0.965,
        .beta2 = 0.99,
        .eps = 1e-15,
        .rho = 0.04,
        .hessian_every = 10}},
      {"lars",
       [](const OptimizerOptions& o, Chain& chain) {
         chain.push_back(lars(o.trust, o.weight_decay));
         chain.push_back(heavy_ball(o.momentum));
       },
       {.lr = 1}},
      {"lion",
       [](const OptimizerOptions& o, Chain& chain) { chain.push_back(lion(*o.beta1, *o.beta2)); },
       {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.99}},
  };
  return entries;
}

struct ScheduleEntry {
  const char* name;
  Status (*validate)(const OptimizerOptions&);
  SchedulePtr (*make)(const OptimizerOptions&);
};
const ScheduleEntry kSchedules[] = {
    {"constant", [](const OptimizerOptions&) { return Status::Ok(); },
     [](const OptimizerOptions&) { return constant_schedule(); }},
    {"step",
     [](const OptimizerOptions& o) {
       if (o.step_every < 1)
         return make_status(kInvalid, "optim.step_every = ", o.step_every, ": the step schedule needs at least 1");
       if (!(o.gamma > 0 && o.gamma <= 1))
         return make_status(kInvalid, "optim.gamma = ", o.gamma, ": the step schedule needs a factor in (0, 1]");
       return Status::Ok();
     },
     [](const OptimizerOptions& o) { return step_schedule(o.gamma, o.step_every); }},
    {"cosine",
     [](const OptimizerOptions& o) {
       if (o.total_steps < 1)
         return make_status(kInvalid, "optim.total_steps = ", o.total_steps, ": the cosine schedule needs at least 1");
       return Status::Ok();
     },
     [](const OptimizerOptions& o) { return cosine_schedule(o.total_steps); }},
    {"inverse_sqrt",
     [](const OptimizerOptions& o) {
       if (!(std::isfinite(o.gamma) && o.gamma >= 0))
         return make_status(kInvalid, "optim.gamma = ", o.gamma, ": must be finite and >= 0");
       return Status::Ok();
     },
     [](const OptimizerOptions& o) { return inverse_sqrt_schedule(o.gamma); }},
};

const OptimizerEntry* find_optimizer(const std::string& name) {
  for (const OptimizerEntry& entry : table())
    if (name == entry.name) return &entry;
  return nullptr;
}
const ScheduleEntry* find_schedule(const std::string& name) {
  for (const ScheduleEntry& entry : kSchedules)
    if (name == entry.name) return &entry;
  return nullptr;
}

Status unknown_name(const char* option, const std::string& name, const std::vector<std::string>& allowed) {
  std::string list;
  for (const std::string& a : allowed) list += (list.empty() ? "" : ", ") + a;
  return make_status(kInvalid, option, " = '", name, "': not one of ", list);
}

}  // namespace

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const OptimizerEntry& entry : table()) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const ScheduleEntry& entry : kSchedules) names.emplace_back(entry.name);
  return names;
}

OptimizerOptions with_defaults(OptimizerOptions o) {
  const OptimizerEntry* entry = find_optimizer(o.name);
  SINEW_CHECK(entry, "with_defaults", "there is no optimizer '", o.name, "'");
  const OptimizerOptions& own = entry->defaults;
  auto fill = [](auto& value, const auto& default_value, auto otherwise) {
    if (!value) value = default_value.value_or(otherwise);
  };
  // Without a default of its own, the optimizer ignores the option, or the value is ours.
  fill(o.lr, own.lr, 0.05);
  fill(o.decoupled_decay, own.decoupled_decay, 0);
  fill(o.beta1, own.beta1, 0.9);
  fill(o.beta2, own.beta2, 0.999);
  fill(o.eps, own.eps, 1e-8);
  fill(o.rho, own.rho, 0.01);
  fill(o.hessian_every, own.hessian_every, 1);
  return o;
}

Status validate(const OptimizerOptions& given) {
  if (!find_optimizer(given.name)) return unknown_name("optim.name", given.name, optimizer_names());
  const ScheduleEntry* schedule = find_schedule(given.schedule);
  if (!schedule) return unknown_name("optim.schedule", given.schedule, schedule_names());
  const OptimizerOptions o = with_defaults(given);
  auto bad = [](const char* name, double value, const char* allowed) {
    return make_status(kInvalid, "optim.", name, " = ", value, ": must be ", allowed);
  };
  const std::pair<const char*, double> not_negative[] = {{"lr", *o.lr},
                                                         {"weight_decay", o.weight_decay},
                                                         {"decoupled_decay", *o.decoupled_decay},
                                                         {"clip_norm", o.clip_norm}};
  for (const auto& [name, value] : not_negative)
    if (!(std::isfinite(value) && value >= 0)) return bad(name, value, "finite and >= 0");
  const std::pair<const char*, double> averages[] = {
      {"momentum", o.momentum}, {"beta1", *o.beta1}, {"beta2", *o.beta2}};
  for (const auto& [name, value] : averages)
    if (!(value >= 0 && value < 1)) return bad(name, value, "in [0, 1)");
  const std::pair<const char*, double> positive[] = {{"eps", *o.eps}, {"rho", *o.rho}, {"trust", o.trust}};
  for (const auto& [name, value] : positive)
    if (!(std::isfinite(value) && value > 0)) return bad(name, value, "finite and > 0");
  if (!(o.hessian_power >= 0 && o.hessian_power <= 1)) return bad("hessian_power", o.hessian_power, "in [0, 1]");
  const std::pair<const char*, int64_t> counts[] = {
      {"hessian_every", *o.hessian_every}, {"hessian_samples", o.hessian_samples}, {"hessian_block", o.hessian_block}};
  for (const auto& [name, value] : counts)
    if (value < 1) return bad(name, static_cast<double>(value), ">= 1");
  const std::pair<const char*, int64_t> steps[] = {{"hessian_dense_steps", o.hessian_dense_steps},
                                                   {"warmup_steps", o.warmup_steps}};
  for (const auto& [name, value] : steps)
    if (value < 0) return bad(name, static_cast<double>(value), ">= 0");
  if (o.hessian_average != "abs_mean" && o.hessian_average != "signed_mean")
    return unknown_name("optim.hessian_average", o.hessian_average, {"abs_mean", "signed_mean"});
  if (o.hessian_stale != "keep" && o.hessian_stale != "repeat")
    return unknown_name("optim.hessian_stale", o.hessian_stale, {"keep", "repeat"});
  return schedule->validate(o);
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& given) {
  Status valid = validate(given);
  SINEW_CHECK(valid.ok(), "make_optimizer", valid.message());
  const OptimizerOptions o = with_defaults(given);
  Chain chain;
  if (o.clip_norm > 0) chain.push_back(clip_by_norm(o.clip_norm));
  // LARS weighs the decay by its ratio, so it adds it itself.
  if (o.weight_decay > 0 && o.name != "lars") chain.push_back(weight_decay(o.weight_decay));
  find_optimizer(o.name)->add_rule(o, chain);
  if (*o.decoupled_decay > 0) chain.push_back(decoupled_decay(*o.decoupled_decay));
  SchedulePtr schedule = find_schedule(o.schedule)->make(o);
  if (o.warmup_steps > 0) schedule = warmup_schedule(std::move(schedule), o.warmup_steps);
  return std::make_unique<Optimizer>(std::move(chain), std::move(schedule), *o.lr);
}

}  // namespace sinew::optim
