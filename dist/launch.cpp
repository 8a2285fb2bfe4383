// supervise(): a loop over poll() that starts, watches and restarts child processes.
#include "dist/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "dist/launch_status.h"
#include "dist/store_wire.h"

namespace sinew::dist {

namespace {

using Time = std::chrono::steady_clock::time_point;
constexpr auto kStepInterval = std::chrono::milliseconds(500);       // between on_change calls for steps alone
constexpr auto kFirstRestartDelay = std::chrono::milliseconds(100);  // doubles each time
constexpr auto kLongestRestartDelay = std::chrono::seconds(5);
constexpr int kLongestPoll = 500;                   // milliseconds
constexpr auto kStarved = std::chrono::seconds(2);  // the supervisor itself did not run

// Written by the signal handler, read by the loop.
std::atomic<int> signal_pipe{-1};
void on_signal(int number) {
  const int saved = errno;
  const char byte = static_cast<char>(number);
  (void)!::write(signal_pipe.load(), &byte, 1);
  errno = saved;
}

// SIGINT, SIGTERM and SIGHUP arrive as bytes in a pipe while this lives.
class SignalPipe {
 public:
  SignalPipe() {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
    reader_ = Socket(ends[0]);
    writer_ = Socket(ends[1]);
    signal_pipe = ends[1];
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, &old_interrupt_);
    ::sigaction(SIGTERM, &action, &old_terminate_);
    ::sigaction(SIGHUP, nullptr, &old_hangup_);
    if (old_hangup_.sa_handler != SIG_IGN) ::sigaction(SIGHUP, &action, nullptr);  // nohup stays nohup
  }
  ~SignalPipe() {
    if (!reader_) return;
    ::sigaction(SIGINT, &old_interrupt_, nullptr);
    ::sigaction(SIGTERM, &old_terminate_, nullptr);
    ::sigaction(SIGHUP, &old_hangup_, nullptr);
    signal_pipe = -1;
  }
  int fd() const { return reader_.fd(); }
  // The next signal, or 0.
  int take() const {
    char byte = 0;
    return ::read(reader_.fd(), &byte, 1) == 1 ? byte : 0;
  }

 private:
  Socket reader_, writer_;
  struct sigaction old_interrupt_ {
  }, old_terminate_{}, old_hangup_{};
};

struct Child {
  ProcessStatus status;
  bool running = false;
  bool done = false;  // it said so
  Socket exit_fd;     // readable when the process has ended
  Socket status_fd;   // its reports
  Time restart_at = Time::max();
  Time first_start{};  // of its first process
  Time last_sign{};    // of life
  bool silenced = false;
};

class Supervisor {
 public:
  explicit Supervisor(const LaunchOptions& options) : options_(options) {}
  Result<LaunchReport> run();

 private:
  Status open_store();
  Status start(Child& child);
  Status start_all();
  void loop();
  void on_stop_signal(int number);
  void fail(const Child& child, const std::string& why);
  void end_job();
  void signal_all(int number);
  void read_steps(Child& child);
  void judge_silence(Time now);
  void reap(Child& child);
  void died(Child& child);
  void finished(Child& child);
  void tell_gone(const Child& child);
  void set_state(Child& child, const char* state);
  void report_changes();
  bool active() const;
  bool contains(const std::vector<int>& list, int value) const {
    return std::find(list.begin(), list.end(), value) != list.end();
  }

