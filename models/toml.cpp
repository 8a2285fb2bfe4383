// The only file that sees toml++: header-only, so that the program needs no library at run time.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "models/config.h"

namespace sinew::train {
namespace {

std::string place(const std::string& name, const toml::source_region& source) {
  return name + ":" + std::to_string(source.begin.line);
}

Result<std::string> value_text(const toml::node& node, const std::string& where) {
  if (auto text = node.as_string()) return text->get();
  if (auto whole = node.as_integer()) return std::to_string(whole->get());
  if (auto toggle = node.as_boolean()) return std::string(toggle->get() ? "true" : "false");
  if (auto real = node.as_floating_point()) {
    std::array<char, 32> buffer;
    auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), real->get());
    return std::string(buffer.data(), result.ptr);
  }
  if (auto list = node.as_array()) {
    std::string text;
    for (const toml::node& element : *list) {
      if (!element.is_number())
        return make_status(StatusCode::invalid_argument, where, ": a list holds numbers only, as in [1024, 1024]");
      Result<std::string> number = value_text(element, where);
      if (!number.ok()) return number.status();
      text += (text.empty() ? "" : ",") + *number;
    }
    return text.empty() ? std::string("none") : text;
  }
  return make_status(StatusCode::invalid_argument, where, ": a value is a string, a number, true, false or a list");
}

Status collect(const toml::table& table, const std::string& prefix, const std::string& name,
               std::vector<Assignment>& out) {
  for (const auto& [key, node] : table) {
    std::string path = prefix + std::string(key.str());
    std::string where = place(name, key.source());
    if (node.is_table()) {
      SINEW_RETURN_IF_ERROR(collect(*node.as_table(), path + ".", name, out));
      continue;
    }
    Result<std::string> text = value_text(node, where);
    if (!text.ok()) return text.status();
    out.push_back({path, *text, where});
  }
  return Status::Ok();
}

std::string toml_string(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      std::array<char, 8> escape;
      std::snprintf(escape.data(), escape.size(), "\\u%04X", static_cast<unsigned>(c));
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string toml_value(const Options& options, const OptionSpec& spec) {
  std::string text = option_text(options, spec);
  switch (spec.kind) {
    case OptionKind::text:
    case OptionKind::name:
    case OptionKind::duration:
      return toml_string(text);
    case OptionKind::real:
      return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
    case OptionKind::sizes:
    case OptionKind::reals: {
      std::string list;
      for (char c : text == "none" ? std::string() : text) list += c == ',' ? std::string(", ") : std::string(1, c);
      return "[" + list + "]";
    }
    case OptionKind::integer:
    case OptionKind::toggle:
      return text;
  }
  SINEW_FAIL("write_config", "unknown kind of ", spec.key);
}

}  // namespace

Result<std::vector<Assignment>> parse_toml(const std::string& text, const std::string& name) {
  toml::parse_result result = toml::parse(text);
  if (!result)
    return make_status(StatusCode::data_error, place(name, result.error().source()),
                       ": not TOML: ", result.error().description());
  std::vector<Assignment> assignments;
  SINEW_RETURN_IF_ERROR(collect(result.table(), "", name, assignments));
  return assignments;
}

std::string write_config(const Configuration& configuration) {
  std::string text = "# Every setting of a run; `sinew train --config FILE` repeats it.\n";
  std::string section;
  for (const OptionSpec& spec : option_table()) {
    if (!spec.repeats) continue;
    std::string key = spec.key;
    size_t dot = key.find('.');
    if (key.substr(0, dot) != section) {
      section = key.substr(0, dot);
      text += "\n[" + section + "]\n";
    }
    std::string line = key.substr(dot + 1) + " = " + toml_value(configuration.options, spec);
    const Origin& origin = configuration.origins.at(key);
    line.resize(std::max<size_t>(line.size(), 34), ' ');
    std::string comment = to_string(origin.source) + (origin.detail.empty() ? "" : ": " + origin.detail);
    std::replace_if(
        comment.begin(), comment.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    text += line + "  # " + comment + "\n";
  }
  return text;
}

}  // namespace sinew::train
