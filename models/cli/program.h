// The program `sinew`, as a function: main.cpp calls it with the real runners, tests with their own.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "models/command_line.h"
#include "models/run.h"

namespace sinew::train {

// What the verbs start; the functions of models/run.h.
struct Runners {
  std::function<Result<RunSummary>(const Options&, RunFolder&, const std::vector<std::string>&)> local_job;
  std::function<Result<std::optional<RunSummary>>(const Options&, RunFolder&, const dist::JobEnvironment&)> node;
  std::function<Result<RunSummary>(const Options&, RunFolder&)> simulation;
  std::function<Result<EvalReport>(const Options&, const std::string&)> evaluate;
  std::function<Status()> install_cuda;        // empty: built without it
  std::function<Status()> use_vendor_kernels;  // of its libraries, after install_cuda; there when that is
};

// One call of the program, as the verbs see it.
struct Invocation {
  std::string executable;            // for starting more processes
  std::vector<std::string> command;  // as typed, the program's name included
  CommandLine line;
  const Runners& runners;
  std::ostream& out;
  std::ostream& err;
};

// Each prints its result to `out` and its failure as one line to `err`, and returns the exit code.
int verb_train(const Invocation& invocation);  // train and sim
int verb_eval(const Invocation& invocation);
int verb_probe(const Invocation& invocation);
int verb_lab(const Invocation& invocation);  // lab [NAME]
int verb_info(const Invocation& invocation);
int verb_info_topology(const Invocation& invocation);  // info topology NAME
int verb_list(const Invocation& invocation);
int verb_config(const Invocation& invocation);

// The settings of this call from all sources. `forced` come before the flags and after the environment.
Result<Configuration> configure(const Invocation& invocation, std::vector<Assignment> forced = {});

// Makes the options' device usable. invalid_argument: one line with what is missing.
Status use_device(const Invocation& invocation, const Options& options);

// The help: the whole, or the settings of some groups. invalid_argument for an unknown group.
std::string short_help();
Result<std::string> help_text(const std::string& verb, const std::vector<std::string>& groups);

// command: argv. Returns the exit code; never throws.
int run_program(const std::string& executable, const std::vector<std::string>& command, const Runners& runners,
                std::ostream& out, std::ostream& err);

}  // namespace sinew::train
