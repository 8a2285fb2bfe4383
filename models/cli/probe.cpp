#include <ostream>

#include "models/cli/program.h"
#include "models/exit_codes.h"
#include "models/probe.h"

namespace sinew::train {

int verb_probe(const Invocation& call) {
  const CommandLine& line = call.line;
  for (const char* name : {"weights", "batch", "out"})
    if (line.value(name).empty())
      return report(make_status(StatusCode::invalid_argument, "--", name,
                                " is missing; type sinew probe --model NAME --weights W.safetensors --batch "
                                "B.safetensors --mode eval --out O.safetensors"),
                    call.err);
  const std::string mode = line.has("mode") ? line.value("mode") : "eval";
  if (mode != "eval" && mode != "train")
    return report(make_status(StatusCode::invalid_argument, "--mode '", mode, "': not one of eval, train"), call.err);
  const Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  if (Status status = use_device(call, c->options); !status.ok()) return report(status, call.err);
  const Status status =
      probe(c->options, {line.value("weights"), line.value("batch"), line.value("out")}, mode == "train");
  if (!status.ok()) return report(status, call.err);
  call.out << "wrote " << line.value("out") << "\n";
  return kExitOk;
}

}  // namespace sinew::train
