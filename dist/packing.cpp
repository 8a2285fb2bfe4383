#include "dist/packing.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/bfloat16.h"

namespace sinew::dist {
namespace {

constexpr int64_t kBlock = 256;
constexpr int kLargest = 127;
// Blocks whose numbers are all smaller than 2^kFloor become zeros: their quotients would need exponents out of range.
constexpr int kFloor = -100;

struct Range {
  bool finite = true;
  double largest = 0;
};

template <class T>
Range range_of(const T* v, int64_t n) {
  constexpr int64_t kLanes = 16;  // vectors of the compiler's
  T largest[kLanes] = {}, nothing[kLanes] = {};
  for (int64_t at = 0; at < n; at += kLanes)
    for (int64_t i = 0, lanes = std::min(kLanes, n - at); i < lanes; ++i) {
      const T x = v[at + i], size = std::abs(x);
      largest[i] = largest[i] < size ? size : largest[i];
      nothing[i] += x * 0;  // NaN where x is not finite
    }
  Range range;
  for (int64_t i = 0; i < kLanes; ++i) {
    range.finite &= nothing[i] == 0;
    range.largest = std::max(range.largest, static_cast<double>(largest[i]));
  }
  return range;
}

// The exponent of a block: the least e with largest <= 127 2^e. A block that was rounded with e has it again.
int exponent_of(double largest) {
  int e = 0;
  const double m = std::frexp(largest, &e);
  return e - 7 + (m * 128 > kLargest);
}

template <class T>
void round_block(Packing packing, T* v, int64_t n) {
  if (packing == Packing::bf16) {
    for (int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(bfloat16(v[i]));
    return;
  }
  const Range range = range_of(v, n);
  if (range.largest < std::ldexp(1.0, kFloor)) return std::fill(v, v + n, T(0));
  const double step = std::ldexp(1.0, exponent_of(range.largest)), inverse = 1 / step;
  // + 0.0: the packed form has no -0.
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<T>(std::nearbyint(v[i] * inverse) * step + 0.0);
}

template <class T>
void round_all(Packing packing, T* v, T* residual, int64_t size) {
  T wanted[kBlock];
  for (int64_t at = 0; at < size; at += kBlock, v += kBlock) {
    const int64_t n = std::min(kBlock, size - at);
    if (!range_of(v, n).finite) continue;
    if (!residual) {
      round_block(packing, v, n);
      continue;
    }
    T* rest = residual + at;
    for (int64_t i = 0; i < n; ++i) wanted[i] = v[i] + rest[i];
    T rounded[kBlock];
    std::copy(wanted, wanted + n, rounded);
    round_block(packing, rounded, n);
    if (!range_of(wanted, n).finite || !range_of(rounded, n).finite) continue;  // beyond the largest number
    std::copy(rounded, rounded + n, v);
    for (int64_t i = 0; i < n; ++i) rest[i] = wanted[i] - v[i];
  }
}

// Both: false when the numbers are not of that form.
template <class T>
bool pack_bf16(const T* v, int64_t n, unsigned char* out) {
  bool exact = true;
  for (int64_t i = 0; i < n; ++i) {
    const bfloat16 b(v[i]);
    exact &= static_cast<T>(static_cast<float>(b)) == v[i];
    std::memcpy(out + 2 * i, &b, 2);
  }
  return exact;
}

template <class T>
bool pack_int8(const T* v, int64_t size, unsigned char* out) {
  for (int64_t at = 0; at < size; at += kBlock, v += kBlock) {
    const int64_t n = std::min(kBlock, size - at);
    const Range range = range_of(v, n);
    if (!range.finite || (range.largest != 0 && range.largest < std::ldexp(1.0, kFloor))) return false;
    const auto e = static_cast<int16_t>(range.largest == 0 ? 0 : exponent_of(range.largest));
    const double step = std::ldexp(1.0, e), inverse = 1 / step;
    std::memcpy(out, &e, 2);
    out += 2;
    bool exact = true;
    for (int64_t i = 0; i < n; ++i) {
      const double q = std::nearbyint(v[i] * inverse);
      exact &= q * step == v[i];
      out[i] = static_cast<unsigned char>(static_cast<int8_t>(q));
    }
    if (!exact) return false;
    out += n;
  }
  return true;
}

template <class T>
void unpack_to(Packing packing, const unsigned char* in, T* out, int64_t size) {
  if (packing == Packing::bf16) {
    for (int64_t i = 0; i < size; ++i) {
      bfloat16 b;
      std::memcpy(&b, in + 2 * i, 2);
      out[i] = static_cast<float>(b);
    }
    return;
  }
  for (int64_t at = 0; at < size; at += kBlock) {
    const int64_t n = std::min(kBlock, size - at);
    int16_t e;
    std::memcpy(&e, in, 2);
    const double step = std::ldexp(1.0, e);
    in += 2;
    for (int64_t i = 0; i < n; ++i) out[at + i] = static_cast<T>(static_cast<int8_t>(in[i]) * step);
    in += n;
  }
}

// How many numbers were packed into so many bytes; -1: none are.
int64_t unpacked_count(Packing packing, size_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  if (packing == Packing::bf16) return size % 2 == 0 ? size / 2 : -1;
  const int64_t whole = size / (kBlock + 2), rest = size % (kBlock + 2);
  return rest == 0 ? whole * kBlock : rest > 2 ? whole * kBlock + rest - 2 : -1;
}

// Empty, and head.packing 0, when the numbers are not of that form.
Payload try_packed(Head& head, ConstVecView v, Packing packing) {
  head.packing = 0;
  if (packing == Packing::none || v.size == 0) return {};
  Payload body = Payload::allocate(packed_bytes(packing, v.size, v.dtype));
  auto* out = static_cast<unsigned char*>(body.data());
  bool exact = false;
  SINEW_DISPATCH_FLOAT(v.dtype, "packed", {
    const auto* in = static_cast<const T*>(v.data);
    exact = packing == Packing::bf16 ? pack_bf16(in, v.size, out) : pack_int8(in, v.size, out);
  });
  if (!exact) return {};
  head.packing = static_cast<uint32_t>(packing);
  return body;
}

}  // namespace

Packing packing_of(const std::string& name) {
  return name == "bf16" ? Packing::bf16 : name == "int8" ? Packing::int8 : Packing::none;
}

std::vector<std::string> packing_names() { return {"f32", "bf16", "int8"}; }

size_t packed_bytes(Packing packing, int64_t n, DType dtype) {
  if (packing == Packing::none) return static_cast<size_t>(n) * size_of(dtype);
  return static_cast<size_t>(packing == Packing::bf16 ? 2 * n : n + 2 * ((n + kBlock - 1) / kBlock));
}

void round_to_packing(Packing packing, VecView values, VecView residual) {
  if (packing == Packing::none) return;
  SINEW_CHECK(values.device == Device::cpu &&
                  (residual.size == 0 ||
                   (residual.size == values.size && residual.dtype == values.dtype && residual.device == Device::cpu)),
              "round_to_packing", "the residual does not fit the ", values.size, " values in host memory");
  SINEW_DISPATCH_FLOAT(values.dtype, "round_to_packing", {
    round_all(packing, static_cast<T*>(values.data), static_cast<T*>(residual.size ? residual.data : nullptr),
              values.size);
  });
}

Payload packed(Head& head, ConstVecView values, Packing packing) {
  Payload body = try_packed(head, values, packing);
  return head.packing == 0 ? Payload::copy_of(values) : body;
}

void send_packed(World& world, Rank to, Head head, const Payload& body, Packing packing, DType dtype) {
  Payload smaller = try_packed(head, body.view(dtype), packing);
  world.send(to, head, head.packing == 0 ? body : std::move(smaller));
}

Message unpacked(const Message& message, DType dtype) {
  const auto packing = static_cast<Packing>(message.head.packing);
  if (packing == Packing::none) return message;
  Message m{message.head, {}};
  m.head.packing = 0;
  const int64_t n =
      packing == Packing::bf16 || packing == Packing::int8 ? unpacked_count(packing, message.body.size()) : -1;
  if (n <= 0) return m;
  m.body = Payload::allocate(static_cast<size_t>(n) * size_of(dtype));
  const auto* in = static_cast<const unsigned char*>(message.body.data());
  SINEW_DISPATCH_FLOAT(dtype, "unpacked", { unpack_to(packing, in, static_cast<T*>(m.body.data()), n); });
  return m;
}

}  // namespace sinew::dist
