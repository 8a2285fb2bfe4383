// Loader: a worker's endless sequence of batches. Batch number s is a pure function of (options, data size, s): it does
// not depend on threads, on prefetching or on what was read before, so a restarted worker seeks to its step.
//
// Sharding
//   full       every worker samples the whole set in its own order (the EASGD paper's way; spec section 1)
//   partition  a random permutation dealt out: disjoint shards whose sizes differ by at most one
//   overlap    shared part of ratio r plus a disjoint rest (dynamic-weighting spec, section 1.7)
// Each worker shuffles its shard per epoch by Philox keyed (seed, shuffle, worker, epoch). An epoch is
// floor(shard / batch) batches; a shard smaller than one batch gives one short batch.
//
// Thread safety: one thread uses a Loader; it may run a prefetch thread of its own.
#pragma once

#include <memory>

#include "nn/data/dataset.h"

namespace sinew::nn {

enum class Sharding { full, partition, overlap };

struct LoaderOptions {
  int64_t batch = 128;
  uint64_t seed = 1;
  int worker = 0, workers = 1;
  Sharding sharding = Sharding::full;
  double overlap = 0.25;  // r, for Sharding::overlap
  double validation = 0;  // fraction of the training set kept out of all shards, the same on every worker
  bool shuffle = true;
  int prefetch = 2;  // batches read ahead by a thread; 0: none
  Device device = Device::cpu;
};

class Loader {
 public:
  Loader(DatasetPtr data, const LoaderOptions& options);  // throws Error on options out of range
  ~Loader();
  int64_t shard_size() const;
  int64_t batches_per_epoch() const;
  // Batch number `next step`, counted over all epochs.
  Batch next();
  void seek(int64_t step);
  // Sorted indices kept out for validation.
  const std::vector<int64_t>& validation_indices() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The sorted indices of a worker's shard (before shuffling).
std::vector<int64_t> shard_indices(int64_t size, const LoaderOptions& options);
// Result<Sharding> by name: "full", "partition", "overlap".
Result<Sharding> sharding_named(const std::string& name);

}  // namespace sinew::nn
