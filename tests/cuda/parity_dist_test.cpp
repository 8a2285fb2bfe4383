// Rules, collectives and schemes with the workers' vectors on the device, in the simulated world.
#include "dist/communicator.h"
#include "dist/rules.h"
#include "tests/cuda/parity.h"
#include "tests/support/collective_bodies.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::testing {
namespace {

using namespace dist::testing;
using dist::World;

Vec on_device(const Vec& host) {
  Vec there = Vec::empty(host.size(), host.dtype(), Device::cuda);
  upload(host.view().data, there.mutable_view());
  return there;
}

// The device copies a large message's body by itself; a small one's is the host's, which begun copies refuse in the
// emulation.
TEST(CudaMessages, LargeBodiesArePageLocked) {
  SINEW_NEEDS_CUDA();
  constexpr int64_t kSize = 100'003;
  const KernelTable& table = kernels(Device::cuda);
  const Vec host = contributions(0, kSize, DType::f32), there = on_device(host);
  const dist::Payload body = dist::Payload::copy_of(there.view());
  EXPECT_EQ(to_doubles(body.view(DType::f32)), to_doubles(host.view()));
  Vec again = Vec::zeros(kSize, DType::f32, Device::cuda);
  table.wait(table.upload_begin(again.mutable_view().data, body.data(), body.size()));
  EXPECT_EQ(to_doubles(again.view()), to_doubles(host.view()));
#if defined(SINEW_CUDA_EMULATE)
  const dist::Payload small = dist::Payload::allocate(1000);
  EXPECT_THROW(table.upload_begin(again.mutable_view().data, small.data(), small.size()), Error);
#endif
}

CUDA_PARITY(CudaRules, ElasticAndAccumulate) {
  for (DType dtype : {DType::f32, DType::f64})
    for (int64_t n : {0, 1, 5, 1003}) {
      Vec x = contributions(0, n, dtype), c = contributions(1, n, dtype), d = Vec::zeros(n, dtype);
      Vec xd = on_device(x), cd = on_device(c), dd = Vec::zeros(n, dtype, Device::cuda);
      auto all = [](const Vec& a, const Vec& b, const Vec& e, double distance2) {
        return Results{to_doubles(a.view()), to_doubles(b.view()), to_doubles(e.view()), {distance2}};
      };
      double host = dist::elastic_difference(0.3, x.view(), c.view(), d.mutable_view());
      double there = dist::elastic_difference(0.3, xd.view(), cd.view(), dd.mutable_view());
      EXPECT_TRUE(close(all(xd, cd, dd, there), all(x, c, d, host), tolerance_of(dtype)));
      host = dist::elastic_move(0.25, x.mutable_view(), c.mutable_view());
      there = dist::elastic_move(0.25, xd.mutable_view(), cd.mutable_view());
      dist::accumulate(-0.5, d.view(), x.mutable_view());
      dist::accumulate(-0.5, dd.view(), xd.mutable_view());
      EXPECT_TRUE(close(all(xd, cd, dd, there), all(x, c, d, host), tolerance_of(dtype)));
    }
}

// The collectives themselves are the host's: device vectors are staged, so the bits are the same. The larger ones go in
// several copies.
void check_staged(const char* what, int64_t n) {
  auto body = [&](Device device) {
    return [&, device](World& world) -> Result<Numbers> {
      dist::Communicator members(world, all_ranks(world), 10 * dist::kSecond);
      Vec in = contributions(world.rank(), n, DType::f32), out = Vec::zeros(n * world.size(), DType::f32, device);
      if (device != Device::cpu) in = on_device(in);
      const std::string name = what;
      if (name == "all_reduce") SINEW_RETURN_IF_ERROR(members.all_reduce(in.mutable_view(), true));
      if (name == "broadcast") SINEW_RETURN_IF_ERROR(members.broadcast(in.mutable_view(), 1));
      if (name == "all_gather") {
        SINEW_RETURN_IF_ERROR(members.all_gather(in.view(), out.mutable_view()));
        return to_doubles(out.view());
      }
      return to_doubles(in.view());
    };
  };
  auto want = in_simulation()(3, body(Device::cpu)), got = in_simulation()(3, body(Device::cuda));
  for (size_t r = 0; r < want.size(); ++r) {
    ASSERT_TRUE(got[r].finished) << what << ": " << got[r].status.message();
    EXPECT_EQ(got[r].numbers, want[r].numbers) << what << ", rank " << r;
  }
}

CUDA_PARITY(CudaCollectives, StageDeviceVectors) {
  for (const char* what : {"all_reduce", "broadcast", "all_gather"})
    for (int64_t n : {1001, 400'003}) check_staged(what, n);
}

class CudaSchemes : public ::testing::TestWithParam<Variant> {};

void check_scheme(const Variant& variant) {
  for (DType dtype : {DType::f32, DType::f64}) {
    Toy toy = toy_of(variant);
    toy.dtype = dtype;
    auto run = [&](Device device) {
      toy.device = device;
      return simulate(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); });
    };
    const SimulatedRun want = run(Device::cpu), got = run(Device::cuda);
    EXPECT_EQ(got.report.virtual_time, want.report.virtual_time);
    for (size_t r = 0; r < want.nodes.size(); ++r) {
      ASSERT_TRUE(got.nodes[r].finished) << got.nodes[r].status.message();
      EXPECT_TRUE(close(got.nodes[r].numbers, want.nodes[r].numbers, tolerance_of(dtype))) << "rank " << r;
    }
  }
}

TEST_P(CudaSchemes, WorkersOnTheDevice) {
  SINEW_NEEDS_CUDA();
  check_scheme(GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, CudaSchemes, ::testing::ValuesIn(kVariants), label_of);

}  // namespace
}  // namespace sinew::testing
