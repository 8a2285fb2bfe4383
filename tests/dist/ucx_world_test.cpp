// The world of real processes. Every case runs in processes of their own.
#ifdef SINEW_HAVE_UCX

#include "dist/ucx/ucx_world.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "dist/store_wire.h"
#include "dist/ucx/link.h"
#include "dist/ucx/wire.h"
#include "tests/support/processes.h"
#include "tests/support/sockets.h"

namespace sinew::dist {
namespace {

using test::ProcessContext;
using test::ProcessGroup;

constexpr Nanos kLong = 60 * kSecond;

UcxOptions options_of(const ProcessContext& process) {
  UcxOptions options;
  options.rank = process.rank;
  options.size = process.size;
  options.incarnation = static_cast<uint32_t>(process.incarnation);
  options.secret = "the job's secret";
  options.join_timeout = kLong;
  return options;
}

std::unique_ptr<World> join(const ProcessContext& process, const UcxOptions& options) {
  auto store = make_file_store(process.directory + "/store");
  process.check(store.ok(), "store");
  auto world = make_ucx_world(options, *store);
  process.check(world.ok(), world.status().message());
  return std::move(*world);
}
std::unique_ptr<World> join(const ProcessContext& process) { return join(process, options_of(process)); }

uint8_t byte_at(Rank source, int64_t index, size_t position) {
  return static_cast<uint8_t>(position * 131 + static_cast<size_t>(index) * 17 + static_cast<size_t>(source) * 7 +
                              (position >> 12));
}
Payload pattern(Rank source, int64_t index, size_t size) {
  Payload payload = Payload::allocate(size);
  auto* bytes = static_cast<uint8_t*>(payload.data());
  for (size_t i = 0; i < size; ++i) bytes[i] = byte_at(source, index, i);
  return payload;
}
bool is_pattern(const Payload& payload, Rank source, int64_t index, size_t size) {
  if (payload.size() != size) return false;
  const auto* bytes = static_cast<const uint8_t*>(payload.data());
  for (size_t i = 0; i < size; ++i)
    if (bytes[i] != byte_at(source, index, i)) return false;
  return true;
}

Head test_head(int64_t a = 0, int64_t b = 0) {
  Head head;
  head.tag = Tag::test;
  head.arg[0] = a;
  head.arg[1] = b;
  return head;
}

// Large and small alternate: a small one must not arrive before the large one sent earlier.
const std::vector<size_t> kSizes = {0, 1, 16 << 20, 64, 1000, 3 << 20, 4096, 65536, 0, 200000, 1 << 20, 8};

SINEW_PROCESS_BODY(all_pairs) {
  UcxOptions options = options_of(process);
  options.silence = kLong;  // on a loaded machine, under a sanitizer, 16 MiB take seconds
  auto world = join(process, options);
  for (size_t i = 0; i < kSizes.size(); ++i)
    for (Rank to = 0; to < process.size; ++to)
      world->send(to, test_head(static_cast<int64_t>(i)), pattern(process.rank, static_cast<int64_t>(i), kSizes[i]));
  for (Rank from = 0; from < process.size; ++from) {
    for (size_t i = 0; i < kSizes.size(); ++i) {
      Received received = world->receive({.tag = Tag::test, .source = from}, kLong);
      process.check(received.ok(), "a message is missing");
      const Head& head = received.message.head;
      process.check(head.source == from && head.arg[0] == static_cast<int64_t>(i), "order");
      process.check(is_pattern(received.message.body, from, head.arg[0], kSizes[i]), "contents");
    }
  }
  process.check(!world->receive({.tag = Tag::test}, kMillisecond).ok(), "a message too many");
  process.check(world->health().ok(), "health");
  process.report(std::to_string(world->traffic().messages_received));
  world->leave();
  return 0;
}

TEST(UcxWorld, AllPairsExchangeAllSizesInOrder) {
  ProcessGroup group("all_pairs", 3);
  EXPECT_TRUE(group.wait_all());
  // Of the two others: what a node sends to itself takes no link.
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(group.report(rank), std::to_string(2 * kSizes.size()));
}

// --- handlers -------------------------------------------------------------------------------------------------

constexpr int64_t kCalls = 2000;

// Everybody sends kCalls messages to rank 0, whose handler and training side count without atomics.
SINEW_PROCESS_BODY(handlers) {
  auto world = join(process);
  if (process.rank == 0) {
    // The first messages are here before there is a handler for them.
    process.check(process.wait_for("sent", 1), "rank 1 sends");
    int64_t handled = 0, published = 0, inside = 0;
    bool in_order = true;
    std::vector<int64_t> next(static_cast<size_t>(process.size), 0);
    world->on(Tag::test, [&](const Message& message) {
      if (inside != 0) ++inside;  // seen by the check below
      auto& expected = next[static_cast<size_t>(message.head.source)];
      in_order &= message.head.arg[0] == expected++;
      ++handled;
      Head reply = test_head(message.head.arg[0]);
      reply.is_reply = 1;
      reply.request = message.head.request;
      world->send(message.head.source, reply, message.body);
    });
    const int64_t all = kCalls * (process.size - 1);
    for (int64_t seen = 0; seen < all; ++published) {
      world->publish([&] {
        inside = 1;
        for (int i = 0; i < 1000; ++i) asm volatile("" ::: "memory");
        process.check(inside == 1, "a handler ran inside publish()");
        inside = 0;
        seen = handled;
      });
    }
    process.check(in_order, "handlers run in order");
    process.check(published > 0 && handled == all, "all handled");
    process.check(process.wait_for("answered", 1) && process.wait_for("answered", 2), "answers");
    world->on(Tag::test, nullptr);  // what it captured ends here
  } else {
    const uint64_t request = world->open_request();
    for (int64_t i = 0; i < kCalls; ++i) {
      Head head = test_head(i);
      head.request = request;
      world->send(0, head, pattern(process.rank, i, static_cast<size_t>(i % 3) * 100));
      if (i == 10) process.reach("sent");
    }
    for (int64_t i = 0; i < kCalls; ++i) {
      Received received = world->receive({.tag = Tag::test, .source = 0, .request = request}, kLong);
      process.check(received.ok(), "a reply is missing");
      process.check(received.message.head.arg[0] == i, "replies in order");
      process.check(is_pattern(received.message.body, process.rank, i, static_cast<size_t>(i % 3) * 100), "echo");
    }
    process.check(world->traffic().late_replies == 0, "no late reply");
    process.reach("answered");
  }
  world->leave();
  return 0;
}

TEST(UcxWorld, HandlersRunInOrderAndNeverInsidePublish) {
  ProcessGroup group("handlers", 3);
  EXPECT_TRUE(group.wait_all());
}

SINEW_PROCESS_BODY(late_reply) {
  auto world = join(process);
  if (process.rank == 0) {
    const uint64_t request = world->open_request();
    Head head = test_head();
    head.request = request;
    world->send(1, head);
    process.check(world->receive({.tag = Tag::test, .source = 1, .request = request}, kLong).ok(), "first reply");
    process.check(process.wait_for("replied", 1), "second reply is sent");
    world->close_request(request);
    const uint64_t other = world->open_request();
    process.check(other != request, "fresh numbers");
    world->send(1, test_head(1));
    process.check(world->receive({.tag = Tag::test, .source = 1, .arg0 = 3}, kLong).ok(), "end");
    process.check(!world->receive({.tag = Tag::test}, kMillisecond).ok(), "nothing is left");
    // The second reply was in the inbox or came after: dropped either way; the third came late for sure.
    process.check(world->traffic().late_replies >= 1, "late replies are counted");
    process.check(world->traffic().timeouts == 1, "timeouts are counted");
  } else {
    Received request = world->receive({.tag = Tag::test, .source = 0}, kLong);
    process.check(request.ok(), "request");
    Head reply = test_head();
    reply.is_reply = 1;
    reply.request = request.message.head.request;
    world->send(0, reply);
    world->send(0, reply);
    process.reach("replied");
    process.check(world->receive({.tag = Tag::test, .source = 0, .arg0 = 1}, kLong).ok(), "go on");
    world->send(0, reply);
    world->send(0, test_head(3));
  }
  world->leave();
  return 0;
}

TEST(UcxWorld, RepliesToClosedRequestsAreDropped) {
  ProcessGroup group("late_reply", 2);
  EXPECT_TRUE(group.wait_all());
}

// --- deaths ---------------------------------------------------------------------------------------------------

// Ranks 0 and 1 must survive what happens to rank 2, which exchanges large bodies with rank 0 until it is killed.
// It is started again, `lives` times in all; then it finishes.
SINEW_PROCESS_BODY(survive) {
  auto world = join(process);
  const int lives = std::stoi(process.extra.at("lives"));
  const size_t size = 16 << 20;
  if (process.rank == 2) {
    if (process.incarnation + 1 < lives) {
      world->report_step(process.incarnation);
      for (int64_t i = 0;; ++i) {
        world->send(0, test_head(0), pattern(2, 0, size));
        Received received = world->receive({.tag = Tag::test, .source = 0}, kLong);
        process.check(received.ok() && is_pattern(received.message.body, 0, 0, size), "exchange");
        if (i == 1) process.reach("busy" + std::to_string(process.incarnation));
      }
    }
    world->send(0, test_head(1));
    process.check(world->receive({.tag = Tag::test, .source = 0, .arg0 = 1}, kLong).ok(), "last answer");
  } else if (process.rank == 0) {
    const Payload body = pattern(0, 0, size);
    uint32_t newest = 0;
    int losses = 0;
    for (;;) {
      Received received = world->receive({.tag = Tag::test, .source = 2}, kLong);
      process.check(received.what != Received::What::timeout, "neither message nor loss");
      if (received.what == Received::What::peer_lost) {
        process.reach("lost" + std::to_string(losses++));
        process.check(test::eventually([&] { return world->peer(2) == PeerState::alive; }), "it comes back");
        continue;
      }
      process.check(received.message.head.incarnation >= newest, "nothing old after something new");
      newest = received.message.head.incarnation;
      // First this, so that this rank waits again when the other one dies after its answer.
      const bool last = received.message.head.arg[0] == 1;
      process.check(last || is_pattern(received.message.body, 2, 0, size), "contents");
      world->send(2, test_head(received.message.head.arg[0]), body);
      if (last) break;
    }
    process.check(newest + 1 == static_cast<uint32_t>(lives), "the last life was heard");
    process.check(losses + 1 >= lives, "each death was noticed");
    world->send(1, test_head(7));
  } else {
    // An exchange with rank 0's handler-less inbox goes on all the time.
    Received received = world->receive({.tag = Tag::test, .source = 0, .arg0 = 7}, kLong);
    process.check(received.ok(), "rank 0 lives");
  }
  process.check(world->health().ok(), "health");
  world->leave();
  return 0;
}

TEST(UcxWorld, KilledInTheMiddleOfTransfersAndReconnected) {
  constexpr int kLives = 4;
  ProcessGroup group("survive", 3, {{"lives", std::to_string(kLives)}});
  for (int life = 0; life + 1 < kLives; ++life) {
    ASSERT_TRUE(group.reached("busy" + std::to_string(life), 2));
    group.signal(2, SIGKILL);
    ASSERT_EQ(group.wait(2), 128 + SIGKILL);
    // Rank 0 may be looking at a message that came before: it must wait again while rank 2 is dead.
    ASSERT_TRUE(group.reached("lost" + std::to_string(life), 0));
    group.start(2, life + 1);
  }
  EXPECT_TRUE(group.wait_all());
}

SINEW_PROCESS_BODY(lost_for_good) {
  auto world = join(process);
  if (process.rank == 1) {
    process.reach("joined");
    world->receive({.tag = Tag::test}, kLong);
    return 1;  // is killed before
  }
  process.check(world->receive({.tag = Tag::test, .source = 1}, kLong).what == Received::What::peer_lost, "peer_lost");
  process.check(world->peer(1) == PeerState::dead, "dead");
  world->send(1, test_head());  // does nothing
  auto store = make_file_store(process.directory + "/store");
  process.check((*store)->set("gone/1", "lost").ok(), "store");
  process.check(test::eventually([&] { return world->peer(1) == PeerState::gone; }), "gone");
  world->leave();
  return 0;
}

TEST(UcxWorld, DeadBecomesGoneWhenTheSupervisorSaysSo) {
  ProcessGroup group("lost_for_good", 2);
  ASSERT_TRUE(group.reached("joined", 1));
  group.signal(1, SIGKILL);
  EXPECT_EQ(group.wait(0), 0);
}

SINEW_PROCESS_BODY(stopped) {
  UcxOptions options = options_of(process);
  options.silence = std::stoi(process.extra.at("silence")) * kSecond;
  auto world = join(process, options);
  world->send(1 - process.rank, test_head(1));
  process.check(world->receive({.tag = Tag::test, .arg0 = 1}, kLong).ok(), "first message");
  if (process.rank == 0) {
    process.reach("going");
    process.check(world->receive({.tag = Tag::test, .source = 1}, kLong).what == Received::What::peer_lost, "silent");
    process.check(world->peer(1) == PeerState::dead, "dead");
    process.reach("noticed");
    process.check(test::eventually([&] { return world->peer(1) == PeerState::alive; }), "alive again");
    world->send(1, test_head(2));
  }
  if (process.rank == 1) {
    process.check(world->receive({.tag = Tag::test, .arg0 = 2}, kLong).ok(), "it still hears");
    // Its own sleep is no silence of the others; rank 0 may have left by now.
    process.check(world->peer(0) != PeerState::dead, "the other never died");
  }
  world->leave();
  return 0;
}

TEST(UcxWorld, AStoppedPeerIsDeadUntilItContinues) {
  ProcessGroup group("stopped", 2, {{"silence", "2"}});
  ASSERT_TRUE(group.reached("going", 0));
  group.signal(1, SIGSTOP);
  EXPECT_TRUE(group.reached("noticed", 0));
  group.signal(1, SIGCONT);
  EXPECT_TRUE(group.wait_all());
}

TEST(UcxWorld, OneThatIsStoppedAgainAndAgainItselfNoticesAStoppedPeer) {
  ProcessGroup group("stopped", 2, {{"silence", "1"}});
  ASSERT_TRUE(group.reached("going", 0));
  group.signal(1, SIGSTOP);
  EXPECT_TRUE(test::eventually([&] {
    for (int number : {SIGSTOP, SIGCONT}) {
      group.signal(0, number);
      std::this_thread::sleep_for(std::chrono::milliseconds(700));  // more than half a second, less than the deadline
    }
    return std::filesystem::exists(group.directory() + "/at-noticed-0");
  }));
  group.signal(1, SIGCONT);
  EXPECT_TRUE(group.wait_all());
}

SINEW_PROCESS_BODY(too_large) {
  auto world = join(process);
  const Rank other = 1 - process.rank;
  if (process.rank == 0) {
    process.check(process.wait_for("limited", 1), "the other is short of memory");
    world->send(1, test_head(1), pattern(0, 1, 512 << 20));
    process.check(world->receive({.tag = Tag::test, .arg0 = 3}, kLong).ok(), "called again");
    world->send(1, test_head(2), pattern(0, 2, 1000));
    process.check(world->receive({.tag = Tag::test, .arg0 = 4}, kLong).ok(), "answered");
  } else {
    rlimit old{};
    ::getrlimit(RLIMIT_AS, &old);
    int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit small = old;
    small.rlim_cur = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE) + (128 << 20));
    ::setrlimit(RLIMIT_AS, &small);
    process.reach("limited");
    process.check(test::eventually([&] { return world->peer(0) == PeerState::dead; }), "the connection broke");
    ::setrlimit(RLIMIT_AS, &old);
    process.check(test::eventually([&] { return world->peer(0) == PeerState::alive; }), "it was made again");
    world->send(other, test_head(3), pattern(1, 3, 1000));
    Received received = world->receive({.tag = Tag::test, .arg0 = 2}, kLong);
    process.check(received.ok() && is_pattern(received.message.body, 0, 2, 1000), "messages come again");
    world->send(other, test_head(4), pattern(1, 4, 1000));
  }
  world->leave();
  return 0;
}

