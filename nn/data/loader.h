// Loader: a worker's endless sequence of batches. Batch number s is a pure function of (options, data, s): it does
// not depend on threads, on prefetching or on what was read before, so a restarted worker seeks to its step.
//
// Sharding
//   full       every worker samples the whole set in its own order (the EASGD paper's way; spec section 1)
//   partition  a random permutation dealt out: disjoint shards whose sizes differ by at most one
//   overlap    shared part of ratio r plus a disjoint rest (dynamic-weighting spec, section 1.7)
//   by_class   sorted by label, then dealt out in equal blocks: a worker sees few classes (McMahan et al.,
//              arXiv:1602.05629, section 3, with one block for each worker)
//   dirichlet  each class is split in proportions drawn from a symmetric Dirichlet distribution (Hsu et al.,
//              arXiv:1909.06335, section 3): shards differ in size and in classes; `concentration` near 0: one worker
//              gets nearly all of a class, large: nearly equal parts
// In every scheme but full and overlap a sample belongs to exactly one worker. `stratify`, for the first three: the
// validation samples, the shared ones and each worker's own have the classes of the whole set, to within a sample of
// each class (dynamic-weighting spec, section 1.7); the sizes stay.
//
// Order
//   shuffled   each worker shuffles its shard per epoch by Philox keyed (seed, shuffle, worker, epoch)
//   chunks     the EASGD paper's loader (arXiv:1412.6651, section 9.2): `chunk_loaders` streams go over the set, in one
//              fixed random order, and hand out chunks of `chunk` samples. A worker takes the next chunk of every
//              stream, shuffles them together, cuts them into batches, uses all, and asks again. At the end of the set
//              a stream starts again at a random offset in 0 to (its samples mod batch). Needs sharding full and chunk
//              * chunk_loaders divisible by the batch. Where the paper leaves it open or to timing: worker w's request
//              r is number r * workers + w (equally fast workers asking in turn), and stream j of k begins its first
//              pass j / k into the set, or has only its own k-th (`chunk_parts`).
// An epoch is floor(shard / batch) batches; a shard smaller than one batch gives one short batch.
//
// Augmentation is drawn by (seed, pass, sample): pass is the epoch, with chunks the number of the request.
//
// Thread safety: one thread uses a Loader; it may run threads of its own that read ahead.
#pragma once

#include <memory>

#include "nn/data/dataset.h"

namespace sinew::nn {

enum class Sharding { full, partition, overlap, by_class, dirichlet };
enum class Order { shuffled, chunks };

struct LoaderOptions {
  int64_t batch = 128;
  uint64_t seed = 1;
  int worker = 0, workers = 1;
  Sharding sharding = Sharding::full;
  double overlap = 0.25;       // r, for Sharding::overlap
  double concentration = 0.5;  // for Sharding::dirichlet
  bool stratify = false;       // for full, partition, overlap
  double validation = 0;       // fraction of the training set kept out of all shards, the same on every worker
  bool shuffle = true;
  Order order = Order::shuffled;
  int64_t chunk = 512;       // samples, for Order::chunks
  int chunk_loaders = 8;     // streams, likewise
  bool chunk_parts = false;  // each stream has its own part of the set instead of all of it
  int prefetch = 2;          // batches read ahead by threads; 0: none
  int threads = 1;           // that read ahead, each a batch at a time; no more than prefetch have work
  Device device = Device::cpu;
};

class Loader {
 public:
  Loader(DatasetPtr data, const LoaderOptions& options);  // throws Error on options out of range
  ~Loader();
  int64_t shard_size() const;
  int64_t batches_per_epoch() const;
  // Batch number `next step`, counted over all epochs. Throws what reading throws (DataError); the next call tries
  // again.
  Batch next();
  void seek(int64_t step);
  // Sorted indices kept out for validation.
  const std::vector<int64_t>& validation_indices() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// ---- sharding.cpp ----

struct Shard {
  std::vector<int64_t> validation, training;  // sorted
};
// Throws Error on options out of range (check_loader_options among them).
Shard shard_of(const Dataset& data, const LoaderOptions& options);
// The batches that each worker makes of its shard in an epoch of the whole job, the same for all: as many as a shard of
// mean size has, at least one. Workers in lockstep need a common number; a smaller shard begins anew earlier.
int64_t job_epoch_batches(int64_t data_size, const LoaderOptions& options);
// By name, as in the options data.sharding and data.order.
std::vector<std::string> sharding_names();
Result<Sharding> sharding_named(const std::string& name);
std::vector<std::string> order_names();
Result<Order> order_named(const std::string& name);
// invalid_argument, with the names of the program's options, for options that do not go together, and for those that do
// not go with the data (too few samples, no labels). The Loader throws for both.
Status check_loader_options(const LoaderOptions& options);
Status check_loader_options(const LoaderOptions& options, const Dataset& data);

}  // namespace sinew::nn
