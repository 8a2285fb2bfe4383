// Every optimizer runs on a device whose memory the host cannot reach, with the CPU's bits; its state moves between
// the two.
#include "tests/optim/device_body.h"
#include "tests/support/guard_device.h"

namespace sinew::optim {
namespace {

TEST(Device, EveryOptimizerRunsOnTheGuardDevice) {
  testing::install_guard_device();
  for (const std::string& name : optimizer_names()) check_optimizer_on(Device::guard, name, 0);
}

}  // namespace
}  // namespace sinew::optim
