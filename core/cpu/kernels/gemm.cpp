// Our own blocked matrix product: the oracle for every floating-point type, and the fast path for small products.
//
// Loop order after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 2008): panels
// of B (kc x nc) and blocks of A (mc x kc) are packed so that the micro kernel reads both contiguously; it keeps an MR
// x NR tile of C in registers. Parallel over column panels or row blocks; the sum over k runs in one order whatever the
// number of threads. Small products skip the packing: their operands are in the cache anyway. This file is compiled
// with -ffp-contract=fast, so that a * b + c is one FMA.
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
// Multiply-adds of a product that run_small takes.
constexpr int64_t kSmallProduct = 1 << 18;

template <class T>
constexpr int kNr = Simd<T>::kLanes* kVectors;

// A kRows x kNr tile, sum over p of A(:, p) B(p, :), to `out`, whose rows are out_step apart. Row p of B is b + p *
// b_step. A(r, p) is a[r + p * a_step] when kAcross (packed, or transposed in memory), else a[r * a_step + p].
template <class T, bool kAcross, int kRows>
void micro(int64_t k, const T* __restrict a, int64_t a_step, const T* __restrict b, int64_t b_step, T* __restrict out,
           int64_t out_step) {
  using V = typename Simd<T>::V;
  using Unaligned = typename Simd<T>::Unaligned;
  constexpr int kLanes = Simd<T>::kLanes;
  // Unrolled, so that acc lives in registers from the first loop to the last.
  V acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) acc[r][v] = V{};
  for (int64_t p = 0; p < k; ++p) {
    V bv[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) bv[v] = *reinterpret_cast<const Unaligned*>(b + p * b_step + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const T s = kAcross ? a[r + p * a_step] : a[r * a_step + p];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) acc[r][v] += s * bv[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Unaligned*>(out + r * out_step + v * kLanes) = acc[r][v];
}

template <class T>
using Micro = void (*)(int64_t, const T*, int64_t, const T*, int64_t, T*, int64_t);
template <class T, bool kAcross, int... kRows>
struct MicroTable {
  static constexpr Micro<T> at[] = {nullptr, micro<T, kAcross, kRows>...};
};
#if defined(__AVX512F__)
template <class T, bool kAcross>
using Micros = MicroTable<T, kAcross, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>;
#elif defined(__AVX__)
template <class T, bool kAcross>
using Micros = MicroTable<T, kAcross, 1, 2, 3, 4, 5, 6>;
#else
template <class T, bool kAcross>
using Micros = MicroTable<T, kAcross, 1, 2, 3, 4>;
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

template <int... kLane>
struct Lanes {};
template <int kCount>
struct LanesUpTo;
template <>
struct LanesUpTo<2> : Lanes<0, 1> {};
template <>
struct LanesUpTo<4> : Lanes<0, 1, 2, 3> {};
template <>
struct LanesUpTo<8> : Lanes<0, 1, 2, 3, 4, 5, 6, 7> {};
template <>
struct LanesUpTo<16> : Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15> {};

// Swaps the off-diagonal quarters of every 2 kHalf x 2 kHalf block, in rows a and b which lie kHalf apart.
template <int kHalf, class V, int... kLane>
void swap_quarters(V& a, V& b, Lanes<kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  const V upper = __builtin_shufflevector(a, b, (kLane & kHalf ? kCount + kLane - kHalf : kLane)...);
  b = __builtin_shufflevector(a, b, (kLane & kHalf ? kCount + kLane : kLane + kHalf)...);
  a = upper;
}
template <class T, int kHalf = 1>
void transpose_square(typename Simd<T>::V* rows) {
  constexpr int kLanes = Simd<T>::kLanes;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (!(i & kHalf)) swap_quarters<kHalf>(rows[i], rows[i | kHalf], LanesUpTo<kLanes>{});
  if constexpr (2 * kHalf < kLanes) transpose_square<T, 2 * kHalf>(rows);
}

// out[p * kNr + c] = from[c * step + p] for `cols` columns c and k values p.
template <class T>
void pack_across(const T* from, int64_t step, int64_t cols, int64_t k, T* out) {
  using V = typename Simd<T>::V;
  using Unaligned = typename Simd<T>::Unaligned;
  constexpr int kLanes = Simd<T>::kLanes;
  const int64_t square_cols = cols / kLanes * kLanes, square_k = k / kLanes * kLanes;
  for (int64_t c = 0; c < square_cols; c += kLanes)
    for (int64_t p = 0; p < square_k; p += kLanes) {
      V rows[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) rows[i] = *reinterpret_cast<const Unaligned*>(from + (c + i) * step + p);
      transpose_square<T>(rows);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) *reinterpret_cast<V*>(out + (p + i) * kNr<T> + c) = rows[i];
    }
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t p = c < square_cols ? square_k : 0; p < k; ++p) out[p * kNr<T> + c] = from[c * step + p];
}

