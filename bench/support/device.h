// The device that a benchmark runs on, from `--device cpu|cuda` in its command line.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/kernel_api.h"
#if SINEW_HAVE_CUDA
#include "cuda/install.h"
#endif

namespace sinew::bench {

// The value of `--name value`, which is taken out of argv; "" when it is not there.
inline std::string take_option(int& argc, char** argv, const char* name) {
  for (int i = 1; i + 1 < argc; ++i)
    if (std::strcmp(argv[i], name) == 0) {
      const std::string value = argv[i + 1];
      for (int k = i; k + 2 <= argc; ++k) argv[k] = argv[k + 2];
      argc -= 2;
      return value;
    }
  return "";
}

[[noreturn]] inline void fail(const std::string& line) {
  std::fprintf(stderr, "%s\n", line.c_str());
  std::exit(1);
}

// Ends the program with one line when the device cannot be used.
inline Device take_device(int& argc, char** argv) {
  const std::string name = take_option(argc, argv, "--device");
  if (name.empty() || name == "cpu") return Device::cpu;
  if (name != "cuda") fail("--device " + name + ": cpu or cuda");
#if SINEW_HAVE_CUDA
  if (const Status status = cuda::install(); !status.ok()) fail(status.message());
  return Device::cuda;
#else
  fail("--device cuda: built without CUDA (SINEW_CUDA=ON)");
#endif
}

}  // namespace sinew::bench
