// Numbers in fewer bits (core/packed_form.h): each block of numbers is read once.
#include "core/cpu/kernels/common.h"
#include "core/packed_form.h"

namespace sinew::SINEW_CPU_NS {
namespace {

constexpr int64_t kTask = 32 * kPackedBlock;  // numbers that a thread takes at a time

template <class T>
op::MagnitudeBits<T> largest_magnitude(const T* v, int64_t n) {
  op::MagnitudeBits<T> largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const op::MagnitudeBits<T> bits = op::magnitude(v[i]);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// What a block of bf16 or int8 holds nearest to wanted[i], and its bytes, for magnitudes up to `largest`. False: some
// of it would be infinite, and nothing is done.
template <class T>
bool round_bf16(const T* __restrict wanted, op::MagnitudeBits<T> largest, int64_t n, T* __restrict rounded,
                unsigned char* __restrict bytes) {
  const T top = op::rounded_to_bf16(__builtin_bit_cast(T, largest));
  if (!op::finite_magnitude<T>(op::magnitude(top))) return false;
  for (int64_t i = 0; i < n; ++i) {
    const bfloat16 b(wanted[i]);
    rounded[i] = static_cast<T>(static_cast<float>(b));
    memcpy(bytes + 2 * i, &b, 2);
  }
  return true;
}
template <class T>
bool round_int8(const T* __restrict wanted, op::MagnitudeBits<T> largest, int64_t n, T* __restrict rounded,
                unsigned char* __restrict bytes) {
  const bool zeros = op::small_for_int8<T>(largest);
  const op::Int8Scale<T> scale = zeros ? op::int8_scale<T>(0) : op::int8_scale_of<T>(largest);
  const T top = op::rounded_to_int8(__builtin_bit_cast(T, largest), scale);
  if (!op::finite_magnitude<T>(op::magnitude(top))) return false;
  const auto exponent = static_cast<int16_t>(scale.exponent);
  memcpy(bytes, &exponent, 2);
  for (int64_t i = 0; i < n; ++i) {
    const T q = zeros ? T(0) : op::nearest_integer(wanted[i] * scale.inverse);
    rounded[i] = q * scale.step + T(0);
    bytes[2 + i] = static_cast<unsigned char>(static_cast<int8_t>(static_cast<int>(q)));
  }
  return true;
}

// out may be v; bytes may be null. False: the block is not rounded, and has no bytes yet.
template <class T>
bool round_block(PackedForm form, const T* v, T* __restrict residual, T* out, unsigned char* bytes, int64_t n) {
  T wanted[kPackedBlock];
  unsigned char unwanted[2 * kPackedBlock];
  if (!bytes) bytes = unwanted;
  op::MagnitudeBits<T> largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    wanted[i] = residual ? v[i] + residual[i] : v[i];
    const op::MagnitudeBits<T> bits = op::magnitude(wanted[i]);
    largest = bits > largest ? bits : largest;
  }
  const bool done =
      op::finite_magnitude<T>(largest) && (form == PackedForm::bf16 ? round_bf16(wanted, largest, n, out, bytes)
                                                                    : round_int8(wanted, largest, n, out, bytes));
  if (!done) {
    if (out != v) memcpy(out, v, static_cast<size_t>(n) * sizeof(T));
    return false;
  }
  if (residual)
    for (int64_t i = 0; i < n; ++i) residual[i] = wanted[i] - out[i];
  return true;
}

// False when the numbers are not of that form.
template <class T>
bool pack_bf16(const T* v, int64_t n, unsigned char* out) {
  int inexact = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bfloat16 b(v[i]);
    inexact |= static_cast<T>(static_cast<float>(b)) != v[i];
    memcpy(out + 2 * i, &b, 2);
  }
  return !inexact;
}
template <class T>
bool pack_int8(const T* v, int64_t n, unsigned char* out) {
  const op::MagnitudeBits<T> largest = largest_magnitude(v, n);
  if (!op::finite_magnitude<T>(largest) || (largest != 0 && op::small_for_int8<T>(largest))) return false;
  const op::Int8Scale<T> scale = largest == 0 ? op::int8_scale<T>(0) : op::int8_scale_of<T>(largest);
  const auto exponent = static_cast<int16_t>(scale.exponent);
  memcpy(out, &exponent, 2);
  int inexact = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T q = op::nearest_integer(v[i] * scale.inverse);
    inexact |= q * scale.step != v[i];
    out[2 + i] = static_cast<unsigned char>(static_cast<int8_t>(static_cast<int>(q)));
  }
  return !inexact;
}

