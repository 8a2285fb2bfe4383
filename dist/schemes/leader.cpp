#include "dist/schemes/leader.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {

bool is_leader_scheme(const std::string& name) { return name == "lsgd" || name == "lgd"; }

int elect(std::span<const double> losses) {
  int best = -1;
  for (size_t i = 0; i < losses.size(); ++i)
    if (std::isfinite(losses[i]) && (best < 0 || losses[i] < losses[static_cast<size_t>(best)]))
      best = static_cast<int>(i);
  return best;
}

// ---- groups ----

namespace {

Status bad_groups(const std::string& text, const std::string& what) {
  return make_status(StatusCode::invalid_argument, "groups = '", text, "': ", what,
                     "; allowed are a number of groups, all ranks once as in 0-3/4,6/5,7, or hosts");
}

bool read_number(const char*& at, const char* end, int64_t& number) {
  const auto [next, error] = std::from_chars(at, end, number);
  at = next;
  return error == std::errc();
}

}  // namespace

Result<std::vector<int64_t>> leader_groups(const std::string& text, int workers) {
  std::vector<int64_t> groups(static_cast<size_t>(workers), text.empty() ? 0 : -1);
  if (text.empty()) return groups;
  if (text == "hosts") return std::vector<int64_t>();
  const char *at = text.data(), *end = at + text.size();
  int64_t first = 0;
  if (!read_number(at, end, first)) return bad_groups(text, "not understood");
  if (at == end) {
    if (first < 1 || first > workers)
      return bad_groups(text, detail::concat(workers, " workers make 1 to ", workers, " groups"));
    for (int r = 0; r < workers; ++r) groups[static_cast<size_t>(r)] = r * first / workers;
    return groups;
  }
  at = text.data();
  for (int64_t group = 0;;) {
    int64_t low = 0;
    if (!read_number(at, end, low)) return bad_groups(text, "not understood");
    int64_t high = low;
    if (at != end && *at == '-' && !read_number(++at, end, high)) return bad_groups(text, "not understood");
    for (int64_t r = low; r <= high; ++r) {
      if (r < 0 || r >= workers) return bad_groups(text, detail::concat("there is no rank ", r));
      if (std::exchange(groups[static_cast<size_t>(r)], group) != -1)
        return bad_groups(text, detail::concat("rank ", r, " is there twice"));
    }
    if (at == end) break;
    if (*at != ',' && *at != '/') return bad_groups(text, "not understood");
    group += *at++ == '/';
  }
  for (int r = 0; r < workers; ++r)
    if (groups[static_cast<size_t>(r)] == -1) return bad_groups(text, detail::concat("rank ", r, " is in none"));
  return groups;
}

Status validate_leader(const SchemeOptions& o) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::invalid_argument, parts...); };
  for (auto [name, value] : {std::pair{"pull", o.pull},
                             {"pull_global", o.pull_global},
                             {"proximal", o.proximal},
                             {"proximal_global", o.proximal_global}})
    if (!(value >= 0 && value <= 1)) return bad(name, " = ", value, "; allowed are 0 to 1");
  if (o.leader != "running_train" && o.leader != "probe_batch")
    return bad("leader = '", o.leader, "'; allowed are running_train, probe_batch");
  if (o.loss_window < 1) return bad("loss_window = ", o.loss_window, "; allowed are 1, 2, ... losses");
  SINEW_RETURN_IF_ERROR(leader_groups(o.groups, o.workers).status());
  if (!is_leader_scheme(o.name)) return Status::Ok();
  if (global_period(o) % o.period != 0)
    return bad("period_global = ", o.period_global, " is no multiple of period = ", o.period,
               "; a global pull follows a local one");
  if (o.name == "lgd" && o.mode != "sync") return bad("mode = ", o.mode, " is for lsgd; lgd is always in lockstep");
  if (o.name == "lgd" && (o.proximal > 0 || o.proximal_global > 0))
    return bad("proximal pulls are for lsgd; lgd pulls in every step");
  return Status::Ok();
}

// ---- the running loss ----

void RunningLoss::add(double loss) {
  if (recent_.size() == window_) recent_.erase(recent_.begin());
  recent_.push_back(loss);
}

double RunningLoss::mean() const {
  if (recent_.empty()) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (double loss : recent_) sum += loss;
  return sum / static_cast<double>(recent_.size());
}

void RunningLoss::save(SchemeState& state) const {
  if (!recent_.empty()) state.vectors["losses"] = Vec::copy_of(ConstVecView(recent_));
}

void RunningLoss::load(const SchemeState& state) {
  recent_.clear();
  auto found = state.vectors.find("losses");
  if (found == state.vectors.end() || found->second.dtype() != DType::f64) return;
  recent_.resize(static_cast<size_t>(found->second.size()));
  download(found->second.view(), recent_.data());
}

// ---- the scheme ----

