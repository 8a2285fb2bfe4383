// `sinew lab [NAME]`: what a laboratory measures, as tables, and with --out as pictures and JSON; without a name: which
// there are.
#include <ostream>

#include "models/cli/program.h"
#include "models/exit_codes.h"
#include "models/lab/labs.h"

namespace sinew::train {
namespace {

// Everything else of a laboratory is fixed.
Status check_settings(const CommandLine& line) {
  std::string other;
  for (const char* name : {"preset", "config"})
    if (line.has(name)) other = detail::concat("--", name, " ", line.value(name));
  for (const Assignment& a : line.settings)
    if (const OptionSpec* spec = find_option(a.key); spec && std::string_view(spec->key) != "train.seed")
      other = a.where.find('=') == a.where.npos ? a.where + " " + a.text : a.where;
  if (other.empty()) return Status::Ok();
  return make_status(StatusCode::invalid_argument, "lab: ", other,
                     " counts for nothing; a laboratory takes --seed N and --out DIR, type sinew lab ", line.words[0]);
}

}  // namespace

int verb_lab(const Invocation& call) {
  const std::vector<std::string>& words = call.line.words;
  if (words.empty()) {
    for (const lab::Lab& l : lab::labs()) {
      std::string name = std::string("  ") + l.name;
      name.resize(22, ' ');
      call.out << name << l.line << "\n";
    }
    call.out << "sinew lab NAME runs one, with --out DIR for its pictures (SVG) and numbers (JSON), --seed N for other "
                "noise\n";
    return kExitOk;
  }
  if (words.size() > 1)
    return report(make_status(StatusCode::invalid_argument, "lab: one at a time; type sinew lab ", words[0]), call.err);
  std::vector<std::string> names;
  const lab::Lab* chosen = nullptr;
  for (const lab::Lab& l : lab::labs()) {
    names.emplace_back(l.name);
    if (words[0] == l.name) chosen = &l;
  }
  if (!chosen)
    return report(make_status(StatusCode::invalid_argument, "lab: there is no '", words[0], "'",
                              did_you_mean(words[0], names, "`sinew lab` lists all")),
                  call.err);
  if (Status status = check_settings(call.line); !status.ok()) return report(status, call.err);
  const Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  const int64_t seed = c->options.train.seed;
  const Result<lab::Report> result = chosen->run(static_cast<uint64_t>(seed));
  if (!result.ok()) return report(result.status(), call.err);
  for (const lab::Table& table : result->tables) call.out << lab::text_of(table) << "\n";
  if (const std::string out = call.line.value("out"); !out.empty()) {
    const Result<std::vector<std::string>> files = lab::write_report(*result, chosen->name, seed, out);
    if (!files.ok()) return report(files.status(), call.err);
    for (const std::string& file : *files) call.out << "wrote " << file << "\n";
  }
  return kExitOk;
}

}  // namespace sinew::train
