#include "cuda/runtime.h"

#include <string>

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
