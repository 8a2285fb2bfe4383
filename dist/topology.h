// Who exchanges with whom, and with which weights: pure functions of (rank, workers, round, seed). Every worker can
// compute everybody's part, so schemes in lockstep need no messages to agree on it.
//
// A round is a mixing matrix W: worker i goes on with sum_j W_ij x_j. What is not given to or taken from others is the
// worker's own part, on the diagonal. Columns that sum to 1 keep the sum of all x; rows that sum to 1 keep equal
// workers equal.
//
//   name                  W of a round                                          source
//   uniform               I - alpha L, L of the realised random picks           elastic gossip (arXiv:1812.02407)
//   ring grid star        Metropolis-Hastings weights on that graph             Xiao, Boyd 2004; D-PSGD
//   complete edges        likewise: everybody; a list of edges                  (arXiv:1705.09056)
//   shift_one             disjoint pairs of both halves, each pair averages     Bagua (arXiv:2107.01499)
//   exponential           from the ranks 1, 2, 4, ... before, equal weights     BlueFog (arXiv:2111.04287)
//   one_peer_exponential  from one of them, another one in each round           Ying et al. (arXiv:2110.13363); SGP
//
// All but the exponential ones are symmetric. Thread safety: const.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "dist/world.h"

namespace sinew::dist {

// The worker that `rank` picks in `step`: with `probability` one of the others, each as likely; kAnyRank: none.
Rank uniform_pick(uint64_t seed, int64_t step, Rank rank, int workers, double probability);

struct Link {
  Rank peer;
  double weight;
  bool operator==(const Link&) const = default;
};
using Links = std::vector<Link>;  // ascending by peer

// What happens to a worker that several others picked (gossip spec, E4).
enum class Collision {
  sum,       // all exchanges take place with weight alpha
  matching,  // at most one exchange a worker, first come first served, from another rank on in each round
  capped,    // weight min(alpha, 1 / (1 + degree of the busier end))
};
// The exchanges of each worker. A mutual pick is one exchange.
std::vector<Links> pair_links(const std::vector<Rank>& picks, double alpha, Collision collision, int64_t round);

struct TopologyOptions {
  std::string name = "ring";
  int workers = 1;
  std::string edges;  // of `edges`: 0-1,1-2,0-2
  // Of `uniform`:
  double probability = 1, alpha = 0.5;
  Collision collision = Collision::sum;
  uint64_t seed = 1;
};

std::vector<std::string> topology_names();
// invalid_argument with what is allowed.
Status validate(const TopologyOptions& options);

class Topology {
 public:
  // REQUIRES: validate(options).ok().
  explicit Topology(const TopologyOptions& options);

  const std::string& name() const { return options_.name; }
  int workers() const { return options_.workers; }
  bool symmetric() const { return !directed_; }
  // Rounds after which all is repeated; 0: never, it is random.
  int64_t period() const;
  // Row and column of W without the diagonal.
  Links in(Rank rank, int64_t round) const;
  Links out(Rank rank, int64_t round) const;
  // Of `uniform`: whom a worker picks (or kAnyRank), and who picks it, ascending.
  Rank pick(Rank rank, int64_t round) const;
  const std::vector<Rank>& pickers(Rank rank, int64_t round) const;

 private:
  struct Round;
  const Round& random_round(int64_t round) const;
  std::vector<int64_t> distances(int64_t round) const;

  // Of a graph that does not change, ascending. A worker keeps no more of it than its number of workers: they are many.
  std::vector<Rank> neighbours_of(Rank rank) const;
  int degree(Rank rank) const;

  TopologyOptions options_;
  bool directed_ = false;
  std::shared_ptr<const std::vector<std::vector<Rank>>> listed_;  // of `edges`: one table for all workers of a process
};

// ---- for tests and `sinew info topology`; dense, so for up to a thousand workers ----

struct Matrix {
  int n = 0;
  std::vector<double> values;  // row-major
  double& at(int i, int j) { return values[static_cast<size_t>(i) * n + j]; }
  double at(int i, int j) const { return values[static_cast<size_t>(i) * n + j]; }
};
Matrix mixing_matrix(const Topology& topology, int64_t round);
Matrix product(const Matrix& a, const Matrix& b);
bool rows_sum_to_one(const Matrix& w);
bool columns_sum_to_one(const Matrix& w);
// The largest singular value of W - 1 1^T / n: how much of the workers' disagreement a round may leave. The spectral
// gap is 1 minus this. For a doubly stochastic W.
double disagreement(const Matrix& w);
// The expected share of the squared disagreement that a round of `uniform` with Collision::sum leaves (spec E4).
double expected_contraction(int workers, double probability, double alpha);

}  // namespace sinew::dist
