#include "nn/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>

namespace sinew::nn {
namespace {

// Sample i has the label i, so that a batch shows which samples it holds.
class Numbered : public Dataset {
 public:
  explicit Numbered(int64_t size) : size_(size) {}
  std::string name() const override { return "numbered"; }
  int64_t size() const override { return size_; }
  Shape sample_shape() const override { return {1}; }
  int64_t classes() const override { return size_; }
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override {
    {
      std::lock_guard lock(mutex_);
      threads_.insert(std::this_thread::get_id());
    }
    if (std::ranges::count(indices, broken.load()) > 0) throw std::runtime_error("sample cannot be read");
    for (int64_t index : indices) *inputs++ = static_cast<float>(index), *labels++ = index;
  }
  std::set<std::thread::id> threads() const {
    std::lock_guard lock(mutex_);
    return threads_;
  }
  std::atomic<int64_t> broken = -1;

 private:
  int64_t size_;
  mutable std::mutex mutex_;
  mutable std::set<std::thread::id> threads_;
};

using Indices = std::vector<int64_t>;

LoaderOptions options_of(int64_t batch, int prefetch = 0) {
  LoaderOptions options;
  options.batch = batch;
  options.prefetch = prefetch;
  return options;
}
Indices take(Loader& loader) { return loader.next().labels.to_vector<int64_t>(); }
std::vector<Indices> take(Loader& loader, int64_t count) {
  std::vector<Indices> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(take(loader));
  return out;
}
Indices sorted(Indices values) {
  std::ranges::sort(values);
  return values;
}
Indices all(int64_t size) {
  Indices values(static_cast<size_t>(size));
  std::iota(values.begin(), values.end(), 0);
  return values;
}
std::vector<Indices> shards(int64_t size, LoaderOptions options) {
  std::vector<Indices> out;
  for (options.worker = 0; options.worker < options.workers; ++options.worker)
    out.push_back(shard_of(Numbered(size), options).training);
  return out;
}
Indices common(const Indices& a, const Indices& b) {
  Indices out;
  std::ranges::set_intersection(a, b, std::back_inserter(out));
  return out;
}

// Dynamic-weighting spec, section 1.7 (golden vectors G8).
TEST(Sharding, OverlapTable) {
  struct Row {
    double ratio;
    int workers;
    int64_t shared, least, most;
  };
  for (const Row& row : {Row{0, 4, 0, 15000, 15000}, Row{0.25, 4, 15000, 26250, 26250},
                         Row{0.5, 4, 30000, 37500, 37500}, Row{0.125, 8, 7500, 14062, 14063}}) {
    LoaderOptions options;
    options.sharding = Sharding::overlap;
    options.overlap = row.ratio;
    options.workers = row.workers;
    const std::vector<Indices> parts = shards(60000, options);
    Indices shared = parts[0], united;
    std::vector<int64_t> sizes;
    for (const Indices& part : parts) {
      shared = common(shared, part);
      sizes.push_back(static_cast<int64_t>(part.size()));
      Indices both;
      std::ranges::set_union(united, part, std::back_inserter(both));
      united = std::move(both);
    }
    EXPECT_EQ(static_cast<int64_t>(shared.size()), row.shared);
    EXPECT_EQ(*std::ranges::min_element(sizes), row.least);
    EXPECT_EQ(*std::ranges::max_element(sizes), row.most);
    EXPECT_TRUE(std::ranges::is_sorted(sizes, std::greater<>())) << "the first workers get one more";
    EXPECT_EQ(united, all(60000));
    // Outside the shared part the shards are disjoint: the sizes add up.
    EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}), 60000 + row.shared * (row.workers - 1));
  }
}

TEST(Sharding, SharedPartIsRoundedHalfUp) {
  LoaderOptions options;
  options.sharding = Sharding::overlap;
  options.workers = 2;
  options.overlap = 0.25;  // of 10 samples: 2.5
  const std::vector<Indices> parts = shards(10, options);
  EXPECT_EQ(common(parts[0], parts[1]).size(), 3u);
  EXPECT_EQ(parts[0].size(), 7u);
  EXPECT_EQ(parts[1].size(), 6u);
}

TEST(Sharding, PartitionDealsEverythingOnce) {
  LoaderOptions options;
  options.sharding = Sharding::partition;
  for (int workers : {1, 2, 3, 7, 103}) {
    options.workers = workers;
    Indices united;
    size_t least = 103, most = 0;
    for (const Indices& part : shards(103, options)) {
      EXPECT_TRUE(std::ranges::is_sorted(part));
      united.insert(united.end(), part.begin(), part.end());
      least = std::min(least, part.size()), most = std::max(most, part.size());
    }
    EXPECT_LE(most - least, 1u);
    EXPECT_EQ(sorted(united), all(103));
  }
  options.workers = 2;
  const Indices before = shard_of(Numbered(103), options).training;
  EXPECT_NE(before.back(), 51) << "dealt at random, not by position";
  options.seed = 2;
  EXPECT_NE(shard_of(Numbered(103), options).training, before);
}

