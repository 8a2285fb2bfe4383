// What goes on beside a block's threads: asynchronous copies, products of warpgroups, mbarriers.
#include <algorithm>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "cuda/emulate/execution.h"

namespace sinew::cuda::emulate {
namespace {

constexpr size_t kCopyBytes = 16;
constexpr auto kGroup = static_cast<int64_t>(kCopyBytes);
constexpr int64_t kMaxArrivals = (1 << 20) - 1, kMaxBytes = (1 << 20) - 1;  // of an mbarrier
constexpr size_t kBoxAlignment = 128;                                       // in shared memory

}  // namespace

// ---- copies of 16 bytes ----

void Executor::make(const Copy& copy) {
  char* const to = static_cast<char*>(copy.to);
  touch(to, kCopyBytes, Access::write, 1, nullptr);
  if (copy.bytes > 0) touch(copy.from, copy.bytes, Access::read, 1, nullptr);
  if (copy.bytes > 0) std::memcpy(to, copy.from, copy.bytes);
  std::memset(to + copy.bytes, 0, kCopyBytes - copy.bytes);
}

void Executor::copy_async(void* shared, const void* global, size_t bytes) {
  if (!arena().contains(shared, kCopyBytes)) fail("copy_async to memory that is not shared");
  if (reinterpret_cast<uintptr_t>(shared) % kCopyBytes != 0 || reinterpret_cast<uintptr_t>(global) % kCopyBytes != 0)
    fail("copy_async: an address is not aligned to 16 bytes");
  const Copy copy{shared, global, bytes, running_->groups};
  touch(shared, kCopyBytes, Access::write, 1, nullptr);  // it may be made at any time from here to the wait
  if (options_.lazy_copies)
    running_->copies.push_back(copy);
  else
    make(copy);
}

void Executor::copy_async_wait(unsigned pending) {
  std::vector<Copy>& copies = running_->copies;
  size_t done = 0;
  while (done < copies.size() && copies[done].group + pending < running_->groups) make(copies[done++]);
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

// ---- products ----

uint32_t Executor::shared_offset(const void* shared) {
  if (!arena().contains(shared, 1)) fail("a descriptor of memory that is not shared");
  return static_cast<uint32_t>(static_cast<const char*>(shared) - arena().begin());
}

const void* Executor::shared_at(uint32_t offset) {
  if (offset > kArenaBytes - 4) fail("wgmma reads beyond shared memory");
  return arena().begin() + offset;
}

void Executor::proxy_fence() {
  if (watching != nullptr) checker_->clocks().fence(number(*running_));
}

void Executor::read_operand(uint32_t offset, size_t bytes) {
  if (offset + bytes > kArenaBytes) fail("wgmma reads beyond shared memory");
  const char* const p = arena().begin() + offset;
  std::string wrong = wrong_access(p, bytes, Access::read, 1);
  Clocks& clocks = checker_->clocks();
  if (wrong.empty())
    wrong = checker_->touch(p, bytes, Access::read, number(*running_), clocks.products(number(*running_) / kWarpSize),
                            running_->products.back().time);
  if (wrong.empty()) return;
  report("wgmma " + wrong);
  throw Unwind{};
}

void Executor::group_product(const GroupProduct& product, const std::source_location& site) {
  Thread& me = *running_;
  if (!me.fenced_registers) fail(detail::concat(place("wgmma", site), " with no wgmma_fence before it"));
  me.products.push_back({product, me.product_groups, Clocks::next_stamp()});
  if (watching != nullptr && me.lane == 0) {
    checker_->clocks().start();
    product.read(product);
  }
  if (!options_.lazy_copies) make_products(0, false, site);
}

// All lanes have issued the same products: each is made by the last of them to come.
void Executor::make_products(unsigned pending, bool waited, const std::source_location& site) {
  if (waited) running_->fenced_registers = false;
  struct Lane {
    Thread* thread;
    unsigned pending;
    bool waited;
    Executor* executor;
  };
  Lane lane{running_, pending, waited, this};
  warp_collective(
      "wgmma", &lane,
      [](void* const* lanes, int count) {
        const Lane& first = *static_cast<Lane*>(lanes[0]);
        const auto products = [&](int i) -> auto& { return static_cast<Lane*>(lanes[i])->thread->products; };
        const auto done = [&](const PendingProduct& p) {
          return !first.waited || p.group + first.pending < first.thread->product_groups;
        };
        size_t made = 0;
        uint32_t time = 0;
        for (; made < products(0).size() && done(products(0)[made]); ++made) {
          const GroupProduct* of_lanes[kWarpSize];
          for (int i = 0; i < count; ++i) {
            if (products(i).size() <= made) first.executor->fail("wgmma not by all lanes");
            of_lanes[i] = &products(i)[made].product;
          }
          if (!products(0)[made].made) of_lanes[0]->multiply(of_lanes, count);
          products(0)[made].made = true;
          time = products(0)[made].time;
        }
        if (!first.waited || made == 0) return;
        for (int i = 0; i < count; ++i)
          products(i).erase(products(i).begin(), products(i).begin() + static_cast<std::ptrdiff_t>(made));
        if (watching == nullptr) return;
        const unsigned begin = first.executor->number(*first.thread);
        for (unsigned i = 0; i < static_cast<unsigned>(count); ++i)
          first.executor->checker_->clocks().wait_products(begin / kWarpSize, time, begin + i);
      },
      site);
}

// ---- mbarriers ----

std::string Executor::wrong_mbarrier_address(const void* at) const {
  if (reinterpret_cast<uintptr_t>(at) % kMbarrierBytes != 0) return "an mbarrier that is not aligned to 8 bytes";
  return arena().contains(at, 1) && arena().is_placed(at, kMbarrierBytes) ? ""
                                                                          : "an mbarrier that is not in shared memory";
}

unsigned Executor::find_mbarrier(void* at, const char* verb, const std::source_location& site) {
  const std::string wrong = wrong_mbarrier_address(at);
  if (!wrong.empty()) fail(detail::concat(place(verb, site), ": ", wrong));
  const auto offset = static_cast<uint32_t>(static_cast<char*>(at) - shared_.begin());
  for (unsigned i = 0; i < mbarriers_.size(); ++i) {
    if (mbarriers_[i].offset != offset || !mbarriers_[i].valid) continue;
    const Mbarrier& b = mbarriers_[i];
    if (watching != nullptr && !checker_->clocks().before(b.initialiser, b.initialised, number(*running_)))
      fail(detail::concat(place(verb, site), ": an mbarrier that ", checker_->clocks().name(b.initialiser),
                          " initialised with no barrier between: a race"));
    return i;
  }
  fail(detail::concat(place(verb, site), ": an mbarrier that is not initialised"));
}

void Executor::mbarrier_init(void* at, unsigned arrivals, const std::source_location& site) {
  const std::string where = place("mbarrier_init", site);
  std::string wrong = wrong_mbarrier_address(at);
  if (wrong.empty() && (arrivals < 1 || arrivals > kMaxArrivals))
    wrong = detail::concat(arrivals, " arrivals; 1 to ", kMaxArrivals, " are allowed");
  const auto offset = static_cast<uint32_t>(static_cast<char*>(at) - shared_.begin());
  for (const Mbarrier& b : mbarriers_)
    if (b.valid && b.offset == offset) wrong = "an mbarrier that is initialised already, and not invalidated";
  if (wrong.empty() && watching != nullptr)
    wrong = checker_->touch(at, kMbarrierBytes, Access::write, number(*running_));
  if (!wrong.empty()) fail(detail::concat(where, ": ", wrong));
  const unsigned me = number(*running_);
  if (watching != nullptr) checker_->clocks().add_mbarrier(static_cast<unsigned>(mbarriers_.size()));
  mbarriers_.push_back({.offset = offset,
                        .arrivals = arrivals,
                        .pending = arrivals,
                        .initialiser = me,
                        .initialised = watching != nullptr ? checker_->clocks().now(me) : 0});
}

void Executor::mbarrier_init_fence() {
  for (Mbarrier& b : mbarriers_) b.fenced = b.fenced || b.initialiser == number(*running_);
}

void Executor::mbarrier_invalidate(void* at, const std::source_location& site) {
  const unsigned i = find_mbarrier(at, "mbarrier_invalidate", site);
  for (const Thread& thread : threads_)
    if (thread.state == State::at_mbarrier && thread.mbarrier == i)
      fail(detail::concat(place("mbarrier_invalidate", site), ": an mbarrier that threads wait for"));
  if (mbarriers_[i].bytes != 0)
    fail(detail::concat(place("mbarrier_invalidate", site), ": an mbarrier that bulk copies complete on"));
  mbarriers_[i].valid = false;
}

std::string Executor::settle(unsigned i) {
  Mbarrier& b = mbarriers_[i];
  if (b.bytes > kMaxBytes || b.bytes < -kMaxBytes)
    return detail::concat("an mbarrier that counts ", b.bytes, " bytes of bulk copies; at most ", kMaxBytes);
  if (b.pending > 0 || b.bytes > 0) return "";
  if (b.bytes < 0)
    return detail::concat("an mbarrier on which bulk copies completed ", -b.bytes, " bytes more than were announced");
  ++b.phase;
  b.pending = b.arrivals;
  if (watching != nullptr) checker_->clocks().complete(i);
  for (Thread& thread : threads_)
    if (thread.state == State::at_mbarrier && thread.mbarrier == i) wake(thread);
  return "";
}

void Executor::mbarrier_arrive(void* at, unsigned bytes, const std::source_location& site) {
  const unsigned i = find_mbarrier(at, "mbarrier_arrive", site);
  Mbarrier& b = mbarriers_[i];
  if (b.pending == 0)
    fail(detail::concat(place("mbarrier_arrive", site), ": more arrivals than the ", b.arrivals,
                        " of a phase of the mbarrier"));
  b.bytes += bytes;
  --b.pending;
  if (watching != nullptr) checker_->clocks().arrive(i, number(*running_));
  const std::string wrong = settle(i);
  if (!wrong.empty()) fail(detail::concat(place("mbarrier_arrive", site), ": ", wrong));
}

// Until the phase of that parity is complete: not while it is the present one.
void Executor::mbarrier_wait(void* at, unsigned parity, const std::source_location& site) {
  const unsigned i = find_mbarrier(at, "mbarrier_wait", site);
  if (parity > 1) fail(detail::concat(place("mbarrier_wait", site), ": a parity of ", parity));
  const unsigned present = mbarriers_[i].phase;
  if (present % 2 == parity) {
    running_->mbarrier = i;
    while (mbarriers_[i].phase == present) wait(State::at_mbarrier, "mbarrier_wait", site);
    if (mbarriers_[i].phase > present + 1)
      fail(detail::concat(place("mbarrier_wait", site), ": phase ", present,
                          " that it waits for is complete, and so is the next one before it could see that: on the "
                          "device it may wait for ever"));
  }
  if (watching != nullptr) checker_->clocks().wait(i, number(*running_));
}

// ---- copies of boxes ----

void Executor::load_box(void* shared, const TensorImage& t, void* mbarrier, const int* begin,
                        const std::source_location& site) {
  const auto inside = [&](unsigned d, int64_t i) { return i >= 0 && i < static_cast<int64_t>(t.extent[d]); };
  const auto bytes = static_cast<int64_t>(t.element_bytes);
  int64_t at[TensorImage::kRank] = {};
  for (unsigned d = 0; d < t.rank; ++d) at[d] = begin[d];
  const int64_t first = std::clamp<int64_t>(-at[0], 0, t.box[0]);
  const int64_t last = std::clamp<int64_t>(static_cast<int64_t>(t.extent[0]) - at[0], first, t.box[0]);
  std::vector<BulkRow> rows;
  for (int64_t z = at[2]; z < at[2] + t.box[2]; ++z)
    for (int64_t y = at[1]; y < at[1] + t.box[1]; ++y) {
      const bool there = inside(1, y) && inside(2, z) && first < last;
      rows.push_back(there ? BulkRow{t.data + z * static_cast<int64_t>(t.stride[2]) +
                                         y * static_cast<int64_t>(t.stride[1]) + (at[0] + first) * bytes,
                                     first * bytes, last * bytes}
                           : BulkRow{});
    }
  // The H200 ends a kernel with an illegal instruction then.
  if (at[0] * bytes % kGroup != 0)
    fail(detail::concat(place("load_box", site), ": begins ", at[0] * bytes,
                        " bytes into a row; multiples of 16 are allowed"));
  begin_copy({std::move(rows), t.box[0] * bytes, t.swizzle_bytes, static_cast<char*>(shared), 0, 0, 0}, mbarrier,
             "load_box", site);
}

void Executor::load_pixels(void* shared, const PixelImages& images, void* mbarrier, const int (&at)[6],
                           const std::source_location& site) {
  constexpr int64_t kBytes = 2;
  const int64_t c = at[0], first = std::clamp<int64_t>(-c, 0, images.channels);
  const int64_t last = std::clamp<int64_t>(images.c - c, first, images.channels);
  int64_t w = at[1], h = at[2], n = at[3];
  if (c * kBytes % kGroup != 0)
    fail(detail::concat(place("load_pixels", site), ": begins at channel ", c, "; multiples of 8 are allowed"));
  if (at[4] < 0 || at[4] > 255 || at[5] < 0 || at[5] > 255)
    fail(detail::concat(place("load_pixels", site), ": moves by tap (", at[5], ", ", at[4], "); 0 to 255 are allowed"));
  if (w < images.first_w || w > images.last_w || h < images.first_h || h > images.last_h)
    fail(detail::concat(place("load_pixels", site), ": begins at pixel (", h, ", ", w, "), which is not of the map"));
  std::vector<BulkRow> rows;
  for (unsigned i = 0; i < images.pixels; ++i) {
    const int64_t x = w + at[4], y = h + at[5];
    const bool there = x >= 0 && x < images.w && y >= 0 && y < images.h && n >= 0 && n < images.n && first < last;
    rows.push_back(there ? BulkRow{images.data + (((n * images.h + y) * images.w + x) * images.c + c + first) * kBytes,
                                   first * kBytes, last * kBytes}
                         : BulkRow{});
    if (++w <= images.last_w) continue;
    w = images.first_w;
    if (++h <= images.last_h) continue;
    h = images.first_h;
    ++n;
  }
  begin_copy({std::move(rows), images.channels * kBytes, 128, static_cast<char*>(shared), 0, 0, 0}, mbarrier,
             "load_pixels", site);
}

void Executor::begin_copy(BulkCopy copy, void* mbarrier, const char* what, const std::source_location& site) {
  copy.mbarrier = find_mbarrier(mbarrier, what, site);
  copy.thread = number(*running_);
  const size_t bytes = copy.rows.size() * static_cast<size_t>(copy.row_bytes);
  std::string wrong;
  if (!arena().contains(copy.to, 1) || !arena().is_placed(copy.to, bytes))
    wrong = detail::concat("writes ", bytes, " bytes that are not all shared memory");
  else if (reinterpret_cast<uintptr_t>(copy.to) % kBoxAlignment != 0)
    wrong = detail::concat("writes to an address that is not aligned to ", kBoxAlignment, " bytes");
  else if (!mbarriers_[copy.mbarrier].fenced)
    wrong = "completes on an mbarrier with no mbarrier_init_fence after its initialisation";
  else
    wrong = wrong_access(copy.to, bytes, Access::write, 1);
  if (wrong.empty() && watching != nullptr) {
    copy.time = Clocks::next_stamp();
    wrong = checker_->touch(copy.to, bytes, Access::write, copy.thread, checker_->clocks().copies(copy.mbarrier),
                            copy.time);
  }
  if (wrong.empty() && !options_.lazy_copies) wrong = make(copy);
  if (!wrong.empty()) fail(detail::concat(place(what, site), ": ", wrong));
  if (options_.lazy_copies) bulk_copies_.push_back(std::move(copy));
}

std::string Executor::make(const BulkCopy& copy) {
  // Groups of 16 bytes change places by the bits above them, of the address in shared memory.
  const size_t mask = copy.swizzle_bytes == 0 ? 0 : copy.swizzle_bytes / kCopyBytes - 1;
  auto at = static_cast<size_t>(copy.to - shared_.begin());
  for (const BulkRow& row : copy.rows) {
    if (row.first < row.last && watching != nullptr) {
      const std::string wrong = checker_->touch(row.data, static_cast<size_t>(row.last - row.first), Access::read,
                                                copy.thread, checker_->clocks().copies(copy.mbarrier), copy.time);
      if (!wrong.empty()) return wrong;
    }
    for (int64_t x = 0; x < copy.row_bytes; x += kGroup, at += kCopyBytes) {
      char* const to = shared_.begin() + (at ^ (at >> 7 & mask) << 4);
      std::memset(to, 0, kCopyBytes);
      const int64_t from = std::max(x, row.first), end = std::min(x + kGroup, row.last);
      if (from < end) std::memcpy(to + (from - x), row.data + (from - row.first), static_cast<size_t>(end - from));
    }
  }
  if (watching != nullptr) checker_->clocks().copied(copy.mbarrier, copy.time);
  mbarriers_[copy.mbarrier].bytes -= static_cast<int64_t>(at) - (copy.to - shared_.begin());
  return settle(copy.mbarrier);
}

bool Executor::make_a_bulk_copy() {
  if (bulk_copies_.empty()) return false;
  const size_t count = bulk_copies_.size();
  const auto chosen =
      bulk_copies_.begin() + static_cast<std::ptrdiff_t>(options_.order == Order::fifo ? 0
                                                         : options_.order == Order::reverse
                                                             ? count - 1
                                                             : random_below(static_cast<uint32_t>(count)));
  const BulkCopy copy = *chosen;
  bulk_copies_.erase(chosen);
  running_ = &threads_[copy.thread];
  const std::string wrong = make(copy);
  if (!wrong.empty()) report("a bulk copy: " + wrong);
  return true;
}

std::string Executor::unfinished() const {
  if (cluster_has_stored_)
    return detail::concat("kernel ", config_.name,
                          ": a cluster ends after a cluster_store that no cluster_sync follows");
  for (const Mbarrier& b : mbarriers_)
    if (b.valid && b.bytes != 0)
      return detail::concat("kernel ", config_.name, ": a block ends while the mbarrier at byte ",
                            b.offset % kArenaBytes, " waits for ", b.bytes, " bytes of bulk copies");
  return "";
}

}  // namespace sinew::cuda::emulate
