#include "dist/topology.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <mutex>
#include <numeric>

#include "core/philox.h"

namespace sinew::dist {
namespace {

constexpr const char* kNames[] = {
    "uniform", "ring", "grid", "star", "complete", "edges", "shift_one", "exponential", "one_peer_exponential"};

using Edges = std::vector<std::pair<Rank, Rank>>;
using Neighbours = std::vector<std::vector<Rank>>;

// The widest grid that is not higher than it is wide.
int grid_height(int workers) {
  int height = 1;
  for (int h = 1; h * h <= workers; ++h)
    if (workers % h == 0) height = h;
  return height;
}

Result<Edges> parse_edges(const std::string& text, int n) {
  auto bad = [&](const std::string& word) {
    return make_status(StatusCode::invalid_argument, "edges: '", word, "'; an edge is two different ranks of 0 to ",
                       n - 1, ", such as 0-1; edges are separated by commas");
  };
  Edges edges;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    Rank a = -1, b = -1;
    const char* last = word.data() + word.size();
    const auto first = std::from_chars(word.data(), last, a);
    if (first.ec != std::errc() || first.ptr == last || *first.ptr != '-') return bad(word);
    const auto second = std::from_chars(first.ptr + 1, last, b);
    if (second.ec != std::errc() || second.ptr != last || a < 0 || b < 0 || a >= n || b >= n || a == b)
      return bad(word);
    edges.emplace_back(a, b);
    at = end + 1;
  }
  return edges;
}

// Ascending, each once. A graph of two workers may name the same edge twice.
Neighbours neighbours(const Edges& edges, int n) {
  Neighbours peers(static_cast<size_t>(n));
  for (auto [a, b] : edges) {
    if (a == b) continue;
    peers[a].push_back(b);
    peers[b].push_back(a);
  }
  for (auto& p : peers) {
    std::sort(p.begin(), p.end());
    p.erase(std::unique(p.begin(), p.end()), p.end());
  }
  return peers;
}

bool connected(const Neighbours& peers) {
  std::vector<char> seen(peers.size());
  std::vector<Rank> todo{0};
  seen[0] = 1;
  while (!todo.empty()) {
    const Rank r = todo.back();
    todo.pop_back();
    for (Rank k : peers[r])
      if (!std::exchange(seen[k], 1)) todo.push_back(k);
  }
  return std::count(seen.begin(), seen.end(), 1) == static_cast<int64_t>(seen.size());
}

// The neighbours in a list of edges. Whoever asks for the same list shares one table.
std::shared_ptr<const Neighbours> listed(const std::string& edges, int n) {
  struct Kept {
    std::string edges;
    int n = 0;
    std::weak_ptr<const Neighbours> table;
  };
  static std::mutex mutex;
  static Kept kept;
  const std::lock_guard lock(mutex);
  std::shared_ptr<const Neighbours> table = kept.table.lock();
  if (!table || kept.edges != edges || kept.n != n) {
    table = std::make_shared<const Neighbours>(neighbours(*parse_edges(edges, n), n));
    kept = {edges, n, table};
  }
  return table;
}

// 1, 2, 4, ... below the number of workers.
int exponents(int workers) {
  int count = 0;
  while ((int64_t{1} << count) < workers) ++count;
  return count;
}

bool is_directed(const std::string& name) { return name == "exponential" || name == "one_peer_exponential"; }

}  // namespace

Rank uniform_pick(uint64_t seed, int64_t step, Rank rank, int workers, double probability) {
  if (workers < 2 || probability <= 0) return kAnyRank;
  const PhiloxBlock b =
      philox_block({seed, uint32_t(RngPurpose::scheme), uint32_t(rank), static_cast<uint64_t>(step)}, 0);
  if (uniform01(uint64_t(b.v[1]) << 32 | b.v[0]) >= probability) return kAnyRank;
  const double u = uniform01(uint64_t(b.v[3]) << 32 | b.v[2]);
  return static_cast<Rank>((static_cast<int64_t>(u * (workers - 1)) + 1 + rank) % workers);
}

std::vector<Links> pair_links(const std::vector<Rank>& picks, double alpha, Collision collision, int64_t round) {
  const int n = static_cast<int>(picks.size());
  Edges edges;
  std::vector<char> taken(picks.size());
  for (int i = 0; i < n; ++i) {
    const Rank r = static_cast<Rank>((round + i) % n), k = picks[r];
    if (k == kAnyRank) continue;
    if (collision == Collision::matching && (taken[r] || taken[k])) continue;
    taken[r] = taken[k] = 1;
    edges.emplace_back(r, k);
  }
  const auto peers = neighbours(edges, n);
  std::vector<Links> links(picks.size());
  for (int r = 0; r < n; ++r)
    for (Rank k : peers[r]) {
      const auto degree = static_cast<double>(std::max(peers[r].size(), peers[k].size()));
      links[r].push_back({k, collision == Collision::capped ? std::min(alpha, 1 / (1 + degree)) : alpha});
    }
  return links;
}

