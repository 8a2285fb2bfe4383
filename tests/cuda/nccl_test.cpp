// NCCL as the communicator of vectors on the device: in the emulation the stand-in (tests/cuda/stand_in/nccl.cpp), with
// up to four ranks over UCX; on a GPU the real one, with one rank.
#include "dist/nccl.h"

#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "dist/communicator.h"
#include "dist/schemes/lockstep.h"
#include "tests/cuda/support.h"
#include "tests/support/collective_bodies.h"
#include "tests/support/scheme_bodies.h"
#include "tests/support/spawn_processes.h"
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/emulate/stream.h"
#endif

namespace sinew::dist::testing {
namespace {

Result<bool> nobody_is_lost() { return false; }

Vec on_device(const Vec& host) {
  Vec there = Vec::empty(host.size(), host.dtype(), Device::cuda);
  upload(host.view().data, there.mutable_view());
  return there;
}

// One rank: a collective changes nothing, but all of NCCL that we call is called.
Result<Numbers> alone() {
  const Result<NcclGroup::Id> id = NcclGroup::make_id();
  if (!id.ok()) return id.status();
  auto group = NcclGroup::make(*id, 1, 0, Device::cuda, 30 * kSecond, nobody_is_lost);
  if (!group.ok()) return group.status();
  Vec x = on_device(contributions(0, 1001, DType::f32)), y = on_device(contributions(1, 1001, DType::f64));
  SINEW_RETURN_IF_ERROR((*group)->all_reduce(x.mutable_view(), false, nobody_is_lost));
  SINEW_RETURN_IF_ERROR((*group)->all_reduce(y.mutable_view(), true, nobody_is_lost));
  SINEW_RETURN_IF_ERROR((*group)->broadcast(x.mutable_view(), 0, nobody_is_lost));
  SINEW_RETURN_IF_ERROR((*group)->all_gather(x.mutable_view(), nobody_is_lost));
  const Result<NcclGroup::Id> other_id = NcclGroup::make_id();
  if (!other_id.ok()) return other_id.status();
  auto other = NcclGroup::make(*other_id, 1, 0, Device::cuda, 30 * kSecond, nobody_is_lost);
  if (!other.ok()) return other.status();
  SINEW_RETURN_IF_ERROR((*other)->abort());
  Numbers all = to_doubles(x.view());
  for (double d : to_doubles(y.view())) all.push_back(d);
  return all;
}

void expect_unchanged(const Numbers& got) {
  Numbers want = to_doubles(contributions(0, 1001, DType::f32).view());
  for (double d : to_doubles(contributions(1, 1001, DType::f64).view())) want.push_back(d);
  EXPECT_EQ(got, want);
}

#if !defined(SINEW_CUDA_EMULATE)

TEST(NcclLibrary, OneRankOnAGpu) {
  SINEW_NEEDS_CUDA();
  if (const Status status = nccl_available(); !status.ok()) GTEST_SKIP() << status.message();
  const Result<Numbers> got = alone();
  ASSERT_TRUE(got.ok()) << got.status().message();
  expect_unchanged(*got);
}

#else

using Environment = std::vector<std::pair<std::string, std::string> >;

class Nccl : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
  }
};

// Each rank a process that opens the stand-in; `body` begins with the device installed.
std::vector<NodeResult> with_stand_in(int ranks, const NodeBody& body, const Environment& environment = {}) {
  return in_processes()(ranks, [&](World& world) -> Result<Numbers> {
    setenv("SINEW_NCCL", SINEW_STAND_IN_NCCL, 1);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    SINEW_RETURN_IF_ERROR(cuda::install());
    return body(world);
  });
}

Communicator all_by_nccl(World& world, Nanos deadline = 10 * kSecond) {
  return {world, all_ranks(world), deadline, 0, {}, DeviceCollectives::nccl};
}

// A status of its own for each rank: one that ends at once would be a death to the others.
Status told_by_all(World& world, Status status) {
  world.sleep(kSecond);
  return status;
}

// -1: this process has not opened the stand-in.
int ask_stand_in(const char* function) {
  void* library = dlopen(SINEW_STAND_IN_NCCL, RTLD_NOW | RTLD_NOLOAD);
  return library ? reinterpret_cast<int (*)()>(dlsym(library, function))() : -1;
}
// How often this process has aborted a group, and begun a collective. An abort has a thread of its own.
int aborts() { return ask_stand_in("sinew_nccl_stand_in_aborts"); }
int collectives() { return ask_stand_in("sinew_nccl_stand_in_collectives"); }
Status expect_collectives(DeviceCollectives how, int least) {
  if (how != DeviceCollectives::nccl || collectives() >= least) return Status::Ok();
  return make_status(StatusCode::internal, collectives(), " collectives by NCCL");
}

