#include "models/given_options.h"

#include <algorithm>
#include <sstream>

namespace sinew::train {
namespace {

using Scheme = Options::Scheme;

struct Rule {
  std::string keys;     // of section scheme, between spaces
  std::string schemes;  // likewise
  std::string when = "";
  bool (*holds)(const Scheme&) = nullptr;
};

bool has_groups(const Scheme& s) { return !s.groups.empty() && s.groups != "1"; }

const Rule kRules[] = {
    {"alpha", "easgd eamsgd easgd_sync admm easgd_tree elastic_gossip adpsgd"},
    {"beta", "easgd_sync gossiping_sgd"},
    {"order", "easgd_sync"},
    {"update_order", "easgd eamsgd easgd_sync", " (order jacobi)", [](const Scheme& s) { return s.order == "jacobi"; }},
    {"kappa s0 score_sign score_coefficients warmup_rounds peer_normalisation",
     "easgd eamsgd easgd_sync elastic_gossip adpsgd", " with scheme.weighting dynamic",
     [](const Scheme& s) { return s.weighting == "dynamic"; }},
    {"shard", "easgd eamsgd downpour mdownpour adownpour mvadownpour admm"},
    {"average_rate", "mvadownpour mvasgd"},
    {"tree fan_out far_period", "easgd_tree"},
    {"outer outer_lr", "local_sgd"},
    {"outer_momentum", "mdownpour local_sgd", " (not with scheme.outer none)",
     [](const Scheme& s) { return s.name == "mdownpour" || s.outer != "none"; }},
    {"pull groups leader", "lsgd lgd"},
    {"pull_global period_global", "lsgd lgd", " with several scheme.groups", has_groups},
    {"loss_window", "lsgd", " with scheme.leader running_train",
     [](const Scheme& s) { return s.leader == "running_train"; }},
    {"probe", "lsgd lgd", " with scheme.leader probe_batch", [](const Scheme& s) { return s.leader == "probe_batch"; }},
    {"proximal", "lsgd"},
    {"proximal_global", "lsgd", " with several scheme.groups", has_groups},
    {"mode", "elastic_gossip gossiping_sgd lsgd"},
    {"collision", "elastic_gossip", " with scheme.mode sync and scheme.topology uniform",
     [](const Scheme& s) { return s.mode == "sync" && s.topology == "uniform"; }},
    {"probability", "elastic_gossip gossiping_sgd gosgd adpsgd"},
    {"topology edges", "elastic_gossip gossiping_sgd gosgd dpsgd sgp adpsgd"},
    {"mixing", "dpsgd"},
    {"direction", "gossiping_sgd"}};

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// "a, b and c"
std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}

}  // namespace

Status check_given(const Configuration& c) {
  const Scheme& scheme = c.options.scheme;
  for (const Rule& rule : kRules) {
    const std::vector<std::string> schemes = words_of(rule.schemes);
    const bool has = std::find(schemes.begin(), schemes.end(), scheme.name) != schemes.end();
    if (has && (!rule.holds || rule.holds(scheme))) continue;
    for (const std::string& key : words_of(rule.keys)) {
      const OptionSpec& spec = *find_option("scheme." + key);
      const Origin& origin = c.origins.at(spec.key);
      if (origin.source != Source::flag && origin.source != Source::environment) continue;
      const bool whole = origin.detail.find('=') != origin.detail.npos;  // scheme.alpha=0.2
      return make_status(StatusCode::invalid_argument, origin.detail, whole ? "" : " " + option_text(c.options, spec),
                         " counts for nothing with scheme ", scheme.name, "; it is for ", listed(schemes), rule.when,
                         "; leave it out", has ? "" : ", or type --scheme " + schemes[0]);
    }
  }
  return Status::Ok();
}

}  // namespace sinew::train
