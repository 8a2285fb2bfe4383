// Ring all-reduce (sum of floats) over the real world, 2 and 4 processes: median time of one call on rank 0, calls
// back to back. scripts/bench_all_reduce.sh holds it against gloo and Open MPI.
//
//   bench_dist_all_reduce [--processes 2,4] [--floats 1,1000,1000000,25000000]
//
// Verified first, at every size: integer values, so that the sum is exact.
#include <chrono>

#include "bench/support/job.h"
#include "dist/communicator.h"

namespace sinew {
namespace {

// The same rule is in scripts/bench/torch_all_reduce.py and bench/peers/mpi_all_reduce.c.
int64_t calls_of(int64_t floats) { return std::clamp<int64_t>(20'000'000 / floats, 3, 300); }

Status measure(dist::World& world, const std::vector<int64_t>& sizes) {
  std::vector<dist::Rank> members;
  for (int r = 0; r < world.size(); ++r) members.push_back(r);
  dist::Communicator communicator(world, members, 30 * dist::kSecond);
  for (const int64_t floats : sizes) {
    std::vector<float> x(static_cast<size_t>(floats));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000) + static_cast<float>(world.rank());
    SINEW_RETURN_IF_ERROR(communicator.all_reduce(VecView(x)));
    const int p = world.size();
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] != static_cast<float>(p) * static_cast<float>(i % 1000) + static_cast<float>(p * (p - 1) / 2))
        return make_status(StatusCode::internal, "all_reduce is wrong at element ", i, " of ", floats);
    std::fill(x.begin(), x.end(), 0.0f);  // sums stay finite
    std::vector<double> seconds;
    for (int64_t call = 0; call < calls_of(floats); ++call) {
      const auto begin = std::chrono::steady_clock::now();
      SINEW_RETURN_IF_ERROR(communicator.all_reduce(VecView(x)));
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    if (world.rank() == 0)
      bench::report("sinew", std::to_string(p) + "p_" + std::to_string(floats), bench::median(seconds));
  }
  return Status::Ok();
}

}  // namespace
}  // namespace sinew

int main(int argc, char** argv) {
  std::vector<int64_t> processes{2, 4}, floats{1, 1000, 1'000'000, 25'000'000};
  if (!sinew::bench::read_lists(argc, argv, {{"--processes", &processes}, {"--floats", &floats}})) return 2;
  return sinew::bench::run_job(argc, argv, processes,
                               [&](sinew::dist::World& world) { return sinew::measure(world, floats); });
}
