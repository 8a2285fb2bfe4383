// What is sent to a worker while it computes: kept as one vector, which counts as all that have come.
#include <gtest/gtest.h>

#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {
namespace {

void pushes_alone(SchemeOptions& o) { o.mode = "async", o.direction = "push"; }
constexpr GossipCase kMailed[] = {{"gosgd"}, {"gossiping_sgd", pushes_alone}};

// Vectors that wait, and how many have come for each.
Numbers waiting_at(const Scheme& scheme) {
  const SchemeState state = scheme.save();
  Numbers counts;
  for (int64_t i = 0; state.vectors.count("mail.of." + std::to_string(i)); ++i)
    counts.push_back(to_doubles(state.vectors.at("mail.of." + std::to_string(i)).view()).at(3));
  return counts;
}

// Three workers take 300 steps while the fourth takes three.
TEST(GossipMail, OneVectorWaitsHoweverLongAStepTakes) {
  for (const GossipCase& c : kMailed) {
    Toy toy = still_toy(
        c.name, c.more ? c.more : [](SchemeOptions&) {});
    size_t most = 0;
    double largest = 0;
    const auto body = [&](World& world) -> Result<Numbers> {
      ToyWorker worker(toy, world);
      const bool late = world.rank() == 1;
      if (late)
        worker.loss = [&](int64_t) {
          const Numbers waiting = waiting_at(worker.scheme());
          most = std::max(most, waiting.size());
          for (double count : waiting) largest = std::max(largest, count);
          return 0.0;
        };
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < (late ? 3 : 300); ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return Numbers{weight_of(worker.scheme()), to_doubles(worker.theta().view())[3]};
    };
    const auto nodes = simulate(4, body, {.faults = plan("slow rank=1 factor=100")}).nodes;
    double weights = 0, sum = 0;
    for (const NodeResult& node : nodes) {
      ASSERT_TRUE(node.finished) << c.name << ": " << node.status.message();
      weights += node.numbers[0], sum += node.numbers[0] * node.numbers[1];
    }
    EXPECT_EQ(most, 1u) << c.name;
    EXPECT_GT(largest, 50) << c.name;
    if (c.name != std::string("gosgd")) continue;  // the other one keeps no sum
    EXPECT_NEAR(weights, 1, 1e-12);
    EXPECT_NEAR(sum, 2.5, 1e-12);
  }
}

// Worker 1 sends 3, 4 and 5 while worker 0, at 1, takes its first step.
TEST(GossipMail, CountsAsAllThatHaveCome) {
  for (const GossipCase& c : kMailed) {
    const bool weighted = c.name == std::string("gosgd");
    Toy toy;
    toy.scheme = gossip(
        c.name, 2, c.more ? c.more : [](SchemeOptions&) {});
    toy.lr = 0;
    const auto body = [&](World& world) -> Result<Numbers> {
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < (world.rank() == 0 ? 1 : 3); ++k) {
        if (world.rank() == 1) fill(worker.theta().mutable_view(), 3.0 + static_cast<double>(k));
        SINEW_RETURN_IF_ERROR(worker.step(k));
      }
      const Numbers now{to_doubles(worker.theta().view())[0], weight_of(worker.scheme()),
                        static_cast<double>(worker.scheme().counters().exchanges)};
      if (world.rank() == 1) world.sleep(5 * kSecond);
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return now;
    };
    const auto nodes =
        simulate(2, body, {.faults = plan("suppress rank=0 probability=1\nslow rank=0 factor=50")}).nodes;
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
    const double x = weighted ? (0.5 * 1 + 0.25 * 3 + 0.125 * 4 + 0.0625 * 5) / 0.9375
                              : (0.5 * 1 + 0.5 * (3 + 4 + 5)) / (0.5 + 0.5 * 3);
    EXPECT_NEAR(nodes[0].numbers[0], x, 1e-15) << c.name;
    EXPECT_NEAR(nodes[0].numbers[1], weighted ? 0.9375 : 1, 1e-15);
    EXPECT_EQ(nodes[0].numbers[2], 3);
  }
}

}  // namespace
}  // namespace sinew::dist::testing
