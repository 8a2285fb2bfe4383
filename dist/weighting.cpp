#include "dist/weighting.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "core/check.h"

namespace sinew::dist {
namespace {

Weights fixed_rule(const WeightingOptions&, const Evidence& e) { return {e.alpha, e.alpha}; }

Weights dynamic_rule(const WeightingOptions& o, const Evidence& e) {
  const double score = distance_score(e.log_distances, o.coefficients);
  Weights w{.worker = e.alpha, .center = e.alpha, .score = score};
  if (std::isnan(score) || e.round < o.warmup_rounds) return w;
  const double common = o.peers && !std::isnan(e.others) ? e.others : 0;
  w = weights_of(e.alpha, suspicion(o.score_sign * (score - common), o.s0, o.kappa));
  w.score = score;
  return w;
}

Weights oracle_rule(const WeightingOptions&, const Evidence& e) {
  if (e.missed == 0) return {e.alpha, e.alpha};
  Weights w = weights_of(e.alpha, 1);
  w.reason = "contacts failed before";
  return w;
}

struct Rule {
  const char* name;
  Weights (*weigh)(const WeightingOptions&, const Evidence&);
};
constexpr Rule kRules[] = {{"fixed", fixed_rule}, {"dynamic", dynamic_rule}, {"oracle", oracle_rule}};

const Rule* find(const std::string& name) {
  for (const Rule& rule : kRules)
    if (name == rule.name) return &rule;
  return nullptr;
}

}  // namespace

double distance_score(std::span<const double> u, std::span<const double> c) {
  if (u.size() < c.size() + 1) return std::numeric_limits<double>::quiet_NaN();
  double score = 0, sum = 0;
  for (size_t j = 0; j < c.size(); ++j) score += c[j] * (u[j] - u[j + 1]), sum += c[j];
  return score / sum;
}

double suspicion(double score, double s0, double kappa) {
  if (score <= s0) return 0;
  return score >= kappa ? 1 : (score - s0) / (kappa - s0);
}

Weights weights_of(double alpha, double lambda) {
  const char* reason = lambda == 0 ? "" : lambda == 1 ? "failed: the distance jumps" : "the distance grows";
  return {
      .worker = alpha + (1 - alpha) * lambda, .center = alpha * (1 - lambda), .suspicion = lambda, .reason = reason};
}

Weights weights(const WeightingOptions& options, const Evidence& evidence) {
  if (options.custom) return options.custom(options, evidence);
  const Rule* rule = find(options.rule);
  SINEW_CHECK(rule, "weights", "unknown rule '", options.rule, "'");
  return rule->weigh(options, evidence);
}

std::vector<std::string> weighting_names() {
  std::vector<std::string> names;
  for (const Rule& rule : kRules) names.push_back(rule.name);
  return names;
}

PairWeights pair_weights(double alpha, double mine, double theirs) {
  return {weights_of(alpha, mine).worker * (1 - theirs), weights_of(alpha, theirs).worker * (1 - mine)};
}

Status validate(const WeightingOptions& o, double alpha) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  if (!find(o.rule)) return bad("weighting = '", o.rule, "'; allowed are fixed, dynamic, oracle");
  if (is_fixed(o)) return Status::Ok();
  if (!(alpha <= 1)) return bad("alpha = ", alpha, "; allowed with weighting = ", o.rule, " are 0 to 1");
  const double kappa = o.kappa < 0 ? 3 * alpha : o.kappa;
  if (std::isnan(o.kappa) || !(kappa >= o.s0))
    return bad("kappa = ", kappa, "; allowed are s0 = ", o.s0, " and more, or below 0 for 3 alpha");
  if (o.score_sign != 1 && o.score_sign != -1) return bad("score_sign = ", o.score_sign, "; allowed are 1 and -1");
  if (o.warmup_rounds < 0) return bad("warmup_rounds = ", o.warmup_rounds, "; allowed are 0, 1, 2, ...");
  const std::vector<double>& c = o.coefficients;
  bool falling = !c.empty() && c.size() <= 64 && c[0] > 0;
  for (size_t j = 0; j < c.size(); ++j) falling = falling && c[j] >= 0 && (j == 0 || c[j] <= c[j - 1]);
  if (!falling)
    return bad("score_coefficients: allowed are 1 to 64 numbers, the first above 0, none above the one before");
  return Status::Ok();
}

Weighting::Weighting(WeightingOptions options, double alpha, int64_t scored)
    : options_(std::move(options)), alpha_(alpha), floor_(1e-12 * std::sqrt(static_cast<double>(scored))) {
  if (options_.kappa < 0) options_.kappa = 3 * alpha;
}

Weights Weighting::contact(int64_t round, double distance, double others) {
  const int64_t missed = std::exchange(missed_, 0);
  if (!std::isfinite(distance)) {
    Weights w = weights_of(alpha_, 1);
    w.reason = "failed: the distance is not finite";
    return w;
  }
  if (distance > floor_) {
    log_distances_.insert(log_distances_.begin(), std::log(distance));
    if (log_distances_.size() > options_.coefficients.size() + 1) log_distances_.pop_back();
  }
  return weights(options_, {alpha_, round, missed, log_distances_, others});
}

double Weighting::suspicion_of_partner(int64_t round, double jump, double own) const {
  if (options_.custom || options_.rule != "dynamic" || round < options_.warmup_rounds || std::isnan(jump)) return 0;
  return suspicion(options_.score_sign * jump - std::max(0.0, std::isnan(own) ? 0 : own), options_.s0, options_.kappa);
}

void Weighting::save(std::map<std::string, int64_t>& numbers) const {
  numbers["weighting.missed"] = missed_;
  numbers["weighting.contacts"] = static_cast<int64_t>(log_distances_.size());
  for (size_t i = 0; i < log_distances_.size(); ++i)
    numbers["weighting.log_distance." + std::to_string(i)] = std::bit_cast<int64_t>(log_distances_[i]);
}

void Weighting::load(const std::map<std::string, int64_t>& numbers) {
  auto number = [&](const std::string& name) {
    auto found = numbers.find("weighting." + name);
    return found == numbers.end() ? int64_t(0) : found->second;
  };
  missed_ = number("missed");
  log_distances_.clear();
  const int64_t contacts = std::min<int64_t>(number("contacts"), std::ssize(options_.coefficients) + 1);
  for (int64_t i = 0; i < contacts; ++i)
    log_distances_.push_back(std::bit_cast<double>(number("log_distance." + std::to_string(i))));
}

}  // namespace sinew::dist
