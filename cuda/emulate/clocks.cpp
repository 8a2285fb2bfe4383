#include "cuda/emulate/clocks.h"

#include <atomic>
#include <ranges>

namespace sinew::cuda::emulate {

uint32_t Clocks::next_stamp() {
  static std::atomic<uint32_t> stamp{0};
  return ++stamp;
}

std::string Clocks::name(unsigned actor) const {
  if (actor < threads_) {
    const unsigned of_block = threads_ / blocks_;
    const std::string block = blocks_ == 1 ? "" : " of the cluster's block " + std::to_string(actor / of_block);
    return "thread " + std::to_string(actor % of_block) + block;
  }
  if (!is_product(actor)) return "a bulk copy";
  return "wgmma of warp " + std::to_string(actor - products(0));
}

void Clocks::start() {
  if (active_) return;
  active_ = true;
  mbarriers_.clear();
  own_.assign(threads_, 0);
  of_threads_.assign(size_t{threads_} * width(), 0);
}

void Clocks::add_mbarrier(unsigned mbarrier) {
  start();
  mbarriers_.resize(std::max<size_t>(mbarriers_.size(), mbarrier + 1));
  mbarriers_[mbarrier] = {Clock(width(), 0), Clock(width(), 0)};
}

void Clocks::barrier() {
  floor_ = next_stamp();
  if (!active_) return;
  for (unsigned actor = threads_; actor < width(); ++actor) {
    uint32_t seen = 0;
    for (unsigned t = 0; t < threads_; ++t) seen = std::max(seen, at(t, actor));
    for (unsigned t = 0; t < threads_; ++t) at(t, actor) = seen;
  }
}

template <class Threads>
void Clocks::join(const Threads& threads) {
  Clock joined(width(), 0);
  for (const unsigned t : threads) {
    for (unsigned actor = 0; actor < width(); ++actor) joined[actor] = std::max(joined[actor], at(t, actor));
    joined[t] = std::max(joined[t], now(t));
  }
  for (const unsigned t : threads)
    for (unsigned actor = 0; actor < width(); ++actor) at(t, actor) = joined[actor];
}

void Clocks::meet(const std::vector<unsigned>& threads) {
  join(threads);
  for (const unsigned t : threads) own_[t] = next_stamp();  // what they do from here on nobody knows yet
}

void Clocks::warp_sync(unsigned warp) {
  const unsigned begin = warp * kWarp, end = std::min(begin + kWarp, threads_);
  if (active_) join(std::views::iota(begin, end));
  warp_floors_[warp] = next_stamp();
}

void Clocks::fence(unsigned thread) {
  fences_[thread] = next_stamp();
  if (active_) own_[thread] = next_stamp();
}

void Clocks::arrive(unsigned mbarrier, unsigned thread) {
  Clock& clock = mbarriers_[mbarrier].arriving;
  for (unsigned actor = 0; actor < width(); ++actor) clock[actor] = std::max(clock[actor], at(thread, actor));
  clock[thread] = now(thread);
  own_[thread] = next_stamp();  // what it does from here on is not released
}

void Clocks::copied(unsigned mbarrier, uint32_t stamp) {
  uint32_t& time = mbarriers_[mbarrier].arriving[copies(mbarrier)];
  time = std::max(time, stamp);
}

void Clocks::wait(unsigned mbarrier, unsigned thread) {
  const Clock& clock = mbarriers_[mbarrier].complete;
  for (unsigned actor = 0; actor < width(); ++actor) at(thread, actor) = std::max(at(thread, actor), clock[actor]);
}

void Clocks::wait_products(unsigned warp, uint32_t stamp, unsigned thread) {
  uint32_t& time = at(thread, products(warp));
  time = std::max(time, stamp);
}

}  // namespace sinew::cuda::emulate
