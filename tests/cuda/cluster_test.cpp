// Clusters of two blocks in the emulation: an exchange through each other's shared memory is right in every order, and
// each planted defect is found. Compiled like the kernels, so that accesses are checked.
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/device/device.cuh"
//
#include <string>

#include "cuda/emulate/accesses.h"
#include "cuda/emulate/shared_arena.h"
#include "cuda/launch.h"
#include "tests/cuda/defects.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: kernels are written as in cuda/*.cu

enum class Defect : uint8_t {
  none,
  no_sync_before,
  no_sync_after,
  no_warp_sync,
  out_of_bounds,
  misaligned,
  no_such_block,
  plain_access,
};
constexpr int kExchanging = 64;

// Thread t of the first 64 of a block adds the groups of x of its neighbour in the block, which it reads first, and of
// thread t ^ 32 of the other block. The last warp ends at once.
__global__ void SINEW_CLUSTER(2) exchange(Defect defect, const float* x, float* y) {
  SINEW_DYNAMIC_SHARED(Pack<float>, mailbox);
  const int t = int(threadIdx.x), rank = int(blockIdx.x) % 2;
  if (t >= kExchanging) return;
  cluster_sync();  // both have begun
  const Pack<float> own = as_vector<const Pack<float>>(x)[int(blockIdx.x) * kExchanging + t];
  mailbox[t] = own;
  if (defect != Defect::no_warp_sync) warp_sync();
  const Pack<float> neighbour = mailbox[t ^ 1];
  if (defect != Defect::no_sync_before) cluster_sync();
  Pack<float>* to = mailbox + t;
  if (defect == Defect::out_of_bounds) to += 4096;
  if (defect == Defect::misaligned) to = reinterpret_cast<Pack<float>*>(reinterpret_cast<float*>(to) + 1);
  cluster_store(to, defect == Defect::no_such_block ? 2 : 1 - rank, own);
  if (defect != Defect::no_sync_after) cluster_sync();
  const int apart = defect == Defect::plain_access ? int(emulate::kArenaBytes / sizeof(Pack<float>)) : 0;
  const Pack<float> other = mailbox[(t ^ 32) + (rank == 0 ? apart : -apart)];
  Pack<float> sum;
  for (int i = 0; i < 4; ++i) sum.v[i] = neighbour.v[i] + other.v[i];
  as_vector<Pack<float>>(y)[int(blockIdx.x) * kExchanging + t] = sum;
}

__global__ void meets(int*) { cluster_sync(); }

enum class Ends : uint8_t { last, first, before_stores, never };
// Warp 0 of each block meets the other's; warp 1 ends after it has come, before, or not at all; or the second block
// ends before the first stores.
__global__ void SINEW_CLUSTER(2) meets_those_that_live(Ends ends, int* met) {
  SINEW_SHARED(Mbarrier, come, [1]);
  SINEW_SHARED(Pack<float>, mailbox, [32]);
  const int t = int(threadIdx.x), rank = int(blockIdx.x) % 2;
  if (t == 0) {
    mbarrier_init(come, 32);
    mbarrier_init_fence();
  }
  block_sync();
  if (t >= 32) {
    if (ends == Ends::last) mbarrier_wait(come, 0);
    if (ends == Ends::never) mbarrier_wait(come, 0), mbarrier_wait(come, 1);
    return;
  }
  mbarrier_arrive(come);
  cluster_sync();
  if (ends == Ends::before_stores && rank == 0) cluster_store(mailbox + t, 1, Pack<float>{});
  if (t == 0) met[rank] = 1;
}

enum class Unordered : uint8_t { before_all, by_a_block, after_all };
// Stores to memory that nobody has used before.
__global__ void SINEW_CLUSTER(2) unordered(Unordered what, float* y) {
  SINEW_SHARED(Pack<float>, mailbox, [32]);
  const int t = int(threadIdx.x), rank = int(blockIdx.x) % 2;
  if (what != Unordered::before_all) cluster_sync();
  const bool last = rank == 1 && t == 31;  // to come to the barrier, and so the first behind it
  if (what != Unordered::after_all || last) cluster_store(mailbox + t, 1 - rank, Pack<float>{{1, 2, 3, 4}});
  if (what == Unordered::by_a_block) block_sync();
  if (what == Unordered::before_all) cluster_sync();
  if (what == Unordered::by_a_block) y[int(blockIdx.x) * 32 + t] = mailbox[t].v[0];
  if (what == Unordered::by_a_block) cluster_sync();
}

struct Exchange {
  static constexpr int kBlocks = 6;
  std::vector<float> values = random_values<float>(kBlocks * kExchanging * 4, -1, 1, 1);
  DeviceArray<float> x{values}, y{values.size()};

