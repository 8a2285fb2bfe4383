#include "models/cli/program.h"

#include <new>
#include <ostream>

#include "models/exit_codes.h"
#include "nn/data/dataset.h"

namespace sinew::train {
namespace {

int help(const Invocation& call) {
  std::vector<std::string> groups = call.line.words;
  if (std::string group = call.line.value("help"); !group.empty()) groups = {group};
  std::string verb = call.line.verb == "help" ? "" : call.line.verb;
  Result<std::string> text = help_text(verb, groups);
  if (!text.ok()) return report(text.status(), call.err);
  call.out << *text;
  return kExitOk;
}

int dispatch(const Invocation& call) {
  const CommandLine& line = call.line;
  if (line.has("version")) {
    call.out << "sinew " SINEW_VERSION "\n";
    return kExitOk;
  }
  if (line.has("help") || line.verb == "help") return help(call);
  if (line.verb.empty() && line.settings.empty() && line.switches.empty()) {
    call.out << short_help();
    return kExitOk;
  }
  if (line.verb == "train" || line.verb == "sim") return verb_train(call);
  if (line.verb == "eval") return verb_eval(call);
  if (line.verb == "probe") return verb_probe(call);
  if (line.verb == "lab") return verb_lab(call);
  if (line.verb == "info") return verb_info(call);
  if (line.verb == "list") return verb_list(call);
  if (line.verb == "config") return verb_config(call);
  return report(make_status(StatusCode::invalid_argument, "no verb; type sinew train ", call.command.at(1), " ..."),
                call.err);
}

}  // namespace

Result<Configuration> configure(const Invocation& call, std::vector<Assignment> forced) {
  ConfigSources sources{.preset = call.line.value("preset"),
                        .file = call.line.value("config"),
                        .environment = {},
                        .flags = std::move(forced)};
  // A job's processes take their supervisor's settings, which are complete.
  if (!call.line.has("supervised")) sources.environment = process_environment();
  sources.flags.insert(sources.flags.end(), call.line.settings.begin(), call.line.settings.end());
  return configure(sources);
}

Status use_device(const Invocation& call, const Options& options) {
  const bool vendor = options.train.kernels == "vendor";
  if (options.run.device != "cuda" && vendor)
    return make_status(StatusCode::invalid_argument,
                       "train.kernels vendor: cuBLAS and cuDNN compute on a GPU, but run.device is ",
                       options.run.device, "; type --device cuda or --train.kernels own");
  if (options.run.device != "cuda") return Status::Ok();
  if (!call.runners.install_cuda)
    return Status(StatusCode::invalid_argument,
                  "run.device cuda: this program is built without CUDA (SINEW_CUDA=ON); for example --device cpu");
  Status status = call.runners.install_cuda();
  if (!status.ok()) return make_status(StatusCode::invalid_argument, "run.device cuda: ", status.message());
  if (vendor) status = call.runners.use_vendor_kernels();
  return status.ok() ? status
                     : make_status(StatusCode::invalid_argument, "train.kernels vendor: ", status.message(),
                                   "; or type --train.kernels own");
}

int run_program(const std::string& executable, const std::vector<std::string>& command, const Runners& runners,
                std::ostream& out, std::ostream& err) {
  try {
    Result<CommandLine> line = parse_command_line({command.begin() + 1, command.end()});
    if (!line.ok()) return report(line.status(), err);
    return dispatch({executable, command, std::move(*line), runners, out, err});
  } catch (const nn::DataError& error) {
    return report(error.status(), err);
  } catch (const std::bad_alloc&) {
    return report(Status(StatusCode::internal, "out of memory; try a smaller train.batch or model.hidden"), err);
  } catch (const std::exception& error) {
    return report(make_status(StatusCode::internal, "internal error: ", error.what()), err);
  }
}

}  // namespace sinew::train
