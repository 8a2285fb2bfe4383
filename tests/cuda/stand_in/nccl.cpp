// A stand-in for NCCL on the emulated device: a library with the same functions, opened in the same way, for up to 4
// ranks, which are processes or threads of one machine. Written from NCCL's documentation and not from dist/nccl.cpp:
// what that declares wrongly must not be declared so here too.
//
// A communicator is a file in shared memory with a place for each rank. An operation goes to the communicator's thread,
// counted on the stream meanwhile (cuda/emulate/stream.h), and in steps: each rank writes a part of its values to its
// place, all meet, each reads what it needs, all meet. Whoever does not come, is stopped or dead is waited for until
// the others abort, as with NCCL's kernels on GPUs that share memory. Like NCCL without blocking, a call puts its work
// on the stream some time after it has returned, a communicator is finalized when all have come, and ncclCommAbort ends
// what is on the stream at once but may return only when no member of this machine is stopped.
//
// The environment makes it misbehave, when the library is opened:
//   SINEW_STAND_IN_NCCL_VERSION=21300     ncclGetVersion's answer
//   SINEW_STAND_IN_NCCL_STALL=2           the second collective of a communicator never ends
//   SINEW_STAND_IN_NCCL_FAIL=2            it fails, as NCCL says of a lost connection,
//   SINEW_STAND_IN_NCCL_FAIL_AS=2         or with this error
//   SINEW_STAND_IN_NCCL_DEAF=1            ncclCommAbort does not return
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "cuda/emulate/stream.h"

namespace {

enum {
  ncclSuccess = 0,
  ncclSystemError = 2,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7
};

constexpr int kMostRanks = 4;
constexpr size_t kPlace = 64 * 1024;  // bytes of a rank at a time

int setting(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}
std::atomic<int> aborts{0}, collectives{0};

struct Shared {
  std::atomic<int> joined, here, generation;
  std::atomic<int> process[kMostRanks];
  alignas(64) char place[kMostRanks][kPlace];
};

struct UniqueId {
  char internal[128];
};

class Comm {
 public:
  Comm(const UniqueId& id, int size, int rank) : size_(size), rank_(rank), name_(id.internal) {
    thread_ = std::thread([this] { run(); });
    begin([this] { return join(); }, nullptr);
  }
  ~Comm() {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    thread_.join();
    if (!joined_) ::shm_unlink(name_.c_str());
    if (shared_) ::munmap(shared_, sizeof(Shared));
  }
  int size() const { return size_; }
  int rank() const { return rank_; }
  // What ncclCommGetAsyncError answers: set-up, calls whose work is not on the stream yet and finalizing count as in
  // progress, work on the stream does not.
  int state() const {
    return error_ != ncclSuccess ? error_.load() : joined_ && pending_ == 0 ? ncclSuccess : ncclInProgress;
  }
  void stop() { stopped_ = true; }
  void finalize() {
    ++pending_;
    begin([this] { return meet() && --pending_ == 0; }, nullptr);
  }
  bool a_member_is_stopped() const {
    for (int r = 0; shared_ && r < size_; ++r) {
      const int process = shared_->process[r];
      char state = 0;
      if (FILE* file = process ? std::fopen(("/proc/" + std::to_string(process) + "/stat").c_str(), "r") : nullptr) {
        if (std::fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
        std::fclose(file);
      }
      if (state == 'T') return true;
    }
    return false;
  }

  // Enqueues; some time later the stream, if any, has one thing more that is not done until `what` has returned.
  void begin(std::function<bool()> what, sinew::cuda::emulate::Stream* stream) {
    if (stream) ++pending_;
    {
      std::lock_guard lock(mutex_);
      work_.push_back([this, what = std::move(what), stream] {
        if (stream) {
          for (int i = 0; i < 10; ++i) pause();
          ++stream->foreign;
          --pending_;
        }
        if (!stopped_) what();
        if (stream) --stream->foreign;
      });
    }
    wake_.notify_all();
  }

  // In steps of a place: give(offset, bytes) writes this rank's, take(offset, bytes) reads all.
  bool in_steps(size_t bytes, const std::function<void(size_t, size_t)>& give,
                const std::function<void(size_t, size_t)>& take) {
    static const int stall = setting("SINEW_STAND_IN_NCCL_STALL", 0), fail = setting("SINEW_STAND_IN_NCCL_FAIL", 0);
    ++collectives_;
    if (collectives_ == fail) return error_ = setting("SINEW_STAND_IN_NCCL_FAIL_AS", ncclRemoteError), false;
    while (collectives_ == stall && !stopped_) pause();
    for (size_t at = 0; at < bytes; at += kPlace) {
      const size_t n = std::min(kPlace, bytes - at);
      give(at, n);
      if (!meet()) return false;
      take(at, n);
      if (!meet()) return false;
    }
    return true;
  }
  char* place(int rank) { return shared_->place[rank]; }

 private:
  static void pause() { std::this_thread::sleep_for(std::chrono::microseconds(30)); }

  bool join() {
    const int file = ::shm_open(name_.c_str(), O_RDWR | O_CREAT, 0600);  // zeroes at first
    void* memory = MAP_FAILED;
    if (file >= 0 && ::ftruncate(file, sizeof(Shared)) == 0)
      memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) ::close(file);
    if (memory == MAP_FAILED) return error_ = ncclSystemError, false;
    shared_ = static_cast<Shared*>(memory);
    shared_->process[rank_] = ::getpid();
    ++shared_->joined;
    while (shared_->joined < size_ && !stopped_) pause();
    if (rank_ == 0 && !stopped_) ::shm_unlink(name_.c_str());  // nothing is left behind, whoever is killed
    return joined_ = !stopped_;
  }

