#include "core/param_layout.h"

#include <utility>

namespace sinew {
namespace {

// FNV-1a, 64 bit (Fowler, Noll, Vo; draft-eastlake-fnv), fed little-endian so that all machines agree.
class Fnv1a {
 public:
  void byte(uint8_t value) { hash_ = (hash_ ^ value) * 0x100000001b3u; }
  void number(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) byte(static_cast<uint8_t>(value >> shift));
  }
  void text(std::string_view value) {
    number(value.size());
    for (char c : value) byte(static_cast<uint8_t>(c));
  }
  uint64_t hash() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace

int ParamLayout::add(std::string name, const Shape& shape) {
  SINEW_CHECK(!name.empty(), "param_layout", "a parameter without a name, shape ", shape);
  SINEW_CHECK(find(name) < 0, "param_layout", "two parameters are called '", name, "'");
  int64_t numel = shape.numel();
  segments_.push_back({std::move(name), shape, size_, numel});
  count_ += numel;
  size_ += (numel + kAlignment - 1) / kAlignment * kAlignment;
  return static_cast<int>(segments_.size()) - 1;
}

int ParamLayout::find(std::string_view name) const {
  for (size_t i = 0; i < segments_.size(); ++i)
    if (segments_[i].name == name) return static_cast<int>(i);
  return -1;
}

uint64_t ParamLayout::fingerprint() const {
  Fnv1a fnv;
  fnv.number(segments_.size());
  for (const Segment& s : segments_) {
    fnv.text(s.name);
    fnv.number(static_cast<uint64_t>(s.shape.ndim()));
    for (int64_t extent : s.shape.dims()) fnv.number(static_cast<uint64_t>(extent));
    fnv.number(static_cast<uint64_t>(s.offset));
  }
  fnv.number(static_cast<uint64_t>(size_));
  return fnv.hash();
}

}  // namespace sinew
