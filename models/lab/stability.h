// Workers in turn on F = x^2 / 2 without noise: ADMM has points where a round of all workers is unstable though each
// worker's own step is not; EASGD is stable for 0 <= eta <= 2, 0 <= alpha <= (4 - 2 eta) / (4 - eta) whatever the
// number of workers (Zhang, Choromanska, LeCun, arXiv:1412.6651v8, section 4, Figure 1; Zhang, PhD thesis 2016,
// section 3.3).
#pragma once

#include <cstdint>
#include <string>

#include "models/lab/drive.h"
#include "models/lab/report.h"

namespace sinew::train::lab {

// The linear map of one round, by running the scheme from every unit vector of its state at once: x of each worker and
// c (easgd), or x and lambda of each worker (admm, where c is the mean of x - lambda). Row-major, size x size.
struct RoundMap {
  int size = 0;
  Values matrix;
};
// alpha = eta rho. scheme: easgd, admm.
Result<RoundMap> round_map(const std::string& scheme, int workers, double eta, double alpha);

// By repeated squaring, to about 1e-12 also where eigenvalues come in complex pairs.
double spectral_radius(const RoundMap& map);

// (4 - 2 eta) / (4 - eta): EASGD is stable up to this alpha.
double easgd_alpha_limit(double eta);

// c after each round, from x = c = start and lambda = 0.
Result<Values> center_by_round(const std::string& scheme, int workers, double eta, double alpha, double start,
                               int64_t rounds);

Result<Report> stability(uint64_t seed);

}  // namespace sinew::train::lab
