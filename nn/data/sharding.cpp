#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "nn/data/loader.h"
#include "nn/data/shuffle.h"
#include "nn/names.h"

namespace sinew::nn {
namespace {

using Indices = std::vector<int64_t>;

constexpr std::array<std::pair<const char*, Sharding>, 5> kSharding{{
    {"full", Sharding::full},
    {"partition", Sharding::partition},
    {"overlap", Sharding::overlap},
    {"by_class", Sharding::by_class},
    {"dirichlet", Sharding::dirichlet},
}};
constexpr std::array<std::pair<const char*, Order>, 2> kOrder{{
    {"shuffled", Order::shuffled},
    {"chunks", Order::chunks},
}};

template <class Table>
auto named(const Table& table, const std::string& name, const char* option) -> Result<decltype(table[0].second)> {
  std::string allowed;
  for (const auto& [known, value] : table) {
    if (name == known) return value;
    allowed += (allowed.empty() ? "" : ", ") + std::string(known);
  }
  return make_status(StatusCode::invalid_argument, option, " '", name, "' is not one of ", allowed);
}

void check(const Dataset& data, const LoaderOptions& o) {
  const int64_t size = data.size();
  SINEW_CHECK(size > 0 && size < int64_t{1} << 32, "loader", "a data set of ", size, " samples");
  SINEW_CHECK(o.batch > 0, "loader", "batch ", o.batch, " is not positive");
  SINEW_CHECK(o.workers > 0 && o.worker >= 0 && o.worker < o.workers, "loader", "worker ", o.worker, " of ", o.workers);
  SINEW_CHECK(o.overlap >= 0 && o.overlap <= 1, "loader", "overlap ", o.overlap, " is not in 0 to 1");
  SINEW_CHECK(o.concentration > 0 && o.concentration <= 1e6, "loader", "concentration ", o.concentration,
              " is not in (0, 1e6]");
  SINEW_CHECK(o.validation >= 0 && o.validation < 1, "loader", "validation ", o.validation, " is not in [0, 1)");
  SINEW_CHECK(o.prefetch >= 0, "loader", "prefetch ", o.prefetch, " is negative");
  SINEW_CHECK(o.threads > 0, "loader", o.threads, " threads");
  SINEW_CHECK(o.chunk > 0 && o.chunk_loaders > 0, "loader", o.chunk_loaders, " chunks of ", o.chunk);
  if (const Status fits = check_loader_options(o, data); !fits.ok()) SINEW_FAIL("loader", fits.message());
}

bool divides_by_class(const LoaderOptions& o) {
  return o.sharding == Sharding::by_class || o.sharding == Sharding::dirichlet;
}

int64_t round_half_up(double x) { return static_cast<int64_t>(std::floor(x + 0.5)); }
int64_t validation_size(int64_t size, const LoaderOptions& o) {
  return std::min(round_half_up(o.validation * static_cast<double>(size)), size);
}
int64_t shared_size(int64_t training, const LoaderOptions& o) {
  const double ratio = o.sharding == Sharding::full ? 1 : o.sharding == Sharding::overlap ? o.overlap : 0;
  return std::min(round_half_up(ratio * static_cast<double>(training)), training);
}

// Block `part` of n things in `parts` contiguous blocks of which the first (n mod parts) have one more: begin and end.
std::pair<int64_t, int64_t> block(int64_t n, int64_t part, int64_t parts) {
  const int64_t each = n / parts, more = n % parts, begin = part * each + std::min(part, more);
  return {begin, begin + each + (part < more ? 1 : 0)};
}

// The samples of one permutation, those of a label after those of the label before.
Indices sorted_by_label(const Dataset& data, Indices order) {
  std::vector<int64_t> labels(static_cast<size_t>(data.size()));
  for (int64_t index : order) labels[static_cast<size_t>(index)] = data.label(index);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return labels[static_cast<size_t>(a)] < labels[static_cast<size_t>(b)];
  });
  return order;
}

// Takes `count` samples, spread evenly, out of those sorted by label: of a class of c among n between the two integers
// next to count c / n.
Indices take_evenly(Indices& sorted, int64_t count) {
  Indices taken, left;
  const int64_t n = static_cast<int64_t>(sorted.size());
  for (int64_t i = 0, owed = 0; i < n; ++i) {
    owed += count;
    const bool due = owed >= n;
    if (due) owed -= n;
    (due ? taken : left).push_back(sorted[static_cast<size_t>(i)]);
  }
  sorted = std::move(left);
  return taken;
}

// Worker of each sample of `order`, which is sorted by label. Polya's urn (Blackwell and MacQueen 1973): the next
// sample of a class goes to a worker drawn uniformly with weight workers * concentration, or to the worker of an
// earlier sample of the class with weight 1 each. The counts are distributed as with proportions drawn from
// Dirichlet(concentration), and only additions and comparisons decide, so that all machines agree.
std::vector<int> urn_workers(const Dataset& data, const Indices& order, const LoaderOptions& o) {
  std::vector<int> worker(order.size());
  const double fresh = o.concentration * o.workers;
  size_t first = 0;  // of the class
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t label = data.label(order[i]);
    if (i > 0 && label != data.label(order[i - 1])) first = i;
    const RngKey key{.seed = o.seed,
                     .purpose = static_cast<uint32_t>(RngPurpose::shard),
                     .rank = 1 + static_cast<uint32_t>(label),
                     .step = i - first};
    const double ticket = uniform01(philox_u64(key, 0)) * (fresh + static_cast<double>(i - first));
    worker[i] = ticket < fresh ? std::min(static_cast<int>(ticket / o.concentration), o.workers - 1)
                               : worker[std::min(first + static_cast<size_t>(ticket - fresh), i - 1)];
  }
  // Nobody goes without: a worker that drew nothing takes the last sample of the largest shard.
  std::vector<int64_t> sizes(static_cast<size_t>(o.workers));
  for (int w : worker) ++sizes[static_cast<size_t>(w)];
  for (int w = 0; w < o.workers; ++w) {
    if (sizes[static_cast<size_t>(w)] > 0) continue;
    const auto largest = std::ranges::max_element(sizes);
    if (*largest < 2) break;
    const int from = static_cast<int>(largest - sizes.begin());
    *std::find(worker.rbegin(), worker.rend(), from) = w;
    --*largest, ++sizes[static_cast<size_t>(w)];
  }
  return worker;
}

}  // namespace

