// Matrix product, C = act(alpha op(A) op(B) + beta C + bias), on the ordinary (SIMT) units.
//
// Parallel over tiles of C (blockIdx.x), batches (blockIdx.y) and, where tiles are few and k is long, chunks of k
// (blockIdx.z), which a second kernel adds up in order;
// that one also serves the activations that would bloat the first. How a block works: cuda/device/tile.cuh. Tiles are
// made in groups of rows, so that those in flight together share A and B in the second-level cache. Flops: 2 m n k.
// Bytes, from that cache: ceil(n / tile_n) m k + ceil(m / tile_m) n k + m n elements; from memory about m k + k n + m
// n. Sums run over k in order for every element of a chunk, whatever the tile; chunks depend on the shape alone. GPU
// figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include <type_traits>

#include "core/functors.h"
#include "cuda/device/gemm_place.cuh"
#include "cuda/device/tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// C or, for the second pass, bare sums: then alpha is 1, beta 0, and there is no bias.
template <class Shape>
SINEW_DEVICE void write_tile(const Shape& tile, int m0, int n0, typename Shape::T* c, const typename Shape::T* bias,
                             const GemmShape<typename Shape::T>& shape) {
  using T = typename Shape::T;
  constexpr int kWidth = Shape::kWidth;
  m0 += Shape::first_row();
  n0 += Shape::first_column();
  SINEW_UNROLL
  for (int g = 0; g < Shape::kGroupsN; ++g) {
    const int n = n0 + Shape::group_step(g);
    Pack<T> add = {};
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j)
      if (bias != nullptr && n + j < shape.n) add.v[j] = bias[n + j];
    SINEW_UNROLL
    for (int i = 0; i < Shape::kThreadM; ++i) {
      const int m = m0 + Shape::row_step(i);
      T* const to = c + m * shape.ldc + n;
      Pack<T> pack = {};
      if (shape.beta != T(0) && m < shape.m) {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j)
          if (n + j < shape.n) pack.v[j] = shape.beta * to[j];
      }
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        pack.v[j] += shape.alpha * tile.acc[i][g * kWidth + j] + add.v[j];
        if (shape.act == Activation::relu) pack.v[j] = SINEW_FUNCTOR_NS::relu::apply(pack.v[j], T(0), T(0));
      }
      if (shape.pack_c) {
        if (m < shape.m && n < shape.n) *as_vector<Pack<T>>(to) = pack;
      } else {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j)
          if (m < shape.m && n + j < shape.n) to[j] = pack.v[j];
      }
    }
  }
}

template <class Shape, bool kTransA, bool kTransB, int kVec>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    gemm(const typename Shape::T* __restrict__ a, const typename Shape::T* __restrict__ b,
         typename Shape::T* __restrict__ c, const typename Shape::T* __restrict__ bias,
         GemmShape<typename Shape::T> shape) {
  using T = typename Shape::T;
  using LoaderA = std::conditional_t<kTransA, MatrixAlongX<Shape, Shape::kExtentM, kVec>,
                                     MatrixAlongK<Shape, Shape::kExtentM, kVec>>;
  using LoaderB = std::conditional_t<kTransB, MatrixAlongK<Shape, Shape::kExtentN, kVec>,
                                     MatrixAlongX<Shape, Shape::kExtentN, kVec>>;
  SINEW_DYNAMIC_SHARED(T, shared);
  const GemmPlace place = gemm_place(int(blockIdx.x), (shape.m + Shape::kExtentM - 1) / Shape::kExtentM,
                                     (shape.n + Shape::kExtentN - 1) / Shape::kExtentN);
  const int m0 = place.row * Shape::kExtentM, n0 = place.column * Shape::kExtentN;
  const int k0 = int(blockIdx.z) * shape.chunk;
  const int depth = shape.k - k0 < shape.chunk ? shape.k - k0 : shape.chunk;
  LoaderA load_a(a + blockIdx.y * shape.batch_stride_a + (kTransA ? k0 * shape.lda : k0), shape.lda, m0, shape.m);
  LoaderB load_b(b + blockIdx.y * shape.batch_stride_b + (kTransB ? k0 : k0 * shape.ldb), shape.ldb, n0, shape.n);
  Shape tile;
  tile.accumulate(shared, depth, load_a, load_b);
  write_tile(tile, m0, n0, c + blockIdx.y * shape.batch_stride_c + blockIdx.z * shape.split_stride_c, bias, shape);
}

template <class T>
SINEW_DEVICE T activate(T x, Activation act) {
  switch (act) {
    case Activation::relu:
      return SINEW_FUNCTOR_NS::relu::apply(x, T(0), T(0));
    case Activation::tanh:
      return SINEW_FUNCTOR_NS::tanh::apply(x, T(0), T(0));
    case Activation::sigmoid:
      return SINEW_FUNCTOR_NS::sigmoid::apply(x, T(0), T(0));
    case Activation::none:
      break;
  }
  return x;
}

