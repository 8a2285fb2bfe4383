// A device's vector in host memory, for messages: parts are copied there and back beside the host's work.
//
//   Staging staging(x);                 // x on any device but the host
//   staging.get(0, n);                  // begins
//   staging.wait();                     // host() has these elements
//   ... writes host().slice(0, n) ...
//   staging.put(0, n);                  // begins
//   staging.wait();                     // x has them
//
// Devices without such copies make them at once. Thread safety: one thread at a time; put() may be another one's than
// the constructor's.
#pragma once

#include <cstddef>
#include <deque>

#include "core/check.h"
#include "core/kernel_api.h"
#include "core/vec.h"

namespace sinew::dist {

class Staging {
 public:
  explicit Staging(VecView x) : table_(kernels(x.device)), x_(x) {
    if (table_.host_allocate && x.size > 0)
      host_ = {table_.host_allocate(x.bytes()), x.size, x.dtype};
    else
      plain_ = Vec::empty(x.size, x.dtype), host_ = plain_.mutable_view();
  }
  ~Staging() {
    if (plain_.defined() || x_.size == 0) return;
    try {
      wait();  // the memory is the copies' until then
      table_.host_release(host_.data);
    } catch (const Error&) {  // the device has failed; its copies keep the memory
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  VecView host() const { return host_; }
  void get(int64_t offset, int64_t count) {
    const VecView there = x_.slice(offset, count), here = host_.slice(offset, count);
    if (count == 0) return;
    if (plain_.defined())
      download(there, here.data);
    else
      begun_.push_back(table_.download_begin(here.data, there.data, here.bytes()));
  }
  void put(int64_t offset, int64_t count) {
    const VecView there = x_.slice(offset, count), here = host_.slice(offset, count);
    if (count == 0) return;
    if (plain_.defined())
      upload(here.data, there);
    else
      begun_.push_back(table_.upload_begin(there.data, here.data, here.bytes()));
  }
  // For the first `copies` of those that nobody has waited for; all.
  void wait(size_t copies) {
    for (; copies > 0 && !begun_.empty(); --copies) {
      void* const first = begun_.front();
      begun_.pop_front();
      table_.wait(first);
    }
  }
  void wait() { wait(begun_.size()); }

 private:
  const KernelTable& table_;
  const VecView x_;
  Vec plain_;
  VecView host_;
  std::deque<void*> begun_;  // in order
};

}  // namespace sinew::dist
