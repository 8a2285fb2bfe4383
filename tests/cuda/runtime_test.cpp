#include "cuda/runtime.h"

#include <cstring>
#include <string>
#include <vector>

#include "cuda/launch_log.h"
#include "cuda/pinned_cache.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: the runtime's own tests

TEST(CudaRuntime, PropertiesOfTheDevice) {
  SINEW_NEEDS_CUDA();
  const DeviceProperties p = device_properties(0);
  EXPECT_FALSE(p.name.empty());
  EXPECT_GE(p.compute_major, 1);
  EXPECT_GT(p.multiprocessors, 0);
  EXPECT_GT(p.memory_bytes, 0u);
  EXPECT_THROW(device_properties(1000), Error);
}

TEST(CudaRuntime, MemoryAndCopiesOnAStream) {
  SINEW_NEEDS_CUDA();
  const Stream stream = stream_create();
  constexpr size_t kBytes = 1000;
  char* a = static_cast<char*>(memory_allocate(kBytes, stream));
  char* b = static_cast<char*>(memory_allocate(kBytes, stream));
  std::vector<char> host(kBytes, 3), back(kBytes);
  copy_to_device(a, host.data(), kBytes, stream);
  memory_set(a + 10, 0x55, 20, stream);
  copy_on_device(b, a, kBytes, stream);
  copy_to_host(back.data(), b, kBytes, stream);
  for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(back[i], i >= 10 && i < 30 ? 0x55 : 3) << "byte " << i;
  memory_free(a, stream);
  memory_free(b, stream);
  stream_synchronize(stream);
  stream_destroy(stream);
}

// Begun copies keep the stream's order, and their memory is theirs until they are waited for.
TEST(CudaRuntime, BegunCopies) {
  SINEW_NEEDS_CUDA();
  constexpr size_t kBytes = 1000;
  const Stream stream = stream_create();
  void* const device = memory_allocate(kBytes, stream);
  auto* const there = static_cast<char*>(pinned_allocate(kBytes));
  auto* const back = static_cast<char*>(pinned_allocate(2 * kBytes));
  for (size_t i = 0; i < kBytes; ++i) there[i] = static_cast<char>(i % 101);
  const BegunCopy up = copy_to_device_begin(device, there, kBytes, stream);
  const BegunCopy down = copy_to_host_begin(back, device, kBytes, stream);
  memory_set(device, 7, kBytes, stream);
  const BegunCopy later = copy_to_host_begin(back + kBytes, device, kBytes, stream);
  copy_wait(later);
  EXPECT_EQ(back[2 * kBytes - 1], 7);
  copy_wait(down);
  copy_wait(up);
  EXPECT_EQ(std::memcmp(back, there, kBytes), 0);
  pinned_free(there);
  EXPECT_THROW(pinned_free(there), Error);
  pinned_free(back);
  memory_free(device, stream);
  stream_destroy(stream);
}

// What errors say of a launch, and which launches a failed wait names.
TEST(CudaLaunchLog, NamesTheLastLaunchesWithTheirShapes) {
  int64_t n = int64_t{1} << 40;
  int rows = -3;
  float rate = 0.5f;
  float* x = nullptr;
  void* arguments[] = {&n, &x, &rows, &rate};
  const ArgumentKind kinds[] = {ArgumentKind::integer, ArgumentKind::pointer, ArgumentKind::integer,
                                ArgumentKind::other};
  const size_t sizes[] = {sizeof(n), sizeof(x), sizeof(rows), sizeof(rate)};
  RawLaunch launch{"scale", nullptr, {7, 2}, {256}, 1024, nullptr, arguments, 4, kinds, sizes, nullptr};
  EXPECT_EQ(LaunchNote(launch).text(),
            "scale, grid (7,2,1), block (256,1,1), 1024 shared bytes, numbers 1099511627776 -3");
  LaunchLog log;
  EXPECT_EQ(log.text(), "");
  for (const char* name : {"one", "two", "three", "four", "five", "six", "seven", "eight"}) log.add(LaunchNote(name));
  launch.count = 0;
  log.add(LaunchNote(launch));
  const std::string text = log.text();
  EXPECT_EQ(text.find("\nlaunched last: scale, grid (7,2,1), block (256,1,1), 1024 shared bytes; before it: eight; "),
            0u)
      << text;
  EXPECT_NE(text.find("before it: two"), std::string::npos) << text;
  EXPECT_EQ(text.find("one"), std::string::npos) << text;
}