  const LaunchOptions& options_;
  std::string secret_;
  std::unique_ptr<StoreServer> server_;
  std::shared_ptr<Store> store_;
  SignalPipe signals_;
  std::vector<Child> children_;
  LaunchReport report_;
  bool ending_ = false, killed_ = false;
  Time kill_at_ = Time::max();
  Time last_look_{};  // at the children
  bool state_changed_ = false, step_changed_ = false;
  Time last_report_{};
};

Result<LaunchReport> Supervisor::run() {
  SINEW_RETURN_IF_ERROR(open_store());
  children_.resize(static_cast<size_t>(options_.processes));
  for (size_t rank = 0; rank < children_.size(); ++rank) {
    children_[rank].status.rank = static_cast<Rank>(rank);
    children_[rank].status.state = "starting";
  }
  if (Status status = start_all(); !status.ok()) {
    end_job();
    signal_all(SIGKILL);
    loop();
    return status;
  }
  loop();
  bool any_finished = false;
  for (const Child& child : children_) {
    report_.processes.push_back(child.status);
    // A center that served nobody to the end has no result.
    const bool counts = !contains(options_.servers, child.status.rank);
    any_finished |= counts && child.status.state == "finished";
    if (child.status.state == "lost") report_.lost.push_back(child.status.rank);
  }
  if (report_.exit_code == 0 && !any_finished) {
    // A process that says why it ended tells more than one that was killed.
    auto told = std::find_if(children_.begin(), children_.end(), [](const Child& child) {
      return child.status.exit_code > 0 && child.status.exit_code < 128;
    });
    fail(told == children_.end() ? children_.front() : *told, "no process finished");
  }
  return report_;
}

Status Supervisor::open_store() {
  if (const char* secret = std::getenv("SINEW_SECRET"); secret && *secret)
    secret_ = secret;
  else
    secret_ = to_hex(random_bytes(16));
  auto server = serve_store(options_.master_addr, options_.master_port, secret_);
  if (!server.ok()) return server.status();
  server_ = std::move(*server);
  auto store = connect_store(options_.master_addr, server_->port(), secret_, 5 * kSecond);
  if (!store.ok()) return store.status();
  store_ = std::move(*store);
  return {};
}

Status Supervisor::start_all() {
  for (Child& child : children_) SINEW_RETURN_IF_ERROR(start(child));
  return {};
}

// What the parent prepares for exec: between fork and exec only system calls are allowed.
struct Exec {
  std::vector<std::string> environment;
  std::vector<char*> arguments, variables;
};

Exec prepare(const std::vector<std::string>& argv, const std::vector<std::string>& additions) {
  Exec exec;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    const bool replaced = std::any_of(additions.begin(), additions.end(),
                                      [&](const std::string& added) { return added.rfind(name, 0) == 0; });
    if (!replaced) exec.environment.push_back(text);
  }
  exec.environment.insert(exec.environment.end(), additions.begin(), additions.end());
  for (const std::string& argument : argv) exec.arguments.push_back(const_cast<char*>(argument.c_str()));
  exec.arguments.push_back(nullptr);
  for (std::string& entry : exec.environment) exec.variables.push_back(entry.data());
  exec.variables.push_back(nullptr);
  return exec;
}

// The processes share this machine's cores: a team of all cores each, waiting in spin loops, would stand in its own
// way.
void add_thread_defaults(int processes, std::vector<std::string>& additions) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (!std::getenv("OMP_NUM_THREADS"))
    additions.push_back("OMP_NUM_THREADS=" + std::to_string(std::max(1, cores / processes)));
  if (!std::getenv("OMP_WAIT_POLICY")) additions.push_back("OMP_WAIT_POLICY=passive");
}