TEST(Sharding, FullIsEverything) {
  LoaderOptions options;
  options.workers = 3;
  for (const Indices& part : shards(50, options)) EXPECT_EQ(part, all(50));
}

TEST(Sharding, ValidationIsKeptFromEveryWorker) {
  for (Sharding sharding : {Sharding::full, Sharding::partition, Sharding::overlap}) {
    LoaderOptions options;
    options.sharding = sharding;
    options.workers = 3;
    options.validation = 0.1;
    const auto data = std::make_shared<Numbered>(205);
    Indices validation, united;
    for (options.worker = 0; options.worker < 3; ++options.worker) {
      Loader loader(data, options);
      if (options.worker == 0) validation = loader.validation_indices();
      EXPECT_EQ(loader.validation_indices(), validation);
      const Indices shard = shard_of(Numbered(205), options).training;
      EXPECT_TRUE(common(shard, validation).empty());
      united.insert(united.end(), shard.begin(), shard.end());
    }
    EXPECT_TRUE(std::ranges::is_sorted(validation));
    EXPECT_EQ(validation.size(), 21u);  // 20.5, half up
    united.insert(united.end(), validation.begin(), validation.end());
    united = sorted(united);
    united.erase(std::unique(united.begin(), united.end()), united.end());
    EXPECT_EQ(united, all(205));
  }
}

