// `sinew info topology NAME`: what a gossip topology does in each round, for --workers and the scheme's options.
#include <algorithm>
#include <ostream>

#include "dist/topology.h"
#include "models/cli/program.h"
#include "models/component_options.h"
#include "models/exit_codes.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

constexpr int kShown = 16;        // workers
constexpr int kDenseLimit = 256;  // workers, for matrices
constexpr int64_t kSampled = 1000;

void print_line(std::ostream& out, std::string name, const std::string& value) {
  name.resize(std::max<size_t>(name.size() + 2, 30), ' ');
  out << "  " << name << value << "\n";
}

std::string text_of(const dist::Links& links) {
  std::string text;
  for (const dist::Link& l : links) text += detail::concat(text.empty() ? "" : ", ", l.peer, " (", l.weight, ")");
  return text.empty() ? "nobody" : text;
}

void print_matrix_facts(const dist::Topology& topology, std::ostream& out) {
  const int64_t period = topology.period();
  bool rows = true, columns = true;
  dist::Matrix all = dist::mixing_matrix(topology, 0);
  const double one_round = dist::disagreement(all);
  for (int64_t round = 0; round < period; ++round) {
    const dist::Matrix w = dist::mixing_matrix(topology, round);
    rows &= dist::rows_sum_to_one(w), columns &= dist::columns_sum_to_one(w);
    if (round > 0) all = dist::product(w, all);
  }
  print_line(out, "weights", rows && columns ? "doubly stochastic" : columns ? "column stochastic" : "not stochastic");
  print_line(out, "disagreement left by a round", detail::concat(one_round, ", spectral gap ", 1 - one_round));
  if (period == 1) return;
  const double left = dist::disagreement(all);
  print_line(out, detail::concat("by ", period, " rounds"),
             left < 1e-12 ? "none: they are the exact average" : detail::concat(left, ", spectral gap ", 1 - left));
}

void print_random_facts(const dist::TopologyOptions& o, const dist::Topology& topology, std::ostream& out) {
  size_t partners = 0, most = 0;
  for (int64_t round = 0; round < kSampled; ++round)
    for (dist::Rank r = 0; r < o.workers; ++r) {
      const size_t n = topology.in(r, round).size();
      partners += n, most = std::max(most, n);
    }
  const double mean = static_cast<double>(partners) / static_cast<double>(kSampled * o.workers);
  print_line(out, "weights", "doubly stochastic in each round (elastic_gossip)");
  print_line(out, "partners of a worker",
             detail::concat(mean, " in a round, at most ", most, " (", kSampled, " rounds)"));
  if (o.collision != dist::Collision::sum || o.workers < 2) return;
  const double left = dist::expected_contraction(o.workers, o.probability, o.alpha);
  print_line(out, "squared disagreement left",
             detail::concat(left, " on average, with alpha ", o.alpha, " and probability ", o.probability,
                            left > 1 ? ": it grows" : ""));
}

// Exchanged vectors, of the network if one is named.
Status print_traffic(const Configuration& c, const dist::Topology& topology, std::ostream& out) {
  const int64_t rounds = topology.period() > 0 ? topology.period() : kSampled;
  size_t links = 0;
  for (int64_t round = 0; round < rounds; ++round)
    for (dist::Rank r = 0; r < topology.workers(); ++r) links += topology.out(r, round).size();
  const double vectors = static_cast<double>(links) / static_cast<double>(rounds * topology.workers());
  std::string bytes = "4 bytes a parameter each";
  if (c.given("model.name")) {
    Result<nn::Model> model = make_model(c.options.model, {28, 28, 1}, 10);
    if (!model.ok()) return model.status();
    bytes = detail::concat(static_cast<int64_t>(vectors * 4 * static_cast<double>(model->state_layout().size())),
                           " bytes of ", model->name(), " (28x28, ten classes)");
  }
  print_line(out, "sent by a worker", detail::concat(vectors, " vectors a round, ", bytes));
  return Status::Ok();
}

}  // namespace

int verb_info_topology(const Invocation& call) {
  const std::vector<std::string>& words = call.line.words;
  if (words.size() != 2 || words[0] != "topology")
    return report(make_status(StatusCode::invalid_argument, "info ", words[0],
                              ": there is `sinew info` and `sinew info topology NAME`; for example sinew info topology "
                              "ring --workers 8"),
                  call.err);
  Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  const Options& o = c->options;
  const dist::TopologyOptions options{.name = words[1],
                                      .workers = static_cast<int>(o.run.workers),
                                      .edges = o.scheme.edges,
                                      .probability = o.scheme.probability,
                                      .alpha = c->given("scheme.alpha") ? o.scheme.alpha : 0.5,
                                      .collision = o.scheme.collision == "matching" ? dist::Collision::matching
                                                   : o.scheme.collision == "capped" ? dist::Collision::capped
                                                                                    : dist::Collision::sum,
                                      .seed = static_cast<uint64_t>(o.train.seed)};
  if (Status status = dist::validate(options); !status.ok()) return report(status, call.err);
  const dist::Topology topology(options);
  call.out << options.name << ", " << options.workers << (options.workers == 1 ? " worker\n" : " workers\n");
  for (dist::Rank r = 0; r < std::min(options.workers, kShown); ++r)
    print_line(call.out, detail::concat("worker ", r, topology.period() == 1 ? "" : " in round 0", " takes from"),
               text_of(topology.in(r, 0)));
  if (options.workers > kShown) call.out << "  ...\n";
  print_line(call.out, "links", topology.symmetric() ? "both ways" : "one way");
  print_line(call.out, "the same again",
             topology.period() == 0   ? "never, partners are drawn anew in each round"
             : topology.period() == 1 ? "in each round"
                                      : detail::concat("after ", topology.period(), " rounds"));
  if (topology.period() == 0)
    print_random_facts(options, topology, call.out);
  else if (options.workers <= kDenseLimit)
    print_matrix_facts(topology, call.out);
  else
    print_line(call.out, "spectral gap", detail::concat("is computed for at most ", kDenseLimit, " workers"));
  return report(print_traffic(*c, topology, call.out), call.err);
}

}  // namespace sinew::train
