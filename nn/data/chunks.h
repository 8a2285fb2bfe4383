// The chunks of the EASGD paper's loader (see loader.h, Order::chunks): `chunk_loaders` endless streams of samples.
//
// Thread safety: immutable after construction.
#pragma once

#include "nn/data/loader.h"

namespace sinew::nn {

class Chunks {
 public:
  // samples: all training samples in any order; they are put into the set's fixed random order.
  // REQUIRES: at least as many samples as streams when options.chunk_parts.
  Chunks(std::vector<int64_t> samples, const LoaderOptions& options);
  // The samples of request `number` of the job, not shuffled: chunk `number` of the first stream, then of the second...
  std::vector<int64_t> request(int64_t number) const;

 private:
  // Appends samples first .. first + n - 1 of a stream.
  void append(int stream, int64_t first, int64_t n, std::vector<int64_t>& out) const;

  std::vector<int64_t> samples_;
  LoaderOptions options_;
};

}  // namespace sinew::nn
