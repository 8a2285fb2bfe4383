#include "dist/scheme.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "dist/schemes/center_scheme.h"
#include "dist/schemes/leader.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/tree.h"

namespace sinew::dist {
namespace {

struct Entry {
  const char* name;
  bool center;
  const char* line;
};
constexpr Entry kSchemes[] = {
    {"local", false, "workers train alone; nothing is communicated"},
    {"allreduce", false, "every step uses the mean gradient of all workers (synchronous data parallelism)"},
    {"easgd", true, "asynchronous elastic averaging with a center variable (Zhang et al. 2015, Algorithm 1)"},
    {"easgd_sync", false,
     "elastic averaging in lockstep, order jacobi (Zhang et al. 2015, Eq. 5-6) or gauss_seidel (Zhang 2016, Eq. 6.3)"},
    {"eamsgd", true,
     "easgd for a Nesterov momentum optimizer (Zhang et al. 2015, Algorithm 2); use with the nag optimizer"},
    {"elastic_gossip", false,
     "pairs of workers pull each other elastically, no center (Pramod 2018, arXiv:1812.02407)"},
    {"gossiping_sgd", false,
     "a worker averages with one it picks, or that picks it (Jin et al. 2016, arXiv:1611.04581)"},
    {"gosgd", false,
     "weighted parameters are sent to random workers, nobody waits (Blot et al. 2016, arXiv:1611.09726)"},
    {"dpsgd", false, "each worker averages with its neighbours in a graph (Lian et al. 2017, arXiv:1705.09056)"},
    {"sgp", false, "stochastic gradient push: push-sum on a directed graph (Assran et al. 2019, arXiv:1811.10792)"},
    {"adpsgd", false,
     "asynchronous averages with random workers, no common clock (Lian et al. 2018, arXiv:1710.06952)"},
    {"downpour", true,
     "workers send what they have moved to a center and go on from it (Zhang et al. 2015, Algorithm 3)"},
    {"mdownpour", true, "downpour with momentum at the center (Zhang 2016, Algorithms 4 and 5)"},
    {"adownpour", true, "downpour, measured on the mean of all centers so far (Zhang et al. 2015, section 5)"},
    {"mvadownpour", true, "downpour, measured on a moving average of the center (Zhang et al. 2015, section 5.2)"},
    {"admm", true,
     "the multiplier method with a center, for comparison on small problems (Zhang et al. 2015, section 4)"},
    {"easgd_tree", true, "elastic averaging up and down a tree whose leaves are the workers (Zhang 2016, Algorithm 6)"},
    {"local_sgd", false,
     "steps of one's own, then an outer optimizer on the workers' mean move: Local SGD, SlowMo, BMUF, Lookahead, "
     "DiLoCo"},
    {"lsgd", false,
     "workers are pulled toward the one with the lowest loss, in groups and over all (Teng et al. 2019, "
     "arXiv:1905.10395)"},
    {"lgd", false, "lsgd for exact losses and gradients: every step pulls, from the parameters before the gradient"},
    {"asgd", false, "workers train alone, each measured on the mean of all its parameters so far"},
    {"mvasgd", false, "workers train alone, each measured on a moving average of its parameters"},
    {"msgd", false, "local for a Nesterov momentum optimizer: the sequential baseline of eamsgd; use with nag"},
};

const Entry* find(const std::string& name) {
  for (const Entry& e : kSchemes)
    if (name == e.name) return &e;
  return nullptr;
}

constexpr char kWorkers[] = "workers";  // SchemeOptions::servers
constexpr int kMostServers = 1024;
constexpr Nanos kPoll = 20 * kMillisecond;

// What all nodes must have in common. The caller's fingerprint covers the layout and its own options.
uint64_t common_fingerprint(const SchemeOptions& o, int64_t size, DType dtype) {
  uint64_t h = 0xcbf29ce484222325ull;  // FNV-1a
  auto add = [&h](unsigned char byte) { h = (h ^ byte) * 0x100000001b3ull; };
  auto whole = [&](auto... values) {
    for (uint64_t v : {static_cast<uint64_t>(values)...})
      for (int byte = 0; byte < 8; ++byte) add(static_cast<unsigned char>(v >> (8 * byte) & 255));
  };
  auto real = [&](auto... values) { (whole(std::bit_cast<uint64_t>(values)), ...); };
  auto text = [&](const std::string& t) {
    for (char c : t) add(static_cast<unsigned char>(c));
  };
  whole(o.fingerprint, size, dtype, o.workers, o.shard, o.period);
  real(o.alpha, o.beta);
  whole(o.seed);
  text(o.name), text(o.order);
  whole(o.parameters, o.fan_out, o.far_period);
  text(o.tree), text(o.outer);
  real(o.outer_lr);
  real(o.outer_momentum, o.average_rate);
  real(o.probability);
  whole(o.overlap, o.global_average_every);
  text(o.wire), text(o.collision), text(o.topology), text(o.edges), text(o.mode), text(o.mixing), text(o.direction);
  const WeightingOptions& w = o.weighting;
  text(w.rule), text(o.update_order);
  real(w.kappa, w.s0, w.score_sign);
  for (double c : w.coefficients) real(c);
  whole(w.warmup_rounds, w.peers);
  real(o.pull, o.pull_global, o.proximal, o.proximal_global);
  whole(o.period_global, o.loss_window);
  text(o.groups), text(o.leader);
  text(o.servers);
  text(o.communicator);
  return h;
}

}  // namespace

const char* to_string(Evaluated evaluated) {
  switch (evaluated) {
    case Evaluated::own:
      return "own";
    case Evaluated::average:
      return "average";
    case Evaluated::center:
      return "center";
  }
  return "?";
}

void Staleness::save(std::map<std::string, int64_t>& numbers) const {
  numbers["staleness.count"] = count, numbers["staleness.sum"] = sum, numbers["staleness.most"] = most;
}

void Staleness::load(const std::map<std::string, int64_t>& numbers) {
  for (auto [name, field] : {std::pair{"staleness.count", &count}, {"staleness.sum", &sum}, {"staleness.most", &most}})
    if (auto found = numbers.find(name); found != numbers.end()) *field = found->second;
}

Result<bool> wait_for_workers(World& world, int workers, Nanos slice, const std::function<bool(Rank)>& done) {
  Deadline deadline(world, slice);
  for (;;) {
    SINEW_RETURN_IF_ERROR(world.health());
    bool all = true;
    for (Rank r = 0; r < workers && all; ++r) {
      const bool own_word = done(r);
      const PeerState seen = world.peer(r);
      all = own_word || seen == PeerState::left || seen == PeerState::gone;
    }
    if (all) return true;
    if (deadline.left() == 0) return false;
    world.sleep(std::min(kPoll, deadline.left()));
  }
}

Status serve_all(CenterNode& center, const World& world) {
  for (;;) {
    SINEW_RETURN_IF_ERROR(world.health());
    Result<bool> done = center.serve(kSecond);
    if (!done.ok()) return done.status();
    if (*done) return Status::Ok();
  }
}

bool takes_workers_back(const SchemeOptions& options) {
  // Of admm a part of c is each worker's, and a new life does not know what its predecessor's was.
  if (options.global_average_every > 0 || options.name == "admm") return false;
  return needs_center(options) || is_alone(options) || is_gossip(options.name) ||
         (options.name == "lsgd" && options.mode == "async");
}

bool survives_center(const SchemeOptions& options) { return needs_center(options) && options.name != "admm"; }

bool needs_center(const SchemeOptions& options) {
  const Entry* e = find(options.name);
  return e && e->center;
}

int node_count(const SchemeOptions& options) {
  if (options.name == "easgd_tree") return Tree::node_count(options.workers, static_cast<int>(options.fan_out));
  return options.workers + center_servers(options);
}

int center_servers(const SchemeOptions& options) {
  if (!needs_center(options) || options.servers == kWorkers) return 0;
  int count = 1;
  std::from_chars(options.servers.data(), options.servers.data() + options.servers.size(), count);
  return count;
}

bool center_is_measured(const SchemeOptions& options) { return center_servers(options) == 1; }

bool is_alone(const SchemeOptions& options) {
  for (const char* name : {"local", "asgd", "mvasgd", "msgd"})
    if (options.name == name) return true;
  return false;
}

std::vector<std::string> scheme_names() {
  std::vector<std::string> names;
  for (const Entry& e : kSchemes) names.push_back(e.name);
  return names;
}

std::string describe_scheme(const std::string& name) {
  const Entry* e = find(name);
  return e ? e->line : "";
}

namespace {
Status validate_servers(const SchemeOptions& o) {
  int count = 0;
  const char* end = o.servers.data() + o.servers.size();
  const auto [at, error] = std::from_chars(o.servers.data(), end, count);
  const bool is_count = error == std::errc() && at == end && count >= 1 && count <= kMostServers;
  if (!is_count && o.servers != kWorkers)
    return make_status(StatusCode::invalid_argument, "servers = '", o.servers, "'; allowed are 1 to ", kMostServers,
                       " nodes for the center, or workers");
  const bool has_parts = needs_center(o) && o.name != "easgd_tree" && o.name != "admm";
  if ((!is_count || count != 1) && !has_parts)
    return make_status(StatusCode::invalid_argument, "servers = ", o.servers, " with scheme ", o.name,
                       "; it is for easgd, eamsgd, downpour, mdownpour, adownpour and mvadownpour, others have 1");
  if (o.servers == kWorkers && o.workers == 1)
    return make_status(StatusCode::invalid_argument,
                       "servers = workers with 1 worker; there must be 2 or more, or servers = 1");
  return Status::Ok();
}

Status validate_communicator(const SchemeOptions& o) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  if (o.communicator == "ring") return Status::Ok();
  if (o.communicator != "nccl") return bad("communicator = '", o.communicator, "'; allowed are ring, nccl");
  const bool in_lockstep = o.name == "allreduce" || o.name == "easgd_sync" || o.name == "local_sgd" ||
                           (is_leader_scheme(o.name) && o.mode != "async") || o.global_average_every > 0;
  if (!in_lockstep)
    return bad("communicator = nccl with scheme ", o.name,
               "; it is for collectives: allreduce, easgd_sync, local_sgd, lsgd and lgd in lockstep, and "
               "global_average_every; others have ring");
  if (o.wire != "f32") return bad("communicator = nccl with wire = ", o.wire, "; NCCL takes f32, others have ring");
  return Status::Ok();
}
}  // namespace

