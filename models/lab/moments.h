// Synchronous EASGD on h x^2 / 2 with additive noise: mean and variance of the center after t steps are known in closed
// form (Zhang, Choromanska, LeCun, arXiv:1412.6651v8, Lemma 7.1, Eq. 15-16). Measured over many independent copies.
#pragma once

#include <cstdint>
#include <vector>

#include "models/lab/drive.h"
#include "models/lab/report.h"

namespace sinew::train::lab {

struct Quadratic {
  int workers = 1;
  double eta = 0.1, beta = 0.9;         // alpha = beta / workers
  double h = 1, noise = 10, start = 1;  // standard deviation of the gradient's noise; x = c = start
};

struct Moments {
  double mean = 0, variance = 0;
};

// Of the center after t steps; t < 0: in the limit.
Moments lemma_7_1(const Quadratic& q, int64_t t);
// The limit of workers x E c^2 for ever more workers (Corollary 7.1).
double corollary_7_1(const Quadratic& q);

// Of the center after 0, 1, ... `steps` steps, over `copies` runs with noise of their own.
Result<std::vector<Moments>> measured_moments(const Quadratic& q, int64_t copies, int64_t steps, uint64_t seed);

// How many standard errors a measured value is off. NaN where there is nothing to measure (no variance).
Moments standard_errors_off(const Moments& measured, const Moments& expected, int64_t copies);

Result<Report> moments(uint64_t seed);

}  // namespace sinew::train::lab
