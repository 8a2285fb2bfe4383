// The simulator's agenda: a 4-ary heap of events in their total order (time, destination, kind, source, sequence).
// Nothing in the key depends on the order in which the engine created the events.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "dist/world.h"

namespace sinew::dist {

struct InFlight;

struct Event {
  // In this order at equal times: what arrives exactly at a deadline has arrived.
  enum Kind : uint32_t { delivery, kill, lost, restart, wake, timer };

  Nanos time = 0;
  uint64_t place = 0;   // destination, then kind
  uint64_t origin = 0;  // delivery: source, then sequence
  union {
    InFlight* message = nullptr;  // delivery
    uint64_t generation;          // wake
  };

  Rank node() const { return static_cast<Rank>(place >> 32); }
  Kind kind() const { return static_cast<Kind>(place & 0xffffffffu); }
  bool operator<(const Event& other) const {
    if (time != other.time) return time < other.time;
    if (place != other.place) return place < other.place;
    return origin < other.origin;
  }
};

inline Event make_event(Nanos time, Rank node, Event::Kind kind) {
  Event e;
  e.time = time;
  e.place = uint64_t(uint32_t(node)) << 32 | kind;
  return e;
}

class EventQueue {
 public:
  bool empty() const { return heap_.empty(); }
  const Event& top() const { return heap_.front(); }

  void push(const Event& e) {
    size_t i = heap_.size();
    heap_.push_back(e);
    while (i > 0) {
      size_t parent = (i - 1) / 4;
      if (!(e < heap_[parent])) break;
      heap_[i] = heap_[parent];
      i = parent;
    }
    heap_[i] = e;
  }

  Event pop() {
    Event result = heap_.front(), e = heap_.back();
    heap_.pop_back();
    const size_t n = heap_.size();
    if (n == 0) return result;
    for (size_t i = 0;;) {
      size_t first = 4 * i + 1;
      if (first >= n) {
        heap_[i] = e;
        return result;
      }
      size_t best = first, end = std::min(first + 4, n);
      for (size_t j = first + 1; j < end; ++j)
        if (heap_[j] < heap_[best]) best = j;
      if (!(heap_[best] < e)) {
        heap_[i] = e;
        return result;
      }
      heap_[i] = heap_[best];
      i = best;
    }
  }

 private:
  std::vector<Event> heap_;
};

}  // namespace sinew::dist
