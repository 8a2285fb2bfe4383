// Names to chains and schedules, and the checks of the options. Adding an optimizer: optim/README.md.
#include <cmath>
#include <utility>

#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "optim/transforms.h"

namespace sinew::optim {
namespace {

constexpr StatusCode kInvalid = StatusCode::invalid_argument;

// What a name puts between the coupled and the decoupled decay; nullptr: nothing.
using MomentumBuilder = TransformPtr (*)(double momentum);
constexpr std::pair<const char*, MomentumBuilder> kOptimizers[] = {
    {"sgd", nullptr},
    {"momentum", heavy_ball},
    {"nesterov", pytorch_nesterov},
    {"nag", look_ahead_momentum},
};

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

const auto* find_optimizer(const std::string& name) {
  for (const auto& entry : kOptimizers)
    if (name == entry.first) return &entry;
  return static_cast<decltype(&kOptimizers[0])>(nullptr);
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
  for (const auto& entry : kOptimizers) names.emplace_back(entry.first);
  return names;
}

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const ScheduleEntry& entry : kSchedules) names.emplace_back(entry.name);
  return names;
}

Status validate(const OptimizerOptions& o) {
  if (!find_optimizer(o.name)) return unknown_name("optim.name", o.name, optimizer_names());
  const ScheduleEntry* schedule = find_schedule(o.schedule);
  if (!schedule) return unknown_name("optim.schedule", o.schedule, schedule_names());
  const std::pair<const char*, double> not_negative[] = {{"lr", o.lr},
                                                         {"weight_decay", o.weight_decay},
                                                         {"decoupled_decay", o.decoupled_decay},
                                                         {"clip_norm", o.clip_norm}};
  for (const auto& [name, value] : not_negative)
    if (!(std::isfinite(value) && value >= 0))
      return make_status(kInvalid, "optim.", name, " = ", value, ": must be finite and >= 0");
  if (!(o.momentum >= 0 && o.momentum < 1))
    return make_status(kInvalid, "optim.momentum = ", o.momentum, ": must be in [0, 1)");
  if (o.warmup_steps < 0) return make_status(kInvalid, "optim.warmup_steps = ", o.warmup_steps, ": must be >= 0");
  return schedule->validate(o);
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& o) {
  Status valid = validate(o);
  SINEW_CHECK(valid.ok(), "make_optimizer", valid.message());
  std::vector<TransformPtr> chain;
  if (o.clip_norm > 0) chain.push_back(clip_by_norm(o.clip_norm));
  if (o.weight_decay > 0) chain.push_back(weight_decay(o.weight_decay));
  if (MomentumBuilder momentum = find_optimizer(o.name)->second) chain.push_back(momentum(o.momentum));
  if (o.decoupled_decay > 0) chain.push_back(decoupled_decay(o.decoupled_decay));
  SchedulePtr schedule = find_schedule(o.schedule)->make(o);
  if (o.warmup_steps > 0) schedule = warmup_schedule(std::move(schedule), o.warmup_steps);
  return std::make_unique<Optimizer>(std::move(chain), std::move(schedule), o.lr);
}

}  // namespace sinew::optim