std::vector<std::string> topology_names() { return {std::begin(kNames), std::end(kNames)}; }

Status validate(const TopologyOptions& o) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  const std::vector<std::string> names = topology_names();
  if (std::find(names.begin(), names.end(), o.name) == names.end()) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    return bad("unknown topology '", o.name, "'; allowed are ", all);
  }
  if (o.workers < 1) return bad("topology ", o.name, ": workers = ", o.workers, "; allowed are 1, 2, ...");
  if (o.name == "shift_one" && o.workers > 1 && o.workers % 2 != 0)
    return bad("topology shift_one pairs all workers: their number must be even, not ", o.workers);
  if (o.name != "edges")
    return o.edges.empty() ? Status::Ok()
                           : bad("edges are given, but the topology is ", o.name, "; take topology edges");
  if (o.edges.empty()) return bad("topology edges needs a list of edges, such as 0-1,1-2");
  Result<Edges> edges = parse_edges(o.edges, o.workers);
  if (!edges.ok()) return edges.status();
  if (!connected(neighbours(*edges, o.workers)))
    return bad("edges '", o.edges, "' leave some of the ", o.workers, " workers without a path to the others");
  return Status::Ok();
}

Topology::Topology(const TopologyOptions& options) : options_(options), directed_(is_directed(options.name)) {
  Status status = validate(options);
  SINEW_CHECK(status.ok(), "topology", status.message());
  if (options.name == "edges") listed_ = listed(options.edges, options.workers);
  options_.edges.clear();
}

std::vector<Rank> Topology::neighbours_of(Rank rank) const {
  if (listed_) return (*listed_)[static_cast<size_t>(rank)];
  const int n = workers();
  std::vector<Rank> peers;
  if (name() == "ring") {
    peers = {(rank + n - 1) % n, (rank + 1) % n};
  } else if (name() == "grid") {
    const int width = n / grid_height(n);
    if (rank >= width) peers.push_back(rank - width);
    if (rank % width > 0) peers.push_back(rank - 1);
    if (rank % width + 1 < width) peers.push_back(rank + 1);
    if (rank + width < n) peers.push_back(rank + width);
  } else if (name() == "star" && rank > 0) {
    peers = {0};
  } else {  // complete, and the middle of a star
    for (Rank r = 0; r < n; ++r)
      if (r != rank) peers.push_back(r);
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

int Topology::degree(Rank rank) const {
  if (name() == "complete") return workers() - 1;  // this for each neighbour, of all
  if (name() == "star") return rank == 0 ? workers() - 1 : 1;
  return static_cast<int>(neighbours_of(rank).size());
}

int64_t Topology::period() const {
  if (name() == "uniform") return 0;
  if (name() == "one_peer_exponential") return std::max(1, exponents(workers()));
  return name() == "shift_one" ? std::max(1, workers() / 2) : 1;
}

struct Topology::Round {
  TopologyOptions of;
  int64_t round = -1;
  std::vector<Rank> picks;
  std::vector<std::vector<Rank>> pickers;
  std::vector<Links> links;
};

// A round needs everybody's picks. In a simulation all workers ask for the same rounds, so that a thread keeps the
// last ones: without, a round of n workers would cost n^2 draws.
const Topology::Round& Topology::random_round(int64_t round) const {
  static thread_local std::array<Round, 64> kept;
  const TopologyOptions& o = options_;
  Round& r = kept[static_cast<uint64_t>(round) % kept.size()];
  if (r.round == round && r.of.seed == o.seed && r.of.workers == o.workers && r.of.probability == o.probability &&
      r.of.alpha == o.alpha && r.of.collision == o.collision)
    return r;
  r.of = o;
  r.round = round;
  r.picks.resize(static_cast<size_t>(o.workers));
  r.pickers.assign(r.picks.size(), {});
  for (Rank i = 0; i < o.workers; ++i) {
    r.picks[i] = uniform_pick(o.seed, round, i, o.workers, o.probability);
    if (r.picks[i] != kAnyRank) r.pickers[r.picks[i]].push_back(i);
  }
  r.links = pair_links(r.picks, o.alpha, o.collision, round);
  return r;
}

Rank Topology::pick(Rank rank, int64_t round) const {
  return uniform_pick(options_.seed, round, rank, workers(), options_.probability);
}

const std::vector<Rank>& Topology::pickers(Rank rank, int64_t round) const { return random_round(round).pickers[rank]; }

std::vector<int64_t> Topology::distances(int64_t round) const {
  const int count = exponents(workers());
  std::vector<int64_t> all;
  if (count == 0) return all;
  if (name() == "one_peer_exponential") return {int64_t{1} << (round % count)};
  for (int i = 0; i < count; ++i) all.push_back(int64_t{1} << i);
  return all;
}

Links Topology::out(Rank rank, int64_t round) const {
  if (!directed_) return in(rank, round);
  Links links;
  const std::vector<int64_t> ahead = distances(round);
  for (int64_t d : ahead)
    links.push_back({static_cast<Rank>((rank + d) % workers()), 1.0 / (1.0 + static_cast<double>(ahead.size()))});
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.peer < b.peer; });
  return links;
}

