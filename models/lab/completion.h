// Leader gradient descent against elastic averaging and independent gradient descent on matrix completion with all
// entries known: F(X) = ||X X^T - U U^T||^2 / 4, X of d x r, eight workers. Elastic averaging stays where its pull and
// the gradient balance; leaders go on to the solution, and so does the best of independent workers (Teng et al.,
// arXiv:1905.10395, and the authors' notebook).
#pragma once

#include <cstdint>
#include <string>

#include "models/lab/drive.h"
#include "models/lab/report.h"

namespace sinew::train::lab {

struct Completion {
  int64_t rows = 100, rank = 1;
  double eta = 5e-3, lambda = 0.2;  // a pull is eta lambda in every step
  int workers = 8;
};

// The least F of all workers before each of the `steps` steps. scheme: local, easgd_sync (EAGD), lgd. X and U have
// independent standard normal entries.
Result<Values> best_of_workers(const Completion& c, const std::string& scheme, int64_t steps, uint64_t seed);

// Where elastic averaging stays, about: r lambda^2 (1 / 4 + 1 / (2 workers)).
double completion_plateau(const Completion& c);

Result<Report> completion(uint64_t seed);

}  // namespace sinew::train::lab
