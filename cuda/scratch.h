// Device memory for the kernels of one call, given back once those launched so far are done.
#pragma once

#include "cuda/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {

class Scratch {
 public:
  // data() is null when bytes is 0.
  explicit Scratch(int64_t bytes)
      : data_(bytes == 0 ? nullptr : memory_allocate(static_cast<size_t>(bytes), stream())) {}
  ~Scratch() {
    if (data_ != nullptr) memory_free(data_, stream());
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data() const { return data_; }

 private:
  void* const data_;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
