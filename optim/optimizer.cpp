#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sinew::optim {
namespace {

constexpr const char* kStepEntry = "optimizer.step";

bool can_fuse(const std::vector<std::unique_ptr<Transform>>& chain) {
  Stage last = Stage::none;
  for (const auto& transform : chain) {
    if (transform->stage() <= last) return false;
    last = transform->stage();
  }
  return true;
}

// "" when both states have the same entries, else what is wrong with `theirs`.
template <class Map>
std::string entry_mismatch(const Map& mine, const Map& theirs) {
  for (const auto& [name, value] : mine)
    if (!theirs.contains(name)) return "lacks '" + name + "'";
  for (const auto& [name, value] : theirs)
    if (!mine.contains(name)) return "has '" + name + "', which this optimizer does not know";
  return "";
}

}  // namespace

Result<int64_t> whole_number(const std::string& name, double value) {
  if (value >= 0 && value <= 0x1p53 && value == std::floor(value)) return static_cast<int64_t>(value);
  return make_status(StatusCode::data_error, "optimizer state '", name, "' is ", value, ": not a whole number >= 0");
}

struct Optimizer::Impl {
  std::vector<std::unique_ptr<Transform>> chain;
  std::unique_ptr<Schedule> schedule;
  double base_lr = 0;
  bool fused = false;

  bool ready = false;
  int64_t size = 0;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  void (*sgd)(const kernel::SgdArgs&) = nullptr;
  int64_t step = 0;

  StepInfo info() const { return {step, base_lr * schedule->factor(step), {}}; }
  void check(const char* op, ConstVecView v) const {
    SINEW_CHECK(ready, op, "the optimizer was not initialised");
    SINEW_CHECK(v.size == size && v.dtype == dtype && v.device == device, op, "a vector of ", v.size, " ",
                to_string(v.dtype), " on ", to_string(v.device), ", the optimizer was initialised for ", size, " ",
                to_string(dtype), " on ", to_string(device));
  }
  void step_fused(VecView theta, ConstVecView gradient, const StepInfo& info) {
    kernel::UpdateFrame frame{.dtype = dtype, .n = size, .x = theta.data, .g = gradient.data, .x_scale = -info.lr};
    Transform* rule = nullptr;
    for (auto& transform : chain) {
      transform->set_frame(frame, gradient, info);
      if (transform->stage() == Stage::rule) rule = transform.get();
    }
    if (rule)
      rule->apply_fused(frame, info);
    else
      sgd({frame});
  }
};

Optimizer::Optimizer(std::vector<std::unique_ptr<Transform>> chain, std::unique_ptr<Schedule> schedule, double lr)
    : impl_(std::make_unique<Impl>()) {
  SINEW_CHECK(schedule != nullptr, "optimizer", "no schedule");
  SINEW_CHECK(std::isfinite(lr) && lr >= 0, "optimizer", "learning rate ", lr, "; it must be finite and >= 0");
  for (size_t i = 0; i < chain.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      SINEW_CHECK(chain[i]->name() != chain[j]->name(), "optimizer", "two transforms are called '", chain[i]->name(),
                  "'");
  impl_->chain = std::move(chain);
  impl_->schedule = std::move(schedule);
  impl_->base_lr = lr;
}
Optimizer::~Optimizer() = default;

void Optimizer::init(const ParamLayout& layout, DType dtype, Device device) {
  Impl& o = *impl_;
  SINEW_CHECK(is_float(dtype), "optimizer", "type ", to_string(dtype), " is not one of f32, f64");
  SINEW_CHECK(!o.ready, "optimizer", "initialised twice");
  o.size = layout.size();
  o.dtype = dtype;
  o.device = device;
  o.sgd = kernels(device).sgd;
  for (auto& transform : o.chain) transform->init(layout, dtype, device);
  o.fused = o.sgd != nullptr && can_fuse(o.chain);
  o.ready = true;
}

Needs Optimizer::needs() const {
  Needs all;
  for (const auto& transform : impl_->chain) {
    const Needs one = transform->needs();
    if (one.curvature == Curvature::none) continue;
    SINEW_CHECK(all.curvature == Curvature::none || all.curvature == one.curvature, "optimizer",
                "two transforms want different estimates of the curvature, the second is '", transform->name(), "'");
    all.samples = all.curvature == Curvature::none ? one.samples : std::max(all.samples, one.samples);
    all.curvature = one.curvature;
  }
  return all;
}

void Optimizer::before_gradient(VecView theta) {
  impl_->check("before_gradient", theta);
  StepInfo info = impl_->info();
  for (auto& transform : impl_->chain) transform->before_gradient(theta, info);
}

void Optimizer::step(VecView theta, VecView gradient, VecView diagonal) {
  Impl& o = *impl_;
  o.check("step", theta);
  o.check("step", gradient);
  const bool wanted = needs().curvature != Curvature::none;
  SINEW_CHECK(wanted == (diagonal.data != nullptr), "step", "the Hessian's diagonal is ",
              wanted ? "needed in this step and missing" : "given in a step that does not need it");
  if (wanted) o.check("step", diagonal);
  StepInfo info = o.info();
  info.diagonal = diagonal;
  if (o.fused) {
    o.step_fused(theta, gradient, info);
  } else {
    for (auto& transform : o.chain) transform->apply(gradient, theta, info);
    axpby(-info.lr, gradient, 1, theta, theta);
  }
  ++o.step;
}

void Optimizer::skip(VecView theta) {
  impl_->check("skip", theta);
  for (auto& transform : impl_->chain) transform->skip(theta);
}

void Optimizer::on_external_write(double strength) {
  for (auto& transform : impl_->chain) transform->on_external_write(strength);
}

int64_t Optimizer::steps() const { return impl_->step; }
void Optimizer::seek(int64_t step) {
  SINEW_CHECK(step >= 0, "seek", "step ", step, " is negative");
  impl_->step = step;
}
double Optimizer::lr() const { return impl_->info().lr; }
bool Optimizer::fused() const { return impl_->fused; }
bool Optimizer::recordable() const {
  const auto& chain = impl_->chain;
  // Two that ask for the curvature at steps of their own would make steps of several kinds.
  const auto estimates = [](const auto& transform) { return transform->uses_curvature(); };
  return std::count_if(chain.begin(), chain.end(), estimates) <= 1 &&
         std::all_of(chain.begin(), chain.end(), [](const auto& transform) { return transform->recordable(); });
}

State Optimizer::save() const {
  SINEW_CHECK(impl_->ready, "save", "the optimizer was not initialised");
  State state;
  state.numbers[kStepEntry] = static_cast<double>(impl_->step);
  for (const auto& transform : impl_->chain) transform->save(state);
  return state;
}

Status Optimizer::load(const State& state) {
  State mine = save();
  std::string wrong = entry_mismatch(mine.vectors, state.vectors);
  if (wrong.empty()) wrong = entry_mismatch(mine.numbers, state.numbers);
  if (!wrong.empty())
    return make_status(StatusCode::data_error, "the optimizer state ", wrong,
                       ": it was saved by an optimizer with other options");
  Result<int64_t> step = whole_number(kStepEntry, state.numbers.at(kStepEntry));
  if (!step.ok()) return step.status();
  for (auto& transform : impl_->chain) SINEW_RETURN_IF_ERROR(transform->load(state));
  impl_->step = *step;
  return Status::Ok();
}

}  // namespace sinew::optim
