// Push-sum: the gossip specification's section 4.2, along directed graphs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "dist/topology.h"
#include "tests/support/gossip_ends.h"

namespace sinew::dist::testing {
namespace {

// Section 4.5: with 8 workers three rounds are the exact average.
TEST(PushSum, OnePeerExponentialAveragesExactly) {
  for (const char* scheme : {"sgp", "dpsgd"})
    for (const char* mixing : {"awc", "atc"}) {
      Toy toy;
      toy.scheme = gossip(scheme, 8, [&](SchemeOptions& o) {
        o.topology = "one_peer_exponential";
        o.mixing = mixing;
      });
      toy.lr = 0;
      toy.start_spread = 1;
      toy.steps = 3;
      for (const Numbers& theta : ends_of(toy).theta) EXPECT_NEAR(theta[0], 4.5, 1e-14) << scheme << mixing;
    }
}

// The whole trajectory in matrix form. No failure: w stays 1, and sgp is D-PSGD on that graph, adapt then combine.
TEST(PushSum, FollowsTheMatrixForm) {
  for (const char* topology : {"one_peer_exponential", "exponential", "ring"})
    for (const char* name : {"sgp", "dpsgd awc", "dpsgd atc"}) {
      const std::string scheme = std::string(name).substr(0, std::string(name).find(' '));
      const bool awc = std::string(name).ends_with("awc");
      Toy toy;
      toy.scheme = gossip(scheme, 5, [&](SchemeOptions& o) {
        o.topology = topology;
        o.mixing = awc ? "awc" : "atc";
      });
      toy.start_spread = 1;
      toy.steps = 12;
      const Topology t({.name = topology, .workers = 5});
      std::vector<double> x{1, 2, 3, 4, 5};
      for (int64_t k = 0; k < toy.steps; ++k) {
        std::vector<double> stepped = x, next(5);
        for (Rank i = 0; i < 5; ++i) stepped[i] -= toy.lr * (x[i] - toy.b(i));
        const Matrix w = mixing_matrix(t, k);
        for (Rank i = 0; i < 5; ++i) {
          for (Rank j = 0; j < 5; ++j) next[i] += w.at(i, j) * (awc ? x : stepped)[j];
          if (awc) next[i] += stepped[i] - x[i];
        }
        x = next;
      }
      const Ends ends = ends_of(toy);
      for (Rank r = 0; r < 5; ++r) {
        EXPECT_NEAR(ends.theta[r][0], x[r], 1e-12) << topology << " " << name;
        EXPECT_NEAR(ends.weight[r], 1, 1e-14);
      }
    }
}

// Section 4.2: rounds in which a worker sends nothing have columns that sum to 1 and rows that do not. Plain mixing by
// the same matrices, x <- P x, does not end at the mean; x / w does.
TEST(PushSum, FindsTheMeanWherePlainMixingDoesNot) {
  const FaultPlan faults = plan("suppress rank=2 probability=0.2\nsuppress rank=5 probability=0.2");
  for (const char* topology : {"one_peer_exponential", "exponential", "ring"}) {
    Toy toy;
    toy.scheme = gossip("sgp", 6, [&](SchemeOptions& o) { o.topology = topology; });
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 150;
    const Topology t({.name = topology, .workers = 6});
    std::vector<double> plain{1, 2, 3, 4, 5, 6};
    double off = 0;  // in the last third
    for (int64_t k = 0; k < toy.steps; ++k) {
      std::vector<double> next = plain;
      for (Rank from = 0; from < 6; ++from) {
        if (plan_suppresses(faults, from, k)) continue;
        for (const Link& l : t.out(from, k))
          next[l.peer] += l.weight * plain[from], next[from] -= l.weight * plain[from];
      }
      plain = next;
      for (double x : plain) off = std::max(off, k >= 100 ? std::abs(x - 3.5) : 0);
    }
    const Ends ends = ends_of(toy, {.faults = faults});
    EXPECT_NEAR(ends.weights(), 6, 1e-12);
    for (Rank r = 0; r < 6; ++r) {
      EXPECT_NEAR(ends.theta[r][0], 3.5, 1e-9) << topology;
      EXPECT_NEAR(ends.weight[r] * ends.theta[r][0], plain[r], 1e-9) << topology;
    }
    EXPECT_GT(off, 1) << topology;
  }
}

// Overlap: what is sent is taken in so many rounds later; w, which is below 1 meanwhile, keeps z right.
TEST(PushSum, OverlapKeepsTheMean) {
  const std::pair<const char*, int> cases[] = {{"one_peer_exponential", 1}, {"one_peer_exponential", 2},
                                               {"one_peer_exponential", 5}, {"exponential", 1},
                                               {"exponential", 3},          {"exponential", 6}};
  for (const auto& [topology, overlap] : cases) {
    Toy toy;
    toy.scheme = gossip("sgp", 8, [&, topology = topology, overlap = overlap](SchemeOptions& o) {
      o.overlap = overlap;
      o.topology = topology;
    });
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 400;
    const Ends ends = ends_of(toy);
    EXPECT_NEAR(ends.weights(), 8, 1e-12);
    EXPECT_NEAR(ends.weighted_sum(0), 36, 1e-11);
    for (const Numbers& theta : ends.theta) EXPECT_NEAR(theta[0], 4.5, 1e-5) << topology << " " << overlap;
    EXPECT_EQ(ends.counters.missed, 0) << topology << " " << overlap;  // no round is withheld
  }
}

// A share has `overlap` steps for its way, and its answer too.
TEST(PushSum, OverlapHidesTheLinks) {
  const auto duration = [](int overlap) {
    Toy toy;
    toy.scheme = gossip("sgp", 4, [&](SchemeOptions& o) { o.overlap = overlap; });
    toy.steps = 50;
    const Ends ends = ends_of(toy, {.latency = 15 * kMillisecond, .step_cost = 10 * kMillisecond});
    return static_cast<double>(ends.report.virtual_time) / (50.0 * 10 * kMillisecond);
  };
  EXPECT_GT(duration(0), 2.4);
  EXPECT_LT(duration(4), 1.4);
}

TEST(PushSum, CountsItsMessagesAndBytes) {
  Toy toy;
  toy.scheme = gossip("sgp", 8, [&](SchemeOptions& o) { o.topology = "exponential"; });
  toy.size = 50;
  toy.dtype = DType::f32;
  const Ends ends = ends_of(toy);
  const int64_t sent = 8 * 3 * toy.steps, head = sizeof(Head);
  int64_t messages = 0, bytes = 0;
  for (const NodeOutcome& o : ends.report.nodes) messages += o.traffic.messages_sent, bytes += o.traffic.bytes_sent;
  EXPECT_EQ(messages, 3 * sent + 2 * 8);
  EXPECT_EQ(bytes, sent * (3 * head + 4 * toy.size) + 2 * 8 * head);
}

}  // namespace
}  // namespace sinew::dist::testing
