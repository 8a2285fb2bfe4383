#include "nn/data/loader.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "core/kernel_api.h"
#include "core/philox.h"

namespace sinew::nn {
namespace {

// Fisher-Yates. The draw of a position is off uniform by less than values.size() / 2^32.
void shuffle(std::vector<int64_t>& values, const RngKey& key) {
  PhiloxBlock block{};
  for (size_t i = values.size(), word = 0; i > 1; --i, ++word) {
    if (word % 4 == 0) block = philox_block(key, word / 4);
    std::swap(values[i - 1], values[below(block.v[word % 4], static_cast<uint32_t>(i))]);
  }
}

void check(int64_t size, const LoaderOptions& o) {
  SINEW_CHECK(size > 0 && size < int64_t{1} << 32, "loader", "a data set of ", size, " samples");
  SINEW_CHECK(o.batch > 0, "loader", "batch ", o.batch, " is not positive");
  SINEW_CHECK(o.workers > 0 && o.worker >= 0 && o.worker < o.workers, "loader", "worker ", o.worker, " of ", o.workers);
  SINEW_CHECK(o.overlap >= 0 && o.overlap <= 1, "loader", "overlap ", o.overlap, " is not in 0 to 1");
  SINEW_CHECK(o.validation >= 0 && o.validation < 1, "loader", "validation ", o.validation, " is not in [0, 1)");
  SINEW_CHECK(o.prefetch >= 0, "loader", "prefetch ", o.prefetch, " is negative");
}

int64_t round_half_up(double x) { return static_cast<int64_t>(std::floor(x + 0.5)); }

struct Split {
  std::vector<int64_t> validation, shard;  // sorted
};

// One permutation of the whole set, the same on every worker: first the validation samples, then those that all
// workers share, then the rest, dealt in contiguous blocks of which the first (rest mod workers) have one more.
Split split(int64_t size, const LoaderOptions& o) {
  check(size, o);
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, {.seed = o.seed, .purpose = static_cast<uint32_t>(RngPurpose::shard), .rank = 0, .step = 0});

  const int64_t kept = std::min(round_half_up(o.validation * static_cast<double>(size)), size);
  const int64_t training = size - kept;
  const double ratio = o.sharding == Sharding::full ? 1 : o.sharding == Sharding::partition ? 0 : o.overlap;
  const int64_t shared = std::min(round_half_up(ratio * static_cast<double>(training)), training);
  const int64_t rest = training - shared, each = rest / o.workers, more = rest % o.workers;
  const int64_t begin = kept + shared + o.worker * each + std::min<int64_t>(o.worker, more);
  const int64_t end = begin + each + (o.worker < more ? 1 : 0);

  Split out;
  out.validation.assign(order.begin(), order.begin() + kept);
  out.shard.assign(order.begin() + kept, order.begin() + kept + shared);
  out.shard.insert(out.shard.end(), order.begin() + begin, order.begin() + end);
  std::sort(out.validation.begin(), out.validation.end());
  std::sort(out.shard.begin(), out.shard.end());
  SINEW_CHECK(!out.shard.empty(), "loader", "worker ", o.worker, " of ", o.workers, " gets none of ", training,
              " training samples");
  return out;
}

}  // namespace

struct Loader::Impl {
  DatasetPtr data;
  LoaderOptions options;
  Split indices;
  int64_t batch = 0, per_epoch = 0;

  // The order of one epoch; used by the thread that reads (the prefetch thread where there is one).
  int64_t ordered_epoch = -1;
  std::vector<int64_t> order;

  // Shared with the prefetch thread, under mutex.
  struct Item {
    Batch batch;
    std::exception_ptr error;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Item> ready;   // batches next_step, next_step + 1, ...
  int64_t next_step = 0;    // what next() gives
  int64_t read_step = 0;    // what the thread reads next
  uint64_t generation = 0;  // counts seeks: a batch read for an older one is dropped
  bool stop = false, idle = false;
  std::thread thread;

