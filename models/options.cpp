#include "models/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>

namespace sinew::train {
namespace {

struct Unit {
  std::string_view name;
  int64_t nanos;
};
// Longest first: the text form uses the longest unit that leaves a whole number.
constexpr std::array<Unit, 6> kUnits = {{{"h", 3'600'000'000'000},
                                         {"m", 60'000'000'000},
                                         {"s", 1'000'000'000},
                                         {"ms", 1'000'000},
                                         {"us", 1'000},
                                         {"ns", 1}}};

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  if (text.starts_with('+')) text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string real_text(double value) {
  std::array<char, 32> buffer;
  auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), result.ptr);
}

std::string duration_text(int64_t nanos) {
  if (nanos == 0) return "0s";
  auto unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return nanos % u.nanos == 0; });
  return std::to_string(nanos / unit->nanos) + std::string(unit->name);
}

std::optional<int64_t> parse_duration(std::string_view text) {
  size_t digits = text.find_first_not_of("0123456789.+-eE");
  std::string_view suffix = digits == std::string_view::npos ? "s" : text.substr(digits);
  auto unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.name == suffix; });
  if (unit == kUnits.end()) return std::nullopt;
  std::string_view amount = text.substr(0, digits);
  if (auto whole = parse_number<int64_t>(amount)) {  // exact: no detour over floating point
    int64_t nanos;
    if (__builtin_mul_overflow(*whole, unit->nanos, &nanos)) return std::nullopt;
    return nanos;
  }
  auto value = parse_number<double>(amount);
  if (!value || !(std::abs(*value) * static_cast<double>(unit->nanos) < 9e18)) return std::nullopt;
  return std::llround(*value * static_cast<double>(unit->nanos));
}

std::optional<bool> parse_toggle(std::string_view text) {
  if (text == "true" || text == "on" || text == "yes" || text == "1") return true;
  if (text == "false" || text == "off" || text == "no" || text == "0") return false;
  return std::nullopt;
}

// Lists of whole or real numbers.
template <class Number>
std::string list_text(const std::vector<Number>& numbers) {
  if (numbers.empty()) return "none";
  std::string text;
  for (Number n : numbers) {
    if (!text.empty()) text += ",";
    if constexpr (std::is_same_v<Number, double>)
      text += real_text(n);
    else
      text += std::to_string(n);
  }
  return text;
}

template <class Number>
std::optional<std::vector<Number>> parse_list(std::string_view text, const OptionSpec& spec) {
  std::vector<Number> numbers;
  if (text == "none") return numbers;
  for (;;) {
    size_t comma = text.find(',');
    auto number = parse_number<Number>(text.substr(0, comma));
    if (!number || !(static_cast<double>(*number) >= spec.min && static_cast<double>(*number) <= spec.max))
      return std::nullopt;
    numbers.push_back(*number);
    if (comma == std::string_view::npos) return numbers;
    text.remove_prefix(comma + 1);
  }
}

std::string plain(double bound) {
  return std::abs(bound) < 1e7 && bound == std::floor(bound) ? std::to_string(static_cast<int64_t>(bound))
                                                             : real_text(bound);
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  return list;
}

// What to type next: the name that was meant, else the default, else a value in range.
Status bad_value(const OptionSpec& spec, const std::string& text, const std::string& where) {
  std::string flag = std::string("--") + (*spec.alias ? spec.alias : spec.key) + " ";
  std::string meant = spec.kind == OptionKind::name ? nearest_match(text, spec.names()) : "";
  std::string value = option_text(Options(), spec);
  if (*spec.derived && value == "0") value = spec.kind == OptionKind::real ? "0.2" : "2";
  return make_status(StatusCode::invalid_argument, where, ": '", text, "' is not allowed for ", spec.key, " (",
                     spec.help, "); it must be ", allowed_values(spec),
                     meant.empty() ? "; for example " + flag + value : "; did you mean " + flag + meant + "?");
}

template <class T>
T& member(Options& options, const OptionSpec& spec) {
  return std::get<T& (*)(Options&)>(spec.field)(options);
}

template <class T>
const T& member(const Options& options, const OptionSpec& spec) {
  return std::get<T& (*)(Options&)>(spec.field)(const_cast<Options&>(options));  // the accessors only name a member
}

// Distance with insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

}  // namespace

const OptionSpec* find_option(std::string_view key_or_alias) {
  for (const OptionSpec& spec : option_table())
    if (key_or_alias == spec.key || (*spec.alias && key_or_alias == spec.alias)) return &spec;
  return nullptr;
}

std::vector<std::string> option_sections() {
  std::vector<std::string> sections;
  for (const OptionSpec& spec : option_table()) {
    std::string_view key = spec.key;
    std::string section(key.substr(0, key.find('.')));
    if (sections.empty() || sections.back() != section) sections.push_back(section);
  }
  return sections;
}

