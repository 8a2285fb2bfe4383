// The emulation's half of cuda/device/device.cuh: CUDA's words as plain C++ over the executor.
//
// Barriers and shuffles take the place of the call as a hidden argument, so that an error can name both lines.
#pragma once

#include <string.h>

#include <cmath>
#include <initializer_list>
#include <source_location>
#include <type_traits>

#include "cuda/emulate/executor.h"
#include "cuda/tensor_map.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define SINEW_CLUSTER(blocks)
#define threadIdx (::sinew::cuda::emulate::current.thread_index)
#define blockIdx (::sinew::cuda::emulate::current.block_index)
#define blockDim (::sinew::cuda::emulate::current.block_dim)
#define gridDim (::sinew::cuda::emulate::current.grid_dim)

#define SINEW_DEVICE inline __attribute__((always_inline))
#define SINEW_UNROLL
// The address of the static names the array: one per place in the source and per template instance, as in CUDA.
#define SINEW_SHARED(type, name, extents)             \
  static const char name##_site_ = 0;                 \
  using name##_array_ = type extents;                 \
  name##_array_& name = *static_cast<name##_array_*>( \
      ::sinew::cuda::emulate::static_shared(&name##_site_, sizeof(name##_array_), alignof(name##_array_)))
#define SINEW_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::sinew::cuda::emulate::dynamic_shared())

namespace sinew::cuda::SINEW_CUDA_NS {

inline void block_sync(std::source_location site = std::source_location::current()) { emulate::block_barrier(site); }

inline void cluster_sync(std::source_location site = std::source_location::current()) {
  emulate::cluster_barrier(site);
}
template <class T>
void cluster_store(T* own, int rank, T value, std::source_location site = std::source_location::current()) {
  static_assert(sizeof(T) == 16);
  emulate::cluster_store(own, unsigned(rank), &value, sizeof(T), site);
}

inline void warp_sync(std::source_location site = std::source_location::current()) { emulate::warp_sync(site); }

namespace detail {

// The value of lane `source`.
template <class T>
T shuffled(const char* what, T value, int source, const std::source_location& site) {
  struct Lane {
    T value;
    T result;
    int source;
  };
  Lane lane{value, value, source};
  emulate::warp_collective(
      what, &lane,
      [](void* const* lanes, int count) {
        for (int i = 0; i < count; ++i) {
          Lane& to = *static_cast<Lane*>(lanes[i]);
          if (to.source < 0 || to.source >= count) emulate::fail("a warp_shuffle reads a lane that does not exist");
          to.result = static_cast<Lane*>(lanes[to.source])->value;
        }
      },
      site);
  return lane.result;
}

inline constexpr int kLanes = 32;

}  // namespace detail

template <class T>
T warp_shuffle_xor(T value, int mask, std::source_location site = std::source_location::current()) {
  return detail::shuffled("warp_shuffle_xor", value, emulate::current_lane() ^ mask, site);
}
// The device takes the lane's lowest five bits.
template <class T>
T warp_shuffle(T value, int lane, std::source_location site = std::source_location::current()) {
  return detail::shuffled("warp_shuffle", value, lane, site);
}
template <class T>
T warp_shuffle_up(T value, int distance, std::source_location site = std::source_location::current()) {
  const int own = emulate::current_lane(), from = own - distance;
  return detail::shuffled("warp_shuffle_up", value, from < 0 ? own : from, site);
}
template <class T>
T warp_shuffle_down(T value, int distance, std::source_location site = std::source_location::current()) {
  const int own = emulate::current_lane(), from = own + distance;
  return detail::shuffled("warp_shuffle_down", value, from >= detail::kLanes ? own : from, site);
}

inline uint32_t warp_ballot(bool flag, std::source_location site = std::source_location::current()) {
  struct Lane {
    bool flag;
    uint32_t result;
  };
  Lane lane{flag, 0};
  emulate::warp_collective(
      "warp_ballot", &lane,
      [](void* const* lanes, int count) {
        uint32_t bits = 0;
        for (int i = 0; i < count; ++i) bits |= uint32_t{static_cast<Lane*>(lanes[i])->flag} << i;
        for (int i = 0; i < count; ++i) static_cast<Lane*>(lanes[i])->result = bits;
      },
      site);
  return lane.result;
}
inline bool warp_any(bool flag, std::source_location site = std::source_location::current()) {
  return warp_ballot(flag, site) != 0;
}
inline bool warp_all(bool flag, std::source_location site = std::source_location::current()) {
  return warp_ballot(!flag, site) == 0;
}

template <class T>
T atomic_add(T* pointer, T value) {
  if constexpr (std::is_integral_v<T>) {
    return __atomic_fetch_add(pointer, value, __ATOMIC_RELAXED);
  } else {
    T old, sum;
    __atomic_load(pointer, &old, __ATOMIC_RELAXED);
    do {
      sum = old + value;
    } while (!__atomic_compare_exchange(pointer, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
  }
}

template <class To, class T>
To* as_vector(T* pointer) {
  if (reinterpret_cast<uintptr_t>(pointer) % alignof(To) != 0)
    emulate::fail("an access of several elements at once, at an address that is not aligned to them");
  return reinterpret_cast<To*>(pointer);
}

template <class T>
T read_unguarded(const T* pointer) {
  T value;
  emulate::copy_unwatched(&value, pointer, sizeof(T));
  return value;
}

template <class T>
void sin_cos_pi(T x, T* sin, T* cos) {
  const T angle = T(3.14159265358979323846) * x;
  *sin = std::sin(angle);
  *cos = std::cos(angle);
}

inline void copy_async(void* shared, const void* global, bool there) {
  emulate::copy_async(shared, global, there ? 16 : 0);
}
inline void copy_async_commit() { emulate::copy_async_commit(); }
template <int kPending>
void copy_async_wait() {
  emulate::copy_async_wait(kPending);
}

namespace detail {

struct MatricesLane {
  uint32_t* to;
  const char* row;
};
inline void check_matrices(void* const* lanes, int count) {
  if (count != 32) emulate::fail("load_matrices in a warp of fewer than 32 threads");
  for (int l = 0; l < 32; ++l)
    if (reinterpret_cast<uintptr_t>(static_cast<MatricesLane*>(lanes[l])->row) % 16 != 0)
      emulate::fail("load_matrices: a row is not aligned to 16 bytes");
}

}  // namespace detail

inline void load_matrices(uint32_t (&to)[4], const void* row,
                          std::source_location site = std::source_location::current()) {
  using Lane = detail::MatricesLane;
  Lane lane{to, static_cast<const char*>(row)};
  emulate::warp_collective(
      "load_matrices", &lane,
      [](void* const* lanes, int count) {
        detail::check_matrices(lanes, count);
        for (int l = 0; l < 32; ++l)
          for (int j = 0; j < 4; ++j)
            memcpy(static_cast<Lane*>(lanes[l])->to + j, static_cast<Lane*>(lanes[8 * j + l / 4])->row + l % 4 * 4, 4);
      },
      site);
}

inline void load_matrices_transposed(uint32_t (&to)[4], const void* row,
                                     std::source_location site = std::source_location::current()) {
  using Lane = detail::MatricesLane;
  Lane lane{to, static_cast<const char*>(row)};
  emulate::warp_collective(
      "load_matrices_transposed", &lane,
      [](void* const* lanes, int count) {
        detail::check_matrices(lanes, count);
        for (int l = 0; l < 32; ++l)
          for (int j = 0; j < 4; ++j) {
            uint16_t pair[2];
            for (int e = 0; e < 2; ++e)
              memcpy(pair + e, static_cast<Lane*>(lanes[8 * j + l % 4 * 2 + e])->row + l / 4 * 2, 2);
            memcpy(static_cast<Lane*>(lanes[l])->to + j, pair, 4);
          }
      },
      site);
}

// To the nearest, ties away from zero.
inline uint32_t to_tf32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
}

namespace detail {

inline float word_as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// What a lane holds: D as it is, A (16, kDepth) and B (kDepth, 8) as words of kDepth / 8 elements each.
struct MmaLane {
  float* d;
  const uint32_t *a, *b;
};

// A register holds kPacked neighbouring k; lane l = 4 g + t has row or column g and the t-th word of each half of k.
template <int kPacked, class Element>
void mma(void* const* lanes, int count, Element element) {
  if (count != 32) emulate::fail("mma in a warp of fewer than 32 threads");
  constexpr int kDepth = 8 * kPacked;
  float a[16][kDepth], b[kDepth][8];
  for (int l = 0; l < 32; ++l) {
    const MmaLane& lane = *static_cast<const MmaLane*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int e = 0; e < kPacked; ++e) {
      for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][(t + i / 2 * 4) * kPacked + e] = element(lane.a[i], e);
      for (int i = 0; i < 2; ++i) b[(t + i * 4) * kPacked + e][g] = element(lane.b[i], e);
    }
  }
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      float& d = static_cast<MmaLane*>(lanes[l])->d[i];
      for (int k = 0; k < kDepth; ++k) d += a[l / 4 + i / 2 * 8][k] * b[k][l % 4 * 2 + i % 2];
    }
}

}  // namespace detail

inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     std::source_location site = std::source_location::current()) {
  detail::MmaLane lane{d, a, b};
  emulate::warp_collective(
      "mma_tf32", &lane,
      [](void* const* lanes, int count) {
        detail::mma<1>(lanes, count, [](uint32_t word, int) { return detail::word_as_float(word & ~0x1fffu); });
      },
      site);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     std::source_location site = std::source_location::current()) {
  detail::MmaLane lane{d, a, b};
  emulate::warp_collective(
      "mma_bf16", &lane,
      [](void* const* lanes, int count) {
        detail::mma<2>(lanes, count, [](uint32_t word, int e) {
          return detail::word_as_float(e == 0 ? word << 16 : word & 0xffff0000u);
        });
      },
      site);
}

// ---- wgmma ----

inline uint64_t matrix_descriptor(const void* shared, uint32_t leading, uint32_t stride) {
  return uint64_t{emulate::shared_offset(shared) >> 4 & 0x3fffu} | uint64_t{leading >> 4 & 0x3fffu} << 16 |
         uint64_t{stride >> 4 & 0x3fffu} << 32 | uint64_t{1} << 62;
}

namespace detail {

// Where element (row, k) of an operand lies in shared memory; transposed: elements of 2 bytes.
inline uint32_t descriptor_offset(uint64_t descriptor, bool transposed, int row, int k, uint32_t bytes) {
  const auto field = [&](int shift) { return static_cast<uint32_t>(descriptor >> shift & 0x3fffu) << 4; };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  if (descriptor >> 62 != 1) emulate::fail("wgmma: a descriptor without the swizzle of 128 bytes");
  const auto r = static_cast<uint32_t>(row), c = static_cast<uint32_t>(k);
  const uint32_t offset = start + (transposed ? r / 64 * leading + r % 64 * 2 + c / 8 * stride + c % 8 * 128
                                              : r / 8 * stride + r % 8 * 128 + c * bytes);
  return offset ^ (offset >> 7 & 7u) << 4;
}
// What wgmma multiplies. kDepth: its k, 32 bytes. That it is read the race detector knows from read_operand.
struct GroupBf16 {
  static constexpr uint32_t kBytes = 2;
  static constexpr int kDepth = 16;
  static float element(const void* p) {
    uint16_t bits;
    emulate::copy_unwatched(&bits, p, 2);
    return word_as_float(uint32_t{bits} << 16);
  }
};
struct GroupTf32 {
  static constexpr uint32_t kBytes = 4;
  static constexpr int kDepth = 8;
  static float element(const void* p) {
    uint32_t bits;
    emulate::copy_unwatched(&bits, p, 4);
    return word_as_float(bits & ~0x1fffu);
  }
};

// `rows` rows of an operand and all k, in groups of 16 bytes.
template <class Type>
void read_operand(uint64_t descriptor, bool transposed, int row, int rows) {
  constexpr int kGroup = 16 / Type::kBytes;
  for (int r = row; r < row + rows; r += transposed ? kGroup : 1)
    for (int k = 0; k < Type::kDepth; k += transposed ? 1 : kGroup)
      emulate::read_operand(descriptor_offset(descriptor, transposed, r, k, Type::kBytes), 16);
}
template <int kN, class Type>
void read_group(const emulate::GroupProduct& p) {
  read_operand<Type>(p.a, p.transposed_a, p.warp * 16, 16);
  read_operand<Type>(p.b, p.transposed_b, 0, kN);
}

template <int kN, class Type>
void multiply_group(const emulate::GroupProduct* const* lanes, int count) {
  if (count != 32) emulate::fail("wgmma in a warp of fewer than 32 threads");
  const emulate::GroupProduct& p = *lanes[0];
  for (int l = 1; l < 32; ++l)
    if (lanes[l]->a != p.a || lanes[l]->b != p.b) emulate::fail("wgmma: a warp's descriptors differ");
  const auto element = [](uint64_t descriptor, bool transposed, int row, int k) {
    return Type::element(emulate::shared_at(descriptor_offset(descriptor, transposed, row, k, Type::kBytes)));
  };
  float a[16][Type::kDepth], b[Type::kDepth][kN];
  for (int k = 0; k < Type::kDepth; ++k) {
    for (int m = 0; m < 16; ++m) a[m][k] = element(p.a, p.transposed_a, p.warp * 16 + m, k);
    for (int n = 0; n < kN; ++n) b[k][n] = element(p.b, p.transposed_b, n, k);
  }
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < kN / 2; ++i) {
      float& d = lanes[l]->d[i];
      for (int k = 0; k < Type::kDepth; ++k) d += a[l / 4 + i / 2 % 2 * 8][k] * b[k][i / 4 * 8 + l % 4 * 2 + i % 2];
    }
}

