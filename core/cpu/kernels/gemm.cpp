// Our own blocked matrix product: the oracle for every floating-point type, and the fast path for small products.
//
// Loop order after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 2008): panels
// of B (kc x nc) and blocks of A (mc x kc) are packed so that the micro kernel reads both contiguously; it keeps an MR
// x NR tile of C in registers. Parallel over column panels or row blocks; the sum over k runs in one order whatever the
// number of threads. This file is compiled with -ffp-contract=fast, so that a * b + c is one FMA.
#include "core/cpu/kernels/simd.h"

namespace sinew::SINEW_CPU_NS {
namespace {

constexpr int kVectors = 2;
#if defined(__AVX512F__)
constexpr int kMr = 12;
#elif defined(__AVX__)
constexpr int kMr = 6;
#else
constexpr int kMr = 4;
#endif

constexpr int64_t kKc = 256, kMc = 144, kNc = 2048;

// tile (rows x kNr) = sum over k of a[k][row] * b[k][:], packed operands.
template <class T, int kRows>
void micro(int64_t k, const T* __restrict a, const T* __restrict b, T* __restrict tile) {
  using V = typename Simd<T>::V;
  constexpr int kLanes = Simd<T>::kLanes, kNr = kLanes * kVectors;
  V acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) acc[r][v] = V{};
  for (int64_t p = 0; p < k; ++p) {
    V bv[kVectors];
    for (int v = 0; v < kVectors; ++v) bv[v] = *reinterpret_cast<const V*>(b + p * kNr + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const T s = a[p * kMr + r];
      for (int v = 0; v < kVectors; ++v) acc[r][v] += s * bv[v];
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<V*>(tile + r * kNr + v * kLanes) = acc[r][v];
}

template <class T>
using Micro = void (*)(int64_t, const T*, const T*, T*);
template <class T, int... kRows>
struct MicroTable {
  static constexpr Micro<T> at[] = {nullptr, micro<T, kRows>...};
};
#if defined(__AVX512F__)
template <class T>
using Micros = MicroTable<T, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>;
#elif defined(__AVX__)
template <class T>
using Micros = MicroTable<T, 1, 2, 3, 4, 5, 6>;
#else
template <class T>
using Micros = MicroTable<T, 1, 2, 3, 4>;
#endif

// Rows [i0, i0 + m) and columns of k [p0, p0 + k) of op(A), as panels of kMr rows, zero filled.
template <class T>
void pack_a(const T* a, int64_t lda, bool trans, int64_t i0, int64_t m, int64_t p0, int64_t k, T* out) {
  for (int64_t i = 0; i < m; i += kMr) {
    const int64_t rows = min64(kMr, m - i);
    for (int64_t p = 0; p < k; ++p) {
      for (int64_t r = 0; r < rows; ++r)
        out[p * kMr + r] = trans ? a[(p0 + p) * lda + i0 + i + r] : a[(i0 + i + r) * lda + p0 + p];
      for (int64_t r = rows; r < kMr; ++r) out[p * kMr + r] = T(0);
    }
    out += k * kMr;
  }
}

// One panel of up to kNr columns of op(B) from column j on.
template <class T>
void pack_b_panel(const T* b, int64_t ldb, bool trans, int64_t j, int64_t cols, int64_t p0, int64_t k, T* out) {
  constexpr int kNr = Simd<T>::kLanes * kVectors;
  if (!trans && cols == kNr) {
    for (int64_t p = 0; p < k; ++p) memcpy(out + p * kNr, b + (p0 + p) * ldb + j, kNr * sizeof(T));
    return;
  }
  if (trans) {
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t p = 0; p < k; ++p) out[p * kNr + c] = b[(j + c) * ldb + p0 + p];
  } else {
    for (int64_t p = 0; p < k; ++p)
      for (int64_t c = 0; c < cols; ++c) out[p * kNr + c] = b[(p0 + p) * ldb + j + c];
  }
  for (int64_t c = cols; c < kNr; ++c)
    for (int64_t p = 0; p < k; ++p) out[p * kNr + c] = T(0);
}

template <class T>
T activate(T x, Activation act) {
  switch (act) {
    case Activation::relu:
      return op::relu::apply(x, T(0), T(0));
    case Activation::tanh:
      return op::tanh::apply(x, T(0), T(0));
    case Activation::sigmoid:
      return op::sigmoid::apply(x, T(0), T(0));
    case Activation::none:
      break;
  }
  return x;
}

template <class T>
struct Product {
  const kernel::GemmArgs& args;
  const T *a, *b, *bias;
  T* c;

