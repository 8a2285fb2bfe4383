#include "dist/pmix.h"

#include <cstdlib>

#ifdef SINEW_HAVE_PMIX

#include <dlfcn.h>
#include <pmix.h>

#include <charconv>
#include <cstring>
#include <string>

#include "dist/store_auth.h"
#include "dist/store_wire.h"

namespace sinew::dist {
namespace {

constexpr char kMeetingKey[] = "sinew.meeting";
constexpr int kTimeoutSeconds = 60;

// The library, opened when a launcher asks for it: other runs need none.
struct Library {
  decltype(&PMIx_Init) init = nullptr;
  decltype(&PMIx_Finalize) finalize = nullptr;
  decltype(&PMIx_Get) get = nullptr;
  decltype(&PMIx_Put) put = nullptr;
  decltype(&PMIx_Commit) commit = nullptr;
  decltype(&PMIx_Fence) fence = nullptr;
  decltype(&PMIx_Error_string) error = nullptr;

  Status open() {
    void* library = nullptr;
    for (const char* name : {"libpmix.so.2", SINEW_PMIX_LIBRARY})
      if ((library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL))) break;
    if (!library)
      return make_status(StatusCode::unavailable, "this job was started through PMIx, but its library is not here (",
                         ::dlerror(), "): install libpmix2, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
    bool all = true;
    auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
      all = all && function;
    };
    find("PMIx_Init", init), find("PMIx_Finalize", finalize), find("PMIx_Get", get), find("PMIx_Put", put);
    find("PMIx_Commit", commit), find("PMIx_Fence", fence), find("PMIx_Error_string", error);
    if (!all)
      return make_status(StatusCode::unavailable,
                         "libpmix lacks a function that sinew needs: version 4 is known to work");
    return Status::Ok();
  }
};

class Connection {
 public:
  Status open() {
    SINEW_RETURN_IF_ERROR(library_.open());
    if (pmix_status_t rc = library_.init(&self_, nullptr, 0); rc != PMIX_SUCCESS) return failed("PMIx_Init", rc);
    open_ = true;
    return Status::Ok();
  }
  ~Connection() {
    if (open_) library_.finalize(nullptr, 0);
  }

  Rank rank() const { return static_cast<Rank>(self_.rank); }

  // A number that the launcher tells of the job, or of this rank.
  Result<int> number(const char* key, bool of_job) {
    Result<std::string> text = get(key, of_job ? PMIX_RANK_WILDCARD : self_.rank);
    if (!text.ok()) return text.status();
    return std::atoi(text->c_str());
  }
  Result<std::string> meeting() { return get(kMeetingKey, 0); }

  Status publish(std::string meeting) {
    pmix_value_t value;
    std::memset(&value, 0, sizeof value);
    value.type = PMIX_STRING;
    value.data.string = meeting.data();
    if (pmix_status_t rc = library_.put(PMIX_GLOBAL, kMeetingKey, &value); rc != PMIX_SUCCESS)
      return failed("PMIx_Put", rc);
    if (pmix_status_t rc = library_.commit(); rc != PMIX_SUCCESS) return failed("PMIx_Commit", rc);
    return Status::Ok();
  }
  // Until everybody has published.
  Status fence() {
    pmix_info_t info[2];
    std::memset(info, 0, sizeof info);
    std::strncpy(info[0].key, PMIX_COLLECT_DATA, PMIX_MAX_KEYLEN);
    info[0].value.type = PMIX_BOOL, info[0].value.data.flag = true;
    limit(info[1]);
    const pmix_proc_t all = process(PMIX_RANK_WILDCARD);
    if (pmix_status_t rc = library_.fence(&all, 1, info, 2); rc != PMIX_SUCCESS) return failed("PMIx_Fence", rc);
    return Status::Ok();
  }

 private:
  static void limit(pmix_info_t& info) {
    std::memset(&info, 0, sizeof info);
    std::strncpy(info.key, PMIX_TIMEOUT, PMIX_MAX_KEYLEN);
    info.value.type = PMIX_INT, info.value.data.integer = kTimeoutSeconds;
  }
  pmix_proc_t process(pmix_rank_t rank) const {
    pmix_proc_t p = self_;
    p.rank = rank;
    return p;
  }
  Status failed(const char* what, pmix_status_t rc) const {
    return make_status(StatusCode::unavailable, what, " failed: ", library_.error(rc),
                       "; start sinew with mpirun, with srun --mpi=pmix, or with --workers N on its own");
  }
  Result<std::string> get(const char* key, pmix_rank_t rank) {
    pmix_value_t* value = nullptr;
    const pmix_proc_t whose = process(rank);
    pmix_info_t info;
    limit(info);
    if (pmix_status_t rc = library_.get(&whose, key, &info, 1, &value); rc != PMIX_SUCCESS) return failed(key, rc);
    std::string text;
    switch (value->type) {
      case PMIX_STRING:
        text = value->data.string;
        break;
      case PMIX_UINT16:
        text = std::to_string(value->data.uint16);
        break;
      case PMIX_UINT32:
        text = std::to_string(value->data.uint32);
        break;
      default:
        return make_status(StatusCode::unavailable, "PMIx tells '", key, "' as a value of type ", value->type);
    }
    return text;  // the value is the library's to the end of the process: a few bytes
  }

