// Learning-rate schedules: the factor on the optimizer's lr at its own step t = 0, 1, ... Pure functions of t.
#pragma once

#include <memory>

#include "optim/optimizer.h"

namespace sinew::optim {

using SchedulePtr = std::unique_ptr<Schedule>;

SchedulePtr constant_schedule();
// gamma ^ floor(t / every).
SchedulePtr step_schedule(double gamma, int64_t every);
// (1 + cos(pi t / total)) / 2, and 0 from t = total on. Loshchilov and Hutter 2017, without restarts.
SchedulePtr cosine_schedule(int64_t total);
// 1 / (1 + gamma t)^0.5: the EASGD paper's decay (arXiv:1412.6651v8, Fig. 9), on the worker's own clock.
SchedulePtr inverse_sqrt_schedule(double gamma);
// min(1, (t + 1) / steps) times the base's factor at t.
SchedulePtr warmup_schedule(SchedulePtr base, int64_t steps);

}  // namespace sinew::optim