Status validate(const SchemeOptions& o) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  if (!find(o.name)) {
    std::string names;
    for (const Entry& e : kSchemes) names += (names.empty() ? "" : ", ") + std::string(e.name);
    return bad("unknown scheme '", o.name, "'; allowed are ", names);
  }
  if (o.workers < 1 || o.workers > 1'000'000) return bad("workers = ", o.workers, "; allowed are 1 to 1000000");
  if (o.period < 1) return bad("period = ", o.period, "; allowed are 1, 2, ... steps");
  SINEW_RETURN_IF_ERROR(validate_servers(o));
  if (o.shard < 1) return bad("shard = ", o.shard, "; allowed are 1, 2, ... elements");
  if (o.deadline < kMillisecond) return bad("deadline = ", o.deadline, " ns; allowed are 1 ms and more");
  if (!(o.alpha <= 2)) return bad("alpha = ", o.alpha, "; allowed are 0 to 2, or below 0 for 0.9 / workers");
  if (!(o.beta <= 2.0 * o.workers))
    return bad("beta = ", o.beta, "; allowed are 0 to 2 x workers, or below 0 for workers x alpha");
  if (o.order != "jacobi" && o.order != "gauss_seidel")
    return bad("order = '", o.order, "'; allowed are jacobi, gauss_seidel");
  if (o.fan_out < 2 || o.fan_out > 1'000'000) return bad("fan_out = ", o.fan_out, "; allowed are 2 to 1000000");
  if (o.far_period == 0) return bad("far_period = 0; allowed are 1, 2, ... steps, or below 0 for 10 x period");
  if (o.tree != "multi_scale" && o.tree != "up_down")
    return bad("tree = '", o.tree, "'; allowed are multi_scale, up_down");
  if (!o.update_order.empty() && o.update_order != "pre" && o.update_order != "post")
    return bad("update_order = '", o.update_order, "'; allowed are pre, post");
  SINEW_RETURN_IF_ERROR(validate(o.weighting, o.alpha >= 0 ? o.alpha : is_gossip(o.name) ? 0.5 : 0.9 / o.workers));
  const bool weighs = o.name == "easgd" || o.name == "eamsgd" || (o.name == "easgd_sync" && o.order == "jacobi") ||
                      (o.name == "elastic_gossip" && o.mode == "async") || o.name == "adpsgd";
  if (!is_fixed(o.weighting) && !weighs)
    return bad(
        "weighting = '", o.weighting.rule, "' with scheme ", o.name, o.name == "easgd_sync" ? " " + o.order : "",
        "; it is for easgd, eamsgd, easgd_sync with order jacobi, elastic_gossip with mode async and adpsgd; others "
        "are fixed");
  const bool tells_scores = o.name == "easgd" || o.name == "eamsgd";
  if (!is_fixed(o.weighting) && o.weighting.peers && !tells_scores)
    return bad("peer_normalisation with scheme ", o.name,
               "; it is for easgd and eamsgd, whose center tells the others' scores, others have it off");
  const std::vector<std::string> wires = packing_names();
  if (std::find(wires.begin(), wires.end(), o.wire) == wires.end())
    return bad("wire = '", o.wire, "'; allowed are f32, bf16, int8");
  if (o.wire != "f32" && is_alone(o) && o.global_average_every == 0)
    return bad("wire = ", o.wire, " with scheme ", o.name, "; its workers exchange nothing: allowed is f32",
               o.name == "local" ? ", unless global_average_every is set" : "");
  SINEW_RETURN_IF_ERROR(validate_communicator(o));
  if (o.outer != "none" && o.outer != "momentum" && o.outer != "nesterov")
    return bad("outer = '", o.outer, "'; allowed are none, momentum, nesterov");
  if (!(o.outer_lr >= 0 && o.outer_lr <= 1e6)) return bad("outer_lr = ", o.outer_lr, "; allowed are 0 to 1000000");
  if (!(o.outer_momentum >= 0 && o.outer_momentum < 1))
    return bad("outer_momentum = ", o.outer_momentum, "; allowed are 0 and more, below 1");
  if (!(o.average_rate >= 0 && o.average_rate <= 1))
    return bad("average_rate = ", o.average_rate, "; allowed are 0 to 1");
  const bool elastic = o.name == "easgd" || o.name == "eamsgd";
  if (o.overlap > 0 && !elastic && o.name != "sgp" && o.name != "dpsgd")
    return bad("overlap = ", o.overlap, " with scheme ", o.name,
               "; it is for easgd, eamsgd, sgp and dpsgd, others have 0");
  if (elastic && o.overlap >= o.period)
    return bad("overlap = ", o.overlap, " with period = ", o.period, "; allowed are 0 to period - 1 steps");
  SINEW_RETURN_IF_ERROR(validate_leader(o));
  return validate_gossip(o);
}