template <class T>
bool pack_block(PackedForm form, const T* v, int64_t n, unsigned char* out) {
  return form == PackedForm::bf16 ? pack_bf16(v, n, out) : pack_int8(v, n, out);
}

template <class T>
void unpack_bf16(const unsigned char* in, int64_t n, T* v) {
  for (int64_t i = 0; i < n; ++i) {
    bfloat16 b;
    memcpy(&b, in + 2 * i, 2);
    v[i] = static_cast<float>(b);
  }
}
template <class T>
void unpack_int8(const unsigned char* in, int64_t n, T* v) {
  int16_t exponent;
  memcpy(&exponent, in, 2);
  const T step = op::int8_step_of<T>(exponent);
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<T>(static_cast<int8_t>(in[2 + i])) * step;
}

// fn(first, n, byte) for each block: its first number, its length, where its bytes are.
template <class Fn>
void each_block(PackedForm form, int64_t n, Fn fn) {
  const int64_t bytes = form == PackedForm::bf16 ? 2 * kPackedBlock : kPackedBlockBytes;
  parallel_blocks(n, kTask, n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kPackedBlock) fn(i, min64(kPackedBlock, end - i), i / kPackedBlock * bytes);
  });
}

}  // namespace

void round_to_packed(const kernel::RoundToPackedArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    T* values = static_cast<T*>(args.values);
    T* residual = static_cast<T*>(args.residual);
    each_block(args.form, args.n, [=, &args](int64_t first, int64_t n, int64_t) {
      round_block<T>(args.form, values + first, residual ? residual + first : nullptr, values + first, nullptr, n);
    });
  })
}

void pack(const kernel::PackArgs& args) {
  *args.inexact = 0;
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* values = static_cast<const T*>(args.values);
    each_block(args.form, args.n, [=, &args](int64_t first, int64_t n, int64_t byte) {
      unsigned char* out = static_cast<unsigned char*>(args.bytes) + byte;
      if (!pack_block(args.form, values + first, n, out)) __atomic_store_n(args.inexact, 1, __ATOMIC_RELAXED);
    });
  })
}

void round_and_pack(const kernel::RoundAndPackArgs& args) {
  *args.inexact = 0;
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* values = static_cast<const T*>(args.values);
    T* residual = static_cast<T*>(args.residual);
    T* rounded = static_cast<T*>(args.rounded);
    each_block(args.form, args.n, [=, &args](int64_t first, int64_t n, int64_t byte) {
      unsigned char* out = static_cast<unsigned char*>(args.bytes) + byte;
      const bool exact =
          round_block<T>(args.form, values + first, residual ? residual + first : nullptr, rounded + first, out, n) ||
          pack_block(args.form, rounded + first, n, out);
      if (!exact) __atomic_store_n(args.inexact, 1, __ATOMIC_RELAXED);
    });
  })
}

void unpack(const kernel::UnpackArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    T* values = static_cast<T*>(args.values);
    each_block(args.form, args.n, [=, &args](int64_t first, int64_t n, int64_t byte) {
      const unsigned char* in = static_cast<const unsigned char*>(args.bytes) + byte;
      if (args.form == PackedForm::bf16)
        unpack_bf16(in, n, values + first);
      else
        unpack_int8(in, n, values + first);
    });
  })
}

}  // namespace sinew::SINEW_CPU_NS