double seconds_of(const std::function<void()>& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST_F(Nccl, OneRank) {
  const NodeResult node = with_stand_in(1, [](World&) { return alone(); })[0];
  ASSERT_TRUE(node.finished) << node.status.message();
  expect_unchanged(node.numbers);
}

// Some sizes are more than one step of the stand-in.
TEST_F(Nccl, AllReduceEqualsTheRingAndTheDefinition) {
  struct Case {
    DType dtype;
    bool average;
    int64_t size;
  };
  std::vector<Case> cases;
  for (DType dtype : {DType::f32, DType::f64})
    for (bool average : {false, true})
      for (int64_t size : {1, 1001, 40000}) cases.push_back({dtype, average, size});
  for (int ranks = 1; ranks <= 4; ++ranks) {
    auto run = [&](DeviceCollectives how) {
      return with_stand_in(ranks, [=](World& world) -> Result<Numbers> {
        Communicator members(world, all_ranks(world), 10 * kSecond, 0, {}, how);
        Numbers all;
        for (const Case& c : cases) {
          Vec x = on_device(contributions(world.rank(), c.size, c.dtype));
          SINEW_RETURN_IF_ERROR(members.all_reduce(x.mutable_view(), c.average));
          for (double d : to_doubles(x.view())) all.push_back(d);
        }
        if (how == DeviceCollectives::nccl && ranks > 1 && aborts() != 0)
          return make_status(StatusCode::internal, aborts(), " aborts");
        if (ranks > 1) SINEW_RETURN_IF_ERROR(expect_collectives(how, static_cast<int>(cases.size())));
        return all;
      });
    };
    const auto nccl = run(DeviceCollectives::nccl), ring = run(DeviceCollectives::staged);
    for (const NodeResult& node : nccl) {
      ASSERT_TRUE(node.finished) << node.status.message();
      ASSERT_TRUE(same_bits(node.numbers, nccl[0].numbers));
    }
    ASSERT_EQ(nccl[0].numbers.size(), ring[0].numbers.size());
    size_t at = 0;
    for (const Case& c : cases)
      for (int64_t i = 0; i < c.size; ++i, ++at) {
        const double tolerance = c.dtype == DType::f32 ? 1e-6 : 1e-14;
        double sum = 0;
        for (Rank r = 0; r < ranks; ++r) sum += contribution(r, i);
        ASSERT_NEAR(nccl[0].numbers[at], c.average ? sum / ranks : sum, tolerance) << c.size << ", element " << i;
        ASSERT_NEAR(nccl[0].numbers[at], ring[0].numbers[at], tolerance) << c.size << ", element " << i;
      }
  }
}

TEST_F(Nccl, BroadcastAndAllGatherEqualTheRing) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    auto run = [&](DeviceCollectives how) {
      return with_stand_in(ranks, [=](World& world) -> Result<Numbers> {
        Communicator members(world, all_ranks(world), 10 * kSecond, 0, {}, how);
        Vec x = on_device(contributions(world.rank(), 20001, DType::f64));
        SINEW_RETURN_IF_ERROR(members.broadcast(x.mutable_view(), ranks - 1));
        const Vec own = on_device(Vec::copy_of(std::vector<int64_t>{world.rank(), -7, int64_t{1} << 40}));
        Vec all = Vec::empty(own.size() * ranks, DType::i64, Device::cuda);
        SINEW_RETURN_IF_ERROR(members.all_gather(own.view(), all.mutable_view()));
        SINEW_RETURN_IF_ERROR(expect_collectives(how, 2));
        Numbers got = to_doubles(x.view());
        for (double d : to_doubles(all.view())) got.push_back(d);
        return got;
      });
    };
    const auto nccl = run(DeviceCollectives::nccl), ring = run(DeviceCollectives::staged);
    for (int r = 0; r < ranks; ++r) {
      ASSERT_TRUE(nccl[r].finished) << nccl[r].status.message();
      EXPECT_EQ(nccl[r].numbers, ring[r].numbers) << "rank " << r;
    }
    EXPECT_EQ(nccl[0].numbers[5], contribution(ranks - 1, 5));
    EXPECT_EQ(nccl[0].numbers[20001 + 3], 1);
  }
}

