#include "cuda/emulate/accesses.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "core/check.h"
#include "cuda/emulate/shared_arena.h"

namespace sinew::cuda::emulate {
namespace {

constexpr size_t kUnit = 2;  // bytes that share a Touch

struct WatchedMemory {
  std::mutex mutex;
  std::map<const char*, std::pair<size_t, Shadow>> allocations;  // by their beginnings
  uint64_t version = 1;                                          // counts the changes
};

WatchedMemory& watched() {
  static WatchedMemory& instance = *new WatchedMemory;
  return instance;
}

}  // namespace

Touch* Shadow::at(size_t offset) {
  std::unique_ptr<Touch[]>& page = pages_[offset / kPage];
  if (!page) page = std::make_unique<Touch[]>(kPage / kUnit);
  return &page[offset % kPage / kUnit];
}

void watch_memory(const void* begin, size_t bytes) {
  std::lock_guard lock(watched().mutex);
  watched().allocations.emplace(static_cast<const char*>(begin), std::pair{bytes, Shadow(bytes)});
  ++watched().version;
}

void forget_memory(const void* begin) {
  std::lock_guard lock(watched().mutex);
  watched().allocations.erase(static_cast<const char*>(begin));
  ++watched().version;
}

AccessChecker::AccessChecker(const char* shared, size_t bytes)
    : shared_(shared), shared_bytes_(bytes), shared_touches_(bytes / kUnit) {}

void AccessChecker::begin_launch() {
  launch_ = Clocks::next_stamp();
  std::lock_guard lock(watched().mutex);
  if (version_ == watched().version) return;
  version_ = watched().version;
  recent_ = {};
  elsewhere_begin_ = elsewhere_end_ = shared_;  // nothing
  memory_.clear();
  for (auto& [begin, memory] : watched().allocations) memory_.push_back({begin, memory.first, &memory.second});
}

void AccessChecker::begin_block(unsigned threads, unsigned blocks) {
  block_ = Clocks::next_stamp();
  clocks_.begin_block(threads, blocks);
  lists_.resize(1);
}

const WatchedRange* AccessChecker::find(const char* p) {
  const auto has = [p](const WatchedRange* r) { return r != nullptr && static_cast<size_t>(p - r->begin) < r->bytes; };
  for (const WatchedRange* range : recent_)
    if (has(range)) return range;
  auto next = std::upper_bound(memory_.begin(), memory_.end(), p,
                               [](const char* a, const WatchedRange& b) { return a < b.begin; });
  if (next == memory_.begin() || !has(&*--next)) return nullptr;
  return recent_[next_recent_++ % recent_.size()] = &*next;
}

// Of an access that begins in no allocation, or runs over the end of one.
std::string AccessChecker::out_of_bounds(const char* p) {
  const auto next = std::upper_bound(memory_.begin(), memory_.end(), p,
                                     [](const char* a, const WatchedRange& b) { return a < b.begin; });
  if (next != memory_.end() && next->begin - p <= kRedZone)
    return detail::concat(next->begin - p, " bytes before the begin of ", next->bytes, " bytes of device memory");
  const char* begin = nullptr;
  if (next != memory_.begin()) {
    const WatchedRange& before = *(next - 1);
    const char* const end = before.begin + before.bytes;
    if (p < end) return detail::concat("over the end of ", before.bytes, " bytes of device memory");
    if (p - end < kRedZone)
      return detail::concat(p - end, " bytes behind the end of ", before.bytes, " bytes of device memory");
    begin = end + kRedZone;
  }
  elsewhere_begin_ = begin;
  elsewhere_end_ = next != memory_.end() ? next->begin - kRedZone : nullptr;
  return "";
}

bool AccessChecker::reads_are_before(const Touch& t, unsigned thread) const {
  if (!t.several) return clocks_.before(t.reader, t.read, thread);
  if (t.others == 0)
    return clocks_.before_barrier(t.read) || (t.one_warp && clocks_.before_warp_sync(t.reader, t.read, thread));
  return std::all_of(lists_[t.others].begin(), lists_[t.others].end(),
                     [&](const auto& read) { return clocks_.before(read.first, read.second, thread); });
}

char AccessChecker::conflict(const Touch& t, Access access, unsigned thread, uint32_t first) const {
  const bool both_atomic = access == Access::atomic && t.atomic;
  if (!both_atomic && t.written >= first) {
    if (t.written < block_) return 'W';
    if (!clocks_.before(t.writer, t.written, thread)) return 'w';
  }
  if (access == Access::read || t.read < first) return 0;
  if (t.read < block_ || t.elsewhere) return 'R';
  return reads_are_before(t, thread) ? 0 : 'r';
}

void AccessChecker::note_read(Touch& t, unsigned thread, unsigned actor, uint32_t time, uint32_t first) {
  t.elsewhere = t.read >= first && (t.elsewhere || t.read < block_);
  if (t.read < block_ || reads_are_before(t, thread)) {
    t.several = false;
  } else if (clocks_.active() && !(t.several && t.others == 0)) {
    if (!t.several) {
      t.others = static_cast<uint32_t>(lists_.size());
      lists_.push_back({{t.reader, t.read}});
    }
    t.several = true;
    Reads& reads = lists_[t.others];
    const auto own = std::find_if(reads.begin(), reads.end(), [&](const auto& read) { return read.first == actor; });
    if (own == reads.end())
      reads.emplace_back(actor, time);
    else
      own->second = time;
  } else {
    t.one_warp = (!t.several || (t.others == 0 && t.one_warp)) && clocks_.same_warp(t.reader, actor);
    t.several = true;
    t.others = 0;
  }
  t.read = time;
  t.reader = static_cast<uint16_t>(actor);
}

std::string AccessChecker::touch(const void* pointer, size_t bytes, Access access, unsigned thread, unsigned actor,
                                 uint32_t time) {
  const char* const begin = static_cast<const char*>(pointer);
  const auto in_shared = static_cast<size_t>(begin - shared_);
  const bool shared = in_shared < shared_bytes_;
  const WatchedRange* range = nullptr;
  if (!shared) {
    if (begin >= elsewhere_begin_ && (begin < elsewhere_end_ || elsewhere_end_ == nullptr)) return "";
    range = find(begin);
    if (range == nullptr || static_cast<size_t>(begin - range->begin) + bytes > range->bytes) {
      const std::string out = out_of_bounds(begin);
      return out.empty() ? "" : detail::concat(access == Access::read ? "reads " : "writes ", out);
    }
  }
  if (bytes < kUnit) return "";
  const size_t from = shared ? in_shared : static_cast<size_t>(begin - range->begin);
  for (size_t offset = from; offset < from + bytes; offset += kUnit) {
    Touch* const t = shared ? &shared_touches_[offset / kUnit] : range->shadow->at(offset);
    const uint32_t first = shared ? block_ : launch_;
    if (const char with = conflict(*t, access, thread, first)) {
      const bool write = with == 'w' || with == 'W';
      const std::string where = shared
                                    ? detail::concat("byte ", offset % kArenaBytes, " of the shared memory")
                                    : detail::concat("byte ", offset, " of ", range->bytes, " bytes of device memory");
      const std::string who = with == 'W' || with == 'R' ? std::string("another block")
                              : !write && t->several     ? std::string("other threads")
                                                         : clocks_.name(write ? t->writer : t->reader);
      return detail::concat(access == Access::read ? "reads " : "writes ", where, ", which ", who,
                            write ? " wrote" : " read", " with no barrier between: a race");
    }
    // wgmma reads through another proxy than threads write.
    if (clocks_.is_product(actor) && t->written >= first && clocks_.is_thread(t->writer) &&
        !clocks_.fenced(t->writer, t->written))
      return detail::concat("reads byte ", offset % kArenaBytes, " of the shared memory, which ",
                            clocks_.name(t->writer), " wrote with no proxy_fence after it");
    if (access == Access::read) {
      note_read(*t, thread, actor, time, first);
    } else {
      t->written = time;
      t->writer = static_cast<uint16_t>(actor);
      t->atomic = access == Access::atomic;
    }
  }
  return "";
}

}  // namespace sinew::cuda::emulate
