// A job of which some processes are never started, under a launcher that does not notice.
#include <algorithm>

#include "tests/models/program_fixture.h"

namespace sinew::train::testing {
namespace {

// No "Program": most of its time is idle, and others may run beside it.
class MissingRanks : public ProgramWithUcx {};

// One rank of four, at the end of the rendezvous: the one that hosts it, and one that finds no host.
TEST_F(MissingRanks, AreNamedInOneLine) {
  const auto alone = [&](int rank) {
    return start(run_of("easgd", "run-" + std::to_string(rank)),
                 {"RANK=" + std::to_string(rank), "WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + free_port(),
                  "SINEW_SECRET=job"});
  };
  auto host = alone(0), guest = alone(2);
  for (const auto& [rank, says] : {std::pair{&host, "for rank 1, 2, 3 to join"}, {&guest, "nobody answers on "}}) {
    EXPECT_EQ((*rank)->wait(), 4) << (*rank)->output();
    const std::string text = (*rank)->output();
    const size_t line = text.rfind('\n', text.size() - 2) + 1;  // the last one
    EXPECT_EQ(text.find("sinew: "), line) << text;
    EXPECT_NE(text.find(says, line), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace sinew::train::testing
