// Numbers in fewer bits for messages (core/packed_form.h): rounding with a residual, packing, unpacking.
//
// Parallel over blocks of 256 numbers, a warp each, in a grid-stride loop: 8 numbers a lane in groups of 16 bytes, the
// block's largest magnitude by shuffles. Bytes per number: rounding 2 sizeof(T), 4 with a residual; packing and
// unpacking sizeof(T) + 1 (int8) or + 2 (bf16). About 10 operations per number; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/vector.cuh"
#include "cuda/kernels/packing.h"

#include "core/packed_form.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace op = ::sinew::SINEW_FUNCTOR_NS;

// A lane's share of a block: groups lane, lane + 32, ... of 16 bytes; beyond the end of the vector: zeros.
template <class T>
struct Share {
  static constexpr int kWidth = Pack<T>::kWidth, kGroups = int(kPackedBlock) / (32 * kWidth);
  Pack<T> group[kGroups];

  SINEW_DEVICE static int64_t index(int64_t block, int g) {
    return block * (kPackedBlock / kWidth) + g * 32 + threadIdx.x % 32;
  }
  SINEW_DEVICE void load(const T* x, int64_t block, int64_t n, bool aligned) {
    SINEW_UNROLL
    for (int g = 0; g < kGroups; ++g) group[g] = load_pack(x, index(block, g), n, aligned);
  }
  SINEW_DEVICE void store(T* x, int64_t block, int64_t n, bool aligned) const {
    SINEW_UNROLL
    for (int g = 0; g < kGroups; ++g) store_pack(x, index(block, g), n, group[g], aligned);
  }
  template <class Fn>
  SINEW_DEVICE void each(Fn fn) {
    SINEW_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) fn(g, j, group[g].v[j]);
    }
  }
  // Of the whole block.
  SINEW_DEVICE op::MagnitudeBits<T> largest() {
    op::MagnitudeBits<T> most = 0;
    each([&](int, int, T x) {
      const op::MagnitudeBits<T> bits = op::magnitude(x);
      most = bits > most ? bits : most;
    });
    SINEW_UNROLL
    for (int mask = 16; mask > 0; mask /= 2) {
      const op::MagnitudeBits<T> other = warp_shuffle_xor(most, mask);
      most = other > most ? other : most;
    }
    return most;
  }
};

// What becomes of a group of 16 bytes in `Part`s, moved at once.
template <class T, class Part>
struct alignas(sizeof(Part) * Pack<T>::kWidth) Parts {
  Part v[Pack<T>::kWidth];
};

// fn(block) for each of this warp's blocks of numbers.
template <class Fn>
SINEW_DEVICE void each_block(int64_t n, Fn fn) {
  const int64_t blocks = (n + kPackedBlock - 1) / kPackedBlock;
  for (int64_t b = int64_t(blockIdx.x) * kPackingBlocks + threadIdx.x / 32; b < blocks;
       b += int64_t(gridDim.x) * kPackingBlocks)
    fn(b);
}

template <class T, PackedForm kForm>
__global__ void __launch_bounds__(kPackingThreads) round_to_packed(int64_t n, T* values, T* residual, bool aligned) {
  each_block(n, [&](int64_t block) {
    Share<T> wanted, rounded;
    wanted.load(values, block, n, aligned);
    if (!op::finite_magnitude<T>(wanted.largest())) return;
    if (residual != nullptr) {
      rounded.load(residual, block, n, aligned);
      wanted.each([&](int g, int j, T& x) { x = x + rounded.group[g].v[j]; });
    }
    const op::MagnitudeBits<T> largest = wanted.largest();
    rounded = wanted;
    if constexpr (kForm == PackedForm::bf16) {
      rounded.each([&](int, int, T& x) { x = op::rounded_to_bf16(x); });
    } else {
      const bool small = op::small_for_int8<T>(largest);
      const op::Int8Scale<T> scale = small ? op::int8_scale<T>(0) : op::int8_scale_of<T>(largest);
      rounded.each([&](int, int, T& x) { x = small ? T(0) : op::rounded_to_int8(x, scale); });
    }
    if (!op::finite_magnitude<T>(largest) || !op::finite_magnitude<T>(rounded.largest())) return;
    rounded.store(values, block, n, aligned);
    if (residual == nullptr) return;
    wanted.each([&](int g, int j, T& x) { x = x - rounded.group[g].v[j]; });
    wanted.store(residual, block, n, aligned);
  });
}

SINEW_DEVICE void store_pair(unsigned char* p, unsigned low, unsigned high) {
  *as_vector<uint16_t>(p) = static_cast<uint16_t>(low | high << 8);
}