// Every scheme that has collectives, as far as its order of messages is fixed.
TEST_F(Nccl, SchemesEqualThoseOfTheRing) {
  int schemes = 0;
  for (const Variant& variant : kVariants) {
    Toy toy = toy_of(variant);
    toy.dtype = DType::f64;
    toy.device = Device::cuda;
    toy.scheme.communicator = "nccl";
    if (!validate(toy.scheme).ok()) continue;
    SCOPED_TRACE(variant.label);
    ++schemes;
    const NodeBody body = [&](World& world) -> Result<Numbers> {
      Result<Numbers> numbers = toy_run(world, toy);
      if (toy.scheme.communicator == "nccl" && world.rank() == 0)
        SINEW_RETURN_IF_ERROR(expect_collectives(DeviceCollectives::nccl, 1));
      return numbers;
    };
    const auto nccl = with_stand_in(node_count(toy.scheme), body);
    toy.scheme.communicator = "ring";
    const auto ring = with_stand_in(node_count(toy.scheme), body);
    for (size_t r = 0; r < ring.size(); ++r) {
      ASSERT_TRUE(nccl[r].finished) << nccl[r].status.message();
      ASSERT_EQ(nccl[r].numbers.size(), ring[r].numbers.size());
      for (size_t i = 0; i < ring[r].numbers.size(); ++i)
        ASSERT_NEAR(nccl[r].numbers[i], ring[r].numbers[i], 1e-12 * (1 + std::abs(ring[r].numbers[i])))
            << "rank " << r << ", number " << i;
    }
  }
  EXPECT_GE(schemes, 10);
}

TEST_F(Nccl, SaysInOneLineWhatIsMissing) {
  struct Case {
    Environment environment;
    const char* says;
  };
  for (const Case& c : {Case{{{"SINEW_NCCL", "libno_such_nccl.so"}}, "libno_such_nccl.so"},
                        {{{"SINEW_NCCL", "libm.so.6"}}, "libm.so.6 has no function ncclGetVersion"},
                        {{{"NCCL_COMM_BLOCKING", "1"}}, "NCCL_COMM_BLOCKING = 1"},
                        {{{"SINEW_STAND_IN_NCCL_VERSION", "21304"}}, "is NCCL's version code 21304, but 21400"}}) {
    const NodeResult node = with_stand_in(
        1, [](World&) -> Result<Numbers> { return nccl_available(); }, c.environment)[0];
    EXPECT_EQ(node.status.code(), StatusCode::unavailable);
    EXPECT_NE(node.status.message().find(c.says), std::string::npos) << node.status.message();
    EXPECT_NE(node.status.message().find("--run.communicator ring"), std::string::npos) << node.status.message();
    EXPECT_EQ(node.status.message().find('\n'), std::string::npos);
  }
}

TEST_F(Nccl, RanksThatShareAGpuAreNamed) {
  for (const NodeResult& node : with_stand_in(3, [](World& world) -> Result<Numbers> {
         static KernelTable table = kernels(Device::cuda);
         if (world.rank() > 0) table.identity = [] { return uint64_t{7}; };
         set_kernel_table(Device::cuda, &table);
         Communicator members = all_by_nccl(world);
         Vec x = on_device(contributions(world.rank(), 10, DType::f32));
         return told_by_all(world, members.all_reduce(x.mutable_view()));
       })) {
    EXPECT_EQ(node.status.code(), StatusCode::invalid_argument);
    EXPECT_NE(node.status.message().find("ranks 1 and 2 use the same GPU"), std::string::npos) << node.status.message();
  }
}

// The second collective is one that rank 1 comes to too late: after the others' deadline.
TEST_F(Nccl, ASilentMemberIsATimeoutAndTheStreamIsFree) {
  for (const NodeResult& node : with_stand_in(3, [](World& world) -> Result<Numbers> {
         constexpr Nanos kDeadline = 400 * kMillisecond;
         Communicator members = all_by_nccl(world, kDeadline);
         Vec x = on_device(contributions(world.rank(), 1000, DType::f32));
         // Long for a machine that is busy; the second has the group already.
         SINEW_RETURN_IF_ERROR(members.all_reduce(x.mutable_view()));
         if (world.rank() == 1) world.sleep(2 * kDeadline);
         Status status;
         const double seconds = seconds_of([&] { status = members.all_reduce(x.mutable_view()); });
         if (status.code() != StatusCode::timeout) return make_status(StatusCode::internal, "not a timeout");
         if (seconds > 3 * 0.4) return make_status(StatusCode::internal, "it took ", seconds, " s");
         if (aborts() != 1) return make_status(StatusCode::internal, aborts(), " aborts");
         if (!kernels(Device::cuda).finished()) return Status(StatusCode::internal, "the stream is not free");
         if (members.all_reduce(x.mutable_view()).code() != StatusCode::peer_lost)
           return Status(StatusCode::internal, "an aborted group goes on");
         return to_doubles(x.view());  // undefined, but it can be read
       }))
    EXPECT_TRUE(node.finished) << node.status.message();
}

