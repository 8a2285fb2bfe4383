// libFuzzer target; tests/nn/csv_test.cpp runs the same check over fixed mutations.
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/csv_property.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (const std::string broken = sinew::fuzz::check_csv(data, size); !broken.empty()) {
    std::fprintf(stderr, "%s\n", broken.c_str());
    std::abort();
  }
  return 0;
}