// One panel of up to kNr columns of op(B) from column j on.
template <class T>
void pack_b_panel(const T* b, int64_t ldb, bool trans, int64_t j, int64_t cols, int64_t p0, int64_t k, T* out) {
  if (trans) {
    pack_across(b + j * ldb + p0, ldb, cols, k, out);
  } else if (cols == kNr<T>) {
    for (int64_t p = 0; p < k; ++p) memcpy(out + p * kNr<T>, b + (p0 + p) * ldb + j, kNr<T> * sizeof(T));
  } else {
    for (int64_t p = 0; p < k; ++p)
      for (int64_t c = 0; c < cols; ++c) out[p * kNr<T> + c] = b[(p0 + p) * ldb + j + c];
  }
  if (cols == kNr<T>) return;
  for (int64_t p = 0; p < k; ++p)
    for (int64_t c = cols; c < kNr<T>; ++c) out[p * kNr<T> + c] = T(0);
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

  // Adds a tile to C: the first block of k replaces (or scales by beta), the last applies bias and activation.
  void store(T* tile, int64_t i, int64_t rows, int64_t j, int64_t cols, bool first, bool last) const {
    using V = typename Simd<T>::V;
    const T alpha = static_cast<T>(args.alpha), beta = first ? static_cast<T>(args.beta) : T(1);
    const bool add_bias = last && bias, relu = last && args.act == Activation::relu;
    const bool other_act = last && !relu && args.act != Activation::none;
    alignas(64) T bias_row[kNr<T>] = {};
    if (add_bias) memcpy(bias_row, bias + j, static_cast<size_t>(cols) * sizeof(T));
    for (int64_t r = 0; r < rows; ++r) {
      T* out = c + (i + r) * args.ldc + j;
      T* row = tile + r * kNr<T>;
      for (int v = 0; v < kVectors; ++v) reinterpret_cast<V*>(row)[v] *= alpha;
      if (beta != T(0))
        for (int64_t k = 0; k < cols; ++k) row[k] += beta * out[k];
      if (add_bias)
        for (int v = 0; v < kVectors; ++v) reinterpret_cast<V*>(row)[v] += reinterpret_cast<V*>(bias_row)[v];
      if (relu)
        for (int v = 0; v < kVectors; ++v) {
          V& x = reinterpret_cast<V*>(row)[v];
          x = x <= T(0) ? V{} : x;
        }
      if (other_act)
        for (int64_t k = 0; k < cols; ++k) row[k] = activate(row[k], args.act);
      if (cols == kNr<T>)
        memcpy(out, row, kNr<T> * sizeof(T));
      else
        for (int64_t k = 0; k < cols; ++k) out[k] = row[k];
    }
  }

  // One panel of packed B against rows [i0, i0 + m) of packed A.
  void panel(const T* packed_a, const T* packed_b, int64_t i0, int64_t m, int64_t j, int64_t cols, int64_t k,
             bool first, bool last) const {
    alignas(64) T tile[kMr * kNr<T>];
    for (int64_t i = 0; i < m; i += kMr) {
      const int64_t rows = min64(kMr, m - i);
      Micros<T, true>::at[rows](k, packed_a + i * k, kMr, packed_b, kNr<T>, tile, kNr<T>);
      store(tile, i0 + i, rows, j, cols, first, last);
    }
  }

  // Reads A where it is, and B too but for panels that are narrow or lie across; space holds one panel.
  void run_small(T* space) const {
    const bool plain = args.alpha == 1 && args.beta == 0 && !bias && args.act == Activation::none;
    alignas(64) T tile[kMr * kNr<T>];
    for (int64_t j = 0; j < args.n; j += kNr<T>) {
      const int64_t cols = min64(kNr<T>, args.n - j);
      const bool in_place = !args.trans_b && cols == kNr<T>;
      if (!in_place) pack_b_panel(b, args.ldb, args.trans_b, j, cols, 0, args.k, space);
      const T* b_panel = in_place ? b + j : space;
      const int64_t b_step = in_place ? args.ldb : kNr<T>;
      for (int64_t i = 0; i < args.m; i += kMr) {
        const int64_t rows = min64(kMr, args.m - i);
        const Micro<T> tile_product = args.trans_a ? Micros<T, true>::at[rows] : Micros<T, false>::at[rows];
        const T* a_rows = args.trans_a ? a + i : a + i * args.lda;
        if (plain && cols == kNr<T>) {
          tile_product(args.k, a_rows, args.lda, b_panel, b_step, c + i * args.ldc + j, args.ldc);
        } else {
          tile_product(args.k, a_rows, args.lda, b_panel, b_step, tile, kNr<T>);
          store(tile, i, rows, j, cols, true, true);
        }
      }
    }
  }

  void run() const {
    const int64_t m = args.m, n = args.n;
    alignas(64) static thread_local char small[24 * 1024];
    if (m * n * args.k <= kSmallProduct && static_cast<size_t>(args.k * kNr<T>) * sizeof(T) <= sizeof(small)) {
      run_small(reinterpret_cast<T*>(small));
      return;
    }
    const int64_t k_block = min64(kKc, max64(args.k, 1)), m_block = min64(kMc, (m + kMr - 1) / kMr * kMr);
    const int64_t n_block = min64(kNc, (n + kNr<T> - 1) / kNr<T> * kNr<T>);
    const size_t bytes_a = static_cast<size_t>(m_block * k_block) * sizeof(T);
    const size_t bytes_b = static_cast<size_t>(n_block * k_block) * sizeof(T);
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
        const int64_t panels = (width + kNr<T> - 1) / kNr<T>;
        parallel_blocks(panels, 1, work, [&](int64_t q, int64_t) {
          pack_b_panel(b, args.ldb, args.trans_b, j0 + q * kNr<T>, min64(kNr<T>, width - q * kNr<T>), p0, k,
                       packed_b + q * kNr<T> * k);
        });
        for (int64_t i0 = 0; i0 < m; i0 += m_block) {
          const int64_t height = min64(m_block, m - i0);
          pack_a(a, args.lda, args.trans_a, i0, height, p0, k, packed_a);
          parallel_blocks(panels, 1, work, [&](int64_t q, int64_t) {
            panel(packed_a, packed_b + q * kNr<T> * k, i0, height, j0 + q * kNr<T>, min64(kNr<T>, width - q * kNr<T>),
                  k, first, last);
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
  if (args.dtype == DType::bf16) return gemm_bf16(args);
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