template <int kN, class Type>
void issue_group(float (&d)[kN / 2], uint64_t a, uint64_t b, bool transposed_a, bool transposed_b,
                 const std::source_location& site) {
  emulate::group_product({d, a, b, transposed_a, transposed_b, int(threadIdx.x) / 32 % 4, &read_group<kN, Type>,
                          &multiply_group<kN, Type>},
                         site);
}

}  // namespace detail

inline void wgmma_fence() { emulate::group_product_fence(); }
inline void proxy_fence() { emulate::proxy_fence(); }
template <int kN, bool kTransposedA, bool kTransposedB>
void wgmma(float (&d)[kN / 2], uint64_t a, uint64_t b, std::source_location site = std::source_location::current()) {
  detail::issue_group<kN, detail::GroupBf16>(d, a, b, kTransposedA, kTransposedB, site);
}
template <int kN>
void wgmma_tf32(float (&d)[kN / 2], uint64_t a, uint64_t b,
                std::source_location site = std::source_location::current()) {
  detail::issue_group<kN, detail::GroupTf32>(d, a, b, false, false, site);
}
inline void wgmma_commit() { emulate::group_product_commit(); }
template <int kPending>
void wgmma_wait(std::source_location site = std::source_location::current()) {
  emulate::group_product_wait(kPending, site);
}
template <int kCount>
void wgmma_results(float (&)[kCount]) {}

