// Sharding by label, and the chunk loader.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "nn/data/chunks.h"
#include "nn/data/loader.h"

namespace sinew::nn {
namespace {

using Indices = std::vector<int64_t>;

// Sample i has the label i mod classes and the value i.
class Labelled final : public Dataset {
 public:
  Labelled(int64_t size, int64_t classes) : size_(size), classes_(classes) {}
  std::string name() const override { return "labelled"; }
  int64_t size() const override { return size_; }
  Shape sample_shape() const override { return {1}; }
  int64_t classes() const override { return classes_; }
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override {
    for (int64_t index : indices) *inputs++ = static_cast<float>(index), *labels++ = index % classes_;
  }

 private:
  int64_t size_, classes_;
};

std::vector<Indices> shards(const Dataset& data, LoaderOptions options) {
  std::vector<Indices> out;
  for (options.worker = 0; options.worker < options.workers; ++options.worker)
    out.push_back(shard_of(data, options).training);
  return out;
}

Indices united(const std::vector<Indices>& parts) {
  Indices all;
  for (const Indices& part : parts) all.insert(all.end(), part.begin(), part.end());
  std::ranges::sort(all);
  return all;
}
Indices numbers(int64_t n) {
  Indices all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<std::vector<int64_t>> class_counts(const std::vector<Indices>& parts, int64_t classes) {
  std::vector<std::vector<int64_t>> counts;
  for (const Indices& part : parts) {
    counts.emplace_back(static_cast<size_t>(classes));
    for (int64_t i : part) ++counts.back()[static_cast<size_t>(i % classes)];
  }
  return counts;
}

TEST(ShardingByClass, BlocksOfClasses) {
  const Labelled data(1000, 10);
  LoaderOptions options{.workers = 5, .sharding = Sharding::by_class};
  const std::vector<Indices> parts = shards(data, options);
  EXPECT_EQ(united(parts), numbers(1000));
  const auto counts = class_counts(parts, 10);
  for (size_t w = 0; w < 5; ++w)
    for (size_t c = 0; c < 10; ++c) EXPECT_EQ(counts[w][c], c / 2 == w ? 100 : 0) << w << " " << c;
  // Blocks that cut through a class.
  options.workers = 3;
  const std::vector<Indices> thirds = shards(data, options);
  EXPECT_EQ(thirds[0].size(), 334u);
  EXPECT_EQ(thirds[2].size(), 333u);
  EXPECT_EQ(class_counts(thirds, 10)[0], (std::vector<int64_t>{100, 100, 100, 34, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(united(thirds), numbers(1000));
  EXPECT_EQ(shards(data, options), thirds) << "deterministic";
  options.seed = 2;
  EXPECT_NE(shards(data, options), thirds) << "which ones of class 3";
}

TEST(ShardingDirichlet, EverySampleOnceWhateverTheConcentration) {
  const Labelled data(997, 10);
  for (double concentration : {1e-3, 0.1, 1.0, 100.0, 1e6})
    for (int workers : {1, 4, 13}) {
      LoaderOptions options{.workers = workers, .sharding = Sharding::dirichlet, .concentration = concentration};
      options.validation = 0.1;
      std::vector<Indices> parts = shards(data, options);
      for (const Indices& part : parts) EXPECT_FALSE(part.empty()) << concentration << " " << workers;
      parts.push_back(shard_of(data, options).validation);
      EXPECT_EQ(united(parts), numbers(997)) << concentration << " " << workers;
    }
}

// Proportions p of Dirichlet(a) over k workers have mean 1/k and variance (1/k)(1 - 1/k) / (k a + 1).
TEST(ShardingDirichlet, ProportionsHaveTheRightMoments) {
  constexpr int64_t kClasses = 50, kPerClass = 400;
  const Labelled data(kClasses * kPerClass, kClasses);
  for (double a : {0.2, 1.0, 5.0}) {
    LoaderOptions options{.workers = 4, .sharding = Sharding::dirichlet, .concentration = a};
    double sum = 0, squares = 0, n = 0;
    for (options.seed = 1; options.seed <= 8; ++options.seed)
      for (const auto& counts : class_counts(shards(data, options), kClasses))
        for (int64_t count : counts) {
          const double p = static_cast<double>(count) / kPerClass;
          sum += p, squares += (p - 0.25) * (p - 0.25), ++n;
        }
    EXPECT_NEAR(sum / n, 0.25, 1e-12);
    // Counts are drawn, not only their proportions: variance (1/k)(1 - 1/k) (k a + m) / (m (k a + 1)).
    const double expected = 0.1875 * (4 * a + kPerClass) / (kPerClass * (4 * a + 1));
    EXPECT_NEAR(squares / n / expected, 1, 0.15) << a;
  }
}

TEST(ShardingDirichlet, SmallConcentrationGivesAClassToOneWorker) {
  const Labelled data(2000, 10);
  const LoaderOptions options{.workers = 4, .sharding = Sharding::dirichlet, .concentration = 1e-4};
  const auto counts = class_counts(shards(data, options), 10);
  for (size_t c = 0; c < 10; ++c) {
    int64_t most = 0;
    for (const auto& worker : counts) most = std::max(most, worker[c]);
    EXPECT_GE(most, 190) << c;
  }
}

// The urn's draws are part of the reproducibility contract.
TEST(ShardingDirichlet, Golden) {
  const Labelled data(12, 3);
  const LoaderOptions options{.workers = 3, .sharding = Sharding::dirichlet, .concentration = 0.5};
  EXPECT_EQ(shards(data, options), (std::vector<Indices>{{0, 3, 6, 9}, {1, 4}, {2, 5, 7, 8, 10, 11}}));
}

TEST(ShardingByLabel, NumbersCannot) {
  class Numbers final : public Dataset {
   public:
    std::string name() const override { return "numbers"; }
    int64_t size() const override { return 10; }
    Shape sample_shape() const override { return {1}; }
    int64_t classes() const override { return 2; }
    bool has_number_targets() const override { return true; }
    void read(std::span<const int64_t>, float*, int64_t*) const override {}
  };
  EXPECT_THROW(static_cast<void>(shard_of(Numbers(), {.sharding = Sharding::by_class})), Error);
  EXPECT_THROW(static_cast<void>(shard_of(Numbers(), {.sharding = Sharding::partition, .stratify = true})), Error);
  EXPECT_NO_THROW(static_cast<void>(shard_of(Numbers(), {.sharding = Sharding::partition})));
}

// Classes of sizes 700, 200, 90 and 10.
class Unequal final : public Dataset {
 public:
  std::string name() const override { return "unequal"; }
  int64_t size() const override { return 1000; }
  Shape sample_shape() const override { return {1}; }
  int64_t classes() const override { return 4; }
  static int64_t class_of(int64_t i) { return i % 10 < 7 ? 0 : i % 10 < 9 ? 1 : i % 100 < 90 ? 2 : 3; }
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override {
    for (int64_t index : indices) *inputs++ = static_cast<float>(index), *labels++ = class_of(index);
  }
};
constexpr double kClassShares[] = {0.7, 0.2, 0.09, 0.01};

// Of every class the part has its share, to less than `off` samples.
void expect_stratified(const Indices& part, double off, const char* what) {
  double counts[4] = {};
  for (int64_t i : part) ++counts[Unequal::class_of(i)];
  for (size_t c = 0; c < 4; ++c)
    EXPECT_LT(std::abs(counts[c] - kClassShares[c] * static_cast<double>(part.size())), off) << what << ", class " << c;
}

TEST(ShardingStratified, EveryPartHasTheClassesOfTheSet) {
  const Unequal data;
  for (int workers : {1, 3, 4, 7}) {
    LoaderOptions options{.workers = workers, .sharding = Sharding::partition, .stratify = true};
    const std::vector<Indices> parts = shards(data, options);
    EXPECT_EQ(united(parts), numbers(1000));
    for (int w = 0; w < workers; ++w) {
      const Indices& part = parts[static_cast<size_t>(w)];
      EXPECT_EQ(static_cast<int64_t>(part.size()), 1000 / workers + (w < 1000 % workers ? 1 : 0)) << "as without";
      expect_stratified(part, 1.3, "part");
    }
    // Of a class, workers have equally many to within one.
    for (int64_t c = 0; c < 4; ++c) {
      std::vector<int64_t> of_class;
      for (const Indices& part : parts)
        of_class.push_back(std::ranges::count_if(part, [&](int64_t i) { return Unequal::class_of(i) == c; }));
      const auto [low, high] = std::ranges::minmax(of_class);
      EXPECT_LE(high - low, 1) << workers << " workers, class " << c;
    }
  }
}

TEST(ShardingStratified, SharedAndValidationToo) {
  const Unequal data;
  LoaderOptions options{.workers = 4, .sharding = Sharding::overlap, .overlap = 0.25, .validation = 0.1};
  options.stratify = true;
  const std::vector<Indices> parts = shards(data, options);
  const Indices validation = shard_of(data, options).validation;
  EXPECT_EQ(validation.size(), 100u);
  expect_stratified(validation, 1, "validation");
  Indices shared = parts[0], all = validation;
  for (const Indices& part : parts) {
    EXPECT_TRUE(part.size() == 225 + 169 || part.size() == 225 + 168) << part.size();
    expect_stratified(part, 3, "shared and own");
    Indices both;
    std::ranges::set_intersection(shared, part, std::back_inserter(both));
    shared = both;
    all.insert(all.end(), part.begin(), part.end());
  }
  EXPECT_EQ(shared.size(), 225u);
  expect_stratified(shared, 2, "shared");
  std::ranges::sort(all);
  const auto [first, last] = std::ranges::unique(all);
  all.erase(first, last);
  EXPECT_EQ(all, numbers(1000)) << "nothing is lost";
}

TEST(ShardingStratified, DrawnBySeedAndOneLineForWhatDoesNotFit) {
  const Unequal data;
  LoaderOptions options{.workers = 3, .sharding = Sharding::partition, .stratify = true};
  const std::vector<Indices> once = shards(data, options);
  EXPECT_EQ(shards(data, options), once);
  options.seed = 2;
  EXPECT_NE(shards(data, options), once) << "which samples of a class";
  options.sharding = Sharding::dirichlet;
  EXPECT_EQ(check_loader_options(options).message(),
            "data.stratify makes the classes of all workers alike, data.sharding dirichlet unlike; for example "
            "--data.sharding partition");
}

TEST(Sharding, EpochOfTheJob) {
  LoaderOptions options{.batch = 10, .workers = 4};
  EXPECT_EQ(job_epoch_batches(1000, options), 100);
  for (Sharding s : {Sharding::partition, Sharding::by_class, Sharding::dirichlet}) {
    options.sharding = s;
    EXPECT_EQ(job_epoch_batches(1000, options), 25);
    EXPECT_EQ(job_epoch_batches(1039, options), 25);  // the smallest of partition's shards has 259
    EXPECT_EQ(job_epoch_batches(3, options), 1);
  }
  options.sharding = Sharding::overlap;
  EXPECT_EQ(job_epoch_batches(1000, options), (250 + 187) / 10);
  options.validation = 0.5;
  EXPECT_EQ(job_epoch_batches(1000, options), (125 + 93) / 10);
  // What the workers' own loaders count where shards are equal.
  options = {.batch = 7, .workers = 3, .sharding = Sharding::partition};
  options.worker = 2;
  const auto data = std::make_shared<Labelled>(500, 10);
  EXPECT_EQ(job_epoch_batches(500, options), Loader(data, options).batches_per_epoch());
}

LoaderOptions chunk_options(int64_t batch, int64_t chunk, int loaders, bool parts) {
  LoaderOptions options{.batch = batch};
  options.order = Order::chunks, options.chunk = chunk, options.chunk_loaders = loaders, options.chunk_parts = parts;
  options.prefetch = 0;
  return options;
}

// The streams by hand: without shuffling, stream j starts at its place, and passes begin at most n mod batch late.
TEST(Chunks, StreamsRunOn) {
  for (bool parts : {false, true}) {
    LoaderOptions options = chunk_options(4, 5, 3, parts);
    options.shuffle = false;
    const Chunks chunks(numbers(43), options);
    const int64_t begins[] = {0, 14, 28, 43};
    for (int stream = 0; stream < 3; ++stream) {
      Indices sequence;
      for (int64_t request = 0; request < 40; ++request) {
        const Indices all = chunks.request(request);
        ASSERT_EQ(all.size(), 15u);
        sequence.insert(sequence.end(), all.begin() + 5 * stream, all.begin() + 5 * stream + 5);
      }
      const int64_t low = parts ? begins[stream] : 0, high = parts ? begins[stream + 1] : 43;
      const int64_t most = (high - low) % 4;
      EXPECT_EQ(sequence[0], begins[stream]);
      std::set<int64_t> offsets;
      for (size_t i = 1; i < sequence.size(); ++i) {
        if (sequence[i - 1] + 1 < high) {
          ASSERT_EQ(sequence[i], sequence[i - 1] + 1) << i;
          continue;
        }
        ASSERT_GE(sequence[i], low);
        ASSERT_LE(sequence[i], low + most);
        offsets.insert(sequence[i] - low);
      }
      EXPECT_GT(offsets.size(), most > 0 ? 1u : 0u) << "the offset is drawn";
    }
  }
}

// All workers together use up the streams, each chunk once, whoever asks.
TEST(Chunks, WorkersTakeTurns) {
  const auto data = std::make_shared<Labelled>(1000, 1000);
  for (bool parts : {false, true}) {
    LoaderOptions options = chunk_options(4, 8, 2, parts);
    options.workers = 3;
    const Chunks chunks(numbers(1000), options);
    for (options.worker = 0; options.worker < 3; ++options.worker) {
      Loader loader(data, options);
      EXPECT_EQ(loader.batches_per_epoch(), 250);
      for (int64_t round = 0; round < 20; ++round) {
        Indices used;
        for (int b = 0; b < 4; ++b) {
          const Indices batch = loader.next().labels.to_vector<int64_t>();
          ASSERT_EQ(batch.size(), 4u);
          used.insert(used.end(), batch.begin(), batch.end());
        }
        Indices expected = chunks.request(round * 3 + options.worker);
        EXPECT_NE(used, expected) << "shuffled";
        std::ranges::sort(used);
        std::ranges::sort(expected);
        ASSERT_EQ(used, expected) << round << " " << options.worker;
      }
    }
  }
}

TEST(Chunks, APassOfPartsReadsEverySampleOnce) {
  const LoaderOptions options = chunk_options(5, 5, 4, true);
  const Chunks chunks(numbers(100), options);
  std::vector<Indices> parts;
  for (int64_t request = 0; request < 5; ++request) parts.push_back(chunks.request(request));
  EXPECT_EQ(united(parts), numbers(100));
  EXPECT_NE(parts[0], (Indices{0, 1, 2, 3, 4, 25, 26, 27, 28, 29, 50, 51, 52, 53, 54, 75, 76, 77, 78, 79}))
      << "the set's order is random, once for all";
}

TEST(Chunks, SeekAndValidation) {
  const auto data = std::make_shared<Labelled>(200, 200);
  LoaderOptions options = chunk_options(4, 6, 4, false);
  options.validation = 0.2;
  Loader loader(data, options);
  const Indices validation = loader.validation_indices();
  std::vector<Indices> batches;
  for (int step = 0; step < 100; ++step) {
    batches.push_back(loader.next().labels.to_vector<int64_t>());
    for (int64_t i : batches.back()) EXPECT_FALSE(std::ranges::binary_search(validation, i));
  }
  for (int64_t step : {50, 3, 99}) {
    loader.seek(step);
    EXPECT_EQ(loader.next().labels.to_vector<int64_t>(), batches[static_cast<size_t>(step)]);
  }
}

TEST(Chunks, OneLineForWhatDoesNotFit) {
  LoaderOptions options = chunk_options(128, 500, 8, false);
  EXPECT_EQ(check_loader_options(options).message(),
            "data.order chunks: data.chunk 500 times data.chunk_loaders 8 must be a multiple of train.batch 128; for "
            "example --data.chunk 512");
  options.chunk = 512;
  EXPECT_TRUE(check_loader_options(options).ok());
  options.sharding = Sharding::dirichlet;
  EXPECT_EQ(check_loader_options(options).message(),
            "data.order chunks hands samples out to all workers: it needs --data.sharding full");
}

}  // namespace
}  // namespace sinew::nn
