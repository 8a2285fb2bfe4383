#include "optim/schedule.h"

#include <cmath>
#include <numbers>
#include <utility>

namespace sinew::optim {
namespace {

// A schedule from any callable int64_t -> double.
template <class Fn>
class FunctionSchedule : public Schedule {
 public:
  explicit FunctionSchedule(Fn fn) : fn_(std::move(fn)) {}
  double factor(int64_t step) const override { return fn_(step); }

 private:
  Fn fn_;
};
template <class Fn>
SchedulePtr make(Fn fn) {
  return std::make_unique<FunctionSchedule<Fn>>(std::move(fn));
}

}  // namespace

SchedulePtr constant_schedule() {
  return make([](int64_t) { return 1.0; });
}

SchedulePtr step_schedule(double gamma, int64_t every) {
  SINEW_CHECK(every > 0, "step_schedule", every, " steps between drops; at least 1");
  return make([=](int64_t t) {
    const int64_t drops = t / every;
    return std::pow(gamma, static_cast<double>(drops));
  });
}

SchedulePtr cosine_schedule(int64_t total) {
  SINEW_CHECK(total > 0, "cosine_schedule", total, " steps; at least 1");
  return make([=](int64_t t) {
    if (t >= total) return 0.0;
    return 0.5 * (1 + std::cos(std::numbers::pi * static_cast<double>(t) / static_cast<double>(total)));
  });
}

SchedulePtr inverse_sqrt_schedule(double gamma) {
  SINEW_CHECK(gamma >= 0, "inverse_sqrt_schedule", "gamma ", gamma, " is negative");
  return make([=](int64_t t) { return 1 / std::sqrt(1 + gamma * static_cast<double>(t)); });
}

SchedulePtr warmup_schedule(SchedulePtr base, int64_t steps) {
  SINEW_CHECK(base != nullptr && steps > 0, "warmup_schedule", steps, " steps; at least 1, over a schedule");
  return make([base = std::move(base), steps](int64_t t) {
    double ramp = t + 1 >= steps ? 1 : static_cast<double>(t + 1) / static_cast<double>(steps);
    return ramp * base->factor(t);
  });
}

}  // namespace sinew::optim
