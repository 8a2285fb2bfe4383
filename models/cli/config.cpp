#include <ostream>

#include "models/cli/program.h"
#include "models/component_options.h"
#include "models/exit_codes.h"
#include "models/given_options.h"

namespace sinew::train {

int verb_config(const Invocation& call) {
  Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  if (Status status = check_components(c->options); !status.ok()) return report(status, call.err);
  if (Status status = check_given(*c); !status.ok()) return report(status, call.err);
  if (call.line.has("print")) {
    call.out << write_config(*c);
    return kExitOk;
  }
  bool any = false;
  for (const OptionSpec& spec : option_table()) {
    const Origin& origin = c->origins.at(spec.key);
    if (origin.source == Source::default_value && origin.detail.empty()) continue;
    std::string line = std::string(spec.key) + " = " + option_text(c->options, spec);
    line.resize(std::max<size_t>(line.size() + 2, 40), ' ');
    call.out << line << to_string(origin.source) << ": " << origin.detail << "\n";
    any = true;
  }
  call.out << (any ? "all other settings are defaults; " : "all settings are defaults; ")
           << "sinew config --print shows every one\n";
  return kExitOk;
}

}  // namespace sinew::train
