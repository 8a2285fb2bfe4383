#include "cuda/install.h"

#include <gtest/gtest.h>

#include <string>

#include "core/kernel_api.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

// On every machine: either the backend is there, or one line says why not.
TEST(CudaInstall, FillsTheSlotOrSaysWhyNot) {
  const Status status = cuda::install();
  if (status.ok()) {
    ASSERT_TRUE(has_kernels(Device::cuda));
    const KernelTable& table = kernels(Device::cuda);
    void* p = table.allocate(1000);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
    table.release(p, 1000);
    table.synchronize();
  } else {
    EXPECT_EQ(status.code(), StatusCode::unavailable);
    EXPECT_NE(status.message().find("CUDA"), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
    EXPECT_FALSE(has_kernels(Device::cuda));
    EXPECT_THROW(static_cast<void>(kernels(Device::cuda)), Error);
  }
  EXPECT_EQ(cuda::install().ok(), status.ok());
}

TEST(CudaInstall, HasEveryEntryOfTheTable) {
  SINEW_NEEDS_CUDA();
#define SINEW_EXPECT(name, Args) EXPECT_NE(device().name, nullptr) << #name;
  SINEW_KERNELS(SINEW_EXPECT)
#undef SINEW_EXPECT
}

}  // namespace
}  // namespace sinew::testing
