#include "nn/data/chunks.h"

#include <algorithm>

#include "nn/data/shuffle.h"

namespace sinew::nn {
namespace {

// Under RngPurpose::shuffle, whose other ranks are workers. Part of the reproducibility contract.
constexpr uint32_t kFileRank = 0xffffffff, kFirstStreamRank = 0x80000000;

}  // namespace

Chunks::Chunks(std::vector<int64_t> samples, const LoaderOptions& options)
    : samples_(std::move(samples)), options_(options) {
  const auto n = static_cast<int64_t>(samples_.size());
  SINEW_CHECK(n > 0 && (!options.chunk_parts || n >= options.chunk_loaders), "chunks", n, " samples for ",
              options.chunk_loaders, " streams");
  // The paper's files hold the images in random order; ours may be sorted by class.
  if (options.shuffle)
    shuffle(
        samples_,
        {.seed = options.seed, .purpose = static_cast<uint32_t>(RngPurpose::shuffle), .rank = kFileRank, .step = 0});
}

std::vector<int64_t> Chunks::request(int64_t number) const {
  std::vector<int64_t> out;
  out.reserve(static_cast<size_t>(options_.chunk * options_.chunk_loaders));
  for (int stream = 0; stream < options_.chunk_loaders; ++stream)
    append(stream, number * options_.chunk, options_.chunk, out);
  return out;
}

void Chunks::append(int stream, int64_t first, int64_t n, std::vector<int64_t>& out) const {
  const auto all = static_cast<int64_t>(samples_.size());
  const int64_t begin = all * stream / options_.chunk_loaders, next = all * (stream + 1) / options_.chunk_loaders;
  const int64_t size = options_.chunk_parts ? next - begin : all, origin = options_.chunk_parts ? begin : 0;
  const int64_t most = size % options_.batch;     // of an offset
  int64_t at = options_.chunk_parts ? 0 : begin;  // where the pass starts; the first one is not drawn
  for (int64_t pass = 0; n > 0; ++pass) {
    if (pass > 0) {
      const RngKey key{.seed = options_.seed,
                       .purpose = static_cast<uint32_t>(RngPurpose::shuffle),
                       .rank = kFirstStreamRank + static_cast<uint32_t>(stream),
                       .step = static_cast<uint64_t>(pass)};
      at = below(philox_u32(key, 0), static_cast<uint32_t>(most + 1));
    }
    const int64_t length = size - at;  // of the pass
    if (first < length) {
      const int64_t taken = std::min(n, length - first);
      const auto from = samples_.begin() + origin + at + first;
      out.insert(out.end(), from, from + taken);
      n -= taken, first = length;
    }
    first -= length;
  }
}

}  // namespace sinew::nn
