// Loops over (rows, channels) arrays whose operands include vectors of one value a channel.
//
// The array is walked as rows of `length` elements, a multiple of `channels` that is long enough for SIMD whatever the
// number of channels; vectors of one value a channel are repeated to that length once. So every inner loop is one over
// contiguous memory, without a remainder per row, also for 3 channels.
//
// Sums over rows add four rows, then into `length` lanes inside a chunk; chunks are folded to channels and combined by
// index in double. The chunks depend on the shape alone: the same bits for any number of threads and instruction set.
#pragma once

#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {

struct Channels {
  int64_t channels, elements, length;
  int64_t chunk;  // elements, a multiple of length
  int64_t chunks;
};

// About `chunk` elements a chunk.
inline Channels channels_of(int64_t rows, int64_t channels, int64_t chunk) {
  constexpr int64_t kLanes = 16, kEnough = 128;
  int64_t length = channels;
  if (length < kEnough) {
    while (length % kLanes) length += channels;
    length *= (kEnough + length - 1) / length;
  }
  Channels c{channels, rows * channels, length, 0, 0};
  c.chunk = max64(4, chunk / length) * length;
  c.chunks = (c.elements + c.chunk - 1) / c.chunk;
  return c;
}

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t n) : data_(static_cast<T*>(malloc(static_cast<size_t>(max64(n, 1)) * sizeof(T)))) {}
  ~Scratch() { free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_;
};

// Repeats the first `channels` elements of v over `length`.
template <class T>
inline void repeat(const Channels& c, T* v) {
  for (int64_t l = c.channels; l < c.length; ++l) v[l] = v[l - c.channels];
}

// fn(chunk number, first element, one past the last, scratch of `scratch` elements).
template <class T, class Fn>
inline void parallel_chunks(const Channels& c, int64_t scratch, Fn fn) {
  auto run = [&](int64_t k, T* own) { fn(k, k * c.chunk, min64(c.elements, (k + 1) * c.chunk), own); };
  if (c.elements < kParallelElements || c.chunks < 2) {
    Scratch<T> own(scratch);
    for (int64_t k = 0; k < c.chunks; ++k) run(k, own.get());
    return;
  }
#pragma omp parallel
  {
    Scratch<T> own(scratch);
#pragma omp for schedule(static)
    for (int64_t k = 0; k < c.chunks; ++k) run(k, own.get());
  }
}

// fn(element, lane) for the elements of a chunk; lane indexes the repeated vectors.
template <class Fn>
inline void for_lanes(const Channels& c, int64_t begin, int64_t end, Fn fn) {
  for (int64_t i = begin; i < end; i += c.length) {
    const int64_t n = min64(c.length, end - i);
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) fn(i + l, l);
  }
}

// fn(element, lane) over all elements, in parallel.
template <class T, class Fn>
inline void for_elements(const Channels& c, Fn fn) {
  parallel_chunks<T>(c, 0, [&](int64_t, int64_t begin, int64_t end, T*) { for_lanes(c, begin, end, fn); });
}

// lanes[k][l] = sum over the rows of a chunk of what term(element, lane, v) adds to v[k].
template <int kSums, class T, class Term>
inline void lane_sums(const Channels& c, int64_t begin, int64_t end, T* lanes, Term term) {
  const int64_t length = c.length;
  memset(lanes, 0, static_cast<size_t>(kSums * length) * sizeof(T));
  int64_t i = begin;
  for (; i + 4 * length <= end; i += 4 * length) {
#pragma GCC ivdep
    for (int64_t l = 0; l < length; ++l) {
      T v[kSums] = {};
      term(i + l, l, v);
      term(i + l + length, l, v);
      term(i + l + 2 * length, l, v);
      term(i + l + 3 * length, l, v);
      for (int k = 0; k < kSums; ++k) lanes[k * length + l] += v[k];
    }
  }
  for (; i < end; i += length) {
    const int64_t n = min64(length, end - i);
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) {
      T v[kSums] = {};
      term(i + l, l, v);
      for (int k = 0; k < kSums; ++k) lanes[k * length + l] += v[k];
    }
  }
}

// out[channel] = sum of the lanes that belong to it.
template <class T>
inline void fold(const Channels& c, const T* lanes, double* out) {
  for (int64_t j = 0; j < c.channels; ++j) out[j] = static_cast<double>(lanes[j]);
  for (int64_t l = c.channels; l < c.length; l += c.channels)
    for (int64_t j = 0; j < c.channels; ++j) out[j] += static_cast<double>(lanes[l + j]);
}

// totals[k][channel] = sum over all rows of what term adds to v[k].
template <int kSums, class T, class Term>
inline void channel_sums(const Channels& c, double* totals, Term term) {
  const int64_t n = kSums * c.channels;
  Scratch<double> partial(c.chunks * n);
  parallel_chunks<T>(c, kSums * c.length, [&](int64_t chunk, int64_t begin, int64_t end, T* lanes) {
    lane_sums<kSums>(c, begin, end, lanes, term);
    for (int k = 0; k < kSums; ++k) fold(c, lanes + k * c.length, &partial[chunk * n + k * c.channels]);
  });
  for (int64_t j = 0; j < n; ++j) totals[j] = 0;
  for (int64_t chunk = 0; chunk < c.chunks; ++chunk)
    for (int64_t j = 0; j < n; ++j) totals[j] += partial[chunk * n + j];
}

}  // namespace sinew::SINEW_CPU_NS
