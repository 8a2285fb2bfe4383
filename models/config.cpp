#include "models/config.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "dist/scheme.h"
#include "models/zoo/zoo.h"
#include "optim/optimizer.h"

extern char** environ;

namespace sinew::train {
namespace {

// Cores this process may run on: a container or taskset may leave it fewer than the machine has.
int64_t usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  for (const OptionSpec& spec : option_table()) keys.emplace_back(spec.key);
  return keys;
}

Status apply(Configuration& configuration, const std::vector<Assignment>& assignments, Source source) {
  for (const Assignment& a : assignments) {
    const OptionSpec* spec = find_option(a.key);
    if (!spec)
      return make_status(StatusCode::invalid_argument, a.where, ": unknown setting '", a.key, "'",
                         did_you_mean(a.key, all_keys(), "`sinew help` lists all settings"));
    SINEW_RETURN_IF_ERROR(set_option(configuration.options, *spec, a.text, a.where));
    configuration.origins[spec->key] = {source, a.where};
  }
  return Status::Ok();
}

// SINEW_SCHEME_ALHPA is a mistake; SINEW_DATA or SINEW_SECRET is somebody else's variable.
Result<std::vector<Assignment>> read_environment(const std::vector<std::pair<std::string, std::string>>& variables) {
  std::vector<std::string> names, prefixes;
  for (const OptionSpec& spec : option_table()) names.push_back(environment_name(spec));
  for (const std::string& name : names) prefixes.push_back(name.substr(0, name.find('_', 6) + 1));
  std::vector<Assignment> found;
  for (const auto& [variable, value] : variables) {
    auto name = std::find(names.begin(), names.end(), variable);
    if (name != names.end()) {
      found.push_back({option_table()[static_cast<size_t>(name - names.begin())].key, value, variable});
    } else if (std::any_of(prefixes.begin(), prefixes.end(),
                           [&, &v = variable](const std::string& p) { return v.starts_with(p); })) {
      return make_status(StatusCode::invalid_argument, "environment: unknown setting ", variable,
                         did_you_mean(variable, names, "unset it, or see `sinew help`"));
    }
  }
  return found;
}

Result<std::string> read_text(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf()))
    return make_status(StatusCode::not_found, "configuration file ", path, " cannot be read; `sinew config --print > ",
                       path, "` writes one");
  return text.str();
}

// The one that the scheme's paper uses.
const char* optimizer_of(const std::string& scheme) {
  if (scheme == "eamsgd" || scheme == "msgd") return "nag";
  return scheme.ends_with("downpour") || scheme == "asgd" || scheme == "mvasgd" || scheme == "lgd" ? "sgd" : "momentum";
}

