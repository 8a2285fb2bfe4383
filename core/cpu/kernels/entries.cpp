// This instruction set's table entries; core/cpu/table.cpp chooses among them.
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {

void fill_table(KernelTable& table) {
#define SINEW_ENTRY(name, Args) table.name = name;
  SINEW_KERNELS(SINEW_ENTRY)
#undef SINEW_ENTRY
  table.round_and_pack = round_and_pack;
  table.conv_pair = conv_pair;
}

}  // namespace sinew::SINEW_CPU_NS
