#include <algorithm>
#include <sstream>

#include "models/cli/program.h"

namespace sinew::train {
namespace {

std::string placeholder(const OptionSpec& spec) {
  switch (spec.kind) {
    case OptionKind::text:
      return spec.path ? "PATH" : "TEXT";
    case OptionKind::name:
      return "NAME";
    case OptionKind::integer:
      return "N";
    case OptionKind::real:
      return "X";
    case OptionKind::toggle:
      return "[true|false]";
    case OptionKind::duration:
      return "TIME";
    case OptionKind::sizes:
      return "N,N,...";
    case OptionKind::reals:
      return "X,X,...";
  }
  return "VALUE";
}

// Two columns; the second is broken into lines of at most 120 columns.
std::string entry(const std::string& left, const std::string& right) {
  constexpr size_t kIndent = 32, kWidth = 120;
  std::string text = "  " + left;
  text.resize(std::max(text.size() + 2, kIndent), ' ');
  size_t column = text.size();
  std::istringstream words(right);
  std::string blank;
  for (std::string word; words >> word; blank = " ") {
    if (column + blank.size() + word.size() > kWidth) {
      blank = "\n" + std::string(kIndent, ' ');
      column = kIndent - 1;
    }
    column += word.size() + (blank.empty() ? 0 : 1);
    text += blank + word;
  }
  return text + "\n";
}

// Shorter than allowed_values: the help has the type in its left column, and bounds that nobody meets are left out.
std::string short_range(const OptionSpec& spec) {
  constexpr double kNobodyMeets = 1e6;
  switch (spec.kind) {
    case OptionKind::name:
      return "; " + allowed_values(spec);
    case OptionKind::integer:
    case OptionKind::real: {
      if (spec.max >= kNobodyMeets) return "";
      std::string words = allowed_values(spec);  // "a number from 0 to 1 unit"
      return "; " + words.substr(words.find(" from ") + 6);
    }
    case OptionKind::text:
    case OptionKind::toggle:
    case OptionKind::duration:
    case OptionKind::sizes:
    case OptionKind::reals:
      return "";
  }
  return "";
}

std::string group_title(const std::string& group) {
  static const std::vector<std::pair<std::string, std::string>> titles = {
      {"data", "the samples"},
      {"model", "the network"},
      {"optim", "the local optimizer"},
      {"scheme", "how workers keep together"},
      {"train", "the training loop"},
      {"run", "processes and the run folder"},
      {"sim", "the simulated machine (sinew sim)"},
      {"fault", "what goes wrong"},
      {"log", "output"},
  };
  for (const auto& [name, title] : titles)
    if (name == group) return title;
  return "";
}

std::string group_help(const std::string& group) {
  std::string text = "\n" + group + ": " + group_title(group) + "\n";
  for (const OptionSpec& spec : option_table()) {
    if (!std::string(spec.key).starts_with(group + ".")) continue;
    std::string left = std::string("--") + spec.key + " " + placeholder(spec);
    std::string right = spec.help + short_range(spec) + "; default " + default_text(spec);
    if (*spec.alias) right += "; short --" + std::string(spec.alias);
    text += entry(left, right);
  }
  return text;
}

}  // namespace

std::string short_help() {
  std::string text = "sinew " SINEW_VERSION
                     ": trains neural networks with loosely coupled workers\n\n"
                     "A first run:\n"
                     "  sinew train                              mlp on generated images, a few seconds\n"
                     "  sinew train --scheme easgd --workers 4   four worker processes and a center\n"
                     "  sinew sim --scheme easgd --workers 16    the same in virtual time\n\n"
                     "Verbs:\n";
  for (const Verb& verb : verb_table())
    text += entry("sinew " + std::string(verb.name) + (*verb.words ? " " + std::string(verb.words) : ""), verb.help);
  return text + "\nsinew help shows all settings, sinew help scheme those of a group.\n";
}

Result<std::string> help_text(const std::string& verb, const std::vector<std::string>& groups) {
  std::vector<std::string> known = option_sections();
  for (const std::string& group : groups) {
    if (std::find(known.begin(), known.end(), group) != known.end()) continue;
    std::string list;
    for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
    return make_status(StatusCode::invalid_argument, "help: there is no group '", group, "'",
                       did_you_mean(group, known, "the groups are " + list));
  }
  std::string text;
  if (groups.empty()) {
    text = short_help() + "\nSwitches" + (verb.empty() ? "" : " of sinew " + verb) + ":\n";
    for (const Switch& flag : switch_table()) {
      bool shown = verb.empty() || allowed_for(flag, verb);
      if (flag.internal || !shown) continue;
      std::string value = flag.value == SwitchValue::required   ? " VALUE"
                          : flag.value == SwitchValue::optional ? "[=GROUP]"
                                                                : "";
      text += entry("--" + std::string(flag.name) + value,
                    std::string(flag.help) + (*flag.verbs ? " (" + std::string(flag.verbs) + ")" : ""));
    }
    text +=
        "\nSettings, as --key value, --key=value or key=value. Sources: flag, then environment (SINEW_SCHEME_ALPHA),\n"
        "then --config file, then --preset, then default. Times are 5ms, 2s, 1m; plain numbers are seconds.\n";
    for (const std::string& group : known) text += group_help(group);
    return text;
  }
  for (const std::string& group : groups) text += group_help(group);
  return text.substr(1);
}

}  // namespace sinew::train
