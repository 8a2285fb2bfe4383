// Where each named parameter lives in the flat vector.
//
// Invariants: segments do not overlap, are in order of declaration, start at multiples of kAlignment elements,
// and are followed by zero padding that stays zero. size() includes the padding. Once frozen, a layout never
// changes. Everything that shares a layout (gradient, momentum, Hessian diagonal, center, mailbox) has size() elements.
//
// Thread safety: const methods from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/shape.h"

namespace sinew {

struct Segment {
  std::string name;
  Shape shape;
  int64_t offset = 0;  // elements
  int64_t numel = 0;
};

class ParamLayout {
 public:
  static constexpr int64_t kAlignment = 16;

  // Appends a segment and returns its index. Throws Error on a duplicate or empty name.
  int add(std::string name, const Shape& shape);

  int64_t size() const { return size_; }              // with padding
  int64_t parameter_count() const { return count_; }  // without
  const std::vector<Segment>& segments() const { return segments_; }
  // Index of the segment called name, or -1.
  int find(std::string_view name) const;
  // FNV-1a (64 bit) of: number of segments; for each its name (length, bytes), rank, extents, offset; then size().
  // Numbers as little-endian u64. Exchanged at rendezvous, so that different models never mix.
  uint64_t fingerprint() const;

 private:
  std::vector<Segment> segments_;
  int64_t size_ = 0, count_ = 0;
};

}  // namespace sinew