  std::string error(Defect defect, unsigned blocks = kBlocks, unsigned threads = kExchanging + 32) const {
    const Kernel<Defect, const float*, float*> kernel{"test kernel", &exchange, 2};
    return error_from([&] {
      launch(kernel, {blocks}, {threads}, 4096, nullptr, defect, static_cast<const float*>(x.data()), y.data());
    });
  }
  std::vector<float> sums() const {
    std::vector<float> want;
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t t = i / 4 % kExchanging, block = i / 4 / kExchanging;
      const auto at = [&](size_t b, size_t thread) { return values[(b * kExchanging + thread) * 4 + i % 4]; };
      want.push_back(at(block, t ^ 1) + at(block ^ 1, t ^ 32));
    }
    return want;
  }
};

class CudaClusters : public EmulationTest {
 protected:
  static std::string error_of(Defect defect) {
    emulate::options().accesses = true;
    return Exchange().error(defect);
  }
  static std::string error_of_ends(Ends ends) {
    const DeviceArray<int> met{2};
    const Kernel<Ends, int*> kernel{"test kernel", &meets_those_that_live, 2};
    const std::string error = error_from([&] { launch(kernel, {2}, {64}, 0, nullptr, ends, met.data()); });
    if (error.empty()) {
      EXPECT_EQ(met.read(), (std::vector<int>{1, 1}));
    }
    return error;
  }
  static std::string error_of_unordered(Unordered what) {
    const DeviceArray<float> y{64};
    const Kernel<Unordered, float*> kernel{"test kernel", &unordered, 2};
    return error_from([&] { launch(kernel, {2}, {32}, 0, nullptr, what, y.data()); });
  }
};

TEST_F(CudaClusters, ExchangeInEveryOrder) {
  in_all_orders([] {
    const Exchange all;
    EXPECT_EQ(all.error(Defect::none), "");
    EXPECT_EQ(all.y.read(), all.sums());
  });
}

TEST_F(CudaClusters, MissingBarriersAreRaces) {
  if (!emulate::kChecksAccesses) GTEST_SKIP() << "accesses are not checked beside a sanitizer; the preset emulate does";
  EXPECT_CONTAINS(error_of(Defect::no_sync_before), "with no barrier between: a race");
  EXPECT_CONTAINS(error_of(Defect::no_sync_after), "with no barrier between: a race");
  EXPECT_CONTAINS(error_of(Defect::no_warp_sync), "with no barrier between: a race");
  EXPECT_CONTAINS(error_of(Defect::plain_access), "reads the shared memory of another block");
  emulate::options().accesses = true;
  EXPECT_CONTAINS(error_of_unordered(Unordered::by_a_block), "of the cluster's block");
}

TEST_F(CudaClusters, StoresLieBetweenTwoBarriers) {
  EXPECT_CONTAINS(error_of_unordered(Unordered::before_all), "before the first cluster_sync");
  EXPECT_CONTAINS(error_of_unordered(Unordered::after_all), "a cluster_store that no cluster_sync follows");
  emulate::options().order = emulate::Order::reverse;  // most of the second block comes before the first
  EXPECT_CONTAINS(error_of_ends(Ends::before_stores), "to a block that has ended");
}

TEST_F(CudaClusters, ThreadsThatHaveEndedAreNotWaitedFor) {
  for (const Ends ends : {Ends::first, Ends::last}) in_all_orders([&] { EXPECT_EQ(error_of_ends(ends), ""); });
  const std::string error = error_of_ends(Ends::never);
  EXPECT_CONTAINS(error, "deadlock");
  EXPECT_CONTAINS(error, "of block (1,0,0)");
}

TEST_F(CudaClusters, WrongStoresAreRefused) {
  EXPECT_CONTAINS(error_of(Defect::out_of_bounds), "writes shared memory out of bounds");
  EXPECT_CONTAINS(error_of(Defect::misaligned), "not aligned to 16 bytes");
  EXPECT_CONTAINS(error_of(Defect::no_such_block), "to block 2 of a cluster of 2");
}

TEST_F(CudaClusters, WrongLaunchesAreRefused) {
  EXPECT_CONTAINS(Exchange().error(Defect::none, 5), "clusters of 2 blocks in a grid of (5,1,1)");
  EXPECT_CONTAINS(Exchange().error(Defect::none, 6, 65), "blocks of a cluster with 65 threads");
  const std::string error = error_from([] { run(&meets, {2}, {32}, 0, static_cast<int*>(nullptr)); });
  EXPECT_CONTAINS(error, "cluster_sync");
  EXPECT_CONTAINS(error, "in a kernel without clusters");
}

}  // namespace
}  // namespace sinew::testing
#endif
