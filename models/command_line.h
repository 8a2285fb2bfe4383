// The command line: a verb, settings and a few switches of the program itself.
//
//   sinew train --scheme easgd --workers 4 --optim.lr=0.1 scheme.alpha=0.2 --preset easgd-mnist
//
// Settings are the option table's keys and aliases, as `--key value`, `--key=value` or `key=value`; the last one wins.
// A toggle needs no value. Switches (switch_table) are not settings and never come from a file or the environment.
//
// Why not CLI11: settings arrive from five sources through one function with one set of messages, an unknown key must
// name the nearest one, and `key=value` words are settings; with CLI11 each needs a detour around its own parser.
//
// Thread safety: free functions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/config.h"

namespace sinew::train {

struct Verb {
  const char* name;
  const char* help;
  const char* words = "";  // what plain words mean; empty: none are allowed
};
const std::vector<Verb>& verb_table();

enum class SwitchValue { none, required, optional };
struct Switch {
  const char* name;
  SwitchValue value;
  const char* help;
  const char* verbs = "";  // "eval info": only there; empty: everywhere
  bool internal = false;   // between the program's own processes; not in the help
};
const std::vector<Switch>& switch_table();
bool allowed_for(const Switch& flag, const std::string& verb);

struct CommandLine {
  std::string verb;                             // empty: none was given
  std::vector<Assignment> settings;             // in order
  std::map<std::string, std::string> switches;  // name -> value, "" for none
  std::vector<std::string> words;
  bool has(const std::string& name) const { return switches.count(name) != 0; }
  std::string value(const std::string& name) const { return has(name) ? switches.at(name) : ""; }
};

// args: without the program's name. invalid_argument: unknown verb, flag or word, with the nearest match; a missing
// value. Values themselves are checked by configure().
Result<CommandLine> parse_command_line(const std::vector<std::string>& args);

}  // namespace sinew::train
