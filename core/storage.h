// Reference-counted memory on one device, with a version that counts in-place writes.
//
// Thread safety: the count is atomic; contents are the users' business.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/device.h"

namespace sinew {

// Drops one reference; true when it was the last. The holder of the only one needs no atomic write to know.
inline bool drop_reference(std::atomic<uint32_t>& references) {
  return references.load(std::memory_order_acquire) == 1 || references.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

class Storage {
 public:
  // Uninitialised memory, 64-byte aligned. CPU memory comes from a cache of freed blocks.
  static Storage* allocate(size_t bytes, Device device);
  // CPU memory that the `copier`, when it is installed and has such memory left, copies to and from by itself
  // (page-locked).
  static Storage* allocate_for_copies(size_t bytes, Device copier);

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (drop_reference(references_)) destroy();
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  // True when the caller holds the only reference: nobody else can be reading. For copy on write.
  bool unique() const { return references_.load(std::memory_order_acquire) == 1; }
  // Every in-place write of memory that tensors may have saved calls this.
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  Storage() = default;
  void destroy();
  friend class KeptStorages;

  Storage* next_kept_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  std::atomic<uint32_t> references_{1};
  std::atomic<uint32_t> version_{0};
  Device device_ = Device::cpu;
  Device allocator_ = Device::cpu;  // whose table the memory is from
};

class StorageRef {
 public:
  StorageRef() = default;
  // Takes over one reference.
  explicit StorageRef(Storage* adopted) : p_(adopted) {}
  StorageRef(const StorageRef& other) : p_(other.p_) {
    if (p_) p_->retain();
  }
  StorageRef(StorageRef&& other) noexcept : p_(other.p_) { other.p_ = nullptr; }
  StorageRef& operator=(StorageRef other) noexcept {
    Storage* t = p_;
    p_ = other.p_;
    other.p_ = t;
    return *this;
  }
  ~StorageRef() {
    if (p_) p_->release();
  }
  Storage* operator->() const { return p_; }
  Storage* get() const { return p_; }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  Storage* p_ = nullptr;
};

}  // namespace sinew
