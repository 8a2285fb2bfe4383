// The kernels of optim.cu as host code sees them; cuda/kernels.h says how such headers are used.
#pragma once

#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr unsigned kUpdateThreads = 256;

// The numbers of an update in the vectors' type; a rule uses those of kernel_api.h's formula. beta and rest = 1 - beta
// are the rates of the averages m (1) and v (2).
template <class T>
struct UpdateNumbers {
  T grad_scale, decay, keep, x_scale;
  T beta1, rest1, beta2, rest2, m_scale, v_scale, eps, special;  // special: AdaHessian's power, Sophia's rho
};

// What a rule computes; see SgdArgs, AdamArgs... in kernel_api.h. *_new: with a new diagonal d.
enum class Rule : uint8_t {
  sgd_plain,
  sgd_heavy_ball,
  sgd_nesterov,
  adam,
  adahessian,  // power 1
  adahessian_new,
  adahessian_half,  // power 1/2
  adahessian_half_new,
  adahessian_power,  // any other
  adahessian_power_new,
  sophia,
  sophia_new,
  lion,
};

// One pass over x, g, m, v, d, of which those that the rule does not have may be null.
// Parameters: n, x, g, m, v, d, numbers, aligned (all to 16 bytes). Any one-dimensional grid.
template <class T>
using UpdateKernel = Kernel<int64_t, T*, const T*, T*, T*, const T*, UpdateNumbers<T>, bool>;
template <class T>
UpdateKernel<T> update_kernel(Rule rule);

// x (outer, length, inner), in place: means over blocks along `length`.
// Columns: a thread per column of a block of elements, any inner; packs: per 16 bytes of columns, x and inner being
// multiples of that. Segments: `threads` threads per block, inner == 1.
// Parameters: blocks of elements in all, blocks of one outer index, block, length, inner, absolute, x.
// Columns: any one-dimensional grid. Segments: threads is 8, 32 or kUpdateThreads; blockIdx.x counts groups of
// kUpdateThreads / threads blocks of elements.
template <class T>
using BlockMeanKernel = Kernel<int64_t, int64_t, int64_t, int64_t, int64_t, bool, T*>;
template <class T>
BlockMeanKernel<T> block_mean_columns_kernel(bool packs);
template <class T>
BlockMeanKernel<T> block_mean_segments_kernel(unsigned threads);

}  // namespace sinew::cuda::SINEW_CUDA_NS
