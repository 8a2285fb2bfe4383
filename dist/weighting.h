// Weights of an elastic exchange that look after failed workers: a worker whose distance from the center keeps growing
// is pulled harder and believed less (dynamic weighting, after Xu and Carr, arXiv:2409.09242, whose coefficients are
// settings here, since only its abstract was at hand).
//
// One contact of worker and center, d = x - c:   x -= h1 d,  c += h2 d.   h1 = h2 = alpha is plain elastic averaging.
//   u(n)   = log ||x - c|| at the n-th recorded contact
//   score  = sum_j c_j (u(n-j) - u(n-j-1)), j = 0 .. P-1; above 0: the distance grows
//   lambda = clamp((score - s0) / (kappa - s0), 0, 1): how suspicious the worker is
//   h1 = alpha + (1 - alpha) lambda,  h2 = alpha (1 - lambda)
// lambda = 1: the worker adopts the center, and the center learns nothing from it.
//
// A rule is a pure function from what is known of a contact to its weights. Adding one: a function and its line in
// kRules (dist/weighting.cpp), or WeightingOptions::custom. With a center its two weights are used. Between two equal
// workers neither end's rule can weigh both: of what it gives, only the suspicion counts, 0 to 1, which is of the
// worker that it was called for. The active end's is called before its distance is known (Evidence: of the contacts so
// far), the passive end's with it; pair_weights() makes the pair's weights of both. Only `dynamic` judges the partner,
// too.
//
// Thread safety: values; a Weighting belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"

namespace sinew::dist {

// What is known at a contact.
struct Evidence {
  double alpha = 0;                                          // moving rate
  int64_t round = 0;                                         // of the worker's own clock
  int64_t missed = 0;                                        // contacts that failed just before this one
  std::span<const double> log_distances = {};                // of the recorded contacts, this one's first
  double others = std::numeric_limits<double>::quiet_NaN();  // median of the other workers' scores; NaN: none
};

struct Weights {
  double worker = 0, center = 0;  // h1, h2
  double suspicion = 0;           // lambda
  double score = std::numeric_limits<double>::quiet_NaN();
  const char* reason = "";  // why they are not alpha; empty when they are
};

struct WeightingOptions;
using WeightingRule = Weights (*)(const WeightingOptions&, const Evidence&);

struct WeightingOptions {
  std::string rule = "fixed";      // weighting_names()
  WeightingRule custom = nullptr;  // in its place
  double kappa = -1;               // the score from which on a worker counts as failed; < 0: 3 alpha
  double s0 = 0;                   // scores up to here are healthy
  double score_sign = 1;           // -1: a shrinking distance is the suspicious one
  std::vector<double> coefficients = {0.5, 0.25, 0.15, 0.1};  // c_j, newest first; only their proportions count
  int64_t warmup_rounds = 10;                                 // with fixed weights: at first every distance grows
  // Where a center tells the others' scores (easgd, eamsgd).
  bool peers = false;  // subtract the median of the other workers' scores: what happens to all is nobody's failure
};

// sum_j c_j (u_j - u_{j+1}), newest first. NaN while there are not coefficients + 1 values.
double distance_score(std::span<const double> log_distances, std::span<const double> coefficients);
// lambda of a score.
double suspicion(double score, double s0, double kappa);
// h1 and h2 of a lambda.
Weights weights_of(double alpha, double suspicion);
// The rules by name.
//   fixed    alpha, always
//   dynamic  by the score, once there are enough contacts and the first rounds are over
//   oracle   1 and 0 at the first contact after one that failed, else alpha
Weights weights(const WeightingOptions& options, const Evidence& evidence);
std::vector<std::string> weighting_names();

// Two equal workers, d = x_i - x_j, x_i -= mine d, x_j += theirs d: a suspicious one is pulled harder and pulls less.
// With theirs = 0 it is weights_of(alpha, mine). mine + theirs <= 1 for alpha <= 1/2.
struct PairWeights {
  double mine, theirs;
};
PairWeights pair_weights(double alpha, double my_suspicion, double their_suspicion);

// Whether every weight is alpha.
inline bool is_fixed(const WeightingOptions& o) { return !o.custom && o.rule == "fixed"; }
// invalid_argument with what is allowed.
Status validate(const WeightingOptions& options, double alpha);

// One worker's memory of its contacts with the center, or with its partners.
class Weighting {
 public:
  // scored: elements that the distance is taken over.
  Weighting(WeightingOptions options, double alpha, int64_t scored);
  bool fixed() const { return is_fixed(options_); }
  // A contact that did not come about.
  void miss() { ++missed_; }
  // The worker has taken over other parameters, or the center has: what former distances say is nothing of these.
  void forget() {
    log_distances_.clear();
    missed_ = 0;
  }
  // Records the distance (unless it is 0 within rounding) and weighs. A distance that is not finite is a failure and
  // not recorded.
  Weights contact(int64_t round, double distance, double others);
  // How suspicious a partner is whose distance has grown by `jump` (of logarithms) since the last contact with it,
  // while this one's own score is `own`: what its own score does not explain is the partner's. 0 but for the rule
  // `dynamic`.
  double suspicion_of_partner(int64_t round, double jump, double own) const;
  // As if the next contact were now, without its distance: what one of a pair says of itself before it.
  Weights expected(int64_t round) const { return weights(options_, {alpha_, round, missed_, log_distances_}); }

  void save(std::map<std::string, int64_t>& numbers) const;
  void load(const std::map<std::string, int64_t>& numbers);

 private:
  WeightingOptions options_;
  const double alpha_, floor_;
  std::vector<double> log_distances_;  // newest first
  int64_t missed_ = 0;
};

// A contact whose weights are not both alpha, for the log.
struct WeighedContact {
  int64_t round = 0;
  double distance = 0;
  Weights weights;
};
using WeightsLog = std::function<void(const WeighedContact&)>;

}  // namespace sinew::dist