template <class T, class C, bool kPack>
__global__ void __launch_bounds__(kGemmFinishThreads)
    finish(const T* __restrict__ partial, int splits, C* __restrict__ c, const T* __restrict__ bias,
           GemmShape<T> shape) {
  constexpr int kWidth = kPack ? kGemmFinishPack<T> : 1;
  struct alignas(sizeof(T) * kWidth) Sums {
    T v[kWidth];
  };
  struct alignas(sizeof(C) * kWidth) Results {
    C v[kWidth];
  };
  const int64_t matrix = int64_t(shape.m) * shape.n, all = matrix * shape.batch;
  const int64_t i = (int64_t(blockIdx.x) * kGemmFinishThreads + threadIdx.x) * kWidth;
  if (i >= all) return;
  const int64_t batch = shape.batch == 1 ? 0 : i / matrix, rest = i - batch * matrix;
  const int64_t row = matrix < (int64_t(1) << 31) ? unsigned(rest) / unsigned(shape.n) : rest / shape.n;
  const int column = int(rest - row * shape.n);
  Sums sum = {};
  for (int split = 0; split < splits; ++split) {
    const Sums next = *as_vector<const Sums>(partial + split * all + i);
    SINEW_UNROLL
    for (int e = 0; e < kWidth; ++e) sum.v[e] += next.v[e];
  }
  C* const to = c + batch * shape.batch_stride_c + row * shape.ldc + column;
  Results results;
  SINEW_UNROLL
  for (int e = 0; e < kWidth; ++e) {
    T value = shape.alpha * sum.v[e];
    if (bias != nullptr) value += bias[column + e];
    if (shape.beta != T(0)) value = T(C(value)) + shape.beta * T(to[e]);  // rounded first, as in gemm_tensor.cuh
    results.v[e] = C(activate(value, shape.act));
  }
  *as_vector<Results>(to) = results;
}

template <class Shape, int kVec>
GemmKernel<typename Shape::T> kernel_for(bool trans_a, bool trans_b) {
  GemmKernel<typename Shape::T> k{{"gemm nn", &gemm<Shape, false, false, kVec>},
                                  Shape::kExtentM,
                                  Shape::kExtentN,
                                  Shape::kThreads,
                                  Shape::kSharedBytes};
  if (trans_a && trans_b)
    k.kernel = {"gemm tt", &gemm<Shape, true, true, kVec>};
  else if (trans_a)
    k.kernel = {"gemm tn", &gemm<Shape, true, false, kVec>};
  else if (trans_b)
    k.kernel = {"gemm nt", &gemm<Shape, false, true, kVec>};
  return k;
}

}  // namespace

template <>
GemmKernel<float> gemm_kernel(bool trans_a, bool trans_b, bool pack, GemmTile tile) {
  using Large = Tile<float, 128, 128, 8, 16, 4, 16, 2>;
  using LargeManyThreads = Tile<float, 128, 128, 8, 8, 4, 8, 2>;
  using Small = Tile<float, 64, 64, 8, 4, 4, 16, 4>;
  using SmallElements = Tile<float, 64, 64, 8, 4, 4, 8, 4>;
  if (!pack)
    return tile == GemmTile::small ? kernel_for<SmallElements, 1>(trans_a, trans_b)
                                   : kernel_for<LargeManyThreads, 1>(trans_a, trans_b);
  switch (tile) {
    case GemmTile::large:
      return kernel_for<Large, 4>(trans_a, trans_b);
    case GemmTile::large_many_threads:
      return kernel_for<LargeManyThreads, 4>(trans_a, trans_b);
    case GemmTile::tensor:
      return gemm_tensor_kernel(trans_a, trans_b);
    case GemmTile::small:
      break;
  }
  return kernel_for<Small, 4>(trans_a, trans_b);
}

template <>
GemmKernel<double> gemm_kernel(bool trans_a, bool trans_b, bool pack, GemmTile tile) {
  using Large = Tile<double, 64, 64, 4, 4, 4, 8, 2>;
  using Small = Tile<double, 64, 32, 4, 4, 4, 8, 4>;
  if (!pack) return kernel_for<Small, 1>(trans_a, trans_b);
  return tile == GemmTile::small ? kernel_for<Small, 2>(trans_a, trans_b) : kernel_for<Large, 2>(trans_a, trans_b);
}

template <class T, class C>
Kernel<const T*, int, C*, const T*, GemmShape<T>> gemm_finish_kernel(bool pack) {
  if (pack) return {"gemm, second pass", &finish<T, C, true>};
  return {"gemm, second pass", &finish<T, C, false>};
}
template Kernel<const float*, int, float*, const float*, GemmShape<float>> gemm_finish_kernel<float, float>(bool pack);
template Kernel<const double*, int, double*, const double*, GemmShape<double>> gemm_finish_kernel<double, double>(
    bool pack);
template Kernel<const float*, int, bfloat16*, const float*, GemmShape<float>> gemm_finish_kernel<float, bfloat16>(
    bool pack);

}  // namespace sinew::cuda::SINEW_CUDA_NS
