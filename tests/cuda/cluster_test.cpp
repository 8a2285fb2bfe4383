// Clusters of two blocks in the emulation: an exchange through each other's shared memory is right in every order, and
// each planted defect is found. Compiled like the kernels, so that accesses are checked.
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/device/device.cuh"
//
#include <string>

#include "cuda/emulate/accesses.h"
#include "cuda/launch.h"
#include "tests/cuda/defects.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: kernels are written as in cuda/*.cu

enum class Defect : uint8_t {
  none,
  no_sync_before,
  no_sync_after,
  out_of_bounds,
  no_such_block,
  block_ends_before,
};
constexpr int kExchanging = 64;

// Thread t of the first 64 of a block adds the groups of x of its neighbour in the block, which it reads first, and of
// thread t ^ 32 of the other block. The last warp ends at once.
__global__ void SINEW_CLUSTER(2) exchange(Defect defect, const float* x, float* y) {
  SINEW_DYNAMIC_SHARED(Pack<float>, mailbox);
  const int t = int(threadIdx.x), rank = int(blockIdx.x) % 2;
  if (t >= kExchanging || (defect == Defect::block_ends_before && rank == 0)) return;
  const Pack<float> own = as_vector<const Pack<float>>(x)[int(blockIdx.x) * kExchanging + t];
  mailbox[t] = own;
  warp_sync();
  const Pack<float> neighbour = mailbox[t ^ 1];
  if (defect != Defect::no_sync_before) cluster_sync();
  const int to = defect == Defect::out_of_bounds ? t + 4096 : t;
  cluster_store(mailbox + to, defect == Defect::no_such_block ? 2 : 1 - rank, own);
  if (defect != Defect::no_sync_after) cluster_sync();
  const Pack<float> other = mailbox[t ^ 32];
  Pack<float> sum;
  for (int i = 0; i < 4; ++i) sum.v[i] = neighbour.v[i] + other.v[i];
  as_vector<Pack<float>>(y)[int(blockIdx.x) * kExchanging + t] = sum;
}

__global__ void meets(int*) { cluster_sync(); }

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
};

TEST_F(CudaClusters, ExchangeInEveryOrder) {
  in_all_orders([] {
    const Exchange all;
    EXPECT_EQ(all.error(Defect::none), "");
    EXPECT_EQ(all.y.read(), all.sums());
  });
}

TEST_F(CudaClusters, MissingBarriersAreRaces) {
  if (!emulate::kChecksAccesses) GTEST_SKIP() << "kernels are not compiled for it";
  EXPECT_CONTAINS(error_of(Defect::no_sync_before), "with no barrier between: a race");
  EXPECT_CONTAINS(error_of(Defect::no_sync_after), "with no barrier between: a race");
}

TEST_F(CudaClusters, WrongStoresAreRefused) {
  EXPECT_CONTAINS(error_of(Defect::out_of_bounds), "writes shared memory out of bounds");
  EXPECT_CONTAINS(error_of(Defect::no_such_block), "to block 2 of a cluster of 2");
  EXPECT_CONTAINS(error_of(Defect::block_ends_before), "to a block that has ended");
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
