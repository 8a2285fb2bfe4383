// Two transports of one process: what happens when a message cannot be taken. A transport and a peer that dies.
#ifdef SINEW_HAVE_UCX
#include "dist/ucx/transport.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <thread>

#include "tests/support/processes.h"

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

// Two that are connected, and have sent each other a message of `size` bytes.
struct Pair {
  explicit Pair(size_t bytes) : size(bytes) {}
  ~Pair() {  // at once: with a connection left, a transport waits for the other to close it too
    for (Rank rank : {0, 1})
      if (nodes[rank].transport) nodes[rank].transport->disconnect(1 - rank);
  }
  Node nodes[2];
  const size_t size;

  void meet() {
    for (Node& node : nodes) {
      auto opened = UcxTransport::open("lo", 2, node);
      ASSERT_TRUE(opened.ok()) << opened.status().message();
      node.transport = std::move(*opened);
    }
    for (Rank rank : {0, 1}) {
      ASSERT_TRUE(nodes[rank].transport->connect(1 - rank, nodes[1 - rank].transport->address()).ok());
      send(rank);
    }
    ASSERT_TRUE(both_until([&] { return nodes[0].messages == 1 && nodes[1].messages == 1; }));
  }
  bool both_until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!done() && std::chrono::steady_clock::now() < end)
      for (Node& node : nodes) node.transport->progress();
    return done();
  }
  void send(Rank from) {
    WireHeader header;
    header.head.source = from;
    Payload body = Payload::allocate(size);
    std::memset(body.data(), 1, size);
    nodes[from].transport->send(1 - from, header, std::move(body));
  }
};

// The ports of this process's TCP sockets that listen, in network order.
std::vector<in_port_t> listening_ports() {
  std::vector<in_port_t> ports;
  DIR* files = ::opendir("/proc/self/fd");
  while (const dirent* file = files ? ::readdir(files) : nullptr) {
    const int fd = std::atoi(file->d_name);
    int listens = 0;
    sockaddr_in own{};
    socklen_t size = sizeof listens, own_size = sizeof own;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens &&
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 && own.sin_family == AF_INET)
      ports.push_back(own.sin_port);
  }
  if (files) ::closedir(files);
  return ports;
}

// As a process that is killed looks to others: the kernel still takes a connection, then the connection is reset and
// no further one is taken.
SINEW_PROCESS_BODY(greet_a_dying_peer) {
  Node peer, node;
  auto opened = UcxTransport::open("lo", 2, peer);
  process.check(opened.ok(), opened.status().message());
  peer.transport = std::move(*opened);
  std::string address = peer.transport->address();
  const std::vector<in_port_t> ports = listening_ports();
  process.check(ports.size() == 1, "one port listens");
  const std::string port(reinterpret_cast<const char*>(&ports[0]), sizeof ports[0]);
  const size_t at = address.find(port);
  process.check(at != std::string::npos, "the address has the port");

  opened = UcxTransport::open("lo", 2, node);
  process.check(opened.ok(), opened.status().message());
  node.transport = std::move(*opened);
  for (int i = 0; i < 100; ++i) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof any;
    process.check(::bind(listener, reinterpret_cast<sockaddr*>(&any), size) == 0 && ::listen(listener, 1) == 0 &&
                      ::getsockname(listener, reinterpret_cast<sockaddr*>(&any), &size) == 0,
                  "a listening socket");
    std::memcpy(address.data() + at, &any.sin_port, sizeof any.sin_port);
    std::thread dying([listener] {
      const int taken = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      const linger reset{1, 0};
      ::setsockopt(taken, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      ::close(listener);
      ::close(taken);
    });
    process.check(node.transport->connect(1, address).ok(), "connect");
    WireHeader header;
    header.head.source = 0;
    node.transport->send(1, header, Payload::allocate(100));
    node.lost.clear();
    process.check(test::eventually([&] { return node.transport->progress(), !node.lost.empty(); }),
                  "hears that the peer is lost");
    dying.join();
  }
  return 0;
}

// UCX 1.13 with connections that block: an assertion ended the process that greets (tcp_ep.c:478).
TEST(UcxTransport, APeerThatDiesWhenItIsGreetedEndsNobodyElse) {
  test::ProcessGroup group("greet_a_dying_peer", 1);
  ASSERT_TRUE(group.wait_all()) << group.report(0);
}

// By the kernel's account: the congestion control of each TCP socket of this process with a loopback address.
std::vector<std::string> congestion_controls() {
  std::vector<std::string> found;
  DIR* files = ::opendir("/proc/self/fd");
  while (const dirent* file = files ? ::readdir(files) : nullptr) {
    const int fd = std::atoi(file->d_name);
    int protocol = 0;
    sockaddr_in own{};
    char name[16] = {};
    socklen_t protocol_size = sizeof protocol, own_size = sizeof own, name_size = sizeof name;
    if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_size) != 0 || protocol != IPPROTO_TCP) continue;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) != 0) continue;
    if (own.sin_family != AF_INET || own.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) continue;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &name_size) == 0) found.push_back(name);
  }
  if (files) ::closedir(files);
  return found;
}

TEST(UcxTransport, LoopbackIsNotSlowedDownByTheMachinesCongestionControl) {
  const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool allowed = ::setsockopt(probe, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0;
  ::close(probe);
  if (!allowed) GTEST_SKIP() << "this machine's kernel lets nobody choose Reno";
  Pair pair(size_t{1} << 20);
  ASSERT_NO_FATAL_FAILURE(pair.meet());
  const std::vector<std::string> names = congestion_controls();
  EXPECT_GE(names.size(), 4u) << "two listen, and a connection has two ends";
  for (const std::string& name : names) EXPECT_EQ(name, "reno");
}

// The sizes go through UCX's two ways: eager, and rendezvous.
TEST(UcxTransport, AMessageThatCannotBeTakenBreaksTheConnection) {
  const std::vector<std::function<void()>> failures = {[] { throw std::bad_alloc(); },
                                                       [] { SINEW_FAIL("test", "a defect"); }};
  for (const auto& failure : failures) {
    for (size_t size : {size_t{100}, size_t{8} << 20}) {
      Pair pair(size);
      ASSERT_NO_FATAL_FAILURE(pair.meet());
      Node(&nodes)[2] = pair.nodes;
      nodes[1].on_arrival = failure;
      pair.send(0);
      EXPECT_TRUE(pair.both_until([&] { return !nodes[1].lost.empty(); }));
      EXPECT_EQ(nodes[1].lost, std::vector<Rank>{0});
      EXPECT_FALSE(nodes[1].transport->connected(0));
    }
  }
}

}  // namespace
}  // namespace sinew::dist
#endif  // SINEW_HAVE_UCX