TEST(CudaPinnedCache, RoundsSizesUpByAnEighthAtMost) {
  for (size_t bytes : {size_t{1}, size_t{4096}, size_t{4097}, size_t{100000}, size_t{1} << 20, (size_t{1} << 20) + 1}) {
    const size_t rounded = PinnedCache::rounded(bytes);
    EXPECT_GE(rounded, bytes);
    EXPECT_LE(rounded, std::max(bytes + 4095, bytes + bytes / 8)) << bytes;
  }
  EXPECT_EQ(PinnedCache::rounded(1000000), PinnedCache::rounded(1000001));
}

TEST(CudaPinnedCache, ForgetsWhatHasLainThereLongest) {
  PinnedCache cache(100);
  char a, b, c, d;
  EXPECT_EQ(cache.take(40), nullptr);
  for (char* p : {&a, &b, &c}) cache.lend(p, 40);
  EXPECT_TRUE(cache.give(&a).empty());
  EXPECT_THROW(cache.give(&a), Error);
  EXPECT_TRUE(cache.give(&b).empty());
  EXPECT_EQ(cache.take(40), &b);  // the one that was used last
  EXPECT_TRUE(cache.give(&b).empty());
  EXPECT_EQ(cache.give(&c), std::vector<void*>{&a});
  cache.lend(&d, 1000);
  EXPECT_EQ(cache.give(&d), (std::vector<void*>{&b, &c, &d}));
  EXPECT_EQ(cache.take(40), nullptr);
  cache.lend(&a, 60);
  EXPECT_TRUE(cache.give(&a).empty());
  EXPECT_EQ(cache.empty(), std::vector<void*>{&a});
}

#if defined(SINEW_CUDA_EMULATE)
TEST(CudaRuntime, TheEmulationFindsMisuseOfPinnedMemory) {
  SINEW_NEEDS_CUDA();
  constexpr size_t kBytes = 64;
  const Stream stream = stream_create();
  void* const device = memory_allocate(kBytes, stream);
  memory_set(device, 7, kBytes, stream);
  auto* const pinned = static_cast<char*>(pinned_allocate(kBytes));
  std::vector<char> pageable(kBytes);
  EXPECT_THROW(copy_to_host_begin(pageable.data(), device, kBytes, stream), Error);
  EXPECT_THROW(copy_to_host_begin(pinned, device, kBytes + 1, stream), Error);
  EXPECT_THROW(copy_to_host_begin(pinned, pageable.data(), kBytes, stream), Error);

  const BegunCopy copy = copy_to_host_begin(pinned, device, kBytes, stream);
  EXPECT_NE(pinned[0], 7);  // a reader that does not wait sees what was there before
  EXPECT_THROW(copy_to_device_begin(device, pinned + 8, 8, stream), Error);
  EXPECT_THROW(pinned_free(pinned), Error);
  copy_wait(copy);
  EXPECT_EQ(pinned[0], 7);
  EXPECT_THROW(copy_wait(copy), Error);

  // A writer that does not wait spoils what is sent.
  std::memset(pinned, 1, kBytes);
  const BegunCopy up = copy_to_device_begin(device, pinned, kBytes, stream);
  std::memset(pinned, 2, kBytes);
  copy_wait(up);
  copy_to_host(pageable.data(), device, kBytes, stream);
  EXPECT_EQ(pageable[0], 2);
  pinned_free(pinned);
  memory_free(device, stream);
  stream_destroy(stream);
}
#endif

TEST(CudaRuntime, ErrorsSayWhatWasAttempted) {
  SINEW_NEEDS_CUDA();
  try {
    memory_allocate(size_t{1} << 60, nullptr);
    FAIL() << "an exabyte was allocated";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("allocating 1152921504606846976 bytes"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace sinew::testing