// Settings that nobody gave follow from the others.
void derive(Configuration& configuration) {
  Options& o = configuration.options;
  auto derive = [&](const char* key, auto&& set) {
    if (configuration.given(key)) return;
    set();
    configuration.origins[key].detail = find_option(key)->derived;
  };
  double workers = static_cast<double>(o.run.workers);
  derive("scheme.name", [&] { o.scheme.name = o.run.workers == 1 ? "local" : "easgd"; });
  const std::string& scheme = o.scheme.name;
  derive("scheme.period", [&] {
    const bool every_step =
        scheme == "dpsgd" || scheme == "sgp" || scheme == "adpsgd" || scheme == "mdownpour" || scheme == "lgd";
    o.scheme.period = every_step || configuration.given("scheme.probability") ? 1 : 10;
  });
  derive("scheme.outer_momentum", [&] { o.scheme.outer_momentum = scheme == "mdownpour" ? 0.99 : 0.9; });
  derive("scheme.alpha", [&] {
    if (scheme == "elastic_gossip" || scheme == "adpsgd")
      o.scheme.alpha = 0.5;
    else
      o.scheme.alpha = 0.9 / (scheme == "easgd_tree" ? static_cast<double>(o.scheme.fan_out + 1) : workers);
  });
  derive("scheme.period_global", [&] { o.scheme.period_global = 2 * o.scheme.period; });
  derive("scheme.far_period", [&] { o.scheme.far_period = 10 * o.scheme.period; });
  derive("scheme.kappa", [&] { o.scheme.kappa = 3 * o.scheme.alpha; });
  derive("scheme.update_order", [&] { o.scheme.update_order = o.scheme.weighting == "fixed" ? "pre" : "post"; });
  derive("scheme.beta",
         [&] { o.scheme.beta = scheme == "gossiping_sgd" ? 0.5 : std::min(1.0, workers * o.scheme.alpha); });
  derive("scheme.topology", [&] {
    o.scheme.topology = scheme == "dpsgd" ? "ring" : scheme == "sgp" ? "one_peer_exponential" : "uniform";
  });
  derive("data.sharding", [&] { o.data.sharding = o.scheme.name == "allreduce" ? "partition" : "full"; });
  derive("data.padding", [&] { o.data.padding = o.data.crop == 0 && o.data.name != "images" ? 4 : 0; });
  derive("optim.name", [&] { o.optim.name = optimizer_of(o.scheme.name); });
  derive("model.dropout", [&] { o.model.dropout = default_dropout(o.model.name); });
  derive("model.init", [&] { o.model.init = default_init(o.model.name); });
  const optim::OptimizerOptions own = optim::with_defaults({.name = o.optim.name});
  derive("optim.lr", [&] { o.optim.lr = *own.lr; });
  derive("optim.decoupled_decay", [&] { o.optim.decoupled_decay = *own.decoupled_decay; });
  derive("optim.beta1", [&] { o.optim.beta1 = *own.beta1; });
  derive("optim.beta2", [&] { o.optim.beta2 = *own.beta2; });
  derive("optim.eps", [&] { o.optim.eps = *own.eps; });
  derive("optim.rho", [&] { o.optim.rho = *own.rho; });
  derive("optim.hessian_every", [&] { o.optim.hessian_every = *own.hessian_every; });
  // The same in both worlds, since the bits of a step depend on it.
  if (o.train.threads == 0) o.train.threads = std::max<int64_t>(1, usable_cores() / o.run.workers);
  if (!configuration.given("train.threads")) configuration.origins["train.threads"].detail = "cores / workers";
  if (o.sim.threads == 0)
    o.sim.threads = o.run.device == "cuda" ? 1 : std::max<int64_t>(1, usable_cores() / o.train.threads);
  if (!configuration.given("sim.threads"))
    configuration.origins["sim.threads"].detail = find_option("sim.threads")->derived;
}

}  // namespace

const char* to_string(Source source) {
  switch (source) {
    case Source::default_value:
      return "default";
    case Source::preset:
      return "preset";
    case Source::file:
      return "file";
    case Source::environment:
      return "environment";
    case Source::flag:
      return "flag";
  }
  return "unknown";
}

std::vector<std::pair<std::string, std::string>> process_environment() {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = environ; *entry; ++entry) {
    std::string text = *entry;
    if (text.starts_with("SINEW_"))
      variables.emplace_back(text.substr(0, text.find('=')), text.substr(text.find('=') + 1));
  }
  return variables;
}

Result<Configuration> configure(const ConfigSources& sources) {
  Configuration configuration;
  for (const OptionSpec& spec : option_table()) configuration.origins[spec.key] = {};
  if (!sources.preset.empty()) {
    std::vector<std::string> names;
    for (const Preset& preset : presets()) names.push_back(preset.name);
    auto name = std::find(names.begin(), names.end(), sources.preset);
    if (name == names.end())
      return make_status(StatusCode::invalid_argument, "--preset: there is no preset '", sources.preset, "'",
                         did_you_mean(sources.preset, names, "`sinew list` shows all"));
    const Preset& preset = presets()[static_cast<size_t>(name - names.begin())];
    Result<std::vector<Assignment>> assignments = parse_toml(preset.text, preset.name);
    if (!assignments.ok()) return assignments.status();
    SINEW_RETURN_IF_ERROR(apply(configuration, *assignments, Source::preset));
  }
  if (!sources.file.empty()) {
    Result<std::string> text = read_text(sources.file);
    if (!text.ok()) return text.status();
    Result<std::vector<Assignment>> assignments = parse_toml(*text, sources.file);
    if (!assignments.ok()) return assignments.status();
    SINEW_RETURN_IF_ERROR(apply(configuration, *assignments, Source::file));
  }
  Result<std::vector<Assignment>> environment = read_environment(sources.environment);
  if (!environment.ok()) return environment.status();
  SINEW_RETURN_IF_ERROR(apply(configuration, *environment, Source::environment));
  SINEW_RETURN_IF_ERROR(apply(configuration, sources.flags, Source::flag));
  derive(configuration);
  return configuration;
}

}  // namespace sinew::train
