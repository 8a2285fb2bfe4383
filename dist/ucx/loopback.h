// What the kernel does with a connection that does not leave this machine.
#pragma once

namespace sinew::dist {

// Gives this process's TCP sockets with a loopback address the kernel's plainest congestion control (Reno, which a
// kernel has and, unless told otherwise, lets anybody choose). Nothing is congested there, and what the machine may
// have chosen for its network costs: BBR meters out what is sent by a timer, which takes more processor time for the
// same bytes (docs/benchmarks.md). What a listening socket accepts later inherits its choice.
//
// All of the process's sockets, since UCX neither has a setting for this nor tells its descriptors. Those of network
// devices stay as they are. Thread safety: any, but a socket that another thread opens in the place of one that it
// closes meanwhile may be taken for that one.
void plain_congestion_control_on_loopback();

}  // namespace sinew::dist