std::string warning_about(const SchemeOptions& o) {
  // What disagreement a round leaves is 1 - alpha - alpha p of it (EASGD specification, 6.2, where the gradient says
  // nothing; its section 12 asks for alpha p > 2, which is further out).
  const double alpha = moving_rate(o), sum = alpha * (o.workers + 1);
  if (o.name == "easgd_sync" && o.order == "jacobi" && sum > 2)
    return detail::concat("alpha = ", alpha, " with ", o.workers, " workers in lockstep: alpha (workers + 1) = ", sum,
                          " > 2, so workers and center pass each other further in every round; lower alpha to ",
                          2.0 / (o.workers + 1), " or less");
  return warning_about_gossip(o);
}

namespace {
std::unique_ptr<Scheme> make_alone(const SchemeOptions& o, int64_t size, DType dtype) {
  return o.name == "asgd" || o.name == "mvasgd" ? make_averaged(o, size, dtype) : make_local();
}
}  // namespace

std::unique_ptr<Scheme> make_scheme(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                    Device device) {
  Status status = validate(options);
  SINEW_CHECK(status.ok(), "make_scheme", status.message());
  SINEW_CHECK(is_float(dtype), "make_scheme", "parameters must be f32 or f64, not ", to_string(dtype));
  SchemeOptions o = with_gossip_defaults(options);
  o.fingerprint = common_fingerprint(o, size, dtype);
  if (is_alone(o) && o.global_average_every == 0) return make_alone(o, size, dtype);
  SINEW_CHECK(world.size() >= node_count(o) && world.rank() < o.workers, "make_scheme", "scheme ", o.name, " with ",
              o.workers, " workers needs ", node_count(o), " nodes; this is rank ", world.rank(), " of ", world.size());
  if (o.name == "allreduce") return make_all_reduce(o, world);
  if (o.name == "easgd_sync") return make_elastic_sync(o, world, size, dtype, device);
  if (o.name == "easgd" || o.name == "eamsgd") return make_elastic(o, world, size, dtype, device);
  if (o.name == "admm") return make_admm(o, world, size, dtype, device);
  if (o.name == "local_sgd") return make_local_sgd(o, world, size, dtype, device);
  if (o.name == "easgd_tree") return make_tree_leaf(o, world, size, dtype, device);
  if (is_leader_scheme(o.name))
    return o.mode == "async" ? make_leader_async(o, world, size, dtype, device)
                             : make_leader_sync(o, world, size, dtype, device);
  if (needs_center(o)) return make_downpour(o, world, size, dtype, device);
  auto scheme = is_alone(o) ? make_alone(o, size, dtype) : make_gossip(o, world, size, dtype, device);
  return o.global_average_every > 0 ? make_global_average(o, world, size, dtype, device, std::move(scheme))
                                    : std::move(scheme);
}

std::unique_ptr<CenterNode> make_center(const SchemeOptions& options, World& world, int64_t size, DType dtype) {
  Status status = validate(options);
  SINEW_CHECK(status.ok() && center_servers(options) > 0, "make_center",
              status.ok() ? "scheme has no node for a center" : status.message());
  const uint64_t fingerprint = common_fingerprint(options, size, dtype);
  if (options.name == "easgd_tree") return make_tree_node(options, world, size, dtype, fingerprint);
  return std::make_unique<CenterServer>(world, center_setup(options, size, dtype, fingerprint),
                                        std::vector<int>{static_cast<int>(world.rank()) - options.workers});
}

}  // namespace sinew::dist
