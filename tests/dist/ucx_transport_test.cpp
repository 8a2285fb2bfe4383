// Two transports of one process: what happens when a message cannot be taken.
#ifdef SINEW_HAVE_UCX
#include "dist/ucx/transport.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <new>

namespace sinew::dist {
namespace {

struct Node : UcxTransport::Events {
  bool admit(const WireHeader&) override { return true; }
  void arrived(const WireHeader&, Payload) override {
    if (on_arrival) on_arrival();
    ++messages;
  }
  void broken(Rank peer, const std::string&) override { lost.push_back(peer); }

  std::function<void()> on_arrival;
  int messages = 0;
  std::vector<Rank> lost;
  std::unique_ptr<UcxTransport> transport;
};

// The sizes go through UCX's two ways: eager, and rendezvous.
TEST(UcxTransport, AMessageThatCannotBeTakenBreaksTheConnection) {
  const std::vector<std::function<void()>> failures = {[] { throw std::bad_alloc(); },
                                                       [] { SINEW_FAIL("test", "a defect"); }};
  for (const auto& failure : failures) {
    for (size_t size : {size_t{100}, size_t{8} << 20}) {
      Node nodes[2];
      for (Node& node : nodes) {
        auto opened = UcxTransport::open("lo", 2, node);
        ASSERT_TRUE(opened.ok()) << opened.status().message();
        node.transport = std::move(*opened);
      }
      auto both_until = [&](const std::function<bool()>& done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!done() && std::chrono::steady_clock::now() < end)
          for (Node& node : nodes) node.transport->progress();
        return done();
      };
      auto send = [&](Rank from) {
        WireHeader header;
        header.head.source = from;
        Payload body = Payload::allocate(size);
        std::memset(body.data(), 1, size);
        nodes[from].transport->send(1 - from, header, std::move(body));
      };
      for (Rank rank : {0, 1}) {
        ASSERT_TRUE(nodes[rank].transport->connect(1 - rank, nodes[1 - rank].transport->address()).ok());
        send(rank);
      }
      ASSERT_TRUE(both_until([&] { return nodes[0].messages == 1 && nodes[1].messages == 1; }));
      nodes[1].on_arrival = failure;
      send(0);
      EXPECT_TRUE(both_until([&] { return !nodes[1].lost.empty(); }));
      EXPECT_EQ(nodes[1].lost, std::vector<Rank>{0});
      EXPECT_FALSE(nodes[1].transport->connected(0));
      nodes[0].transport->disconnect(1);
    }
  }
}

}  // namespace
}  // namespace sinew::dist
#endif  // SINEW_HAVE_UCX
