#include "dist/packing.h"

#include <algorithm>

#include "core/kernel_api.h"
#include "core/packed_form.h"

namespace sinew::dist {
namespace {

// REQUIRES: not none.
PackedForm form_of(Packing packing) { return packing == Packing::bf16 ? PackedForm::bf16 : PackedForm::int8; }

// Numbers, whole blocks, that one call packs or unpacks in host memory: too few for several threads, since messages are
// packed in handlers too.
constexpr int64_t kChunk = 64 * kPackedBlock;

// How many numbers were packed into so many bytes; -1: none are.
int64_t unpacked_count(Packing packing, size_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  if (packing == Packing::bf16) return size % 2 == 0 ? size / 2 : -1;
  const int64_t whole = size / kPackedBlockBytes, rest = size % kPackedBlockBytes;
  return rest == 0 ? whole * kPackedBlock : rest > 2 ? whole * kPackedBlock + rest - 2 : -1;
}

// Empty, and head.packing 0, when the numbers are not of that form.
Payload try_packed(Head& head, ConstVecView v, Packing packing) {
  head.packing = 0;
  if (packing == Packing::none || v.size == 0) return {};
  const size_t bytes = packed_bytes(packing, v.size, v.dtype);
  const KernelTable& table = kernels(v.device);
  Payload body = Payload::allocate(bytes);
  int32_t inexact = 0;
  if (v.device == Device::cpu) {
    auto* out = static_cast<unsigned char*>(body.data());
    for (int64_t at = 0; at < v.size && inexact == 0; at += kChunk) {
      const ConstVecView chunk = v.slice(at, std::min(kChunk, v.size - at));
      table.pack(
          {v.dtype, form_of(packing), chunk.size, chunk.data, out + packed_bytes(packing, at, v.dtype), &inexact});
    }
  } else {
    Vec packed = Vec::empty(static_cast<int64_t>(bytes), DType::u8, v.device);
    Vec flag = Vec::empty(1, DType::i32, v.device);
    table.pack({v.dtype, form_of(packing), v.size, v.data, packed.mutable_view().data,
                static_cast<int32_t*>(flag.mutable_view().data)});
    table.download(&inexact, flag.view().data, sizeof(inexact));
    if (inexact == 0) table.download(body.data(), packed.view().data, bytes);
  }
  if (inexact != 0) return {};
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
  return static_cast<size_t>(packing == Packing::bf16 ? 2 * n : n + 2 * ((n + kPackedBlock - 1) / kPackedBlock));
}

void round_to_packing(Packing packing, VecView values, VecView residual) {
  if (packing == Packing::none) return;
  SINEW_CHECK(residual.size == 0 ||
                  (residual.size == values.size && residual.dtype == values.dtype && residual.device == values.device),
              "round_to_packing", "the residual does not fit the ", values.size, " values");
  kernels(values.device)
      .round_to_packed(
          {values.dtype, form_of(packing), values.size, values.data, residual.size ? residual.data : nullptr});
}

Rounded round_and_pack(Packing packing, ConstVecView values, Payload numbers, VecView residual) {
  SINEW_CHECK(values.device == Device::cpu && values.bytes() == numbers.size() &&
                  (residual.size == 0 || (residual.size == values.size && residual.dtype == values.dtype)),
              "round_and_pack", values.size, " values, ", numbers.size(), " bytes for them, ", residual.size,
              " in the residual");
  if (packing == Packing::none || values.size == 0) return {std::move(numbers), {}};
  Payload bytes = Payload::allocate(packed_bytes(packing, values.size, values.dtype));
  const VecView rounded = numbers.mutable_view(values.dtype);
  int32_t inexact = 0;
  for (int64_t at = 0; at < values.size; at += kChunk) {
    const int64_t n = std::min(kChunk, values.size - at);
    int32_t none = 0;
    cpu_kernels().round_and_pack({values.dtype, form_of(packing), n, values.slice(at, n).data,
                                  residual.size ? residual.slice(at, n).data : nullptr, rounded.slice(at, n).data,
                                  static_cast<unsigned char*>(bytes.data()) + packed_bytes(packing, at, values.dtype),
                                  &none});
    inexact |= none;
  }
  return {std::move(numbers), inexact ? Payload() : std::move(bytes)};
}

Payload packed(Head& head, ConstVecView values, Packing packing) {
  Payload body = try_packed(head, values, packing);
  return head.packing == 0 ? Payload::copy_of(values) : body;
}

void send_packed(World& world, Rank to, Head head, const Payload& body, Packing packing, DType dtype) {
  Payload smaller = try_packed(head, body.view(dtype), packing);
  world.send(to, head, head.packing == 0 ? body : std::move(smaller));
}

void send_packed(World& world, Rank to, Head head, const Rounded& body, Packing packing) {
  const bool is_packed = body.packed.size() > 0;
  head.packing = is_packed ? static_cast<uint32_t>(packing) : 0;
  world.send(to, head, is_packed ? body.packed : body.numbers);
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
  const VecView out = m.body.mutable_view(dtype);
  for (int64_t at = 0; at < n; at += kChunk) {
    const VecView chunk = out.slice(at, std::min(kChunk, n - at));
    kernels(Device::cpu)
        .unpack({dtype, form_of(packing), chunk.size, in + packed_bytes(packing, at, dtype), chunk.data});
  }
  return m;
}

}  // namespace sinew::dist
