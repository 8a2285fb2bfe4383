// Synchronous EASGD with two workers on (1 - x^2)^2 / 4: besides both wells, x = sqrt(1 - rho), y = -x, c = 0 is a
// critical point for rho < 1, and it is stable, a trap, if and only if rho < 2/3 (Zhang, PhD thesis 2016, section 5.3).
#pragma once

#include <cstdint>

#include "models/lab/drive.h"
#include "models/lab/report.h"

namespace sinew::train::lab {

struct WellPoint {
  double x = 0, y = 0, c = 0;
};

// After `steps` steps with alpha = eta rho, from the critical point with both workers moved by 0.001 to the right.
Result<WellPoint> leave_the_trap(double rho, double eta, int64_t steps);

// The least eigenvalue of the Hessian of the elastic objective at the critical point; below 0: not a trap.
double least_curvature(double rho);

Result<Report> double_well(uint64_t seed);

}  // namespace sinew::train::lab
