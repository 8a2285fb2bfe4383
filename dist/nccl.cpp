#include "dist/nccl.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "core/kernel_api.h"

namespace sinew::dist {
namespace {

// ---- of NCCL's interface; the same in all versions from 2.14 on ----

enum NcclResult : int {
  kSuccess = 0,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,  // another member failed, ended or aborted
  kInProgress = 7,
};
enum NcclType : int { kUint8 = 1, kFloat32 = 7, kFloat64 = 8 };
enum NcclReduction : int { kSum = 0, kAverage = 4 };

struct NcclId {  // passed by value
  char bytes[128];
};
static_assert(sizeof(NcclId) == sizeof(NcclGroup::Id));

// As of 2.14. Newer versions read as many fields as `size` and `version` say and have defaults for the rest.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = INT_MIN;      // INT_MIN: the default
  int more_of_2_17 = INT_MIN;  // padding before
};
static_assert(sizeof(NcclConfig) == 24);

constexpr int kOldest = 21400;

struct Library {
  int (*version)(int* version) = nullptr;
  int (*unique_id)(NcclId* id) = nullptr;
  int (*init)(void** communicator, int size, NcclId id, int rank, NcclConfig* config) = nullptr;
  int (*async_error)(void* communicator, int* state) = nullptr;
  int (*all_reduce)(const void* from, void* to, size_t count, int type, int reduction, void* communicator,
                    void* stream) = nullptr;
  int (*broadcast)(const void* from, void* to, size_t count, int type, int root, void* communicator,
                   void* stream) = nullptr;
  int (*all_gather)(const void* from, void* to, size_t count, int type, void* communicator, void* stream) = nullptr;
  int (*finalize)(void* communicator) = nullptr;
  int (*destroy)(void* communicator) = nullptr;
  int (*abort)(void* communicator) = nullptr;
  const char* (*error_string)(int result) = nullptr;

  Status open() {
    const char* named = std::getenv("SINEW_NCCL");
    const std::string file = named && *named ? named : "libnccl.so.2";
    // It would override what makes NCCL's calls return before they are done.
    if (const char* blocking = std::getenv("NCCL_COMM_BLOCKING"); blocking && std::string(blocking) != "0")
      return make_status(StatusCode::unavailable, "NCCL_COMM_BLOCKING = ", blocking,
                         " leaves NCCL's calls without a deadline: unset it, or use --run.communicator ring");
    void* const library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return make_status(StatusCode::unavailable, "NCCL cannot be opened (", ::dlerror(),
                         "): install libnccl2, name its file in SINEW_NCCL, or use --run.communicator ring");
    std::string missing;
    auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
      if (!function && missing.empty()) missing = name;
    };
    find("ncclGetVersion", version), find("ncclGetUniqueId", unique_id), find("ncclCommInitRankConfig", init);
    find("ncclCommGetAsyncError", async_error), find("ncclAllReduce", all_reduce), find("ncclBroadcast", broadcast);
    find("ncclAllGather", all_gather), find("ncclCommFinalize", finalize), find("ncclCommDestroy", destroy);
    find("ncclCommAbort", abort), find("ncclGetErrorString", error_string);
    int is = 0;
    if (version && version(&is) == kSuccess && is < kOldest)
      return make_status(StatusCode::unavailable, file, " is NCCL's version code ", is, ", but ", kOldest,
                         " (2.14) or newer is needed; or use --run.communicator ring");
    if (!missing.empty())
      return make_status(StatusCode::unavailable, file, " has no function ", missing,
                         ": NCCL 2.14 or newer is needed; or use --run.communicator ring");
    return Status::Ok();
  }
};

struct Opened {
  Library library;
  Status status;
};
const Opened& opened() {
  static const Opened instance = [] {
    Opened o;
    o.status = o.library.open();
    return o;
  }();
  return instance;
}
const Library& nccl() { return opened().library; }

Status failed(const char* name, int result) {
  return make_status(StatusCode::unavailable, name, ": ", nccl().error_string(result),
                     "; NCCL_DEBUG=WARN says more, --run.communicator ring does without NCCL");
}

// ---- waiting ----

using Clock = std::chrono::steady_clock;
constexpr auto kGoodbye = std::chrono::seconds(1);

Clock::time_point after(Nanos duration) {
  return Clock::now() + std::chrono::nanoseconds(std::min(duration, 3600 * kSecond));
}

// Between two questions: at once for a quarter of a millisecond or so, then without taking a core.
class Pause {
 public:
  void operator()() {
    if (++turns_ < kAtOnce)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

 private:
  static constexpr int kAtOnce = 256;
  int turns_ = 0;
};

// A call that may block has a thread to itself, which goes on when nobody waits for it any more.
std::future<void> detached(int (*call)(void*), void* communicator) {
  std::packaged_task<void()> task([call, communicator] { (void)call(communicator); });
  std::future<void> done = task.get_future();
  std::thread(std::move(task)).detach();
  return done;
}

}  // namespace

Status nccl_available() { return opened().status; }

Result<NcclGroup::Id> NcclGroup::make_id() {
  SINEW_RETURN_IF_ERROR(nccl_available());
  NcclId made;
  if (const int result = nccl().unique_id(&made); result != kSuccess) return failed("ncclGetUniqueId", result);
  Id id;
  std::memcpy(id.data(), &made, sizeof made);
  return id;
}