// One permutation of the whole set, the same on every worker: first the validation samples, then those that all
// workers share, then the rest. Stratified: each of these draws from every class alike.
Shard shard_of(const Dataset& data, const LoaderOptions& o) {
  const int64_t size = data.size();
  check(data, o);
  Indices order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, {.seed = o.seed, .purpose = static_cast<uint32_t>(RngPurpose::shard), .rank = 0, .step = 0});

  Shard out;
  const int64_t kept = validation_size(size, o), shared = shared_size(size - kept, o);
  if (o.stratify) {
    Indices rest = sorted_by_label(data, std::move(order));
    out.validation = take_evenly(rest, kept);
    out.training = take_evenly(rest, shared);
    // Dealt in turn, so that shards and their classes differ by at most one sample.
    for (size_t i = static_cast<size_t>(o.worker); i < rest.size(); i += static_cast<size_t>(o.workers))
      out.training.push_back(rest[i]);
    std::sort(out.validation.begin(), out.validation.end());
    std::sort(out.training.begin(), out.training.end());
    return out;
  }
  const auto validation_end = order.begin() + kept, shared_end = validation_end + shared;
  out.validation.assign(order.begin(), validation_end);
  out.training.assign(validation_end, shared_end);
  Indices rest(shared_end, order.end());
  if (divides_by_class(o)) rest = sorted_by_label(data, std::move(rest));
  if (o.sharding == Sharding::dirichlet) {
    const std::vector<int> worker = urn_workers(data, rest, o);
    for (size_t i = 0; i < rest.size(); ++i)
      if (worker[i] == o.worker) out.training.push_back(rest[i]);
  } else {
    const auto [begin, end] = block(static_cast<int64_t>(rest.size()), o.worker, o.workers);
    out.training.insert(out.training.end(), rest.begin() + begin, rest.begin() + end);
  }
  std::sort(out.validation.begin(), out.validation.end());
  std::sort(out.training.begin(), out.training.end());
  return out;
}

int64_t job_epoch_batches(int64_t data_size, const LoaderOptions& o) {
  const int64_t training = data_size - validation_size(data_size, o), shared = shared_size(training, o);
  return std::max<int64_t>(1, (shared + (training - shared) / o.workers) / o.batch);
}

std::vector<std::string> sharding_names() { return names_of(kSharding); }
Result<Sharding> sharding_named(const std::string& name) { return named(kSharding, name, "data.sharding"); }
std::vector<std::string> order_names() { return names_of(kOrder); }
Result<Order> order_named(const std::string& name) { return named(kOrder, name, "data.order"); }

Status check_loader_options(const LoaderOptions& o) {
  if (o.stratify && divides_by_class(o))
    return make_status(
        StatusCode::invalid_argument, "data.stratify makes the classes of all workers alike, data.sharding ",
        kSharding[static_cast<size_t>(o.sharding)].first, " unlike; for example --data.sharding partition");
  if (o.order != Order::chunks) return Status::Ok();
  if (o.sharding != Sharding::full)
    return make_status(StatusCode::invalid_argument,
                       "data.order chunks hands samples out to all workers: it needs --data.sharding full");
  if (o.chunk * o.chunk_loaders % o.batch != 0)
    return make_status(StatusCode::invalid_argument, "data.order chunks: data.chunk ", o.chunk,
                       " times data.chunk_loaders ", o.chunk_loaders, " must be a multiple of train.batch ", o.batch,
                       "; for example --data.chunk ", 4 * o.batch);
  return Status::Ok();
}

Status check_loader_options(const LoaderOptions& o, const Dataset& data) {
  SINEW_RETURN_IF_ERROR(check_loader_options(o));
  const int64_t training = data.size() - validation_size(data.size(), o);
  const char* sharding = kSharding[static_cast<size_t>(o.sharding)].first;
  if (training < (o.sharding == Sharding::full ? 1 : o.workers))
    return make_status(StatusCode::invalid_argument, "data.train_size, data.validation: ", data.size(),
                       " training samples are too few for ", o.workers, " workers with data.sharding ", sharding,
                       " and data.validation ", o.validation);
  if (o.order == Order::chunks && o.chunk_parts && training < o.chunk_loaders)
    return make_status(StatusCode::invalid_argument, "data.chunk_loaders ", o.chunk_loaders, " is more than the ",
                       training, " training samples");
  if (data.has_number_targets() && divides_by_class(o))
    return make_status(StatusCode::invalid_argument, "data.sharding ", sharding, ": the targets of ", data.name(),
                       " are numbers, not classes; for example --data.sharding partition");
  if (data.has_number_targets() && o.stratify)
    return make_status(StatusCode::invalid_argument, "data.stratify: the targets of ", data.name(),
                       " are numbers, not classes");
  return Status::Ok();
}

}  // namespace sinew::nn