  bool meet() {
    const int generation = shared_->generation;
    if (++shared_->here == size_) {
      shared_->here = 0;
      ++shared_->generation;
    }
    while (shared_->generation == generation && !stopped_) pause();
    return !stopped_;
  }

  void run() {
    for (;;) {
      std::function<void()> next;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return ending_ || !work_.empty(); });
        if (work_.empty()) return;
        next = std::move(work_.front());
        work_.pop_front();
      }
      next();
    }
  }

  const int size_, rank_;
  const std::string name_;
  Shared* shared_ = nullptr;
  std::atomic<bool> joined_{false}, stopped_{false};
  std::atomic<int> error_{ncclSuccess}, pending_{0};
  int collectives_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;
  bool ending_ = false;
  std::thread thread_;
};

size_t bytes_of(int type) {
  switch (type) {
    case 0:
    case 1:
      return 1;
    case 7:
      return 4;
    case 8:
      return 8;
    default:
      return 0;
  }
}

// In ascending order of ranks, so all have equal bits.
template <class T>
void add_up(Comm& comm, T* out, size_t n, bool average) {
  for (size_t i = 0; i < n; ++i) {
    T sum = 0;
    for (int r = 0; r < comm.size(); ++r) sum += reinterpret_cast<const T*>(comm.place(r))[i];
    out[i] = average ? sum / static_cast<T>(comm.size()) : sum;
  }
}

int begin(Comm* comm, void* stream, std::function<bool()> what) {
  if (!comm || !stream) return ncclInvalidArgument;
  ++collectives;
  comm->begin(std::move(what), static_cast<sinew::cuda::emulate::Stream*>(stream));
  return ncclInProgress;
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  *version = setting("SINEW_STAND_IN_NCCL_VERSION", 21803);
  return ncclSuccess;
}

const char* ncclGetErrorString(int result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error" : "an error of the stand-in";
}

int ncclGetUniqueId(UniqueId* id) {
  static std::atomic<int> count{0};
  const std::string name = "/sinew-nccl-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, name.data(), name.size());
  return ncclSuccess;
}

// The configuration's bytes, as NCCL 2.14 and newer read them.
int ncclCommInitRankConfig(Comm** comm, int size, UniqueId id, int rank, const char* config) {
  size_t bytes;
  unsigned magic, version;
  int blocking;
  std::memcpy(&bytes, config, 8);
  std::memcpy(&magic, config + 8, 4);
  std::memcpy(&version, config + 12, 4);
  if (bytes < 20 || magic != 0xcafebeef || version < 21400 || rank < 0 || rank >= size) return ncclInvalidArgument;
  std::memcpy(&blocking, config + 16, 4);
  if (blocking != 0 || size > kMostRanks) return ncclInvalidUsage;
  *comm = new Comm(id, size, rank);
  return ncclInProgress;
}

int ncclCommGetAsyncError(Comm* comm, int* state) {
  *state = comm->state();
  return ncclSuccess;
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int reduction, Comm* comm, void* stream) {
  if ((type != 7 && type != 8) || (reduction != 0 && reduction != 4)) return ncclInvalidArgument;
  const bool average = reduction == 4;
  return begin(comm, stream, [=] {
    return comm->in_steps(
        count * bytes_of(type),
        [&](size_t at, size_t n) { std::memcpy(comm->place(comm->rank()), static_cast<const char*>(from) + at, n); },
        [&](size_t at, size_t n) {
          char* out = static_cast<char*>(to) + at;
          type == 7 ? add_up(*comm, reinterpret_cast<float*>(out), n / 4, average)
                    : add_up(*comm, reinterpret_cast<double*>(out), n / 8, average);
        });
  });
}

int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, Comm* comm, void* stream) {
  if (bytes_of(type) == 0 || root < 0 || root >= comm->size()) return ncclInvalidArgument;
  return begin(comm, stream, [=] {
    return comm->in_steps(
        count * bytes_of(type),
        [&](size_t at, size_t n) {
          if (comm->rank() == root) std::memcpy(comm->place(root), static_cast<const char*>(from) + at, n);
        },
        [&](size_t at, size_t n) { std::memcpy(static_cast<char*>(to) + at, comm->place(root), n); });
  });
}

int ncclAllGather(const void* from, void* to, size_t count, int type, Comm* comm, void* stream) {
  if (bytes_of(type) == 0) return ncclInvalidArgument;
  const size_t bytes = count * bytes_of(type);
  return begin(comm, stream, [=] {
    return comm->in_steps(
        bytes,
        [&](size_t at, size_t n) { std::memcpy(comm->place(comm->rank()), static_cast<const char*>(from) + at, n); },
        [&](size_t at, size_t n) {
          for (int r = 0; r < comm->size(); ++r)
            std::memcpy(static_cast<char*>(to) + static_cast<size_t>(r) * bytes + at, comm->place(r), n);
        });
  });
}

int ncclCommFinalize(Comm* comm) {
  comm->finalize();
  return ncclInProgress;
}

int ncclCommDestroy(Comm* comm) {
  delete comm;
  return ncclSuccess;
}

int ncclCommAbort(Comm* comm) {
  while (setting("SINEW_STAND_IN_NCCL_DEAF", 0) != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  ++aborts;
  comm->stop();
  while (comm->a_member_is_stopped()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  delete comm;
  return ncclSuccess;
}

// Of this process, for tests.
int sinew_nccl_stand_in_aborts() { return aborts; }
int sinew_nccl_stand_in_collectives() { return collectives; }
}