  // Adds a finished tile to C: first k block replaces (or scales by beta), the last applies bias and activation.
  void store(const T* tile, int64_t i, int64_t rows, int64_t j, int64_t cols, bool first, bool last) const {
    constexpr int kNr = Simd<T>::kLanes * kVectors;
    const T alpha = static_cast<T>(args.alpha), beta = static_cast<T>(args.beta);
    const bool finish = last && (bias || args.act != Activation::none);
    for (int64_t r = 0; r < rows; ++r) {
      T* out = c + (i + r) * args.ldc + j;
      const T* from = tile + r * kNr;
      if (!first)
        for (int64_t k = 0; k < cols; ++k) out[k] += alpha * from[k];
      else if (beta == T(0))
        for (int64_t k = 0; k < cols; ++k) out[k] = alpha * from[k];
      else
        for (int64_t k = 0; k < cols; ++k) out[k] = beta * out[k] + alpha * from[k];
      if (!finish) continue;
      if (bias)
        for (int64_t k = 0; k < cols; ++k) out[k] += bias[j + k];
      if (args.act == Activation::relu)
        for (int64_t k = 0; k < cols; ++k) out[k] = out[k] > T(0) ? out[k] : T(0);
      else if (args.act != Activation::none)
        for (int64_t k = 0; k < cols; ++k) out[k] = activate(out[k], args.act);
    }
  }

  // One panel of packed B against rows [i0, i0 + m) of packed A.
  void panel(const T* packed_a, const T* packed_b, int64_t i0, int64_t m, int64_t j, int64_t cols, int64_t k,
             bool first, bool last) const {
    alignas(64) T tile[kMr * Simd<T>::kLanes * kVectors];
    for (int64_t i = 0; i < m; i += kMr) {
      const int64_t rows = min64(kMr, m - i);
      Micros<T>::at[rows](k, packed_a + i * k, packed_b, tile);
      store(tile, i0 + i, rows, j, cols, first, last);
    }
  }

  void run() const {
    constexpr int kNr = Simd<T>::kLanes * kVectors;
    const int64_t m = args.m, n = args.n;
    const int64_t k_block = min64(kKc, max64(args.k, 1)), m_block = min64(kMc, (m + kMr - 1) / kMr * kMr);
    const int64_t n_block = min64(kNc, (n + kNr - 1) / kNr * kNr);
    const size_t bytes_a = static_cast<size_t>(m_block * k_block) * sizeof(T);
    const size_t bytes_b = static_cast<size_t>(n_block * k_block) * sizeof(T);
    alignas(64) static thread_local char small[24 * 1024];
    char* space = small;
    const size_t need = (bytes_a + 63) / 64 * 64 + bytes_b;
    const bool large = need > sizeof(small);
    if (large) space = static_cast<char*>(aligned_alloc(64, (need + 63) / 64 * 64));
    T* packed_a = reinterpret_cast<T*>(space);
    T* packed_b = reinterpret_cast<T*>(space + (bytes_a + 63) / 64 * 64);
    const int64_t work = m * n * max64(args.k, 1) / 64;
    for (int64_t j0 = 0; j0 < n; j0 += n_block) {
      const int64_t width = min64(n_block, n - j0);
      for (int64_t p0 = 0; p0 == 0 || p0 < args.k; p0 += k_block) {
        const int64_t k = min64(k_block, args.k - p0);
        const bool first = p0 == 0, last = p0 + k >= args.k;
        const int64_t panels = (width + kNr - 1) / kNr;
        parallel_blocks(panels, 1, work, [&](int64_t q, int64_t) {
          pack_b_panel(b, args.ldb, args.trans_b, j0 + q * kNr, min64(kNr, width - q * kNr), p0, k,
                       packed_b + q * kNr * k);
        });
        for (int64_t i0 = 0; i0 < m; i0 += m_block) {
          const int64_t height = min64(m_block, m - i0);
          pack_a(a, args.lda, args.trans_a, i0, height, p0, k, packed_a);
          parallel_blocks(panels, 1, work, [&](int64_t q, int64_t) {
            panel(packed_a, packed_b + q * kNr * k, i0, height, j0 + q * kNr, min64(kNr, width - q * kNr), k, first,
                  last);
          });
        }
      }
    }
    if (large) free(space);
  }
};

}  // namespace

void gemm(const kernel::GemmArgs& args) {
  if (args.m == 0 || args.n == 0) return;
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    for (int64_t i = 0; i < args.batch; ++i) {
      const Product<T> product{args, static_cast<const T*>(args.a) + i * args.batch_stride_a,
                               static_cast<const T*>(args.b) + i * args.batch_stride_b,
                               static_cast<const T*>(args.bias), static_cast<T*>(args.c) + i * args.batch_stride_c};
      product.run();
    }
  })
}

}  // namespace sinew::SINEW_CPU_NS
