// Reading fault plans and traces.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>

#include "dist/fault_plan.h"

namespace sinew::dist {
namespace {

using Kind = Fault::Kind;

// Settings are named between spaces. Of a group "a|b" exactly one is needed, of "a" that one.
struct KindRule {
  std::string_view name;
  Kind kind;
  std::string_view needs, may;
};
#define SINEW_SPAN " after until after_step until_step "
#define SINEW_LINK " from to probability" SINEW_SPAN
constexpr KindRule kKinds[] = {
    {"kill", Kind::kill, " rank at|step|probability ", " "},
    {"pause", Kind::pause, " rank at|step|probability for ", " "},
    {"corrupt", Kind::corrupt, " rank at|step|probability sigma|value ", " "},
    {"slow", Kind::slow, " factor ", " rank probability" SINEW_SPAN},
    {"delay", Kind::delay, " by ", " jitter" SINEW_LINK},
    {"drop", Kind::drop, " ", SINEW_LINK},
    {"duplicate", Kind::duplicate, " ", SINEW_LINK},
    {"reorder", Kind::reorder, " ", " by" SINEW_LINK},
    {"partition", Kind::partition, " ranks ", " probability every" SINEW_SPAN},
    {"suppress", Kind::suppress, " ", " rank probability fail recover" SINEW_SPAN},
};
#undef SINEW_LINK
#undef SINEW_SPAN
constexpr Nanos kReorderBy = 10 * kMillisecond;

std::vector<std::string> split(std::string_view text, std::string_view separators) {
  std::vector<std::string> parts;
  while (true) {
    const size_t begin = text.find_first_not_of(separators);
    if (begin == text.npos) return parts;
    const size_t end = std::min(text.find_first_of(separators, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
}
bool has_word(std::string_view words, const std::string& word, std::string_view separators) {
  const std::vector<std::string> all = split(words, separators);
  return std::find(all.begin(), all.end(), word) != all.end();
}

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
bool parse_ranks(const std::string& text, std::vector<Rank>& out) {
  for (const std::string& word : split(text, ",")) {
    Rank rank = kAnyRank;
    if (!parse_rank(word, rank) || rank == kAnyRank) return false;
    out.push_back(rank);
  }
  return !out.empty();
}

// What is wrong with key=value; empty: nothing.
std::string set_field(Fault& f, const std::string& key, const std::string& value) {
  const std::string ranks = "a rank (0, 1, ...) or *", steps = "a step (0, 1, ...)";
  const std::string times = "a time such as 1.5s, 20ms, 7us", chance = "a probability from 0 to 1";
  if (key == "rank") return parse_rank(value, f.rank) ? "" : ranks;
  if (key == "ranks") return parse_ranks(value, f.ranks) ? "" : "ranks such as 0,3";
  if (key == "from") return parse_rank(value, f.from) ? "" : ranks;
  if (key == "to") return parse_rank(value, f.to) ? "" : ranks;
  if (key == "at") return parse_time(value, f.at) ? "" : times;
  if (key == "for" || key == "by") return parse_time(value, f.duration) ? "" : times;
  if (key == "jitter") return parse_time(value, f.jitter) ? "" : times;
  if (key == "every") return parse_time(value, f.every) && f.every > 0 ? "" : times + ", above 0";
  if (key == "after") return parse_time(value, f.begin) ? "" : times;
  if (key == "until") return parse_time(value, f.until) ? "" : times;
  if (key == "step") return parse_integer(value, INT64_MAX, f.step) ? "" : steps;
  if (key == "after_step") return parse_integer(value, INT64_MAX, f.first_step) ? "" : steps;
  if (key == "until_step") return parse_integer(value, INT64_MAX, f.until_step) ? "" : steps;
  if (key == "factor") return parse_number(value, 1e-6, 1e6, f.factor) ? "" : "a factor from 1e-6 to 1e6";
  if (key == "sigma") return parse_number(value, 1e-300, 1e30, f.sigma) ? "" : "a number above 0";
  if (key == "value")
    return parse_number(value, -INFINITY, INFINITY, f.value) || value == "nan" ? "" : "a number, nan or inf";
  if (key == "fail") return parse_number(value, 0, 1, f.fail) ? "" : chance;
  if (key == "recover") return parse_number(value, 0, 1, f.recover) ? "" : chance;
  return parse_number(value, 0, 1, f.probability) ? "" : chance;
}

using Given = std::map<std::string, std::string>;

// What is missing; empty: nothing.
std::string missing(const KindRule& rule, const Given& given) {
  for (const std::string& group : split(rule.needs, " ")) {
    const std::vector<std::string> choices = split(group, "|");
    const auto count =
        std::count_if(choices.begin(), choices.end(), [&](const std::string& key) { return given.count(key) > 0; });
    if (count == 1) continue;
    std::string text = choices.size() == 1 ? "" : choices.size() == 2 ? "one of " : "exactly one of ";
    for (size_t i = 0; i < choices.size(); ++i)
      text += (i == 0 ? "" : i + 1 == choices.size() ? " and " : ", ") + choices[i] + "=";
    return text;
  }
  if (given.count("fail") != given.count("recover"))
    return given.count("fail") ? "recover= beside fail=" : "fail= beside recover=";
  if (given.count("fail") && given.count("probability")) return "either probability= or fail= and recover=";
  return "";
}

// key=value words; what is wrong, or empty. A key must be among `allowed`.
std::string read_words(std::istringstream& words, std::string_view allowed, Given& given) {
  std::string word, allowed_text;
  for (const std::string& key : split(allowed, " |")) allowed_text += " " + key;
  while (words >> word) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    if (equals == word.npos || key.empty() || !has_word(allowed, key, " |"))
      return "'" + word + "' is not one of its settings:" + allowed_text + " (each as key=value)";
    if (!given.emplace(key, word.substr(equals + 1)).second) return key + "= is given twice";
  }
  return "";
}

// The faults of a trace: lines `seconds,down,rank` and `seconds,up,rank` in order of time.
Status read_trace(const Given& given, const std::string& plan, std::vector<Fault>& faults) {
  auto bad = [](const auto&... parts) { return make_status(StatusCode::data_error, parts...); };
  auto setting = [&](const char* key, const char* otherwise) {
    auto found = given.find(key);
    return found == given.end() ? std::string(otherwise) : found->second;
  };
  const std::string as = setting("as", "pause");
  const std::pair<const char*, Kind> kinds[] = {
      {"pause", Kind::pause}, {"kill", Kind::kill}, {"partition", Kind::partition}, {"suppress", Kind::suppress}};
  const auto* kind = std::find_if(std::begin(kinds), std::end(kinds), [&](const auto& k) { return as == k.first; });
  if (kind == std::end(kinds)) return bad("trace: as='", as, "'; allowed are pause, kill, partition, suppress");
  double scale = 1;
  if (!parse_number(setting("scale", "1"), 1e-9, 1e9, scale))
    return bad("trace: scale= must be a number from 1e-9 to 1e9");
  std::string path = given.at("file");
  if (const size_t folder = plan.rfind('/'); folder != plan.npos && path[0] != '/')
    path = plan.substr(0, folder + 1) + path;
  std::ifstream file(path);
  if (!file) return bad("trace: cannot read ", path);
  std::map<Rank, Nanos> down;
  auto add = [&](Rank rank, Nanos begin, Nanos end) {
    Fault f{.kind = kind->second};
    if (f.kind == Kind::partition)
      f.ranks = {rank};
    else
      f.rank = rank;
    const bool event = f.kind == Kind::pause || f.kind == Kind::kill;
    if (event)
      f.at = begin, f.duration = end - begin;
    else
      f.begin = begin, f.until = end;
    faults.push_back(f);
  };
  std::string line;
  Nanos last = 0;
  for (int number = 1; std::getline(file, line); ++number) {
    line = line.substr(0, line.find('#'));
    const std::vector<std::string> fields = split(line, ", \t\r");
    if (fields.empty()) continue;
    double seconds = 0;
    Rank rank = kAnyRank;
    if (fields.size() != 3 || !parse_number(fields[0], 0, 9e9, seconds) || (fields[1] != "down" && fields[1] != "up") ||
        !parse_rank(fields[2], rank) || rank == kAnyRank)
      return bad("trace: ", path, ":", number, ": '", line, "' must be seconds,down,rank or seconds,up,rank");
    if (seconds * scale > 9e9) return bad("trace: ", path, ":", number, ": ", seconds * scale, " s is too late");
    const Nanos at = std::llround(seconds * scale * 1e9);
    if (at < last) return bad("trace: ", path, ":", number, ": earlier than the line before");
    last = at;
    const bool is_down = down.count(rank) > 0;
    if (is_down == (fields[1] == "down"))
      return bad("trace: ", path, ":", number, ": rank ", rank, " is ", fields[1], " already");
    if (!is_down) {
      down[rank] = at;
    } else {
      add(rank, down[rank], at);
      down.erase(rank);
    }
  }
  // Those that never come back.
  for (auto [rank, at] : down) add(rank, at, kind->second == Kind::pause ? at + 1'000'000 * kSecond : INT64_MAX);
  return Status::Ok();
}

}  // namespace

std::string_view to_string(Kind kind) {
  return std::find_if(std::begin(kKinds), std::end(kKinds), [&](const KindRule& r) { return r.kind == kind; })->name;
}

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
    Given given;
    if (word == "trace") {
      if (std::string what = read_words(words, " file as scale ", given); !what.empty()) return error("trace: ", what);
      if (given["file"].empty()) return error("trace needs file=");
      if (Status status = read_trace(given, name, plan.faults); !status.ok()) return error(status.message());
      continue;
    }
    const auto* rule =
        std::find_if(std::begin(kKinds), std::end(kKinds), [&](const KindRule& r) { return r.name == word; });
    if (rule == std::end(kKinds)) {
      std::string names;
      for (const KindRule& r : kKinds) names += std::string(r.name) + ", ";
      return error("unknown fault '", word, "'; allowed are ", names, "trace");
    }
    const std::string allowed = std::string(rule->needs) + std::string(rule->may);
    if (std::string what = read_words(words, allowed, given); !what.empty()) return error(rule->name, ": ", what);
    Fault fault{.kind = rule->kind};
    if (fault.kind == Kind::reorder) fault.duration = kReorderBy;
    for (const auto& [key, value] : given)
      if (std::string what = set_field(fault, key, value); !what.empty())
        return error(rule->name, ": '", key, "=", value, "': ", key, "= must be ", what);
    if (std::string what = missing(*rule, given); !what.empty()) return error(rule->name, " needs ", what);
    if (fault.begin >= fault.until || fault.first_step >= fault.until_step)
      return error(rule->name, ": it is over before it begins");
    plan.faults.push_back(std::move(fault));
  }
  return plan;
}

}  // namespace sinew::dist
