#include "core/node_locals.h"

namespace sinew {
namespace {
thread_local NodeLocals own_locals;
thread_local NodeLocals* current = nullptr;
}  // namespace

NodeLocals& node_locals() { return current ? *current : own_locals; }

NodeLocals* exchange_node_locals(NodeLocals* locals) {
  NodeLocals* previous = current;
  current = locals;
  return previous;
}

}  // namespace sinew