TEST_F(Nccl, AMemberThatDoesNotComeToTheGroupIsATimeout) {
  const auto nodes = with_stand_in(2, [](World&) -> Result<Numbers> {
    const auto id = NcclGroup::make_id();  // each its own: nobody else will come
    const auto group = NcclGroup::make(*id, 2, 0, Device::cuda, 300 * kMillisecond, nobody_is_lost);
    for (int i = 0; i < 1000 && aborts() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return Numbers{static_cast<double>(group.status().code()), static_cast<double>(aborts())};
  });
  for (const NodeResult& node : nodes)
    EXPECT_EQ(node.numbers, (Numbers{static_cast<double>(StatusCode::timeout), 1})) << node.status.message();
}

// Who died may be known later than the connection's end: a process waits for that before an error of its own ends it.
// Another member's error does not: the group may be made again.
TEST_F(Nccl, OnlyAnErrorOfItsOwnEndsAProcess) {
  for (const bool own : {true, false})
    for (const NodeResult& node :
         with_stand_in(2,
                       [](World& world) -> Result<Numbers> {
                         Communicator members = all_by_nccl(world, 500 * kMillisecond);
                         Vec x = on_device(contributions(world.rank(), 1000, DType::f32));
                         return told_by_all(world, members.all_reduce(x.mutable_view()));
                       },
                       {{"SINEW_STAND_IN_NCCL_FAIL", "1"}, {"SINEW_STAND_IN_NCCL_FAIL_AS", own ? "2" : "6"}})) {
      EXPECT_EQ(node.status.code(), own ? StatusCode::unavailable : StatusCode::timeout);
      EXPECT_NE(node.status.message().find(own ? "ncclAllReduce: an error of the stand-in" : "not done within"),
                std::string::npos)
          << node.status.message();
    }
}

TEST_F(Nccl, AnAbortThatDoesNotReturnEndsTheProcess) {
  for (const NodeResult& node :
       with_stand_in(2,
                     [](World& world) -> Result<Numbers> {
                       Communicator members = all_by_nccl(world, 300 * kMillisecond);
                       Vec x = on_device(contributions(world.rank(), 1000, DType::f32));
                       return told_by_all(world, members.all_reduce(x.mutable_view()));
                     },
                     {{"SINEW_STAND_IN_NCCL_STALL", "1"}, {"SINEW_STAND_IN_NCCL_DEAF", "1"}})) {
    EXPECT_EQ(node.status.code(), StatusCode::unavailable);
    EXPECT_NE(node.status.message().find("cannot go on"), std::string::npos) << node.status.message();
  }
}

SchemeOptions lockstep_options(int workers, Nanos deadline) {
  SchemeOptions options;
  options.workers = workers;
  options.deadline = deadline;
  options.communicator = "nccl";
  return options;
}

// Rounds of 2^rank: each sum names its members.
Result<Numbers> rounds(World& world, int workers, int64_t count, int64_t size, Nanos deadline,
                       const std::function<void(int64_t)>& before) {
  Lockstep group(world, lockstep_options(workers, deadline));
  SINEW_RETURN_IF_ERROR(group.start(1));
  Numbers sums;
  for (int64_t k = 0; k < count; ++k) {
    before(k);
    Vec x = Vec::empty(size, DType::f32, Device::cuda);
    fill(x.mutable_view(), 1 << world.rank());
    SINEW_RETURN_IF_ERROR(group.all_reduce(x.mutable_view(), false));
    const Numbers got = to_doubles(x.view());
    for (double d : got)
      if (d != got[0]) return make_status(StatusCode::internal, "round ", k, " has ", d, " beside ", got[0]);
    sums.push_back(got[0]);
  }
  SINEW_RETURN_IF_ERROR(group.finish());
  return sums;
}

// They do not wait for their deadline to see that.
TEST_F(Nccl, TheOthersGoOnWithoutOneThatDiesBetweenRounds) {
  std::vector<NodeResult> nodes;
  const double seconds = seconds_of([&] {
    nodes = with_stand_in(3, [](World& world) {
      return rounds(world, 3, 6, 1000, 30 * kSecond, [&](int64_t k) {
        if (k == 3 && world.rank() == 2) raise(SIGKILL);
      });
    });
  });
  EXPECT_LT(seconds, 15);
  for (int r : {0, 1}) {
    ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
    EXPECT_EQ(nodes[r].numbers, (Numbers{7, 7, 7, 3, 3, 3})) << "rank " << r;
  }
}

// In the midst of a collective of hundreds of steps.
TEST_F(Nccl, TheOthersGoOnWithoutOneThatDiesInARound) {
  const auto nodes = with_stand_in(3, [](World& world) {
    return rounds(world, 3, 3, 4'000'000, 20 * kSecond, [&](int64_t k) {
      if (k != 1 || world.rank() != 0) return;
      std::thread([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(15));
        raise(SIGKILL);
      }).detach();
    });
  });
  for (int r : {1, 2}) {
    ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
    // On a machine that is fast enough the round was complete before.
    EXPECT_TRUE(nodes[r].numbers == (Numbers{7, 6, 6}) || nodes[r].numbers == (Numbers{7, 7, 6})) << "rank " << r;
    EXPECT_EQ(nodes[r].numbers, nodes[1].numbers);
  }
}