  Batch read(int64_t step) {
    const int64_t epoch = step / per_epoch, first = step % per_epoch * batch;
    if (epoch != ordered_epoch) {
      ordered_epoch = -1;
      order = indices.shard;
      if (options.shuffle)
        shuffle(order, {.seed = options.seed,
                        .purpose = static_cast<uint32_t>(RngPurpose::shuffle),
                        .rank = static_cast<uint32_t>(options.worker),
                        .step = static_cast<uint64_t>(epoch)});
      ordered_epoch = epoch;
    }
    return read_batch(*data, std::span(order).subspan(static_cast<size_t>(first), static_cast<size_t>(batch)),
                      options.device);
  }

  // REQUIRES: mutex held.
  void restart_at(int64_t step) {
    ready.clear();
    next_step = read_step = step;
    ++generation;
    idle = false;
    changed.notify_all();
  }

  void prefetch() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return stop || (!idle && ready.size() < static_cast<size_t>(options.prefetch)); });
      if (stop) return;
      const int64_t step = read_step++;
      const uint64_t wanted = generation;
      lock.unlock();
      Item item;
      try {
        item.batch = read(step);
        // The reader's stream is not the user's: the data must have arrived before they are handed over.
        if (options.device != Device::cpu) kernels(options.device).synchronize();
      } catch (...) {
        item.error = std::current_exception();
      }
      lock.lock();
      if (wanted != generation) continue;
      idle = item.error != nullptr;  // nothing more until next() has reported it
      ready.push_back(std::move(item));
      changed.notify_all();
    }
  }

  Batch next() {
    if (options.prefetch == 0) {
      Batch out = read(next_step);
      ++next_step;
      return out;
    }
    if (!thread.joinable()) thread = std::thread([this] { prefetch(); });
    std::unique_lock lock(mutex);
    // No deadline: the thread answers with a batch or with an error, and reading memory ends.
    changed.wait(lock, [&] { return !ready.empty(); });
    Item item = std::move(ready.front());
    ready.pop_front();
    if (item.error) {
      restart_at(next_step);
      lock.unlock();
      std::rethrow_exception(item.error);
    }
    ++next_step;
    changed.notify_all();
    return std::move(item.batch);
  }
};

Loader::Loader(DatasetPtr data, const LoaderOptions& options) : impl_(std::make_unique<Impl>()) {
  SINEW_CHECK(data != nullptr, "loader", "no data set");
  impl_->indices = split(data->size(), options);
  impl_->data = std::move(data);
  impl_->options = options;
  impl_->batch = std::min(options.batch, shard_size());
  impl_->per_epoch = shard_size() / impl_->batch;
}

Loader::~Loader() {
  if (!impl_->thread.joinable()) return;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
    impl_->changed.notify_all();
  }
  impl_->thread.join();
}

int64_t Loader::shard_size() const { return static_cast<int64_t>(impl_->indices.shard.size()); }
int64_t Loader::batches_per_epoch() const { return impl_->per_epoch; }
const std::vector<int64_t>& Loader::validation_indices() const { return impl_->indices.validation; }
Batch Loader::next() { return impl_->next(); }

void Loader::seek(int64_t step) {
  SINEW_CHECK(step >= 0, "seek", "to batch ", step);
  std::lock_guard lock(impl_->mutex);
  impl_->restart_at(step);
}

std::vector<int64_t> shard_indices(int64_t size, const LoaderOptions& options) { return split(size, options).shard; }

Result<Sharding> sharding_named(const std::string& name) {
  if (name == "full") return Sharding::full;
  if (name == "partition") return Sharding::partition;
  if (name == "overlap") return Sharding::overlap;
  return make_status(StatusCode::invalid_argument, "data.sharding '", name, "' is not one of full, partition, overlap");
}

}  // namespace sinew::nn
