// Where memory lives and which kernel table works on it. Tables are registered once, at start, with
// set_kernel_table (core/kernel_api.h); using a device without a table is an Error that says so.
#pragma once

#include <cstdint>

namespace sinew {

enum class Device : uint8_t {
  cpu,
  cuda,   // filled by cuda::install()
  guard,  // tests only: memory that host code cannot touch (tests/support/guard_device.h)
};
inline constexpr int kDeviceCount = 3;

constexpr const char* to_string(Device device) {
  switch (device) {
    case Device::cpu:
      return "cpu";
    case Device::cuda:
      return "cuda";
    case Device::guard:
      return "guard";
  }
  return "?";
}

}  // namespace sinew
