#include "dist/fault_plan.h"

#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string_view>

#include "core/philox.h"

namespace sinew::dist {
namespace {

using Kind = Fault::Kind;

struct KindRule {
  std::string_view name;
  Kind kind;
  std::string_view keys;  // allowed ones, each between spaces
};
constexpr KindRule kKinds[] = {
    {"kill", Kind::kill, " rank at step "},
    {"pause", Kind::pause, " rank at step for "},
    {"slow", Kind::slow, " rank factor from until "},
    {"delay", Kind::delay, " from to by after until "},
    {"drop", Kind::drop, " from to probability after until "},
    {"suppress", Kind::suppress, " rank probability "},
};

// "1.5s", "20ms", "7us", "3ns"; false otherwise.
bool parse_time(const std::string& text, Nanos& out) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  const std::string_view unit = end;
  double scale = unit == "s" ? 1e9 : unit == "ms" ? 1e6 : unit == "us" ? 1e3 : unit == "ns" ? 1 : 0;
  if (end == text.c_str() || scale == 0 || !(value >= 0) || value * scale > 9e18) return false;
  out = std::llround(value * scale);
  return true;
}
bool parse_number(const std::string& text, double low, double high, double& out) {
  char* end = nullptr;
  out = std::strtod(text.c_str(), &end);
  return end != text.c_str() && *end == 0 && out >= low && out <= high;
}
bool parse_integer(const std::string& text, int64_t high, int64_t& out) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != text.npos) return false;
  out = std::stoll(text);
  return out <= high;
}
bool parse_rank(const std::string& text, Rank& out) {
  int64_t value = kAnyRank;
  if (text != "*" && !parse_integer(text, (1 << 20) - 1, value)) return false;
  out = static_cast<Rank>(value);
  return true;
}

// What is wrong with key=value; empty: nothing.
std::string set_field(Fault& f, const std::string& key, const std::string& value) {
  const bool link = f.kind == Kind::delay || f.kind == Kind::drop;
  const std::string ranks = "a rank (0, 1, ...) or *", times = "a time such as 1.5s, 20ms, 7us";
  if (key == "rank") return parse_rank(value, f.rank) ? "" : ranks;
  if (key == "from" && link) return parse_rank(value, f.from) ? "" : ranks;
  if (key == "to") return parse_rank(value, f.to) ? "" : ranks;
  if (key == "at") return parse_time(value, f.at) ? "" : times;
  if (key == "for" || key == "by") return parse_time(value, f.duration) ? "" : times;
  if (key == "from" || key == "after") return parse_time(value, f.begin) ? "" : times;
  if (key == "until") return parse_time(value, f.until) ? "" : times;
  if (key == "step") return parse_integer(value, INT64_MAX, f.step) ? "" : "a step (0, 1, ...)";
  if (key == "factor") return parse_number(value, 1e-6, 1e6, f.factor) ? "" : "a factor from 1e-6 to 1e6";
  return parse_number(value, 0, 1, f.probability) ? "" : "a probability from 0 to 1";
}

// What is missing; empty: nothing.
std::string missing(const Fault& f, const std::map<std::string, int>& given) {
  auto has = [&](const char* key) { return given.count(key) > 0; };
  if (f.kind == Kind::kill || f.kind == Kind::pause) {
    if (!has("rank")) return "rank=";
    if (has("at") == has("step")) return "one of at= and step=";
    if (f.kind == Kind::pause && !has("for")) return "for=";
  }
  if (f.kind == Kind::slow && !has("factor")) return "factor=";
  if (f.kind == Kind::delay && !has("by")) return "by=";
  return "";
}

bool in_window(const Fault& f, Nanos when) { return when >= f.begin && when < f.until; }
bool on_link(const Fault& f, Rank from, Rank to) {
  return (f.from == kAnyRank || f.from == from) && (f.to == kAnyRank || f.to == to);
}

bool draw(const FaultPlan& plan, size_t fault, Rank from, Rank to, uint64_t count) {
  const double p = plan.faults[fault].probability;
  if (p >= 1) return true;
  RngKey key{plan.seed, uint32_t(RngPurpose::fault), uint32_t(from), count};
  return uniform01(philox_u64(key, uint64_t(fault) << 32 | uint32_t(to))) < p;
}

}  // namespace

Result<FaultPlan> parse_fault_plan(const std::string& text, const std::string& name) {
  FaultPlan plan;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    auto error = [&](const auto&... parts) {
      return make_status(StatusCode::data_error, name, ":", number, ": ", parts...);
    };
    std::istringstream words(line.substr(0, line.find('#')));
    std::string word;
    if (!(words >> word)) continue;
    const KindRule* rule = nullptr;
    for (const KindRule& r : kKinds)
      if (r.name == word) rule = &r;
    if (!rule) return error("unknown fault '", word, "'; allowed are kill, pause, slow, delay, drop, suppress");
    Fault fault;
    fault.kind = rule->kind;
    std::map<std::string, int> given;
    while (words >> word) {
      const size_t equals = word.find('=');
      const std::string key = word.substr(0, equals);
      if (equals == word.npos || rule->keys.find(" " + key + " ") == std::string_view::npos || key.empty())
        return error(rule->name, ": '", word, "' is not one of its settings:", rule->keys, "(each as key=value)");
      if (++given[key] > 1) return error(rule->name, ": ", key, "= is given twice");
      if (std::string allowed = set_field(fault, key, word.substr(equals + 1)); !allowed.empty())
        return error(rule->name, ": '", word, "': ", key, "= must be ", allowed);
    }
    if (std::string what = missing(fault, given); !what.empty()) return error(rule->name, " needs ", what);
    plan.faults.push_back(fault);
  }
  return plan;
}

bool plan_suppresses(const FaultPlan& plan, Rank rank, int64_t round) {
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    if (f.kind == Kind::suppress && (f.rank == kAnyRank || f.rank == rank) &&
        draw(plan, i, rank, kAnyRank, static_cast<uint64_t>(round)))
      return true;
  }
  return false;
}

bool plan_drops(const FaultPlan& plan, Rank from, Rank to, uint64_t sequence, Nanos when) {
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    if (f.kind == Kind::drop && on_link(f, from, to) && in_window(f, when) && draw(plan, i, from, to, sequence))
      return true;
  }
  return false;
}

Nanos plan_delay(const FaultPlan& plan, Rank from, Rank to, Nanos when) {
  Nanos sum = 0;
  for (const Fault& f : plan.faults)
    if (f.kind == Kind::delay && on_link(f, from, to) && in_window(f, when)) sum += f.duration;
  return sum;
}

double plan_slowdown(const FaultPlan& plan, Rank rank, Nanos when) {
  double factor = 1;
  for (const Fault& f : plan.faults)
    if (f.kind == Kind::slow && (f.rank == kAnyRank || f.rank == rank) && in_window(f, when)) factor *= f.factor;
  return factor;
}

}  // namespace sinew::dist