TEST(UcxWorld, AMessageTooLargeForTheMemoryBreaksTheConnectionOnlyForAMoment) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need the address space";
#endif
  ProcessGroup group("too_large", 2);
  EXPECT_TRUE(group.wait_all());
}

SINEW_PROCESS_BODY(closing) {
  auto world = join(process);
  const Rank other = 1 - process.rank;
  world->send(other, test_head(1), pattern(0, 1, 1 << 20));
  process.check(world->receive({.tag = Tag::test, .source = other}, kLong).ok(), "a message before");
  process.reach("going");
  process.check(process.wait_for("go", 99), "told to go on");
  world->leave();
  return 0;
}

TEST(UcxWorld, LeavesAPeerThatHangs) {
  ProcessGroup group("closing", 2);
  ASSERT_TRUE(group.reached("going", 0) && group.reached("going", 1));
  group.signal(1, SIGSTOP);
  std::ofstream(group.directory() + "/at-go-99") << "";
  EXPECT_EQ(group.wait(0), 0);
  group.signal(1, SIGCONT);
  EXPECT_EQ(group.wait(1), 0);
}

SINEW_PROCESS_BODY(goodbye) {
  auto world = join(process);
  if (process.rank == 1) {
    world->send(0, test_head(5), pattern(1, 5, 8 << 20));
    world->leave();
    return 0;
  }
  // What was sent before the goodbye arrives before it.
  Received received = world->receive({.tag = Tag::test, .source = 1}, kLong);
  process.check(received.ok() && is_pattern(received.message.body, 1, 5, 8 << 20), "last words");
  process.check(world->receive({.tag = Tag::test, .source = 1}, kLong).what == Received::What::peer_lost, "lost");
  process.check(world->peer(1) == PeerState::left, "left, not dead");
  process.check(world->peer(0) == PeerState::alive, "oneself");
  return 0;
}

