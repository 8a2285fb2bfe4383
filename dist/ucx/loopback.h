// What the kernel does with a connection that does not leave this machine.
#pragma once

namespace sinew::dist {

// Gives this process's TCP sockets with a loopback address the kernel's plainest congestion control (Reno, which every
// kernel has and lets anybody choose). Nothing is congested there, and what the machine may have chosen for its network
// costs: BBR meters out what is sent by a timer, and takes 1.6 times the processor time of Reno for the same bytes
// (docs/benchmarks.md). What a listening socket accepts later inherits its choice.
//
// All of the process's sockets, since UCX neither has a setting for this nor tells its descriptors. Those of network
// devices stay as they are. Thread safety: any.
void plain_congestion_control_on_loopback();

}  // namespace sinew::dist
