#include <filesystem>
#include <ostream>

#include "models/cli/program.h"
#include "models/exit_codes.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUsage = "type sinew eval RUN_FOLDER or sinew eval --weights FILE";

struct Target {
  std::string weights;
  std::string config;  // of the run that made them; empty: none is near
};

Result<Target> find_target(const CommandLine& line) {
  std::string path = line.value("weights");
  if (line.words.size() > 1 || (!path.empty() && !line.words.empty()))
    return make_status(StatusCode::invalid_argument, "one set of weights at a time; ", kUsage);
  if (!line.words.empty()) path = line.words[0];
  if (path.empty()) return make_status(StatusCode::invalid_argument, "no weights to test; ", kUsage);
  Target target{.weights = fs::is_directory(path) ? path + "/model.safetensors" : path, .config = ""};
  if (!fs::exists(target.weights))
    return make_status(StatusCode::not_found, target.weights, " does not exist; ", kUsage);
  std::string config = (fs::path(target.weights).parent_path() / "config.toml").string();
  if (fs::exists(config)) target.config = config;
  return target;
}

}  // namespace

int verb_eval(const Invocation& invocation) {
  Invocation call = invocation;
  Result<Target> target = find_target(call.line);
  if (!target.ok()) return report(target.status(), call.err);
  // Weights in a run folder are tested with that run's model and data, unless told otherwise.
  if (!call.line.has("config") && !call.line.has("preset") && !target->config.empty())
    call.line.switches["config"] = target->config;
  Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  if (Status status = use_device(call, c->options); !status.ok()) return report(status, call.err);
  Result<EvalReport> result = call.runners.evaluate(c->options, target->weights);
  if (!result.ok()) return report(result.status(), call.err);
  call.out << (call.line.has("json") ? eval_json(*result) : describe(*result));
  return kExitOk;
}

}  // namespace sinew::train
