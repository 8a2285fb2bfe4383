// Fewer bits for what workers exchange (scheme.wire): numbers are first rounded to values that a packed form holds
// exactly, and then packed without loss. So both ends of an exchange compute with the same values, and what a scheme
// conserves it conserves as with full precision.
//
//   bf16   2 bytes a number
//   int8   1 byte a number and 2 bytes for each block of 256: v = q 2^e, |q| <= 127, e of the block
//
// The forms, byte by byte, are core/packed_form.h's; kernels of the vectors' device do the work.
//
// What rounding leaves is not lost (error feedback: Seide et al., Interspeech 2014; Karimireddy et al.,
// arXiv:1901.09847). Where a sender gives a value away it keeps the rest itself; otherwise the rest waits in a residual
// and is added to what is sent next. Which of both, a scheme says at its top.
//
// Blocks with a number that is not finite are not rounded, and a message that no packed form holds is sent as it is:
// packing never changes a value.
//
// Thread safety: free functions on the caller's vectors.
#pragma once

#include <string>
#include <vector>

#include "dist/world.h"

namespace sinew::dist {

enum class Packing : uint32_t { none = 0, bf16 = 1, int8 = 2 };

// "f32" is none: numbers as they are. REQUIRES: one of packing_names().
Packing packing_of(const std::string& name);
std::vector<std::string> packing_names();

// values, f32 or f64, on any device, become what the packed form holds nearest to values + residual; the residual what
// is left. residual: empty, for none, or of the same length, type and device. With Packing::none nothing happens.
void round_to_packing(Packing packing, VecView values, VecView residual = {});

// Numbers of a message that a packed form holds, and that form of them; empty when there is none, or it does not hold
// them all.
struct Rounded {
  Payload numbers, packed;
};
// round_to_packing() of a message's numbers, in one pass with their packing. values: f32 or f64, in host memory; those
// of `numbers`, or others of the same size, which stay as they are. With Packing::none REQUIRES the former.
Rounded round_and_pack(Packing packing, ConstVecView values, Payload numbers, VecView residual = {});

// Bytes of n packed numbers of the given type.
size_t packed_bytes(Packing packing, int64_t n, DType dtype);

// The body of a message with these numbers, f32 or f64, on any device: packed if the form holds them, else as they
// are; head.packing says which.
Payload packed(Head& head, ConstVecView values, Packing packing);
// Sends the numbers of `body` packed, if the form holds them, else the body itself.
void send_packed(World& world, Rank to, Head head, const Payload& body, Packing packing, DType dtype);
// Sends the packed form, if there is one, else the numbers.
void send_packed(World& world, Rank to, Head head, const Rounded& body, Packing packing);
// The message with its numbers as they were. One that is not as packed by send_packed gets an empty body.
Message unpacked(const Message& message, DType dtype);

}  // namespace sinew::dist