  Library library_;
  pmix_proc_t self_{};
  bool open_ = false;
};

// "address port secret"
Result<std::string> choose_meeting(bool one_host, int& port) {
  const char* address = std::getenv("MASTER_ADDR");
  if (!address && !one_host)
    return make_status(StatusCode::invalid_argument,
                       "this job is on several hosts: set MASTER_ADDR to an address of rank ",
                       "0's host that the others reach");
  const std::string host = address ? address : "127.0.0.1";
  if (port == 0) {
    // Free now; whoever takes it before the store does makes the start fail with a clear line.
    Result<Socket> probe = listen_on(host, 0);
    if (!probe.ok()) return probe.status();
    port = port_of(*probe);
  }
  const char* secret = std::getenv("SINEW_SECRET");
  return host + " " + std::to_string(port) + " " + (secret && *secret ? secret : to_hex(random_bytes(16)));
}

}  // namespace

Result<std::optional<JobEnvironment>> read_pmix_environment() {
  if (!std::getenv("PMIX_NAMESPACE") || !std::getenv("PMIX_RANK")) return std::optional<JobEnvironment>();
  Connection pmix;
  SINEW_RETURN_IF_ERROR(pmix.open());
  JobEnvironment job;
  job.rank = pmix.rank();
  job.source = "PMIx";
  int local_size = 1;
  for (auto [key, of_job, field] : {std::tuple{PMIX_JOB_SIZE, true, &job.world_size},
                                    {PMIX_LOCAL_SIZE, true, &local_size},
                                    {PMIX_LOCAL_RANK, false, &job.local_rank}}) {
    Result<int> number = pmix.number(key, of_job);
    if (!number.ok()) return number.status();
    *field = *number;
  }
  if (job.world_size == 1) return std::optional<JobEnvironment>();
  Status status;
  if (job.rank == 0) {
    if (const char* port = std::getenv("MASTER_PORT")) {
      const std::string text(port);
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), job.master_port);
      if (error != std::errc() || end != text.data() + text.size() || job.master_port < 0 || job.master_port > 65535)
        status = make_status(StatusCode::invalid_argument, "environment variable MASTER_PORT='", text,
                             "' must be a number from 0 to 65535; 0 takes any free one");
    }
    Result<std::string> meeting = status.ok() ? choose_meeting(local_size == job.world_size, job.master_port) : status;
    // The others wait at the fence: they are told, too.
    const Status published = pmix.publish(meeting.ok() ? *meeting : "-");
    status = meeting.ok() ? published : meeting.status();
  }
  if (Status met = pmix.fence(); status.ok()) status = met;
  SINEW_RETURN_IF_ERROR(status);
  Result<std::string> meeting = pmix.meeting();
  if (!meeting.ok()) return meeting.status();
  const size_t first = meeting->find(' '), second = meeting->find(' ', first + 1);
  if (first == std::string::npos || second == std::string::npos)
    return make_status(StatusCode::unavailable, "rank 0 could not open the job; see its message");
  job.master_addr = meeting->substr(0, first);
  job.master_port = std::atoi(meeting->substr(first + 1, second - first - 1).c_str());
  job.secret = meeting->substr(second + 1);
  return std::optional<JobEnvironment>(std::move(job));
}

}  // namespace sinew::dist

#else

namespace sinew::dist {

Result<std::optional<JobEnvironment>> read_pmix_environment() {
  const char *rank = std::getenv("PMIX_RANK"), *name = std::getenv("PMIX_NAMESPACE");
  // mpirun and srun may start a single process, which needs nobody.
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (!size) size = std::getenv("SLURM_NTASKS");
  if (!rank || !name || !size || std::atoi(size) <= 1) return std::optional<JobEnvironment>();
  return make_status(StatusCode::unavailable,
                     "this build cannot read PMIx: install libpmix-dev and configure again, or set RANK, WORLD_SIZE, "
                     "MASTER_ADDR and MASTER_PORT");
}

}  // namespace sinew::dist

#endif
