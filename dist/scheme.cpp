#include "dist/scheme.h"

#include <bit>

#include "dist/center.h"
#include "dist/schemes/schemes.h"

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
};

const Entry* find(const std::string& name) {
  for (const Entry& e : kSchemes)
    if (name == e.name) return &e;
  return nullptr;
}

Shards make_shards(const SchemeOptions& options, int64_t size) { return {size, options.shard}; }

// What all nodes must have in common. The caller's fingerprint covers the layout and its own options.
uint64_t common_fingerprint(const SchemeOptions& o, int64_t size, DType dtype) {
  uint64_t h = 0xcbf29ce484222325ull;  // FNV-1a
  auto add = [&h](unsigned char byte) { h = (h ^ byte) * 0x100000001b3ull; };
  for (uint64_t v : {o.fingerprint, uint64_t(size), uint64_t(dtype), uint64_t(o.workers), uint64_t(o.shard),
                     uint64_t(o.period), std::bit_cast<uint64_t>(o.alpha), std::bit_cast<uint64_t>(o.beta), o.seed,
                     std::bit_cast<uint64_t>(o.probability), uint64_t(o.overlap), uint64_t(o.global_average_every)})
    for (int byte = 0; byte < 8; ++byte) add(static_cast<unsigned char>(v >> (8 * byte) & 255));
  for (const std::string& text : {o.name, o.order, o.collision, o.topology, o.edges, o.mode, o.mixing, o.direction})
    for (char c : text) add(static_cast<unsigned char>(c));
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

Status serve_all(CenterNode& center, const World& world) {
  for (;;) {
    SINEW_RETURN_IF_ERROR(world.health());
    Result<bool> done = center.serve(kSecond);
    if (!done.ok()) return done.status();
    if (*done) return Status::Ok();
  }
}

bool takes_workers_back(const SchemeOptions& options) {
  if (options.global_average_every > 0) return false;
  return needs_center(options) || options.name == "local" || is_gossip(options.name);
}

bool needs_center(const SchemeOptions& options) {
  const Entry* e = find(options.name);
  return e && e->center;
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

Status validate(const SchemeOptions& o) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  if (!find(o.name)) {
    std::string names;
    for (const Entry& e : kSchemes) names += (names.empty() ? "" : ", ") + std::string(e.name);
    return bad("unknown scheme '", o.name, "'; allowed are ", names);
  }
  if (o.workers < 1 || o.workers > 1'000'000) return bad("workers = ", o.workers, "; allowed are 1 to 1000000");
  if (o.period < 1) return bad("period = ", o.period, "; allowed are 1, 2, ... steps");
  if (o.shard < 1) return bad("shard = ", o.shard, "; allowed are 1, 2, ... elements");
  if (o.deadline < kMillisecond) return bad("deadline = ", o.deadline, " ns; allowed are 1 ms and more");
  if (!(o.alpha <= 2)) return bad("alpha = ", o.alpha, "; allowed are 0 to 2, or below 0 for 0.9 / workers");
  if (!(o.beta <= 2.0 * o.workers))
    return bad("beta = ", o.beta, "; allowed are 0 to 2 x workers, or below 0 for workers x alpha");
  if (o.order != "jacobi" && o.order != "gauss_seidel")
    return bad("order = '", o.order, "'; allowed are jacobi, gauss_seidel");
  return validate_gossip(o);
}

std::unique_ptr<Scheme> make_scheme(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                    Device device) {
  Status status = validate(options);
  SINEW_CHECK(status.ok(), "make_scheme", status.message());
  SINEW_CHECK(is_float(dtype), "make_scheme", "parameters must be f32 or f64, not ", to_string(dtype));
  SchemeOptions o = with_gossip_defaults(options);
  o.fingerprint = common_fingerprint(o, size, dtype);
  if (o.name == "local" && o.global_average_every == 0) return make_local();
  SINEW_CHECK(world.size() >= node_count(o) && world.rank() < o.workers, "make_scheme", "scheme ", o.name, " with ",
              o.workers, " workers needs ", node_count(o), " nodes; this is rank ", world.rank(), " of ", world.size());
  if (o.name == "allreduce") return make_all_reduce(o, world);
  if (o.name == "easgd_sync") return make_elastic_sync(o, world, size, dtype, device);
  if (o.name != "local" && !is_gossip(o.name)) return make_elastic(o, world, size, dtype, device);
  auto scheme = o.name == "local" ? make_local() : make_gossip(o, world, size, dtype, device);
  return o.global_average_every > 0 ? make_global_average(o, world, std::move(scheme)) : std::move(scheme);
}

std::unique_ptr<CenterNode> make_center(const SchemeOptions& options, World& world, int64_t size, DType dtype) {
  Status status = validate(options);
  SINEW_CHECK(status.ok() && needs_center(options), "make_center",
              status.ok() ? "scheme has no center" : status.message());
  return std::make_unique<CenterServer>(world, options.workers, make_shards(options, size), dtype,
                                        common_fingerprint(options, size, dtype));
}

}  // namespace sinew::dist
