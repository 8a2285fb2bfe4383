#include <filesystem>
#include <ostream>

#include "models/cli/program.h"
#include "models/component_options.h"
#include "models/exit_codes.h"
#include "models/given_options.h"

namespace sinew::train {
namespace {

using Job = std::optional<dist::JobEnvironment>;

bool has_center(const Options& options) { return dist::needs_center(scheme_options(options, 0)); }

// A job that others started (torchrun, mpirun): the number of workers follows from the number of processes.
Result<Configuration> configure_for(const Invocation& call, const Job& job) {
  if (call.line.verb == "sim") return configure(call, {{"run.world", "sim", "sinew sim"}});
  Result<Configuration> c = configure(call, {});
  if (!c.ok() || !job || c->options.run.world == "sim") return c;
  int world = job->world_size;
  if (!c->given("run.workers")) {
    // Two rounds, since the scheme's default depends on the number of workers, and they on the scheme's center.
    for (int round = 0; round < 2 && c.ok(); ++round) {
      dist::SchemeOptions scheme = scheme_options(c->options, 0);
      for (scheme.workers = world; scheme.workers > 1 && dist::node_count(scheme) > world;) --scheme.workers;
      c = configure(call, {{"run.workers", std::to_string(scheme.workers), job->source}});
    }
    if (!c.ok()) return c;
  }
  int needed = dist::node_count(scheme_options(c->options, 0));
  const int64_t others = needed - c->options.run.workers;
  const char* their_work = c->options.scheme.name == "easgd_tree" ? " are inner nodes of the tree" : " hold the center";
  if (needed != world)
    return make_status(StatusCode::invalid_argument, job->source, ": the job has ", world, " processes, but scheme ",
                       c->options.scheme.name, " with ", c->options.run.workers, " workers needs ", needed,
                       others == 0   ? ""
                       : others == 1 ? " (one holds the center)"
                                     : " (" + std::to_string(others) + their_work + ")",
                       "; start ", needed, " processes or change --workers");
  return c;
}

Result<RunFolder> make_folder(const Invocation& call, Configuration& c, const Job& job) {
  const std::string& dir = c.options.run.dir;
  if (!job) return RunFolder::create(c, call.command);
  if (dir.empty())
    return make_status(StatusCode::invalid_argument,
                       "--out: the processes of a job need one run folder; type --out DIR, the same for all");
  bool prepares = !call.line.has("supervised") && job->rank == 0 && job->incarnation == 0;
  return prepares ? RunFolder::create(c, call.command) : RunFolder::join(dir);
}

std::string headline(const Options& o, const RunFolder& folder) {
  std::error_code error;
  std::filesystem::path shown = std::filesystem::proximate(folder.dir(), error);
  return o.scheme.name + ", " + std::to_string(o.run.workers) + (o.run.workers == 1 ? " worker, " : " workers, ") +
         o.model.name + " on " + o.data.name + (o.run.world == "sim" ? ", in virtual time" : "") + "\nrun folder " +
         (error ? folder.dir() : shown.string()) + "\n";
}

Result<std::optional<RunSummary>> start(const Invocation& call, const Options& options, RunFolder& folder,
                                        const Job& job) {
  auto whole = [](Result<RunSummary> result) -> Result<std::optional<RunSummary>> {
    if (!result.ok()) return result.status();
    return std::optional<RunSummary>(std::move(*result));
  };
  if (options.run.world == "sim") return whole(call.runners.simulation(options, folder));
  if (job) return call.runners.node(options, folder, *job);
  if (options.run.workers == 1 && !has_center(options)) return call.runners.node(options, folder, {});
  return whole(call.runners.local_job(
      options, folder,
      {call.executable, "train", "--supervised", "--config", folder.config(), "--run.dir", folder.dir()}));
}

}  // namespace

int verb_train(const Invocation& call) {
  Result<Job> read = call.line.verb == "sim" ? Result<Job>(Job()) : dist::read_job_environment();
  if (!read.ok()) return report(read.status(), call.err);
  Result<Configuration> c = configure_for(call, *read);
  if (!c.ok()) return report(c.status(), call.err);
  const Options& options = c->options;
  if (call.line.verb == "sim" && options.run.world != "sim")
    return report(make_status(StatusCode::invalid_argument, c->origins.at("run.world").detail,
                              ": sinew sim is always in virtual time; for real processes type sinew train"),
                  call.err);
  if (Status status = use_device(call, options); !status.ok()) return report(status, call.err);
  if (Status status = check_components(options); !status.ok()) return report(status, call.err);
  if (Status status = check_given(*c); !status.ok()) return report(status, call.err);
  Job job = options.run.world == "sim" ? Job() : *read;
  bool center = has_center(options);
  Result<RunFolder> folder = make_folder(call, *c, job);
  if (!folder.ok()) return report(folder.status(), call.err);

  if (const std::string warning = dist::warning_about(scheme_options(options, 0));
      !warning.empty() && (!job || job->rank == 0) && !call.line.has("supervised"))
    call.err << "sinew: warning: " << warning << "\n";
  if (!job || job->rank == 0)
    folder->on_begin([&call, text = headline(options, *folder)] { call.out << text << std::flush; });
  Result<std::optional<RunSummary>> summary = start(call, options, *folder, job);
  if (!summary.ok()) {
    if (!job) folder->remove_if_unused();
    return report(summary.status(), call.err, center);
  }
  if (!summary->has_value()) return kExitOk;
  if (int signal = (*summary)->stopped_by) return report_stopped(signal, folder->dir(), call.err);
  if (Status status = write_file(folder->summary(), summary_json(**summary)); !status.ok())
    return report(status, call.err);
  call.out << describe(**summary) << std::flush;
  return kExitOk;
}

}  // namespace sinew::train
