// The world of real processes. Every case runs in processes of their own.
#include "dist/ucx/ucx_world.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include "tests/support/processes.h"

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
  auto world = join(process);
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
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(group.report(rank), std::to_string(3 * kSizes.size()));
}

}  // namespace
}  // namespace sinew::dist
