#include "tests/support/guard_device.h"

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <mutex>
#include <vector>

#include "core/kernel_api.h"

namespace sinew::testing {
namespace {

constexpr size_t kArenaBytes = size_t{1} << 32;  // address space; pages cost memory only once touched
constexpr size_t kPage = 4096;
constexpr size_t kSmallest = 64;

class Arena {
 public:
  Arena() {
    void* p = mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SINEW_CHECK(p != MAP_FAILED, "guard", "cannot reserve ", kArenaBytes, " bytes: ", std::strerror(errno));
    base_ = static_cast<char*>(p);
  }

  // One past the last byte is inside too: a view of no elements may point there.
  bool contains(const void* p) const { return p >= base_ && p <= base_ + kArenaBytes; }

  // Blocks are powers of two, taken from the free list of their size or from the untouched end. Needs open().
  void* allocate(size_t bytes) {
    const size_t size = size_class(bytes);
    std::vector<void*>& list = free_[static_cast<size_t>(std::countr_zero(size))];
    char* p = nullptr;
    if (!list.empty()) {
      p = static_cast<char*>(list.back());
      list.pop_back();
    } else {
      SINEW_CHECK(size <= kArenaBytes - end_, "guard", "out of memory: ", bytes, " bytes asked for, ", in_use_,
                  " in use, the arena has ", kArenaBytes);
      p = base_ + end_;
      protect(end_, size, PROT_READ | PROT_WRITE);
      end_ += size;
    }
    in_use_ += size;
    std::memset(p, 0xFF, size);
    return p;
  }

  void release(void* p, size_t bytes) {
    const size_t size = size_class(bytes);
    free_[static_cast<size_t>(std::countr_zero(size))].push_back(p);
    in_use_ -= size;
  }

  size_t in_use() const { return in_use_; }

  // Held by whoever works on the memory.
  class Open {
   public:
    explicit Open(Arena& arena) : arena_(arena), lock_(arena.mutex_) {
      arena_.protect(0, arena_.end_, PROT_READ | PROT_WRITE);
    }
    ~Open() { arena_.protect(0, arena_.end_, PROT_NONE); }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;

   private:
    Arena& arena_;
    std::lock_guard<std::mutex> lock_;
  };

 private:
  static size_t size_class(size_t bytes) { return std::bit_ceil(bytes < kSmallest ? kSmallest : bytes); }

  void protect(size_t from, size_t bytes, int protection) {
    const size_t first = from / kPage * kPage, last = (from + bytes + kPage - 1) / kPage * kPage;
    if (first == last) return;
    SINEW_CHECK(mprotect(base_ + first, last - first, protection) == 0, "guard",
                "mprotect failed: ", std::strerror(errno));
  }