TEST(UcxWorld, GoodbyeMeansLeft) {
  ProcessGroup group("goodbye", 2);
  EXPECT_TRUE(group.wait_all());
}

// --- parts ----------------------------------------------------------------------------------------------------

TEST(LearnedDeadline, FollowsTheHeartbeatsWithinBounds) {
  LearnedDeadline steady(kSecond, 5 * kSecond);
  EXPECT_EQ(steady.value(), 5 * kSecond);  // nothing learned yet
  for (int i = 0; i < 50; ++i) steady.observe(200 * kMillisecond);
  EXPECT_EQ(steady.value(), kSecond);
  LearnedDeadline jittery(kSecond, 5 * kSecond);
  for (int i = 0; i < 200; ++i) jittery.observe(i % 2 ? 100 * kMillisecond : 700 * kMillisecond);
  // Mean 400 ms, deviation 300 ms: about 2.2 s.
  EXPECT_NEAR(static_cast<double>(jittery.value()) / kSecond, 2.2, 0.3);
  LearnedDeadline wild(kSecond, 5 * kSecond);
  for (int i = 0; i < 200; ++i) wild.observe(i % 2 ? kMillisecond : 10 * kSecond);
  EXPECT_EQ(wild.value(), 5 * kSecond);
}

TEST(Wire, AddressesAreSealedWithTheSecret) {
  const AddressRecord record{3, std::string("\0addr", 5)};
  const std::string text = seal_address("secret", 1, record);
  auto opened = open_address("secret", 1, text);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->incarnation, 3u);
  EXPECT_EQ(opened->address, record.address);
  EXPECT_EQ(open_address("Secret", 1, text).status().code(), StatusCode::permission_denied);
  EXPECT_EQ(open_address("secret", 2, text).status().code(), StatusCode::permission_denied);
  std::string changed = text;
  changed.back() ^= 1;
  EXPECT_EQ(open_address("secret", 1, changed).status().code(), StatusCode::permission_denied);
  EXPECT_EQ(open_address("secret", 1, "short").status().code(), StatusCode::data_error);
}

