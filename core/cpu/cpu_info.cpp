#include "core/cpu/cpu_info.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace sinew {

#ifdef _OPENMP
int num_threads() { return omp_get_max_threads(); }
void set_num_threads(int n) { omp_set_num_threads(n < 1 ? 1 : n); }
#else
int num_threads() { return 1; }
void set_num_threads(int) {}
#endif

}  // namespace sinew
