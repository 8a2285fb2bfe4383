#include "models/command_line.h"

#include <algorithm>

namespace sinew::train {
namespace {

const Switch* find_switch(const std::string& name) {
  for (const Switch& flag : switch_table())
    if (name == flag.name) return &flag;
  return nullptr;
}

std::vector<std::string> known_flags(const std::string& verb) {
  std::vector<std::string> flags;
  for (const OptionSpec& spec : option_table()) {
    flags.emplace_back(spec.key);
    if (*spec.alias) flags.emplace_back(spec.alias);
  }
  for (const Switch& flag : switch_table())
    if (allowed_for(flag, verb) && !flag.internal) flags.emplace_back(flag.name);
  return flags;
}

Status parse_verb(const std::string& word, CommandLine& line) {
  std::vector<std::string> names;
  for (const Verb& verb : verb_table()) names.emplace_back(verb.name);
  if (std::find(names.begin(), names.end(), word) == names.end())
    return make_status(StatusCode::invalid_argument, "unknown verb '", word, "'",
                       did_you_mean(word, names, "`sinew help` lists all"));
  line.verb = word;
  return Status::Ok();
}

const Verb* find_verb(const std::string& name) {
  for (const Verb& verb : verb_table())
    if (name == verb.name) return &verb;
  return nullptr;
}

// `flag` is args[i] without its dashes. Moves i on to the last word that was used.
Status parse_flag(const std::vector<std::string>& args, size_t& i, CommandLine& line) {
  std::string flag = args[i] == "-h" ? "help" : args[i].substr(2);
  size_t equals = flag.find('=');
  std::string name = flag.substr(0, equals);
  auto next_value = [&] { return i + 1 < args.size() ? &args[i + 1] : nullptr; };

  if (const Switch* known = find_switch(name); known && allowed_for(*known, line.verb)) {
    if (equals != std::string::npos && known->value == SwitchValue::none)
      return make_status(StatusCode::invalid_argument, args[i], ": --", name, " takes no value; type --", name);
    if (equals != std::string::npos) {
      line.switches[name] = flag.substr(equals + 1);
    } else if (known->value != SwitchValue::required) {
      line.switches[name] = "";
    } else if (const std::string* value = next_value()) {
      line.switches[name] = *value;
      ++i;
    } else {
      return make_status(StatusCode::invalid_argument, "--", name, " needs a value: ", known->help);
    }
    return Status::Ok();
  }

  const OptionSpec* spec = find_option(name);
  if (!spec)
    return make_status(StatusCode::invalid_argument, "unknown flag --", name,
                       did_you_mean(name, known_flags(line.verb), "`sinew help` lists all flags"));
  if (equals != std::string::npos) {
    line.settings.push_back({spec->key, flag.substr(equals + 1), "--" + name});
    return Status::Ok();
  }
  const std::string* value = next_value();
  if (spec->kind == OptionKind::toggle && (!value || (*value != "true" && *value != "false"))) {
    line.settings.push_back({spec->key, "true", "--" + name});
    return Status::Ok();
  }
  if (!value) return make_status(StatusCode::invalid_argument, "--", name, " needs a value: ", allowed_values(*spec));
  line.settings.push_back({spec->key, *value, "--" + name});
  ++i;
  return Status::Ok();
}

}  // namespace

bool allowed_for(const Switch& flag, const std::string& verb) {
  return !*flag.verbs || (" " + std::string(flag.verbs) + " ").find(" " + verb + " ") != std::string::npos;
}

const std::vector<Verb>& verb_table() {
  static const std::vector<Verb> verbs = {
      {"train", "train a network; --workers N starts N worker processes"},
      {"sim", "the same training in virtual time, repeatable bit for bit"},
      {"eval", "test a trained network: loss, accuracy, accuracy of each class", "RUN_FOLDER"},
      {"probe", "one batch through a network: loss, logits, gradient, Hessian products in a file"},
      {"lab", "a small experiment on a paper's claims, in seconds; without a name: which there are", "[NAME]"},
      {"info", "this build and machine; with --model the network's parameters, with --data the workers' samples",
       "[topology NAME]"},
      {"list", "models, data sets, schemes, optimizers, schedules, presets"},
      {"config", "the settings that a run would use, and where each comes from"},
      {"help", "all settings, or those of the named groups", "GROUP"},
  };
  return verbs;
}

const std::vector<Switch>& switch_table() {
  static const std::vector<Switch> switches = {
      {"config", SwitchValue::required, "TOML file of settings; a run folder's config.toml repeats that run"},
      {"preset", SwitchValue::required, "named settings of a paper; see `sinew list`"},
      {"weights", SwitchValue::required, "safetensors file to test", "eval probe"},
      {"batch", SwitchValue::required, "safetensors file with inputs, labels and z.<parameter>", "probe"},
      {"mode", SwitchValue::required, "eval or train: how batch norm and dropout act", "probe"},
      {"out", SwitchValue::required, "safetensors file to write; lab: folder for pictures and numbers", "probe lab"},
      {"json", SwitchValue::none, "the result as JSON", "eval"},
      {"print", SwitchValue::none, "all settings, as a TOML file for --config", "config"},
      {"help", SwitchValue::optional, "this help; --help=scheme: the settings of one group"},
      {"version", SwitchValue::none, "the version"},
      {"supervised", SwitchValue::none, "the run folder is prepared and config.toml complete", "train", true},
  };
  return switches;
}

Result<CommandLine> parse_command_line(const std::vector<std::string>& args) {
  CommandLine line;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "-h" || (arg.starts_with("--") && arg.size() > 2)) {
      SINEW_RETURN_IF_ERROR(parse_flag(args, i, line));
    } else if (line.verb.empty()) {
      SINEW_RETURN_IF_ERROR(parse_verb(arg, line));
    } else if (size_t equals = arg.find('='); equals != std::string::npos && !arg.starts_with("-")) {
      line.settings.push_back({arg.substr(0, equals), arg.substr(equals + 1), arg});
    } else if (!arg.starts_with("-") && *find_verb(line.verb)->words) {
      line.words.push_back(arg);
    } else {
      return make_status(StatusCode::invalid_argument, "unexpected '", arg,
                         "'; settings are written --key value or key=value; `sinew help` lists them");
    }
  }
  return line;
}

}  // namespace sinew::train