TEST(Wire, TokensDependOnEverything) {
  const Token token = make_token("secret", 1, 0, 2, 0);
  EXPECT_EQ(token, make_token("secret", 1, 0, 2, 0));
  EXPECT_NE(token, make_token("secre", 1, 0, 2, 0));
  EXPECT_NE(token, make_token("secret", 2, 0, 1, 0));
  EXPECT_NE(token, make_token("secret", 1, 1, 2, 0));
  EXPECT_NE(token, make_token("secret", 1, 0, 2, 1));
}

// --- strangers ------------------------------------------------------------------------------------------------

// Rank 2 of the group is no member: it has the addresses, but not the secret. Then it sends noise to the ports.
SINEW_PROCESS_BODY(stranger) {
  if (process.rank == 2) {
    process.check(process.wait_for("joined", 0) && process.wait_for("joined", 1), "the job runs");
    UcxOptions options = options_of(process);
    options.rank = 1;
    options.size = 2;
    options.secret = "guessed";
    // With the job's store the seal of the address tells at once.
    auto refused = make_ucx_world(options, *make_file_store(process.directory + "/copy"));
    process.check(!refused.ok() && refused.status().code() == StatusCode::permission_denied, "refused by the seal");
    // With the bare addresses: the members do not answer.
    auto real =
        open_address("the job's secret", 0, *(*make_file_store(process.directory + "/copy"))->try_get(address_key(0)));
    process.check(real.ok(), "address");
    auto forged = make_memory_store();
    process.check(forged->set(address_key(0), seal_address(options.secret, 0, *real)).ok(), "forged");
    options.join_timeout = kSecond;
    auto ignored = make_ucx_world(options, forged);
    process.check(!ignored.ok() && ignored.status().code() == StatusCode::timeout, "ignored");
    const int port = std::stoi(test::read_text(process.directory + "/report-0"));
    for (size_t size : {1, 16, 100, 100000}) {
      auto socket = connect_to("127.0.0.1", port, Clock::now() + std::chrono::seconds(60));
      process.check(socket.ok(), "connect");
      std::string noise(size, '\0');
      for (size_t i = 0; i < size; ++i) noise[i] = static_cast<char>(i * 151 + size);
      (void)send_all(*socket, noise.data(), noise.size(), Clock::now() + std::chrono::seconds(1));
    }
    process.reach("tried");
    return 0;
  }
  UcxOptions options = options_of(process);
  options.size = 2;
  auto world = join(process, options);
  auto store = make_file_store(process.directory + "/store");
  auto copy = make_file_store(process.directory + "/copy");
  process.check((*copy)->set(address_key(process.rank), *(*store)->try_get(address_key(process.rank))).ok(), "copy");
  const auto sockets = test::listening_sockets();
  process.check(!sockets.empty(), "it listens somewhere");
  for (const auto& socket : sockets) process.check(socket.loopback, "listens on " + socket.address);
  process.report(std::to_string(sockets[0].port));
  process.reach("joined");
  const Rank other = 1 - process.rank;
  bool over = false;
  for (int64_t i = 0; !over || i < 100; ++i) {
    over = over || std::filesystem::exists(process.directory + "/at-tried-2");
    world->send(other, test_head(i, over && i >= 100), pattern(process.rank, i, 3000));
    Received received = world->receive({.tag = Tag::test, .source = other, .arg0 = i}, kLong);
    process.check(received.ok() && is_pattern(received.message.body, other, i, 3000), "undisturbed");
    over = over || received.message.head.arg[1];
  }
  process.check(world->health().ok(), "health");
  world->leave();
  return 0;
}