  char* base_ = nullptr;
  size_t end_ = 0;  // bytes handed out at least once
  size_t in_use_ = 0;
  std::array<std::vector<void*>, 64> free_;
  std::mutex mutex_;
};

// Never destroyed: tensors with static lifetime may be released after main.
Arena& arena() {
  static Arena* const instance = new Arena;
  return *instance;
}

void check_device(const char* op, std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    SINEW_CHECK(p == nullptr || arena().contains(p), op, "pointer ", p, " is host memory, not the guard device's");
}

// Every pointer of an argument struct. A kernel without its line here does not compile.
void check(const char* op, const kernel::UnaryArgs& a) { check_device(op, {a.x, a.y}); }
void check(const char* op, const kernel::BinaryArgs& a) { check_device(op, {a.a, a.b, a.y}); }
void check(const char* op, const kernel::WhereArgs& a) { check_device(op, {a.mask, a.a, a.b, a.y}); }
void check(const char* op, const kernel::FillArgs& a) { check_device(op, {a.y}); }
void check(const char* op, const kernel::CastArgs& a) { check_device(op, {a.x, a.y}); }
void check(const char* op, const kernel::StridedCopyArgs& a) { check_device(op, {a.x, a.y}); }
void check(const char* op, const kernel::ReduceArgs& a) { check_device(op, {a.x, a.y}); }
void check(const char* op, const kernel::GemmArgs& a) { check_device(op, {a.a, a.b, a.c, a.bias}); }
void check(const char* op, const kernel::ConvArgs& a) { check_device(op, {a.x, a.filter, a.y, a.out, a.bias}); }
void check(const char* op, const kernel::GatherArgs& a) { check_device(op, {a.x, a.index, a.y}); }
void check(const char* op, const kernel::ScatterAddArgs& a) { check_device(op, {a.x, a.index, a.y}); }
void check(const char* op, const kernel::OneHotArgs& a) { check_device(op, {a.index, a.y}); }
void check(const char* op, const kernel::SoftmaxArgs& a) { check_device(op, {a.x, a.y}); }
void check(const char* op, const kernel::CrossEntropyArgs& a) {
  check_device(op, {a.x, a.labels, a.loss, a.dx, a.scale});
}
void check(const char* op, const kernel::PoolArgs& a) { check_device(op, {a.x, a.y, a.index}); }
void check(const char* op, const kernel::ChannelAffineArgs& a) {
  check_device(op, {a.x, a.center, a.scale, a.shift, a.residual, a.y});
}
void check(const char* op, const kernel::BatchNormArgs& a) {
  check_device(op, {a.x, a.gamma, a.beta, a.residual, a.y, a.mean, a.inv_std, a.variance});
}
void check(const char* op, const kernel::BatchNormGradArgs& a) {
  check_device(op, {a.g, a.x, a.y, a.gamma, a.beta, a.mean, a.inv_std, a.dx, a.dgamma, a.dbeta, a.dresidual});
}
void check(const char* op, const kernel::BatchNormGrad2Args& a) {
  check_device(op, {a.g, a.x, a.y, a.gamma, a.beta, a.mean, a.inv_std, a.u, a.a, a.b, a.r, a.g2, a.x2, a.gamma2});
}
void check(const char* op, const kernel::LayerNormArgs& a) {
  check_device(op, {a.x, a.gamma, a.beta, a.y, a.mean, a.inv_std});
}
void check(const char* op, const kernel::LayerNormGradArgs& a) {
  check_device(op, {a.g, a.x, a.gamma, a.mean, a.inv_std, a.dx, a.dgamma, a.dbeta});
}
void check(const char* op, const kernel::DropoutArgs& a) { check_device(op, {a.x, a.y}); }
void check(const char* op, const kernel::RandomArgs& a) { check_device(op, {a.y}); }
void check(const char* op, const kernel::AxpbyArgs& a) { check_device(op, {a.x, a.y, a.z}); }
void check(const char* op, const kernel::DotArgs& a) { check_device(op, {a.x, a.y, a.result}); }
void check(const char* op, const kernel::ElasticArgs& a) { check_device(op, {a.x, a.c, a.d, a.distance2}); }
void check(const char* op, const kernel::RoundToPackedArgs& a) { check_device(op, {a.values, a.residual}); }
void check(const char* op, const kernel::PackArgs& a) { check_device(op, {a.values, a.bytes, a.inexact}); }
void check(const char* op, const kernel::UnpackArgs& a) { check_device(op, {a.bytes, a.values}); }
void check(const char* op, const kernel::SgdArgs& a) { check_device(op, {a.x, a.g, a.v}); }
void check(const char* op, const kernel::AdamArgs& a) { check_device(op, {a.x, a.g, a.m, a.v}); }
void check(const char* op, const kernel::AdaHessianArgs& a) { check_device(op, {a.x, a.g, a.m, a.v, a.d}); }
void check(const char* op, const kernel::SophiaArgs& a) { check_device(op, {a.x, a.g, a.m, a.h, a.d}); }
void check(const char* op, const kernel::LionArgs& a) { check_device(op, {a.x, a.g, a.m}); }
void check(const char* op, const kernel::BlockMeanArgs& a) { check_device(op, {a.x}); }

// How the two kinds of name travel through a template: the member of the table, and its name for errors.
enum class Name : int {
#define SINEW_NAME(name, Args) name,
  SINEW_KERNELS(SINEW_NAME)
#undef SINEW_NAME
};
constexpr const char* kNames[] = {
#define SINEW_NAME(name, Args) #name,
    SINEW_KERNELS(SINEW_NAME)
#undef SINEW_NAME
};

template <Name kName, auto kEntry, class Args>
void guarded(const Args& args) {
  check(kNames[static_cast<int>(kName)], args);
  Arena::Open open(arena());
  (cpu_kernels().*kEntry)(args);
}

KernelTable make_table() {
  KernelTable t;
#define SINEW_WRAP(name, Args) \
  if (cpu_kernels().name != nullptr) t.name = &guarded<Name::name, &KernelTable::name, kernel::Args>;
  SINEW_KERNELS(SINEW_WRAP)
#undef SINEW_WRAP
  t.allocate = [](size_t bytes) {
    Arena::Open open(arena());
    return arena().allocate(bytes);
  };
  t.release = [](void* data, size_t bytes) {
    check_device("release", {data});
    Arena::Open open(arena());
    arena().release(data, bytes);
  };
  t.upload = [](void* device, const void* host, size_t bytes) {
    check_device("upload", {device});
    SINEW_CHECK(!arena().contains(host), "upload", "the source is device memory");
    Arena::Open open(arena());
    std::memcpy(device, host, bytes);
  };
  t.download = [](void* host, const void* device, size_t bytes) {
    check_device("download", {device});
    SINEW_CHECK(!arena().contains(host), "download", "the destination is device memory");
    Arena::Open open(arena());
    std::memcpy(host, device, bytes);
  };
  t.copy = [](void* to, const void* from, size_t bytes) {
    check_device("copy", {to, from});
    Arena::Open open(arena());
    std::memcpy(to, from, bytes);
  };
  t.synchronize = [] {};
  return t;
}

}  // namespace

void install_guard_device() {
  static const KernelTable* const table = [] {
    const KernelTable* t = new KernelTable(make_table());
    set_kernel_table(Device::guard, t);
    return t;
  }();
  static_cast<void>(table);
}

size_t guard_bytes_in_use() {
  Arena::Open open(arena());
  return arena().in_use();
}

}  // namespace sinew::testing