LeaderScheme::LeaderScheme(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
    : world_(world),
      options_(o),
      period_(o.period),
      ratio_(global_period(o) / o.period),
      dtype_(dtype),
      packing_(packing_of(o.wire)),
      running_(o.name == "lgd" ? 1 : o.loss_window),
      groups_(*leader_groups(o.groups, o.workers)),
      local_(Vec::zeros(size, dtype, device)) {
  SINEW_CHECK(o.leader != "probe_batch" || o.probe, "make_scheme",
              "leader = probe_batch needs SchemeOptions::probe, the loss of that batch");
  if (has_proximal()) keep_global();
  if (packing_ != Packing::none) unsent_ = Vec::zeros(size, dtype), next_unsent_ = Vec::zeros(size, dtype);
}

void LeaderScheme::keep_global() {
  if (!global_.defined()) global_ = Vec::zeros(local_.size(), dtype_, local_.device());
}

int64_t LeaderScheme::own_group() const {
  return groups_.empty() ? options_.host : groups_[static_cast<size_t>(world_.rank())];
}

double LeaderScheme::loss_at(ConstVecView x) {
  if (!all_finite(x)) return std::numeric_limits<double>::quiet_NaN();
  if (options_.leader != "probe_batch") return running_.mean();
  double loss = 0;
  world_.compute({options_.probe_cost}, [&] { loss = options_.probe(x); });
  return loss;
}

void LeaderScheme::pull(double strength, ConstVecView leader, VecView x) {
  if (strength == 0) return;  // adding zeros would still turn -0 into 0
  double distance2 = 0;
  if (strength == 1) {
    distance2 = squared_distance(x, leader);
    copy(leader, x);
  } else {
    distance2 = move_toward(strength, leader, x);
  }
  if (std::isfinite(distance2)) {
    moved_ += strength * strength * distance2;
  } else {  // x was not finite: it begins anew at the leader, and its losses are another's
    copy(leader, x);
    running_.clear();
  }
  if (!std::exchange(has_distance_, true)) distance_ = std::sqrt(distance2);
}

void LeaderScheme::follow(double strength, bool leads, Vec& leader, VecView x) {
  if (!leads) return pull(strength, leader.view(), x);
  if (has_proximal()) copy(x, leader.mutable_view());
}

LeaderScheme::Proximal LeaderScheme::proximal() const {
  const double a = options_.proximal / static_cast<double>(period_);
  const double b = has_global_ ? options_.proximal_global / static_cast<double>(period_ * ratio_) : 0;
  return {a, b, a + b - a * b};
}

void LeaderScheme::set_anchor(bool global) {
  if (!has_proximal()) return;
  has_anchor_ = true;
  has_global_ |= global;
  const Proximal p = proximal();
  // (1 - a) ((1 - b) x + b G) + a L = (1 - s) x + s A
  if (p.global > 0)
    axpby(p.local / p.both, local_.view(), (1 - p.local) * p.global / p.both, global_.view(), local_.mutable_view());
}

void LeaderScheme::proximal_pull(VecView x) {
  if (!has_anchor_) return;
  pull(proximal().both, local_.view(), x);
  has_distance_ = false;
}

void LeaderScheme::record(LeaderRound round) {
  round.distance = std::exchange(has_distance_, false) ? distance_ : 0;
  const bool took_part = round.local != kAnyRank || round.global != kAnyRank;
  ++(took_part ? counters_.exchanges : counters_.missed);
  if (options_.on_round) options_.on_round(round);
}

double LeaderScheme::take_external_write() { return std::exchange(moved_, 0.0); }

Payload LeaderScheme::rounded(ConstVecView x) {
  Payload body = Payload::copy_of(x);
  if (packing_ == Packing::none) return body;
  copy(unsent_.view(), next_unsent_.mutable_view());
  round_to_packing(packing_, body.mutable_view(dtype_), next_unsent_.mutable_view());
  return body;
}

SchemeState LeaderScheme::save() const {
  SchemeState state{{},
                    {{"exchanges", counters_.exchanges},
                     {"missed", counters_.missed},
                     {"has_anchor", has_anchor_},
                     {"has_global", has_global_}}};
  running_.save(state);
  counters_.staleness.save(state.numbers);
  if (has_anchor_) state.vectors["anchor"] = local_.clone();
  if (has_global_) state.vectors["global"] = global_.clone();
  if (unsent_.defined()) state.vectors["unsent"] = unsent_.clone();
  return state;
}

Status LeaderScheme::load(const SchemeState& state) {
  int64_t anchor = 0, global = 0;
  SINEW_RETURN_IF_ERROR(load_numbers(state, {{"exchanges", &counters_.exchanges},
                                             {"missed", &counters_.missed},
                                             {"has_anchor", &anchor},
                                             {"has_global", &global}}));
  running_.load(state);
  counters_.staleness.load(state.numbers);
  if (unsent_.defined()) SINEW_RETURN_IF_ERROR(load_vector(state, "unsent", unsent_));
  has_anchor_ = anchor != 0, has_global_ = global != 0;
  if (has_global_) SINEW_RETURN_IF_ERROR(load_vector(state, "global", global_));
  return has_anchor_ ? load_vector(state, "anchor", local_) : Status::Ok();
}

}  // namespace sinew::dist
