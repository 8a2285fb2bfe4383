// A stream of the emulation. Ours is done with each call when it returns; libraries that take a stream (the stand-in
// for NCCL of the tests) have threads of their own, and say here how much they have begun and not yet done. Our own
// work waits for that, as work behind it on a real stream does.
#pragma once

#include <atomic>

namespace sinew::cuda::emulate {

struct Stream {
  std::atomic<int> foreign{0};
};

}  // namespace sinew::cuda::emulate
