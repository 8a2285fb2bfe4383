// Where the settings of a run come from: default < preset < configuration file < environment < flag.
//
// Every value remembers its origin, so that `sinew config --print` can show it. Whatever the source, an unknown key is
// an error with the nearest match and a bad value one line that says what is allowed.
//
// The text that write_config makes is complete: reading it back gives the same Options bit for bit (all but the
// settings that name the run itself, spec.repeats == false).
//
// Example:
//   Result<Configuration> c = configure({.preset = "easgd-mnist", .environment = process_environment(),
//                                        .flags = {{"optim.lr", "0.1", "--lr"}}});
//   c->options.optim.lr;                    // 0.1
//   c->origins.at("optim.lr").detail;       // "--lr"
//
// Thread safety: free functions.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/options.h"

namespace sinew::train {

// One setting as somebody wrote it.
struct Assignment {
  std::string key;    // key or alias
  std::string text;   // value
  std::string where;  // "--lr", "SINEW_OPTIM_LR", "run.toml:12"
};

enum class Source { default_value, preset, file, environment, flag };
const char* to_string(Source source);

struct Origin {
  Source source = Source::default_value;
  std::string detail;  // the assignment's `where`; of a default: what it was derived from
};

struct Configuration {
  Options options;
  std::map<std::string, Origin> origins;  // of every key
  bool given(const std::string& key) const { return origins.at(key).source != Source::default_value; }
};

struct ConfigSources {
  std::string preset;  // name; empty: none
  std::string file;    // path; empty: none
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<Assignment> flags;
};

// This process's variables that start with SINEW_.
std::vector<std::pair<std::string, std::string>> process_environment();

// Reads all sources, derives what depends on other settings, and checks what concerns several settings at once.
// Errors: invalid_argument (keys, values), not_found (file), data_error (TOML syntax).
Result<Configuration> configure(const ConfigSources& sources);

// The assignments of a TOML text; `name` is for messages.
Result<std::vector<Assignment>> parse_toml(const std::string& text, const std::string& name);
// All settings as TOML, each with its origin as a comment.
std::string write_config(const Configuration& configuration);

struct Preset {
  std::string name;
  std::string about;  // the first comment line
  std::string text;   // TOML
};
// models/presets/*.toml, embedded when the library is built, by name.
const std::vector<Preset>& presets();

}  // namespace sinew::train
