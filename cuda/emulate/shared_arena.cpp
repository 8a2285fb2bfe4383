#include "cuda/emulate/shared_arena.h"

#include <sanitizer/asan_interface.h>

#include <cstdlib>
#include <cstring>

#include "core/check.h"

namespace sinew::cuda::emulate {

SharedMemory::SharedMemory() : begin_(static_cast<char*>(std::aligned_alloc(kArenaBytes, kBytes))) {
  SINEW_CHECK(begin_ != nullptr, "emulate", "out of memory");
  ASAN_POISON_MEMORY_REGION(begin_, kBytes);
}

SharedMemory::~SharedMemory() {
  ASAN_UNPOISON_MEMORY_REGION(begin_, kBytes);
  std::free(begin_);
}

void SharedArena::begin_block(size_t dynamic_bytes, uint8_t poison) {
  poison_ = poison;
  arrays_.clear();
  taken_.clear();
  static_bytes_ = end_ = 0;
#if !defined(__SANITIZE_ADDRESS__)
  gaps_.assign(1, begin_);
  std::memset(begin_, kGapPattern, kGap);
#endif
  ASAN_POISON_MEMORY_REGION(begin_, kArenaBytes);
  take(dynamic_bytes, kDynamicBegin);
}

void SharedArena::close() { ASAN_POISON_MEMORY_REGION(begin_, kArenaBytes); }

void* SharedArena::find(const void* site) const {
  for (const Array& array : arrays_)
    if (array.site == site) return array.data;
  return nullptr;
}

void* SharedArena::place(const void* site, size_t bytes, size_t alignment) {
  static_bytes_ += bytes;
  arrays_.push_back({site, take(bytes, alignment)});
  return arrays_.back().data;
}

bool SharedArena::contains(const void* p, size_t bytes) const {
  const auto offset = static_cast<size_t>(static_cast<const char*>(p) - begin_);
  return offset <= kArenaBytes - bytes;
}

bool SharedArena::is_placed(const void* p, size_t bytes) const {
  const auto offset = static_cast<size_t>(static_cast<const char*>(p) - begin_);
  for (const auto& [begin, end] : taken_)
    if (offset >= begin && offset + bytes <= end) return true;
  return false;
}

bool SharedArena::gaps_are_whole() const {
#if !defined(__SANITIZE_ADDRESS__)
  for (const char* gap : gaps_)
    for (size_t i = 0; i < kGap; ++i)
      if (gap[i] != kGapPattern) return false;
#endif
  return true;
}

void* SharedArena::take(size_t bytes, size_t alignment) {
  const size_t step = alignment > 16 ? alignment : 16;
  const size_t begin = (end_ + kGap + step - 1) / step * step;
  end_ = begin + bytes;
  taken_.emplace_back(begin, end_);
  ASAN_UNPOISON_MEMORY_REGION(begin_ + begin, bytes);
  std::memset(begin_ + begin, poison_, bytes);
#if !defined(__SANITIZE_ADDRESS__)
  gaps_.push_back(begin_ + end_);
  std::memset(gaps_.back(), kGapPattern, kGap);
#endif
  return begin_ + begin;
}

}  // namespace sinew::cuda::emulate