TEST(UcxWorld, ListensOnLoopbackAndIgnoresStrangers) {
  ProcessGroup group("stranger", 3);
  EXPECT_TRUE(group.wait_all());
}

// --- joining --------------------------------------------------------------------------------------------------

TEST(UcxWorld, JoiningNamesWhoIsMissing) {
  UcxOptions options;
  options.size = 3;
  options.join_timeout = 200 * kMillisecond;
  auto world = make_ucx_world(options, make_memory_store());
  ASSERT_FALSE(world.ok());
  EXPECT_EQ(world.status().code(), StatusCode::timeout);
  EXPECT_NE(world.status().message().find("1, 2"), std::string::npos) << world.status().message();
  options.rank = 3;
  EXPECT_EQ(make_ucx_world(options, make_memory_store()).status().code(), StatusCode::invalid_argument);
  options = {};
  options.network_device = "nosuchdevice";
  EXPECT_EQ(make_ucx_world(options, make_memory_store()).status().code(), StatusCode::unavailable);
}

TEST(UcxWorld, ANodeAlone) {
  auto world = make_ucx_world({}, make_memory_store());
  ASSERT_TRUE(world.ok()) << world.status().message();
  (*world)->send(0, test_head(4), pattern(0, 4, 100));
  Received received = (*world)->receive({.tag = Tag::test, .source = 0}, kLong);
  ASSERT_TRUE(received.ok());
  EXPECT_TRUE(is_pattern(received.message.body, 0, 4, 100));
  EXPECT_EQ((*world)->receive({.tag = Tag::test}, kMillisecond).what, Received::What::timeout);
}

}  // namespace
}  // namespace sinew::dist

#endif  // SINEW_HAVE_UCX
