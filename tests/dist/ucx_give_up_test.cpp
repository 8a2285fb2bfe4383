// A node that waits for all others must not wait for ever for one that hangs: without a supervisor nobody ends it.
#ifdef SINEW_HAVE_UCX

#include <gtest/gtest.h>

#include "dist/ucx/ucx_world.h"
#include "tests/support/processes.h"

namespace sinew::dist {
namespace {

// Rank 0 is the center; rank 1 hangs before it has said anything.
SINEW_PROCESS_BODY(hangs_at_once) {
  auto store = make_file_store(process.directory + "/store");
  process.check(store.ok(), "store");
  auto world = make_ucx_world({.rank = process.rank,
                               .size = process.size,
                               .secret = "secret",
                               .join_timeout = 60 * kSecond,
                               .give_up = process.rank == 0 ? 2 * kSecond : 0,
                               .waits_for_all = process.rank == 0},
                              *store);
  process.check(world.ok(), world.status().message());
  process.reach("joined");
  if (process.rank != 0) {
    process.check(process.wait_for("noticed", 0), "noticed");
    return 0;
  }
  process.check(test::eventually([&] { return (*world)->peer(1) == PeerState::gone; }), "given up");
  process.check(test::eventually([&] { return (*world)->peer(2) == PeerState::alive; }), "the other one lives");
  process.reach("noticed");
  (*world)->leave();
  return 0;
}

TEST(UcxWorld, ASilentPeerIsGivenUp) {
  test::ProcessGroup group("hangs_at_once", 3);
  for (int rank : {0, 1, 2}) ASSERT_TRUE(group.reached("joined", rank));
  group.signal(1, SIGSTOP);
  EXPECT_EQ(group.wait(0), 0);
  EXPECT_EQ(group.wait(2), 0);
}

}  // namespace
}  // namespace sinew::dist

#endif  // SINEW_HAVE_UCX
