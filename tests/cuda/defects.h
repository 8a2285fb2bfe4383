// What the tests of the emulation itself share: kernels with planted defects are launched, and what is said of them.
#pragma once

#include <string>

#include "cuda/launch.h"
#include "tests/cuda/support.h"

namespace sinew::testing {

// After each test the emulation's options are what they were.
class EmulationTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(cuda::install().ok()); }
  void TearDown() override { cuda::emulate::options() = before_; }

 private:
  const cuda::emulate::Options before_ = cuda::emulate::options();
};

template <class... P, class... A>
void run(void (*kernel)(P...), cuda::Dim grid, cuda::Dim block, size_t shared_bytes, A... arguments) {
  cuda::launch(cuda::Kernel<P...>{"test kernel", kernel}, grid, block, shared_bytes, nullptr, arguments...);
}

// The text of the Error that body throws; "" when it throws none.
template <class Body>
std::string error_from(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

}  // namespace sinew::testing
