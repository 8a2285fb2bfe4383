#include "cuda/runtime.h"

#include <cstring>
#include <string>
#include <vector>

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