TEST(Sharding, Names) {
  EXPECT_EQ(*sharding_named("full"), Sharding::full);
  EXPECT_EQ(*sharding_named("partition"), Sharding::partition);
  EXPECT_EQ(*sharding_named("overlap"), Sharding::overlap);
  const Result<Sharding> other = sharding_named("shards");
  EXPECT_EQ(other.status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(other.status().message(),
            "data.sharding 'shards' is not one of full, partition, overlap, by_class, dirichlet");
}

// The order is part of the reproducibility contract.
TEST(Loader, GoldenOrder) {
  Loader loader(std::make_shared<Numbered>(10), options_of(10));
  EXPECT_EQ(take(loader), (Indices{0, 9, 8, 2, 1, 4, 6, 7, 5, 3}));
  EXPECT_EQ(take(loader), (Indices{0, 4, 9, 3, 7, 2, 8, 1, 6, 5}));
}

TEST(Loader, AnEpochReadsTheShardOnce) {
  const auto data = std::make_shared<Numbered>(103);
  LoaderOptions options = options_of(10);
  options.workers = 2, options.worker = 1, options.sharding = Sharding::partition;
  Loader loader(data, options);
  EXPECT_EQ(loader.shard_size(), 51);
  EXPECT_EQ(loader.batches_per_epoch(), 5);
  const Indices shard = shard_of(Numbered(103), options).training;
  std::vector<Indices> epochs(3);
  for (Indices& epoch : epochs) {
    for (const Indices& batch : take(loader, 5)) {
      EXPECT_EQ(batch.size(), 10u);
      epoch.insert(epoch.end(), batch.begin(), batch.end());
    }
    const Indices seen = sorted(epoch);
    EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end()) << "a sample twice in one epoch";
    EXPECT_TRUE(std::ranges::includes(shard, seen));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(Loader, WorkersAndSeedsHaveOrdersOfTheirOwn) {
  const auto data = std::make_shared<Numbered>(64);
  std::set<Indices> orders;
  LoaderOptions options = options_of(64);
  options.workers = 4;
  for (options.seed = 1; options.seed <= 3; ++options.seed)
    for (options.worker = 0; options.worker < 4; ++options.worker) {
      Loader loader(data, options);
      orders.insert(take(loader));
    }
  EXPECT_EQ(orders.size(), 12u);
}

TEST(Loader, EveryPositionIsEquallyLikely) {
  // 600 epochs of 6 samples: each sample is expected 100 times at each place, standard deviation 9.
  Loader loader(std::make_shared<Numbered>(6), options_of(6));
  int counts[6][6] = {};
  for (int epoch = 0; epoch < 600; ++epoch) {
    const Indices order = take(loader);
    for (size_t place = 0; place < 6; ++place) ++counts[place][order[place]];
  }
  for (const auto& place : counts)
    for (int count : place) EXPECT_NEAR(count, 100, 45);
}

TEST(Loader, ShuffleOff) {
  LoaderOptions options = options_of(4);
  options.shuffle = false;
  Loader loader(std::make_shared<Numbered>(9), options);
  EXPECT_EQ(take(loader, 3), (std::vector<Indices>{{0, 1, 2, 3}, {4, 5, 6, 7}, {0, 1, 2, 3}}));
}

TEST(Loader, AShardSmallerThanABatch) {
  Loader loader(std::make_shared<Numbered>(5), options_of(8));
  EXPECT_EQ(loader.batches_per_epoch(), 1);
  for (int epoch = 0; epoch < 3; ++epoch) EXPECT_EQ(sorted(take(loader)), all(5));
}

TEST(Loader, PrefetchAndSeekChangeNothing) {
  const auto data = std::make_shared<Numbered>(100);
  Loader plain(data, options_of(16));
  const std::vector<Indices> expected = take(plain, 40);  // six and a half epochs
  for (int prefetch : {0, 1, 4}) {
    Loader loader(data, options_of(16, prefetch));
    EXPECT_EQ(take(loader, 40), expected) << prefetch;
    for (int64_t step : {0, 39, 7, 8, 6, 20, 20}) {  // back, forth, in place and across epochs
      loader.seek(step);
      EXPECT_EQ(take(loader), expected[static_cast<size_t>(step)]) << prefetch << " step " << step;
    }
    loader.seek(3);
    loader.seek(30);
    EXPECT_EQ(take(loader, 10), std::vector<Indices>(expected.begin() + 30, expected.end())) << prefetch;
  }
  Loader late(data, options_of(16, 2));
  late.seek(33);  // before the first batch
  EXPECT_EQ(take(late), expected[33]);
}

// A loader that does not read ahead keeps a part of a long order at a time.
TEST(Loader, PartsOfAnOrderAreTheWholeOne) {
  const auto data = std::make_shared<Numbered>(10007);
  Loader whole(data, options_of(48, 2)), parts(data, options_of(48, 0));
  const int64_t batches = 2 * whole.batches_per_epoch() + 100;
  const std::vector<Indices> expected = take(whole, batches);
  EXPECT_EQ(take(parts, batches), expected);
  for (int64_t step : {85, 86, 0, 87, 207, 208, 172, 300}) {
    parts.seek(step);
    EXPECT_EQ(take(parts), expected[static_cast<size_t>(step)]) << step;
  }
}

TEST(Loader, WithoutPrefetchThereIsNoThread) {
  const auto data = std::make_shared<Numbered>(20);
  Loader plain(data, options_of(4));
  take(plain, 12);
  EXPECT_EQ(data->threads(), std::set{std::this_thread::get_id()});
  const auto other = std::make_shared<Numbered>(20);
  Loader threaded(other, options_of(4, 2));
  take(threaded, 12);
  EXPECT_EQ(other->threads().size(), 1u);
  EXPECT_EQ(other->threads().count(std::this_thread::get_id()), 0u);
}

TEST(Loader, ReadsAheadNoFurtherThanAsked) {
  // Batches 0 and 1 are taken, 2 and 3 wait, nothing reads 4: its sample would throw.
  const auto data = std::make_shared<Numbered>(8);
  data->broken = 4;
  LoaderOptions options = options_of(1, 2);
  options.shuffle = false;
  Loader loader(data, options);
  EXPECT_EQ(take(loader, 2), (std::vector<Indices>{{0}, {1}}));
  data->broken = -1;
  EXPECT_EQ(take(loader, 3), (std::vector<Indices>{{2}, {3}, {4}}));
}

TEST(Loader, ErrorsReachTheCallerAndTheBatchCanBeTriedAgain) {
  for (int prefetch : {0, 1, 4}) {
    const auto data = std::make_shared<Numbered>(8);
    data->broken = 5;
    LoaderOptions options = options_of(2, prefetch);
    options.shuffle = false;
    Loader loader(data, options);
    EXPECT_EQ(take(loader, 2), (std::vector<Indices>{{0, 1}, {2, 3}}));
    EXPECT_THROW(loader.next(), std::runtime_error) << prefetch;
    EXPECT_THROW(loader.next(), std::runtime_error) << prefetch;
    loader.seek(3);
    EXPECT_EQ(take(loader), (Indices{6, 7}));
    loader.seek(2);
    EXPECT_THROW(loader.next(), std::runtime_error) << prefetch;
    data->broken = -1;
    loader.seek(2);
    EXPECT_EQ(take(loader, 2), (std::vector<Indices>{{4, 5}, {6, 7}}));
  }
}

TEST(Loader, StopsAtAnyMoment) {
  const auto data = std::make_shared<Numbered>(1000);
  for (int taken = 0; taken < 20; ++taken) {
    Loader loader(data, options_of(10, 1 + taken % 4));
    take(loader, taken);
    if (taken % 3 == 0) loader.seek(taken);
  }
  EXPECT_EQ(data.use_count(), 1) << "every loader has let go";
}

// Remembers what it was asked to draw, in the sample's value: (pass, index).
class Passes final : public Numbered {
 public:
  explicit Passes(int64_t size) : Numbered(size) {}
  void read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                      int64_t* labels) const override {
    read(indices, inputs, labels);
    for (size_t i = 0; i < indices.size(); ++i)
      inputs[i] = static_cast<float>(static_cast<int64_t>(draw.pass) * 1000 + static_cast<int64_t>(draw.seed) * 100000);
  }
};

TEST(Loader, DrawsByTheEpochAndTheSeed) {
  LoaderOptions options = options_of(10);
  options.seed = 3;
  options.workers = 2, options.worker = 1;
  Loader loader(std::make_shared<Passes>(20), options);
  for (int step = 0; step < 6; ++step)
    EXPECT_EQ(loader.next().inputs.to_vector<float>()[4], static_cast<float>(300000 + step / 2 * 1000)) << step;
}

TEST(Loader, ThreadsChangeNothing) {
  const auto data = std::make_shared<Passes>(100);
  for (Order order : {Order::shuffled, Order::chunks}) {
    LoaderOptions options = options_of(8);
    options.order = order, options.chunk = 4, options.chunk_loaders = 6;
    Loader plain(data, options);
    std::vector<std::pair<std::vector<float>, Indices>> expected;
    for (int step = 0; step < 60; ++step) {
      const Batch batch = plain.next();
      expected.emplace_back(batch.inputs.to_vector<float>(), batch.labels.to_vector<int64_t>());
    }
    options.threads = 4, options.prefetch = 7;
    const auto other = std::make_shared<Passes>(100);
    Loader loader(other, options);
    for (int repeat = 0; repeat < 3; ++repeat) {
      loader.seek(repeat * 7);
      for (size_t step = static_cast<size_t>(repeat) * 7; step < 60; ++step) {
        const Batch batch = loader.next();
        ASSERT_EQ(batch.inputs.to_vector<float>(), expected[step].first) << step;
        ASSERT_EQ(batch.labels.to_vector<int64_t>(), expected[step].second) << step;
      }
    }
    EXPECT_LE(other->threads().size(), 4u);
    EXPECT_EQ(other->threads().count(std::this_thread::get_id()), 0u);
  }
}

TEST(Loader, ErrorsOfSeveralThreadsComeInOrder) {
  const auto data = std::make_shared<Numbered>(40);
  data->broken = 7;
  LoaderOptions options = options_of(2, 8);
  options.shuffle = false, options.threads = 3;
  Loader loader(data, options);
  EXPECT_EQ(take(loader, 3), (std::vector<Indices>{{0, 1}, {2, 3}, {4, 5}}));
  EXPECT_THROW(loader.next(), std::runtime_error);
  data->broken = -1;
  loader.seek(3);
  EXPECT_EQ(take(loader, 2), (std::vector<Indices>{{6, 7}, {8, 9}}));
}

TEST(Loader, OptionsOutOfRange) {
  const auto data = std::make_shared<Numbered>(10);
  auto refused = [&](auto change) {
    LoaderOptions options;
    change(options);
    EXPECT_THROW(Loader(data, options), Error);
  };
  refused([](LoaderOptions& o) { o.batch = 0; });
  refused([](LoaderOptions& o) { o.workers = 0; });
  refused([](LoaderOptions& o) { o.worker = -1; });
  refused([](LoaderOptions& o) { o.worker = 1; });
  refused([](LoaderOptions& o) { o.overlap = 1.5; });
  refused([](LoaderOptions& o) { o.overlap = std::numeric_limits<double>::quiet_NaN(); });
  refused([](LoaderOptions& o) { o.validation = 1; });
  refused([](LoaderOptions& o) { o.validation = -0.1; });
  refused([](LoaderOptions& o) { o.validation = 0.99; });  // rounds to everything
  refused([](LoaderOptions& o) { o.prefetch = -1; });
  refused([](LoaderOptions& o) { o.threads = 0; });
  refused([](LoaderOptions& o) { o.concentration = 0; });
  refused([](LoaderOptions& o) { o.order = Order::chunks, o.chunk = 5, o.chunk_loaders = 3, o.batch = 4; });
  refused([](LoaderOptions& o) {
    o.order = Order::chunks, o.sharding = Sharding::partition, o.chunk = 4, o.chunk_loaders = 2, o.batch = 4;
  });
  refused([](LoaderOptions& o) {
    o.order = Order::chunks, o.chunk = 1, o.chunk_loaders = 16, o.batch = 4, o.chunk_parts = true;
  });
  refused([](LoaderOptions& o) { o.sharding = Sharding::partition, o.workers = 11, o.worker = 10; });
  EXPECT_THROW(Loader(nullptr, {}), Error);
  Loader loader(data, {});
  EXPECT_THROW(loader.seek(-1), Error);
}

}  // namespace
}  // namespace sinew::nn