Status set_option(Options& options, const OptionSpec& spec, const std::string& text, const std::string& where) {
  auto in_range = [&](double value) { return value >= spec.min && value <= spec.max; };
  auto bad = [&] { return bad_value(spec, text, where); };
  switch (spec.kind) {
    case OptionKind::text: {
      std::error_code error;
      auto absolute = spec.path && !text.empty() ? std::filesystem::absolute(text, error) : std::filesystem::path();
      member<std::string>(options, spec) = absolute.empty() || error ? text : absolute.lexically_normal().string();
      return Status::Ok();
    }
    case OptionKind::name: {
      std::vector<std::string> names = spec.names();
      if (std::find(names.begin(), names.end(), text) == names.end()) return bad();
      member<std::string>(options, spec) = text;
      return Status::Ok();
    }
    case OptionKind::integer: {
      auto value = parse_number<int64_t>(text);
      if (!value || !in_range(static_cast<double>(*value))) return bad();
      member<int64_t>(options, spec) = *value;
      return Status::Ok();
    }
    case OptionKind::real: {
      auto value = parse_number<double>(text);
      if (!value || !in_range(*value)) return bad();
      member<double>(options, spec) = *value;
      return Status::Ok();
    }
    case OptionKind::toggle: {
      auto value = parse_toggle(text);
      if (!value) return bad();
      member<bool>(options, spec) = *value;
      return Status::Ok();
    }
    case OptionKind::duration: {
      auto value = parse_duration(text);
      if (!value || !in_range(static_cast<double>(*value) / 1e9)) return bad();
      member<int64_t>(options, spec) = *value;
      return Status::Ok();
    }
    case OptionKind::sizes: {
      auto value = parse_list<int64_t>(text, spec);
      if (!value) return bad();
      member<std::vector<int64_t>>(options, spec) = std::move(*value);
      return Status::Ok();
    }
    case OptionKind::reals: {
      auto value = parse_list<double>(text, spec);
      if (!value) return bad();
      member<std::vector<double>>(options, spec) = std::move(*value);
      return Status::Ok();
    }
  }
  SINEW_FAIL("set_option", "unknown kind of ", spec.key);
}

std::string option_text(const Options& options, const OptionSpec& spec) {
  switch (spec.kind) {
    case OptionKind::text:
    case OptionKind::name:
      return member<std::string>(options, spec);
    case OptionKind::integer:
      return std::to_string(member<int64_t>(options, spec));
    case OptionKind::real:
      return real_text(member<double>(options, spec));
    case OptionKind::toggle:
      return member<bool>(options, spec) ? "true" : "false";
    case OptionKind::duration:
      return duration_text(member<int64_t>(options, spec));
    case OptionKind::sizes:
      return list_text(member<std::vector<int64_t>>(options, spec));
    case OptionKind::reals:
      return list_text(member<std::vector<double>>(options, spec));
  }
  SINEW_FAIL("option_text", "unknown kind of ", spec.key);
}

std::string allowed_values(const OptionSpec& spec) {
  std::string range = plain(spec.min) + " to " + plain(spec.max);
  std::string unit = *spec.unit ? std::string(" ") + spec.unit : "";
  switch (spec.kind) {
    case OptionKind::text:
      return spec.path ? "a path" : "a text";
    case OptionKind::name:
      return joined(spec.names());
    case OptionKind::integer:
      return "a whole number from " + range + unit;
    case OptionKind::real:
      return "a number from " + range + unit;
    case OptionKind::toggle:
      return "true or false";
    case OptionKind::duration:
      return "a duration from " + duration_text(std::llround(spec.min * 1e9)) + " to " +
             duration_text(std::llround(spec.max * 1e9)) + " (5ms, 2s, 1m)";
    case OptionKind::sizes:
      return "whole numbers from " + range + " with commas between, or none";
    case OptionKind::reals:
      return "numbers from " + range + " with commas between, or none";
  }
  SINEW_FAIL("allowed_values", "unknown kind of ", spec.key);
}

std::string default_text(const OptionSpec& spec) {
  if (*spec.derived) return spec.derived;
  std::string text = option_text(Options(), spec);
  if (text.empty()) return "none";
  return *spec.unit ? text + " " + spec.unit : text;
}

std::string environment_name(const OptionSpec& spec) {
  std::string name = "SINEW_";
  for (const char* c = spec.key; *c; ++c)
    name += *c == '.' ? '_' : static_cast<char>(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
  return name;
}

std::string nearest_match(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::clamp<size_t>(word.size() / 3, 1, 3) + 1;
  for (const std::string& candidate : candidates) {
    size_t distance = edit_distance(word, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty()) return best;
  for (const std::string& candidate : candidates) {
    size_t dot = candidate.rfind('.');
    if (dot != std::string::npos && edit_distance(word, candidate.substr(dot + 1)) <= word.size() / 5) return candidate;
  }
  return "";
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         std::string_view otherwise) {
  std::string match = nearest_match(word, candidates);
  return match.empty() ? "; " + std::string(otherwise) : "; did you mean " + match + "?";
}

}  // namespace sinew::train
