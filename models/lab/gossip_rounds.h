// Gossip without gradients: what a round leaves of the workers' disagreement V = sum ||x_i - mean||^2.
//   elastic gossip, one random pair    1 - 4 alpha (1 - alpha) / (N - 1)                                E3
//   elastic gossip, a round of all     dist::expected_contraction                                      E4
//   pulled averages                    1 - 2 p beta (1 - beta) N / (N - 1), about the former mean
// E3 and E4 are this project's own, derived for the scheme of Pramod, arXiv:1812.02407; the last one for that of Jin et
// al., arXiv:1611.04581.
#pragma once

#include <cstdint>

#include "models/lab/drive.h"
#include "models/lab/report.h"

namespace sinew::train::lab {

struct Contraction {
  double mean = 0, error = 0;  // of V after / V before; its standard error
  int64_t rounds = 0;
};
struct GossipRounds {
  Contraction all;       // elastic_gossip: about each round's own mean, which it keeps; else about the mean before
  Contraction one_pair;  // of the rounds in which exactly two workers moved
};
// Each round begins with new random values. scheme: elastic_gossip (rate: alpha), gossiping_sgd (pull; rate: beta).
Result<GossipRounds> measure_rounds(const std::string& scheme, int workers, double probability, double rate,
                                    int64_t rounds, uint64_t seed);

double one_pair_contraction(int workers, double alpha);
double pull_contraction(int workers, double probability, double beta);

Result<Report> gossip_rounds(uint64_t seed);

}  // namespace sinew::train::lab