template <class T, PackedForm kForm>
__global__ void __launch_bounds__(kPackingThreads)
    pack(int64_t n, const T* values, unsigned char* bytes, int32_t* inexact, bool aligned) {
  each_block(n, [&](int64_t block) {
    Share<T> share;
    share.load(values, block, n, aligned);
    const int64_t rest = n - block * kPackedBlock;  // numbers from the block's first on
    bool exact = true;
    const auto place = [&](int g, int j) { return (g * 32 + int(threadIdx.x % 32)) * Share<T>::kWidth + j; };
    if constexpr (kForm == PackedForm::bf16) {
      unsigned char* out = bytes + block * 2 * kPackedBlock;
      SINEW_UNROLL
      for (int g = 0; g < Share<T>::kGroups; ++g) {
        Parts<T, uint16_t> parts;
        SINEW_UNROLL
        for (int j = 0; j < Share<T>::kWidth; ++j) {
          const T x = share.group[g].v[j];
          const bfloat16 b(x);
          exact = exact && static_cast<T>(static_cast<float>(b)) == x;
          parts.v[j] = b.bits;
        }
        if (aligned && place(g, Share<T>::kWidth) <= rest) {
          *as_vector<Parts<T, uint16_t>>(out + 2 * place(g, 0)) = parts;
          continue;
        }
        SINEW_UNROLL
        for (int j = 0; j < Share<T>::kWidth; ++j)
          if (place(g, j) < rest) *as_vector<uint16_t>(out + 2 * place(g, j)) = parts.v[j];
      }
    } else {
      const op::MagnitudeBits<T> largest = share.largest();
      exact = op::finite_magnitude<T>(largest) && (largest == 0 || !op::small_for_int8<T>(largest));
      const op::Int8Scale<T> scale = exact && largest != 0 ? op::int8_scale_of<T>(largest) : op::int8_scale<T>(0);
      unsigned char* out = bytes + block * kPackedBlockBytes;
      if (threadIdx.x % 32 == 0) store_pair(out, scale.exponent & 0xFF, scale.exponent >> 8 & 0xFF);
      unsigned low = 0;
      share.each([&](int g, int j, T x) {
        const T q = op::nearest_integer(x * scale.inverse);
        exact = exact && q * scale.step == x;
        const unsigned byte = exact ? static_cast<unsigned>(static_cast<int>(q)) & 0xFF : 0;
        const int at = place(g, j);
        if (j % 2 == 0) {
          low = byte;
          if (at == rest - 1) out[2 + at] = static_cast<unsigned char>(byte);
        } else if (at < rest) {
          store_pair(out + 1 + at, low, byte);
        }
      });
    }
    if (!exact) atomic_add(inexact, 1);
  });
}

template <class T, PackedForm kForm>
__global__ void __launch_bounds__(kPackingThreads)
    unpack(int64_t n, const unsigned char* bytes, T* values, bool aligned) {
  each_block(n, [&](int64_t block) {
    Share<T> share;
    const int64_t rest = n - block * kPackedBlock;
    const auto place = [&](int g, int j) { return (g * 32 + int(threadIdx.x % 32)) * Share<T>::kWidth + j; };
    if constexpr (kForm == PackedForm::bf16) {
      const unsigned char* in = bytes + block * 2 * kPackedBlock;
      Parts<T, uint16_t> parts[Share<T>::kGroups] = {};
      SINEW_UNROLL
      for (int g = 0; g < Share<T>::kGroups; ++g) {
        if (aligned && place(g, Share<T>::kWidth) <= rest) {
          parts[g] = *as_vector<const Parts<T, uint16_t>>(in + 2 * place(g, 0));
          continue;
        }
        SINEW_UNROLL
        for (int j = 0; j < Share<T>::kWidth; ++j)
          if (place(g, j) < rest) parts[g].v[j] = *as_vector<const uint16_t>(in + 2 * place(g, j));
      }
      share.each([&](int g, int j, T& x) {
        bfloat16 b{};
        b.bits = parts[g].v[j];
        x = static_cast<float>(b);
      });
    } else {
      const unsigned char* in = bytes + block * kPackedBlockBytes;
      const T step = op::int8_step_of<T>(static_cast<int16_t>(*as_vector<const uint16_t>(in)));
      unsigned pairs[Share<T>::kGroups][Share<T>::kWidth / 2];
      SINEW_UNROLL
      for (int g = 0; g < Share<T>::kGroups; ++g) {
        SINEW_UNROLL
        for (int j = 0; j < Share<T>::kWidth; j += 2) {
          const int at = place(g, j);
          unsigned& pair = pairs[g][j / 2];
          if (rest >= kPackedBlock)
            pair = *as_vector<const uint16_t>(in + 2 + at);
          else  // the last number of an odd vector has no neighbour
            pair = at + 1 < rest ? *as_vector<const uint16_t>(in + 2 + at) : at < rest ? in[2 + at] : 0;
        }
      }
      share.each([&](int g, int j, T& x) {
        x = static_cast<T>(static_cast<int8_t>(pairs[g][j / 2] >> (j % 2 * 8) & 0xFF)) * step;
      });
    }
    share.store(values, block, n, aligned);
  });
}

}  // namespace

template <class T>
RoundToPackedKernel<T> round_to_packed_kernel(PackedForm form) {
  if (form == PackedForm::bf16) return {"round to bf16", &round_to_packed<T, PackedForm::bf16>};
  return {"round to int8", &round_to_packed<T, PackedForm::int8>};
}
template RoundToPackedKernel<float> round_to_packed_kernel(PackedForm form);
template RoundToPackedKernel<double> round_to_packed_kernel(PackedForm form);

template <class T>
PackKernel<T> pack_kernel(PackedForm form) {
  if (form == PackedForm::bf16) return {"pack bf16", &pack<T, PackedForm::bf16>};
  return {"pack int8", &pack<T, PackedForm::int8>};
}
template PackKernel<float> pack_kernel(PackedForm form);
template PackKernel<double> pack_kernel(PackedForm form);

template <class T>
UnpackKernel<T> unpack_kernel(PackedForm form) {
  if (form == PackedForm::bf16) return {"unpack bf16", &unpack<T, PackedForm::bf16>};
  return {"unpack int8", &unpack<T, PackedForm::int8>};
}
template UnpackKernel<float> unpack_kernel(PackedForm form);
template UnpackKernel<double> unpack_kernel(PackedForm form);

}  // namespace sinew::cuda::SINEW_CUDA_NS
