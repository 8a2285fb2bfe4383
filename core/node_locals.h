// What is "current" for a node of a run: a process's training thread, or a fiber of the simulation.
//
// There is one thread_local pointer in the library, and the simulator swaps it with the fiber. Other
// thread_local variables are allowed only for caches that carry no meaning (a test looks for them).
#pragma once

namespace sinew {

struct NodeLocals {
  bool grad_enabled = true;
};

NodeLocals& node_locals();
// Returns the previous one. nullptr means the thread's own default.
NodeLocals* exchange_node_locals(NodeLocals* locals);

}  // namespace sinew
