// Leader gradient descent against elastic averaging and independent gradient descent on a landscape of rings,
// f(x, y) = sin(pi r) / (pi r) with r = sqrt(x^2 + y^2): elastic averaging keeps four workers between their rings,
// leaders draw them into the lowest one (Teng et al., arXiv:1905.10395; starts and outcomes as in the authors' figure).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "models/lab/drive.h"
#include "models/lab/report.h"

namespace sinew::train::lab {

inline constexpr int kSincWorkers = 4;

struct SincPath {
  std::array<Values, kSincWorkers> x, y;                       // of each worker, from its start on
  std::array<double, kSincWorkers> values(size_t step) const;  // f there
};

double sinc_at(double x, double y);
// scheme: local, easgd_sync (the batch method: EAGD), lgd. Gradient steps of 0.1, pulls of `pull` in every step, all
// from the positions before it; the center begins at the mean of the starts.
Result<SincPath> sinc_path(const std::string& scheme, double pull, int64_t steps);

Result<Report> sinc(uint64_t seed);

}  // namespace sinew::train::lab