Result<std::unique_ptr<NcclGroup>> NcclGroup::make(const Id& id, int size, int index, Device device, Nanos deadline,
                                                   const Look& look) {
  SINEW_RETURN_IF_ERROR(nccl_available());
  SINEW_CHECK(kernels(device).stream && kernels(device).finished, "nccl", "device ", to_string(device),
              " has no stream");
  std::unique_ptr<NcclGroup> group(new NcclGroup(size, index, device, deadline));
  NcclId name;
  std::memcpy(&name, id.data(), sizeof name);
  NcclConfig config;
  config.blocking = 0;
  const int result = nccl().init(&group->communicator_, size, name, index, &config);
  SINEW_RETURN_IF_ERROR(group->wait("ncclCommInitRankConfig", result, false, look));
  return group;
}

NcclGroup::~NcclGroup() {
  if (!communicator_) return;
  int state = nccl().finalize(communicator_);
  const auto end = Clock::now() + kGoodbye;
  for (Pause pause; state == kInProgress && Clock::now() < end; pause())
    if (const int result = nccl().async_error(communicator_, &state); result != kSuccess) state = result;
  if (state == kSuccess) {
    detached(nccl().destroy, communicator_).wait_until(end);
    return;
  }
  try {
    (void)abort().ok();
  } catch (const Error&) {  // the device has failed, which somebody else will find, too
  }
}

// The deadline is the collective's, not that of what this worker has the device do before.
void* NcclGroup::ready_stream() const {
  kernels(device_).synchronize();
  return kernels(device_).stream();
}

Status NcclGroup::all_reduce(VecView x, bool average, const Look& look) {
  SINEW_CHECK(is_float(x.dtype), "all_reduce", "needs f32 or f64, got ", to_string(x.dtype));
  if (!communicator_) return aborted(Status::Ok());
  const int result =
      nccl().all_reduce(x.data, x.data, static_cast<size_t>(x.size), x.dtype == DType::f32 ? kFloat32 : kFloat64,
                        average ? kAverage : kSum, communicator_, ready_stream());
  return wait("ncclAllReduce", result, true, look);
}

Status NcclGroup::broadcast(VecView x, int root, const Look& look) {
  if (!communicator_) return aborted(Status::Ok());
  const int result = nccl().broadcast(x.data, x.data, x.bytes(), kUint8, root, communicator_, ready_stream());
  return wait("ncclBroadcast", result, true, look);
}

Status NcclGroup::all_gather(VecView out, const Look& look) {
  SINEW_CHECK(out.size % size_ == 0, "all_gather", "out has ", out.size, " elements for ", size_, " members");
  if (!communicator_) return aborted(Status::Ok());
  const VecView own = out.slice(out.size / size_ * index_, out.size / size_);
  const int result = nccl().all_gather(own.data, out.data, own.bytes(), kUint8, communicator_, ready_stream());
  return wait("ncclAllGather", result, true, look);
}

Status NcclGroup::wait(const char* name, int result, bool on_stream, const Look& look) {
  if (result == kInvalidArgument || result == kInvalidUsage) return aborted(failed(name, result));
  const auto fine = [](int state) { return state == kSuccess || state == kInProgress; };
  const auto ask = [&](int& state) {
    if (const int asked = nccl().async_error(communicator_, &state); asked != kSuccess) state = asked;
  };
  auto end = after(deadline_), next_look = after(kLook);
  int state = result;
  Pause pause;
  for (;;) {
    if (fine(state)) {
      ask(state);
      if (state == kSuccess && (!on_stream || kernels(device_).finished())) {
        ask(state);  // an error may have ended what was on the stream
        if (state == kSuccess) return Status::Ok();
      }
    }
    // After an error nothing comes any more. Who died is known soon, if it was that.
    const bool enqueued = !on_stream || state == kSuccess;
    if (!fine(state)) SINEW_RETURN_IF_ERROR(abort(enqueued));
    const auto now = Clock::now();
    if (now >= next_look) {
      const Result<bool> waits_on = look();
      if (!waits_on.ok()) return aborted(waits_on.status(), enqueued);
      next_look = after(kLook);
      if (*waits_on && fine(state)) end = std::max(end, after(2 * kLook));
    }
    if (now >= end)
      return aborted(fine(state) || state == kRemoteError ? make_status(StatusCode::timeout, name, ": not done within ",
                                                                        static_cast<double>(deadline_) * 1e-9, " s")
                                                          : failed(name, state),
                     enqueued);
    pause();
  }
}

Status NcclGroup::aborted(Status why, bool enqueued) {
  SINEW_RETURN_IF_ERROR(abort(enqueued));
  return why.ok() ? Status(StatusCode::peer_lost, "collective: the members' NCCL group was aborted") : why;
}

// NCCL may wait for a stopped member's connections before its call returns; what must end is the collective on the
// stream, which belongs to other work too. Only while NCCL may yet put it there, the call itself must have returned.
Status NcclGroup::abort(bool enqueued) {
  if (!communicator_) return Status::Ok();
  const auto end = after(deadline_);
  const std::future<void> call = detached(nccl().abort, std::exchange(communicator_, nullptr));
  bool ended = enqueued || call.wait_until(end) == std::future_status::ready;
  for (Pause pause; ended && !kernels(device_).finished(); pause()) ended = Clock::now() < end;
  return ended
             ? Status::Ok()
             : make_status(StatusCode::unavailable, "ncclCommAbort: the device has not ended an aborted collective in ",
                           static_cast<double>(deadline_) * 1e-9, " s; this process cannot go on");
}

}  // namespace sinew::dist