Status Supervisor::start(Child& child) {
  const ProcessStatus& status = child.status;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return make_status(StatusCode::io_error, "cannot make a socket pair: ", std::strerror(errno));
  Socket ours(ends[0]), theirs(ends[1]);
  Socket failure_reader, failure_writer;  // closes by exec, or brings the error number
  int failure[2];
  if (::pipe2(failure, O_CLOEXEC) != 0)
    return make_status(StatusCode::io_error, "cannot make a pipe: ", std::strerror(errno));
  failure_reader = Socket(failure[0]);
  failure_writer = Socket(failure[1]);

  Socket log;
  if (options_.log_path) {
    const std::string path = options_.log_path(status.rank);
    log = Socket(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log) return make_status(StatusCode::io_error, "cannot write the log ", path, ": ", std::strerror(errno));
  }
  Socket null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (status.restarts == 0) child.first_start = std::chrono::steady_clock::now();
  const Nanos age = (std::chrono::steady_clock::now() - child.first_start).count();
  std::vector<std::string> additions = {"RANK=" + std::to_string(status.rank),
                                        "WORLD_SIZE=" + std::to_string(options_.processes),
                                        "LOCAL_RANK=" + std::to_string(status.rank),
                                        "MASTER_ADDR=" + options_.master_addr,
                                        "MASTER_PORT=" + std::to_string(server_->port()),
                                        "SINEW_SECRET=" + secret_,
                                        "SINEW_INCARNATION=" + std::to_string(status.restarts),
                                        "SINEW_AGE=" + std::to_string(age),
                                        "SINEW_START_STEP=" + std::to_string(status.step),
                                        "SINEW_STATUS_FD=" + std::to_string(theirs.fd())};
  add_thread_defaults(options_.processes, additions);
  if (options_.environment)
    for (std::string& variable : options_.environment(status.rank)) additions.push_back(std::move(variable));
  const Exec exec = prepare(options_.argv, additions);

  const pid_t pid = ::fork();
  if (pid < 0) return make_status(StatusCode::io_error, "cannot start a process: ", std::strerror(errno));
  if (pid == 0) {
    ::setpgid(0, 0);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (null) ::dup2(null.fd(), 0);
    if (log) {
      ::dup2(log.fd(), 1);
      ::dup2(log.fd(), 2);
    }
    ::fcntl(theirs.fd(), F_SETFD, 0);
    ::execvpe(exec.arguments[0], exec.arguments.data(), exec.variables.data());
    const int error = errno;
    (void)!::write(failure_writer.fd(), &error, sizeof error);
    ::_exit(127);
  }
  failure_writer = Socket();
  int error = 0;
  if (::read(failure_reader.fd(), &error, sizeof error) == sizeof error) {
    ::waitpid(pid, nullptr, 0);
    return make_status(StatusCode::io_error, "cannot run ", options_.argv[0], ": ", std::strerror(error));
  }
  child.exit_fd = Socket(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  child.status_fd = std::move(ours);
  child.running = true;
  child.silenced = false;
  child.last_sign = std::chrono::steady_clock::now();
  child.restart_at = Time::max();
  child.status.pid = pid;
  set_state(child, "running");
  return {};
}

bool Supervisor::active() const {
  return std::any_of(children_.begin(), children_.end(),
                     [](const Child& child) { return child.running || child.restart_at != Time::max(); });
}

void Supervisor::loop() {
  std::vector<pollfd> polled;
  while (active()) {
    report_changes();
    polled.assign({{signals_.fd(), POLLIN, 0}});
    auto next = kill_at_;
    for (const Child& child : children_) {
      next = std::min(next, child.restart_at);
      if (!child.running) continue;
      polled.push_back({child.exit_fd.fd(), POLLIN, 0});
      polled.push_back({child.status_fd.fd(), POLLIN, 0});
    }
    // Bounded, so that a machine without pidfds is merely slower to notice.
    auto left = std::chrono::ceil<std::chrono::milliseconds>(next - std::chrono::steady_clock::now()).count();
    ::poll(polled.data(), polled.size(),
           next == Time::max() ? kLongestPoll : static_cast<int>(std::clamp<int64_t>(left, 0, kLongestPoll)));

    while (int number = signals_.take()) on_stop_signal(number);
    const auto now = std::chrono::steady_clock::now();
    if (now >= kill_at_) {
      kill_at_ = Time::max();
      signal_all(SIGKILL);
    }
    for (Child& child : children_) {
      if (child.running) {
        read_steps(child);
        reap(child);
      } else if (now >= child.restart_at) {
        if (Status status = start(child); !status.ok()) {
          child.restart_at = Time::max();
          set_state(child, "lost");
          tell_gone(child);
        }
      }
    }
    judge_silence(now);
  }
  state_changed_ = true;
  report_changes();
}

void Supervisor::judge_silence(Time now) {
  const bool starved = now - last_look_ > kStarved;
  last_look_ = now;
  if (options_.silence <= 0) return;
  for (Child& child : children_) {
    if (starved) child.last_sign = now;
    if (!child.running || child.silenced || now - child.last_sign < std::chrono::nanoseconds(options_.silence))
      continue;
    child.silenced = true;
    ::kill(child.status.pid, SIGKILL);
  }
}

void Supervisor::read_steps(Child& child) {
  StatusRecord record;
  for (;;) {
    const ssize_t n = ::recv(child.status_fd.fd(), &record, sizeof record, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (n == 0) child.status_fd = Socket();  // the process closed its end
      return;
    }
    if (n != sizeof record || record.magic != StatusRecord::kMagic || record.rank != child.status.rank) continue;
    child.last_sign = std::chrono::steady_clock::now();
    step_changed_ |= record.step > child.status.step || record.done == 1;
    child.status.step = std::max(child.status.step, record.step);
    child.done |= record.done == 1;
  }
}

// Always: a zombie would look alive to the others.
void Supervisor::reap(Child& child) {
  int status = 0;
  if (::waitpid(child.status.pid, &status, WNOHANG) != child.status.pid) return;
  read_steps(child);
  child.running = false;
  child.exit_fd = Socket();
  child.status_fd = Socket();
  child.status.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  child.status.exit_code == 0 || child.done ? finished(child) : died(child);
}

void Supervisor::finished(Child& child) {
  set_state(child, "finished");
  tell_gone(child);
}

void Supervisor::died(Child& child) {
  const int code = child.status.exit_code;
  std::string what =
      detail::concat("rank ", child.status.rank, code > 128 ? " was killed by signal " : " ended with code ",
                     code > 128 ? code - 128 : code, " at step ", child.status.step);
  if (child.silenced)
    what = detail::concat("rank ", child.status.rank, " gave no sign of life for ",
                          static_cast<double>(options_.silence) / kSecond, " s at step ", child.status.step,
                          " and was killed");
  if (ending_) {
    set_state(child, report_.stopped_by ? "cancelled" : "failed");
    return;
  }
  const bool ends_job = contains(options_.essential, child.status.rank) || contains(options_.fatal_exit_codes, code);
  const bool restarts =
      !ends_job && options_.restartable && static_cast<int>(child.status.restarts) < options_.max_restarts;
  // What ends the job is said once, by its result.
  const bool first = report_.lost.empty();
  if (options_.on_death && !ends_job && (options_.restartable || first))
    options_.on_death(what + (restarts               ? "; it is started again"
                              : options_.restartable ? "; the others go on without it"
                                                     : "; the others go on without it if they are the majority"));
  if (contains(options_.essential, child.status.rank)) {
    set_state(child, "failed");
    tell_gone(child);
    fail(child, what + "; the job cannot go on without it");
    return end_job();
  }
  if (contains(options_.fatal_exit_codes, code)) {
    set_state(child, "failed");
    tell_gone(child);
    fail(child, what);
    return end_job();
  }
  if (!restarts) {
    set_state(child, "lost");
    tell_gone(child);
    return;
  }
  auto delay = kFirstRestartDelay * (int64_t{1} << std::min<uint32_t>(child.status.restarts, 10));
  child.restart_at = std::chrono::steady_clock::now() + std::min<std::chrono::nanoseconds>(delay, kLongestRestartDelay);
  ++child.status.restarts;
  ++report_.restarts;
  set_state(child, "restarting");
}

void Supervisor::tell_gone(const Child& child) {
  // The store lives in this process: it answers, or the job is over anyway.
  (void)store_->set("gone/" + std::to_string(child.status.rank), child.status.state).ok();
}

void Supervisor::on_stop_signal(int number) {
  if (ending_) {
    if (number == SIGINT) signal_all(SIGKILL);
    return;
  }
  report_.stopped_by = number;
  report_.exit_code = 128 + number;
  report_.failure = number == SIGINT ? "interrupted" : "terminated";
  end_job();
}

void Supervisor::fail(const Child& child, const std::string& why) {
  report_.exit_code = child.status.exit_code ? child.status.exit_code : 1;
  report_.failed = child.status.rank;
  report_.failure = why;
}

void Supervisor::end_job() {
  ending_ = true;
  for (Child& child : children_) {
    if (child.restart_at == Time::max()) continue;
    child.restart_at = Time::max();
    set_state(child, report_.stopped_by ? "cancelled" : "failed");
  }
  signal_all(SIGTERM);
  kill_at_ = std::chrono::steady_clock::now() + std::chrono::nanoseconds(options_.grace);
}

void Supervisor::signal_all(int number) {
  for (const Child& child : children_) {
    if (!child.running) continue;
    ::kill(child.status.pid, number);
    if (number == SIGTERM) ::kill(child.status.pid, SIGCONT);  // a stopped process must hear it too
  }
}

void Supervisor::set_state(Child& child, const char* state) {
  child.status.state = state;
  state_changed_ = true;
}

void Supervisor::report_changes() {
  const auto now = std::chrono::steady_clock::now();
  if (!options_.on_change || !(state_changed_ || (step_changed_ && now - last_report_ >= kStepInterval))) return;
  state_changed_ = step_changed_ = false;
  last_report_ = now;
  std::vector<ProcessStatus> statuses;
  for (const Child& child : children_) statuses.push_back(child.status);
  options_.on_change(statuses);
}

}  // namespace

Result<LaunchReport> supervise(const LaunchOptions& options) {
  if (options.argv.empty()) return make_status(StatusCode::invalid_argument, "no program to start");
  if (options.processes < 1)
    return make_status(StatusCode::invalid_argument, "cannot start ", options.processes, " processes; at least 1");
  return Supervisor(options).run();
}

}  // namespace sinew::dist
