#include "nn/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "core/kernel_api.h"
#include "nn/data/chunks.h"
#include "nn/data/shuffle.h"

namespace sinew::nn {

namespace {

constexpr int64_t kLeastKept = 4096;  // samples

}  // namespace

struct Loader::Impl {
  // What is shuffled together and then used up: an epoch of the shard, or the chunks of one request. A loader that does
  // not read ahead keeps only a part of its order, and makes it again for the next one: a simulation has thousands.
  struct Round {
    int64_t number = -1, first = 0;  // of the samples in `order`
    std::vector<uint32_t> order;
  };
  using RoundPtr = std::shared_ptr<const Round>;

  struct Slot {
    bool ready = false;
    Batch batch;
    std::exception_ptr error;
  };

  DatasetPtr data;
  LoaderOptions options;
  std::vector<int64_t> validation;
  std::vector<uint32_t> training;  // empty: all samples
  int64_t training_size = 0;
  std::unique_ptr<const Chunks> chunks;  // with Order::chunks
  int64_t batch = 0, per_epoch = 0, per_round = 0;

  std::mutex round_mutex;
  RoundPtr round;  // the latest one made

  // Shared with the threads that read ahead, under mutex.
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Slot> slots;   // batches next_step, next_step + 1, ..., ready or being read
  int64_t next_step = 0;    // what next() gives
  uint64_t generation = 0;  // counts seeks: a batch read for an older one is dropped
  bool stop = false, idle = false;
  std::vector<std::thread> threads;

  // Samples of a round that are kept at once, whole batches. A 16th of the round, so that all shuffles of an epoch are
  // as many passes over it at most.
  int64_t kept() const {
    const int64_t all = per_round * batch;
    const int64_t part = std::max<int64_t>(kLeastKept, all / 16);
    return options.prefetch > 0 || part >= all ? all : (part + batch - 1) / batch * batch;
  }

  RoundPtr make_round(int64_t number, int64_t first) const {
    auto made = std::make_shared<Round>();
    made->number = number;
    made->first = first;
    if (chunks) {
      const std::vector<int64_t> request = chunks->request(number * options.workers + options.worker);
      made->order.assign(request.begin(), request.end());
    } else if (training.empty()) {
      made->order.resize(static_cast<size_t>(training_size));
      std::iota(made->order.begin(), made->order.end(), 0u);
    } else {
      made->order = training;
    }
    if (options.shuffle)
      shuffle(made->order, {.seed = options.seed,
                            .purpose = static_cast<uint32_t>(RngPurpose::shuffle),
                            .rank = static_cast<uint32_t>(options.worker),
                            .step = static_cast<uint64_t>(number)});
    if (const int64_t end = std::min(first + kept(), std::ssize(made->order)); end - first < std::ssize(made->order))
      made->order = std::vector<uint32_t>(made->order.begin() + first, made->order.begin() + end);
    return made;
  }

  // With the samples from `first` on, a batch. One thread makes a round, the others wait for it: all need it at about
  // the same time.
  RoundPtr round_of(int64_t number, int64_t first) {
    const int64_t part = first / kept() * kept();
    std::lock_guard lock(round_mutex);
    if (!round || round->number != number || round->first != part) {
      round.reset();
      round = make_round(number, part);
    }
    return round;
  }

  Batch read(int64_t step) {
    const int64_t number = step / per_round, first = step % per_round * batch;
    const RoundPtr current = round_of(number, first);
    const Draw draw{.seed = options.seed,
                    .pass = static_cast<uint64_t>(chunks ? number * options.workers + options.worker : number)};
    const auto begin = current->order.begin() + (first - current->first);
    return read_batch(*data, std::vector<int64_t>(begin, begin + batch), options.device, &draw);
  }

  // REQUIRES: mutex held.
  void restart_at(int64_t step) {
    slots.clear();
    next_step = step;
    ++generation;
    idle = false;
    changed.notify_all();
  }

  void read_ahead() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return stop || (!idle && slots.size() < static_cast<size_t>(options.prefetch)); });
      if (stop) return;
      const int64_t step = next_step + static_cast<int64_t>(slots.size());
      const uint64_t wanted = generation;
      slots.emplace_back();
      lock.unlock();
      Slot slot{.ready = true, .batch = {}, .error = nullptr};
      try {
        slot.batch = read(step);
        // The reader's stream is not the user's: the data must have arrived before they are handed over.
        if (options.device != Device::cpu) kernels(options.device).synchronize();
      } catch (...) {
        slot.error = std::current_exception();
      }
      lock.lock();
      if (wanted != generation) continue;
      if (slot.error) idle = true;  // nothing more until next() has reported it
      slots[static_cast<size_t>(step - next_step)] = std::move(slot);
      changed.notify_all();
    }
  }

  Batch next() {
    if (options.prefetch == 0) {
      Batch out = read(next_step);
      ++next_step;
      return out;
    }
    while (threads.size() < static_cast<size_t>(std::min(options.threads, options.prefetch)))
      threads.emplace_back([this] { read_ahead(); });
    std::unique_lock lock(mutex);
    // No deadline: a thread answers with a batch or with an error, and reading memory or a file ends.
    changed.wait(lock, [&] { return !slots.empty() && slots.front().ready; });
    Slot slot = std::move(slots.front());
    slots.pop_front();
    if (slot.error) {
      restart_at(next_step);
      lock.unlock();
      std::rethrow_exception(slot.error);
    }
    ++next_step;
    changed.notify_all();
    return std::move(slot.batch);
  }
};

Loader::Loader(DatasetPtr data, const LoaderOptions& options) : impl_(std::make_unique<Impl>()) {
  SINEW_CHECK(data != nullptr, "loader", "no data set");
  SINEW_CHECK(data->size() <= UINT32_MAX, "loader", data->size(), " samples; allowed are fewer than 2^32");
  Shard shard = shard_of(*data, options);
  impl_->validation = std::move(shard.validation);
  impl_->training_size = std::ssize(shard.training);
  if (impl_->training_size < data->size()) impl_->training.assign(shard.training.begin(), shard.training.end());
  impl_->data = std::move(data);
  impl_->options = options;
  impl_->batch = std::min(options.batch, shard_size());
  impl_->per_epoch = impl_->per_round = shard_size() / impl_->batch;
  if (options.order == Order::chunks) {
    impl_->batch = options.batch;
    impl_->per_epoch = std::max<int64_t>(1, shard_size() / options.batch);
    impl_->chunks = std::make_unique<Chunks>(std::move(shard.training), options);
    impl_->per_round = options.chunk * options.chunk_loaders / options.batch;
  }
}

Loader::~Loader() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
    impl_->changed.notify_all();
  }
  for (std::thread& thread : impl_->threads) thread.join();
}

int64_t Loader::shard_size() const { return impl_->training_size; }
int64_t Loader::batches_per_epoch() const { return impl_->per_epoch; }
const std::vector<int64_t>& Loader::validation_indices() const { return impl_->validation; }
Batch Loader::next() { return impl_->next(); }

void Loader::seek(int64_t step) {
  SINEW_CHECK(step >= 0, "seek", "to batch ", step);
  std::lock_guard lock(impl_->mutex);
  impl_->restart_at(step);
}

}  // namespace sinew::nn
