// The place of this process in a job, and the store that the job meets in.
#include <poll.h>

#include <charconv>
#include <chrono>
#include <cstdlib>

#include "dist/launch.h"
#include "dist/launch_status.h"
#include "dist/pmix.h"
#include "dist/store_wire.h"

namespace sinew::dist {

namespace {

constexpr auto kLifeSignInterval = std::chrono::milliseconds(500);

const char* variable(const char* name) {
  const char* text = std::getenv(name);
  return text && *text ? text : nullptr;
}

template <class T>
Status read_number(const char* name, T lowest, T highest, T& out) {
  const char* text = variable(name);
  if (!text) return {};
  T value{};
  const std::string all(text);
  auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), value);
  if (error != std::errc() || end != all.data() + all.size() || value < lowest || value > highest)
    return make_status(StatusCode::invalid_argument, "environment variable ", name, "='", all,
                       "' must be a number from ", lowest, " to ", highest);
  out = value;
  return {};
}

}  // namespace

Result<std::optional<JobEnvironment>> read_job_environment() {
  const bool has_rank = variable("RANK"), has_size = variable("WORLD_SIZE");
  if (!has_rank && !has_size) return read_pmix_environment();
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
    if (!variable(name))
      return make_status(StatusCode::invalid_argument, "environment variable ", name, " is missing: a job needs RANK, ",
                         "WORLD_SIZE, MASTER_ADDR and MASTER_PORT (unset RANK and WORLD_SIZE to run on your own)");
  JobEnvironment job;
  SINEW_RETURN_IF_ERROR(read_number("WORLD_SIZE", 1, 1 << 20, job.world_size));
  SINEW_RETURN_IF_ERROR(read_number<Rank>("RANK", 0, job.world_size - 1, job.rank));
  job.local_rank = job.rank;
  SINEW_RETURN_IF_ERROR(read_number("LOCAL_RANK", 0, 1 << 20, job.local_rank));
  SINEW_RETURN_IF_ERROR(read_number("MASTER_PORT", 1, 65535, job.master_port));
  SINEW_RETURN_IF_ERROR(read_number<uint32_t>("SINEW_INCARNATION", 0, UINT32_MAX, job.incarnation));
  SINEW_RETURN_IF_ERROR(read_number<Nanos>("SINEW_AGE", 0, INT64_MAX, job.age));
  SINEW_RETURN_IF_ERROR(read_number<int64_t>("SINEW_START_STEP", 0, INT64_MAX, job.start_step));
  SINEW_RETURN_IF_ERROR(read_number("SINEW_STATUS_FD", 0, 1 << 20, job.status_fd));
  job.supervised = job.status_fd >= 0;
  job.master_addr = variable("MASTER_ADDR");
  if (const char* secret = variable("SINEW_SECRET")) job.secret = secret;
  job.source = job.supervised ? "sinew launcher" : "torchrun variables";
  return std::optional<JobEnvironment>(std::move(job));
}

Result<JobStore> open_job_store(const JobEnvironment& job, Nanos timeout) {
  JobStore opened;
  if (job.secret.empty()) {
    if (!is_loopback(job.master_addr))
      return make_status(StatusCode::invalid_argument, "MASTER_ADDR=", job.master_addr,
                         " is not this host's loopback, and there is no secret: set SINEW_SECRET, the same in all "
                         "processes, or anybody could join the job");
    opened.warning = "SINEW_SECRET is not set: any process on this host may join the job";
  }
  if (!job.supervised && job.rank == 0) {
    auto server = serve_store(job.master_addr, job.master_port, job.secret);
    if (!server.ok()) return server.status();
    opened.server = std::move(*server);
  }
  auto store = connect_store(job.master_addr, job.master_port, job.secret, timeout);
  if (!store.ok()) return store.status();
  opened.store = std::move(*store);
  return opened;
}

LifeSigns::LifeSigns(const JobEnvironment& job) {
  if (job.status_fd < 0) return;
  const StatusRecord sign{.rank = job.rank, .incarnation = job.incarnation};
  thread_ = std::thread([this, sign, fd = job.status_fd] {
    std::unique_lock lock(mutex_);
    do send_status(fd, sign);
    while (!wake_.wait_for(lock, kLifeSignInterval, [this] { return ending_; }));
  });
}

LifeSigns::~LifeSigns() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool supervisor_lives(const JobEnvironment& job) {
  if (job.status_fd < 0) return false;
  pollfd end{job.status_fd, 0, 0};  // a closed other end is told unasked
  return ::poll(&end, 1, 0) == 0;
}

}  // namespace sinew::dist
