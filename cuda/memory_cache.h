// Freed device memory for the next allocation, by size and by the stream whose work used it last: a training step asks
// for the same sizes again and again, and the runtime's own pool takes microseconds for each. Holds addresses only; the
// runtime allocates and frees.
//
// A recorded graph works on fixed addresses, so what is lent out while one is recorded stays with it: such blocks are
// reused inside the recording alone, and come back when the graph is forgotten. What is free on the stream when the
// recording begins is the first to be lent out in it; what of that was not comes back when it ends. Blocks that are
// freed while recording, but were lent out before, may be in the graph too: it holds them likewise.
//
// Thread safety: any thread may call; record/stop delimit calls of one thread, and no other thread calls in between
// (cuda/recording.h).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/check.h"
#include "cuda/namespace.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

class MemoryCache {
 public:
  // What a graph keeps.
  struct Kept {
    std::unordered_map<void*, size_t> blocks;
    std::map<size_t, std::vector<void*>> free;  // of them, for use inside the recording
    std::vector<std::pair<void*, size_t>> held;
  };

  // A freed block, or nullptr: then the caller allocates. Either way it lends it out.
  void* take(size_t bytes, Stream stream) {
    std::lock_guard lock(mutex_);
    return recording_ ? pop(recording_->free[bytes]) : pop(freed_[{stream, bytes}]);
  }
  void lend(void* p, size_t bytes) {
    std::lock_guard lock(mutex_);
    lent_[p] = bytes;
    if (!recording_) return;
    recording_->blocks.emplace(p, bytes);
    owner_[p] = recording_.get();
  }
  void give(void* p, Stream stream) {
    std::lock_guard lock(mutex_);
    const auto found = lent_.find(p);
    SINEW_CHECK(found != lent_.end(), "cuda", "freeing ", p, ", which was not allocated here or is free already");
    const size_t bytes = found->second;
    lent_.erase(found);
    const auto owner = owner_.find(p);
    if (owner == owner_.end()) {
      if (recording_)
        recording_->held.emplace_back(p, bytes);
      else
        freed_[{stream, bytes}].push_back(p);
    } else if (owner->second == recording_.get()) {
      recording_->free[bytes].push_back(p);
    }
  }

  void record(Stream stream) {
    std::lock_guard lock(mutex_);
    recording_ = std::make_unique<Kept>();
    recorded_stream_ = stream;
    for (auto& [key, blocks] : freed_)
      if (key.first == stream) recording_->free[key.second] = std::exchange(blocks, {});
  }
  std::unique_ptr<Kept> stop() {
    std::lock_guard lock(mutex_);
    take_unused([this](void* p, size_t bytes) { freed_[{recorded_stream_, bytes}].push_back(p); });
    return std::move(recording_);
  }
  // The graph is gone: what it kept and nobody else has is free, in the order of the stream that it ran on.
  void forget(const Kept& kept, Stream stream) {
    std::lock_guard lock(mutex_);
    for (const auto& [p, bytes] : kept.blocks) {
      owner_.erase(p);
      if (!lent_.contains(p)) freed_[{stream, bytes}].push_back(p);
    }
    for (const auto& [p, bytes] : kept.held) freed_[{stream, bytes}].push_back(p);
  }

  // Hands back what is free from before the recording, and was not lent out in it: give_back(block).
  template <class GiveBack>
  void empty_recording(const GiveBack& give_back) {
    std::lock_guard lock(mutex_);
    if (recording_) take_unused([&](void* p, size_t) { give_back(p); });
  }
  // Hands back what is free, all of it or that of one stream: give_back(block, stream).
  template <class GiveBack>
  void empty(std::optional<Stream> of, const GiveBack& give_back) {
    std::lock_guard lock(mutex_);
    for (auto& [key, blocks] : freed_) {
      if (of && key.first != *of) continue;
      for (void* p : blocks) give_back(p, key.first);
      blocks.clear();
    }
  }

 private:
  static void* pop(std::vector<void*>& blocks) {
    if (blocks.empty()) return nullptr;
    void* p = blocks.back();
    blocks.pop_back();
    return p;
  }

  // taken(block, bytes) for all that is free in the recording and not the graph's.
  template <class Taken>
  void take_unused(const Taken& taken) {
    for (auto& [bytes, blocks] : recording_->free)
      std::erase_if(blocks, [&, size = bytes](void* p) {
        if (recording_->blocks.contains(p)) return false;
        taken(p, size);
        return true;
      });
  }

  std::mutex mutex_;
  std::map<std::pair<Stream, size_t>, std::vector<void*>> freed_;
  std::unordered_map<void*, size_t> lent_;
  std::unordered_map<void*, const Kept*> owner_;
  std::unique_ptr<Kept> recording_;
  Stream recorded_stream_ = nullptr;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
