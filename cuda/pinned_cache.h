// Page-locked host memory that was freed, for the next request: locking pages takes the system as long as copying them
// several times. Holds addresses only; the runtime allocates and frees. Sizes are rounded up, by an eighth at most, so
// that messages of changing length use the same blocks, and what has lain there longest goes first when it is too much.
//
// Thread safety: any thread may call.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <list>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/check.h"
#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

class PinnedCache {
 public:
  // most: bytes that are kept.
  explicit PinnedCache(size_t most) : most_(most) {}

  static size_t rounded(size_t bytes) {
    constexpr size_t kPage = 4096;
    const size_t step = std::max(kPage, std::bit_floor(bytes) / 8);
    return (std::max(bytes, size_t{1}) + step - 1) / step * step;
  }
  // A freed block of so many rounded bytes, which is lent out then; or nullptr: the caller allocates and lends it.
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(freed_.rbegin(), freed_.rend(), [&](const Block& b) { return b.bytes == bytes; });
    if (found == freed_.rend()) return nullptr;
    void* const p = found->p;
    freed_.erase(std::next(found).base());
    freed_bytes_ -= bytes;
    lent_[p] = bytes;
    return p;
  }
  void lend(void* p, size_t bytes) {
    const std::lock_guard lock(mutex_);
    lent_[p] = bytes;
  }
  // Keeps a block; returns those that the caller frees for it. An Error for what is not lent.
  std::vector<void*> give(void* p) {
    const std::lock_guard lock(mutex_);
    const auto found = lent_.find(p);
    SINEW_CHECK(found != lent_.end(), "cuda", "freeing ", p, ", which is no page-locked memory or free already");
    freed_.push_back({p, found->second});
    freed_bytes_ += found->second;
    lent_.erase(found);
    return oldest_down_to(most_);
  }
  // All that is kept, for the caller to free.
  std::vector<void*> empty() {
    const std::lock_guard lock(mutex_);
    return oldest_down_to(0);
  }

 private:
  struct Block {
    void* p;
    size_t bytes;
  };
  std::vector<void*> oldest_down_to(size_t bytes) {
    std::vector<void*> out;
    while (freed_bytes_ > bytes) {
      out.push_back(freed_.front().p);
      freed_bytes_ -= freed_.front().bytes;
      freed_.pop_front();
    }
    return out;
  }

  const size_t most_;
  std::mutex mutex_;
  std::unordered_map<void*, size_t> lent_;
  std::list<Block> freed_;  // the oldest first
  size_t freed_bytes_ = 0;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