// ---- mbarriers and bulk copies ----

struct Mbarrier {
  uint64_t state;  // not used: the executor has it
};
inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals,
                          std::source_location site = std::source_location::current()) {
  emulate::mbarrier_init(barrier, arrivals, site);
}
inline void mbarrier_init_fence() { emulate::mbarrier_init_fence(); }
inline void mbarrier_invalidate(Mbarrier* barrier, std::source_location site = std::source_location::current()) {
  emulate::mbarrier_invalidate(barrier, site);
}
inline void mbarrier_arrive(Mbarrier* barrier, std::source_location site = std::source_location::current()) {
  emulate::mbarrier_arrive(barrier, 0, site);
}
inline void mbarrier_arrive_expect(Mbarrier* barrier, unsigned bytes,
                                   std::source_location site = std::source_location::current()) {
  emulate::mbarrier_arrive(barrier, bytes, site);
}
inline void mbarrier_wait(Mbarrier* barrier, unsigned parity,
                          std::source_location site = std::source_location::current()) {
  emulate::mbarrier_wait(barrier, parity, site);
}

namespace detail {

inline void load_box(void* shared, const TensorMap* map, Mbarrier* barrier, std::initializer_list<int> at,
                     const std::source_location& site) {
  emulate::TensorImage image;
  memcpy(&image, map, sizeof(image));
  if (image.rank != at.size()) emulate::fail("load_box with more or fewer coordinates than the tensor has");
  emulate::load_box(shared, image, barrier, at.begin(), site);
}

}  // namespace detail

inline void prefetch_map(const TensorMap*) {}
inline void load_box(void* shared, const TensorMap* map, Mbarrier* barrier, int x, int y,
                     std::source_location site = std::source_location::current()) {
  detail::load_box(shared, map, barrier, {x, y}, site);
}
inline void load_box(void* shared, const TensorMap* map, Mbarrier* barrier, int x, int y, int z,
                     std::source_location site = std::source_location::current()) {
  detail::load_box(shared, map, barrier, {x, y, z}, site);
}
inline void load_pixels(void* shared, const TensorMap* map, Mbarrier* barrier, int c, int w, int h, int n, int tap_w,
                        int tap_h, std::source_location site = std::source_location::current()) {
  emulate::PixelImages images;
  memcpy(&images, map, sizeof(images));
  if (images.kind != emulate::PixelImages::kKind) emulate::fail("load_pixels with a map that is not one of pixels");
  emulate::load_pixels(shared, images, barrier, {c, w, h, n, tap_w, tap_h}, site);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
