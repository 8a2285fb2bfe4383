// The gossip schemes' settings: what they are by default, and what is allowed.
#include <algorithm>

#include "dist/schemes/gossip_scheme.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {

namespace {

const std::vector<std::string> kGossip = {"elastic_gossip", "gossiping_sgd", "gosgd", "dpsgd", "sgp", "adpsgd"};

Status one_of(const char* what, const std::string& value, const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return Status::Ok();
  std::string all;
  for (const std::string& name : allowed) all += (all.empty() ? "" : ", ") + name;
  return make_status(StatusCode::invalid_argument, what, " = '", value, "'; allowed are ", all);
}

}  // namespace

bool is_gossip(const std::string& name) { return std::find(kGossip.begin(), kGossip.end(), name) != kGossip.end(); }

SchemeOptions with_gossip_defaults(SchemeOptions o) {
  if (!is_gossip(o.name)) return o;
  if (o.alpha < 0) o.alpha = 0.5;
  if (o.beta < 0) o.beta = 0.5;
  if (o.topology.empty())
    o.topology = o.name == "dpsgd" ? "ring" : o.name == "sgp" ? "one_peer_exponential" : "uniform";
  return o;
}

Status validate_gossip(const SchemeOptions& given) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  if (!(given.probability >= 0 && given.probability <= 1))
    return bad("probability = ", given.probability, "; allowed are 0 to 1");
  SINEW_RETURN_IF_ERROR(one_of("collision", given.collision, {"sum", "matching", "capped"}));
  SINEW_RETURN_IF_ERROR(one_of("mode", given.mode, {"sync", "async"}));
  SINEW_RETURN_IF_ERROR(one_of("mixing", given.mixing, {"awc", "atc"}));
  SINEW_RETURN_IF_ERROR(one_of("direction", given.direction, {"pull", "push"}));
  if (given.overlap < 0) return bad("overlap = ", given.overlap, "; allowed are 0, 1, ... rounds");
  if (given.global_average_every < 0)
    return bad("global_average_every = ", given.global_average_every, "; allowed are 0 (never), 1, 2, ... steps");
  if (given.global_average_every > 0 && !is_gossip(given.name) && given.name != "local")
    return bad("global_average_every is for gossip schemes and local, not ", given.name);
  if (!is_gossip(given.name)) return Status::Ok();

  const SchemeOptions o = with_gossip_defaults(given);
  SINEW_RETURN_IF_ERROR(validate(topology_options(o)));
  const bool uniform = o.topology == "uniform", directed = !Topology(topology_options(o)).symmetric();
  const bool graphs = o.name == "dpsgd" || o.name == "sgp", elastic = o.name == "elastic_gossip";
  if (graphs && uniform) return bad("scheme ", o.name, " needs a graph; topology uniform is for random picks");
  if (!graphs && !uniform && !(elastic && o.mode == "sync"))
    return bad("topology = ", o.topology, ": scheme ", o.name, elastic ? " with mode async" : "",
               " picks at random, that is topology uniform");
  if (elastic && directed) return bad("scheme elastic_gossip needs pairs: topology ", o.topology, " is directed");
  if (!uniform && o.probability != 1)
    return bad("probability = ", o.probability, " is for topology uniform, not ", o.topology);
  if (o.collision != "sum" && !(elastic && uniform && o.mode == "sync"))
    return bad("collision = ", o.collision, " is for elastic_gossip with mode sync and topology uniform");
  if (o.mode == "async" && !elastic && o.name != "gossiping_sgd")
    return bad("mode = async is for elastic_gossip and gossiping_sgd; gosgd and adpsgd always are");
  if (o.overlap > 0 && !(o.name == "sgp" || (o.name == "dpsgd" && directed)))
    return bad("overlap = ", o.overlap, " is for sgp, and dpsgd on an exponential graph");
  if (o.name == "gossiping_sgd" && !(o.beta <= 1)) return bad("beta = ", o.beta, "; gossiping_sgd allows 0 to 1");
  return Status::Ok();
}

std::unique_ptr<Scheme> make_gossip(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device) {
  if (o.name == "gossiping_sgd") return make_gossiping_sgd(o, world, size, dtype, device);
  if (o.name == "gosgd") return make_gosgd(o, world, size, dtype, device);
  const bool directed = !Topology(topology_options(o)).symmetric();
  if (o.name == "sgp" || (o.name == "dpsgd" && directed)) return make_push_sum(o, world, size, dtype, device);
  if (o.name == "adpsgd" || o.mode == "async") return make_async_gossip(o, world, size, dtype, device);
  return make_lockstep_gossip(o, world, size, dtype, device);
}

std::string warning_about_gossip(const SchemeOptions& given) {
  const SchemeOptions o = with_gossip_defaults(given);
  if (o.name != "elastic_gossip" || o.mode != "sync" || o.collision != "sum" || !validate_gossip(o).ok()) return "";
  const Topology topology(topology_options(o));
  constexpr int64_t kRounds = 64;
  size_t degree = 0;
  for (int64_t round = 0; round < kRounds; ++round)
    for (Rank r = 0; r < o.workers; ++r) degree = std::max(degree, topology.in(r, round).size());
  const double bound = 2 * o.alpha * static_cast<double>(degree);
  if (bound <= 2) return "";
  return detail::concat("a worker has up to ", degree, " exchanges in a round: with alpha = ", o.alpha, ", 2 alpha ",
                        degree, " = ", bound, " > 2, such a round can push workers apart",
                        o.topology == "uniform" && expected_contraction(o.workers, o.probability, o.alpha) > 1
                            ? ", and on average does"
                            : "",
                        "; lower alpha, or take collision matching or capped");
}

}  // namespace sinew::dist