// Every group's second collective hangs: at the deadline all make another group and do that round again.
TEST_F(Nccl, ARoundThatHangsIsDoneAgain) {
  for (const NodeResult& node :
       with_stand_in(3, [](World& world) { return rounds(world, 3, 3, 1000, 500 * kMillisecond, [](int64_t) {}); },
                     {{"SINEW_STAND_IN_NCCL_STALL", "2"}})) {
    ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_EQ(node.numbers, (Numbers{7, 7, 7}));
  }
}

// A member whose NCCL fails ends; the others make another group.
TEST_F(Nccl, TheOthersGoOnWithoutOneWhoseNcclFails) {
  const auto nodes = with_stand_in(3, [](World& world) {
    if (world.rank() == 2) setenv("SINEW_STAND_IN_NCCL_FAIL", "2", 1), setenv("SINEW_STAND_IN_NCCL_FAIL_AS", "2", 1);
    return rounds(world, 3, 3, 1000, kSecond, [](int64_t) {});
  });
  EXPECT_EQ(nodes[2].status.code(), StatusCode::unavailable) << nodes[2].status.message();
  for (int r : {0, 1}) {
    ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
    EXPECT_EQ(nodes[r].numbers, (Numbers{7, 3, 3})) << "rank " << r;
  }
}

// ncclCommAbort does not return while it is stopped; the others do not need that.
TEST_F(Nccl, TheOthersGoOnWithoutOneThatIsStopped) {
  const auto nodes = with_stand_in(3, [](World& world) {
    return rounds(world, 3, 3, 1000, kSecond, [&](int64_t k) {
      if (k != 1 || world.rank() != 2) return;
      const pid_t self = ::getpid();
      if (::fork() == 0) {
        ::sleep(8);
        ::kill(self, SIGCONT);
        ::_exit(0);
      }
      ::raise(SIGSTOP);
    });
  });
  for (int r : {0, 1}) {
    ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
    EXPECT_EQ(nodes[r].numbers, (Numbers{7, 3, 3})) << "rank " << r;
  }
}

// NCCL's own connections never work, the job's do.
TEST_F(Nccl, GroupsThatNeverWorkEndTheRun) {
  for (const NodeResult& node :
       with_stand_in(2, [](World& world) { return rounds(world, 2, 3, 1000, 300 * kMillisecond, [](int64_t) {}); },
                     {{"SINEW_STAND_IN_NCCL_STALL", "1"}})) {
    EXPECT_EQ(node.status.code(), StatusCode::unavailable);
    EXPECT_NE(node.status.message().find("times in a row, and nobody is lost"), std::string::npos)
        << node.status.message();
  }
}

TEST(NcclEmulation, OurWorkWaitsForWhatLibrariesPutOnTheStream) {
  SINEW_NEEDS_CUDA();
  const KernelTable& table = kernels(Device::cuda);
  auto& stream = *static_cast<cuda::emulate::Stream*>(table.stream());
  Vec x = on_device(contributions(0, 4, DType::f64));
  const Vec other = on_device(contributions(1, 4, DType::f64));
  double* const memory = static_cast<double*>(x.mutable_view().data);  // the emulated device's
  ++stream.foreign;
  EXPECT_FALSE(table.finished());
  std::thread library([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    memory[0] = 5;
    --stream.foreign;
  });
  EXPECT_EQ(to_doubles(x.view())[0], 5);
  library.join();
  EXPECT_TRUE(table.finished());
  ++stream.foreign;
  std::thread second([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    memory[0] = 6;
    --stream.foreign;
  });
  axpby(2, x.view(), 0, other.view(), x.mutable_view());
  second.join();
  EXPECT_EQ(to_doubles(x.view())[0], 12);
}

#endif

}  // namespace
}  // namespace sinew::dist::testing