Links Topology::in(Rank rank, int64_t round) const {
  const int n = workers();
  if (n == 1) return {};
  if (name() == "uniform") return random_round(round).links[rank];
  if (name() == "shift_one") {
    const int64_t half = n / 2;
    const int64_t peer = rank < half ? (round + rank) % half + half : ((rank - half - round) % half + half) % half;
    return {{static_cast<Rank>(peer), 0.5}};
  }
  Links links;
  if (!directed_) {  // W_ij = 1 / max(d_i, d_j), degrees counted with the worker itself
    const int own = degree(rank);
    for (Rank k : neighbours_of(rank)) links.push_back({k, 1.0 / (1.0 + std::max(own, degree(k)))});
    return links;
  }
  const std::vector<int64_t> behind = distances(round);
  for (int64_t d : behind)
    links.push_back({static_cast<Rank>((rank - d + n) % n), 1.0 / (1.0 + static_cast<double>(behind.size()))});
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.peer < b.peer; });
  return links;
}

Matrix mixing_matrix(const Topology& topology, int64_t round) {
  Matrix w{topology.workers(), std::vector<double>(static_cast<size_t>(topology.workers()) * topology.workers())};
  for (Rank j = 0; j < w.n; ++j) {
    double kept = 1;
    for (const Link& l : topology.out(j, round)) {
      w.at(l.peer, j) = l.weight;
      kept -= l.weight;
    }
    w.at(j, j) = kept;
  }
  return w;
}

Matrix product(const Matrix& a, const Matrix& b) {
  SINEW_CHECK(a.n == b.n, "product", "matrices of ", a.n, " and ", b.n);
  Matrix c{a.n, std::vector<double>(a.values.size())};
  for (int i = 0; i < a.n; ++i)
    for (int k = 0; k < a.n; ++k) {
      const double v = a.at(i, k);
      if (v == 0) continue;
      for (int j = 0; j < a.n; ++j) c.at(i, j) += v * b.at(k, j);
    }
  return c;
}

namespace {

bool sums_to_one(const Matrix& w, bool rows) {
  for (int i = 0; i < w.n; ++i) {
    double sum = 0;
    for (int j = 0; j < w.n; ++j) sum += rows ? w.at(i, j) : w.at(j, i);
    if (std::abs(sum - 1) > 1e-12) return false;
  }
  return true;
}

}  // namespace

bool rows_sum_to_one(const Matrix& w) { return sums_to_one(w, true); }
bool columns_sum_to_one(const Matrix& w) { return sums_to_one(w, false); }

// Power iteration on (W - J)^T (W - J).
double disagreement(const Matrix& w) {
  const int n = w.n;
  std::vector<double> x(static_cast<size_t>(n)), y(x);
  auto center = [](std::vector<double>& v) {
    const double mean = std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
    for (double& e : v) e -= mean;
  };
  auto length = [](const std::vector<double>& v) {
    return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
  };
  for (int i = 0; i < n; ++i) x[i] = uniform01(philox_u64({1, uint32_t(RngPurpose::scheme), 0, 0}, uint64_t(i)));
  center(x);
  double sigma = 0;
  for (int step = 0; step < 2000; ++step) {
    const double size = length(x);
    if (size < 1e-200) return 0;
    for (double& e : x) e /= size;
    std::fill(y.begin(), y.end(), 0.0);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) y[i] += w.at(i, j) * x[j];
    center(y);
    const double next = length(y);
    std::fill(x.begin(), x.end(), 0.0);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) x[j] += w.at(i, j) * y[i];
    center(x);
    if (next <= 1e-15) return 0;
    if (std::abs(next - sigma) <= 1e-13 * next) return next;
    sigma = next;
  }
  return sigma;
}

double expected_contraction(int workers, double probability, double alpha) {
  if (workers < 2) return 0;
  const double n = workers, r = probability / (n - 1), q = 2 * r - r * r;
  return 1 - 2 * alpha * n * q + alpha * alpha * n * (2 * q + (n - 2) * (3 * r * r - 2 * r * r * r));
}

}  // namespace sinew::dist
