// Starting and supervising the local processes of a job.
//
// supervise() forks and execs one process per rank with these variables, watches them, restarts dead ones and
// returns when all have ended. It hosts the rendezvous store and holds no other state: when it dies, the
// processes finish without restarts.
//   RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT   as any torchrun job has them
//   SINEW_SECRET SINEW_INCARNATION SINEW_AGE SINEW_START_STEP SINEW_STATUS_FD; and, unless set, OMP_NUM_THREADS =
//   max(1, cores / processes), OMP_WAIT_POLICY=passive
//
// A process that ends with code 0, or in any way after World::leave(), has finished. Any other end is a death: the rank
// is started again with the next incarnation and its last reported step, up to max_restarts times; then it is lost, and
// the store says so under "gone/<rank>" (also for finished ones). SIGINT, SIGTERM or SIGHUP to the supervisor stops the
// job: SIGTERM to all, SIGKILL after `grace`; a second SIGINT kills at once. Each process is a process group of its
// own, so that a terminal's Ctrl-C reaches only the supervisor.
//
// A process that is stopped or hangs is not dead. With `silence` set, one that gives no sign of life for so long is
// killed, which makes it a death like others. Life signs come from a thread of their own (LifeSigns), so a process
// that is only slow is left alone. A supervisor that was itself stopped does not judge others by that time.
//
// Thread safety: one supervise() at a time (it handles SIGINT, SIGTERM and SIGHUP while it runs).
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/status.h"
#include "dist/store.h"
#include "dist/world.h"

namespace sinew::dist {

// The place of this process in a job, from the environment: the variables above, else PMIx (dist/pmix.h).
struct JobEnvironment {
  Rank rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  std::string secret;
  uint32_t incarnation = 0;
  Nanos age = 0;  // of a restarted rank: since its first process was started
  int64_t start_step = 0;
  int status_fd = -1;
  bool supervised = false;  // started by supervise()
  std::string source;       // "sinew launcher", "torchrun variables", "PMIx": said in the log
};
// nullopt: no job variables, this process is on its own. Errors: invalid_argument naming the variable; those of
// read_pmix_environment().
Result<std::optional<JobEnvironment>> read_job_environment();

// Where the job meets. Under supervise() the supervisor hosts the store; under another launcher rank 0 does, on
// MASTER_PORT (keep `server` until the job is over), and the secret is what SINEW_SECRET says in all processes.
// Errors: those of serve_store and connect_store; invalid_argument for a MASTER_ADDR that is not loopback without a
// secret.
struct JobStore {
  std::unique_ptr<StoreServer> server;  // rank 0 under another launcher; else null
  std::shared_ptr<Store> store;
  std::string warning;  // one line to log, or empty
};
Result<JobStore> open_job_store(const JobEnvironment& job, Nanos timeout = 30 * kSecond);

// Tells the supervisor twice a second that this process lives, from a thread of its own. Does nothing without one.
class LifeSigns {
 public:
  explicit LifeSigns(const JobEnvironment& job);
  ~LifeSigns();
  LifeSigns(const LifeSigns&) = delete;
  LifeSigns& operator=(const LifeSigns&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  std::thread thread_;
};

// False when this process has no supervisor, or none any more.
bool supervisor_lives(const JobEnvironment& job);

struct ProcessStatus {
  Rank rank = 0;
  int pid = 0;
  std::string state;  // starting running finished restarting lost failed cancelled
  int64_t step = 0;
  uint32_t restarts = 0;
  int exit_code = 0;  // 128 + signal when killed
};

struct LaunchOptions {
  std::vector<std::string> argv;  // argv[0]: the program
  int processes = 1;
  int max_restarts = 3;         // per rank
  std::vector<Rank> essential;  // ranks whose death ends the job (admm's center)
  std::vector<Rank> servers;    // ranks that only serve others: when nobody else finishes, nobody has (the center)
  bool restartable = true;      // false: synchronous schemes that cannot take a worker back
  std::vector<int> fatal_exit_codes;  // a death with these ends the job (bad usage, bad data, non-finite loss)
  std::string master_addr = "127.0.0.1";
  int master_port = 0;                        // 0: any free port
  Nanos grace = 10 * kSecond;                 // between SIGTERM and SIGKILL when stopping
  Nanos silence = 0;                          // without a sign of life, until a process is killed; 0: never
  std::function<std::string(Rank)> log_path;  // stdout and stderr of each rank; empty: inherited
  std::function<std::vector<std::string>(Rank)> environment;  // more variables of each rank, as NAME=value; or empty
  std::function<void(const std::vector<ProcessStatus>&)> on_change;
  std::function<void(const std::string&)> on_death;  // one line: who died how, and what follows
};

struct LaunchReport {
  std::vector<ProcessStatus> processes;
  int restarts = 0;
  std::vector<Rank> lost;  // died and were not restarted
  // 0 when the job may count as done: no essential rank and no fatal exit code, not stopped, and at least one process
  // finished. 128 + signal when stopped. Else the exit code of `failed`: the essential rank, the first fatal one, or,
  // when nobody finished, the first that ended with a code of its own, not by a signal.
  int exit_code = 0;
  Rank failed = kAnyRank;
  int stopped_by = 0;   // the signal that asked the supervisor to stop
  std::string failure;  // one line about it, or empty
};
Result<LaunchReport> supervise(const LaunchOptions& options);

}  // namespace sinew::dist
