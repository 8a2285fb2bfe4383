#include "nn/data/subset.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "nn/data/shuffle.h"

namespace sinew::nn {

int64_t Subset::at(int64_t index) const {
  SINEW_CHECK(index >= 0 && index < size(), "subset", "sample ", index, " of ", size());
  return indices_[static_cast<size_t>(index)];
}

std::vector<int64_t> Subset::mapped(std::span<const int64_t> indices) const {
  std::vector<int64_t> out;
  out.reserve(indices.size());
  for (int64_t index : indices) out.push_back(at(index));
  return out;
}

void Subset::read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  data_->read(mapped(indices), inputs, labels);
}

void Subset::read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  data_->read_augmented(draw, mapped(indices), inputs, labels);
}

void Subset::read_targets(std::span<const int64_t> indices, float* targets) const {
  data_->read_targets(mapped(indices), targets);
}

Result<TestSplit> split_off_test(int64_t size, double share) {
  const auto kept = std::max<int64_t>(1, static_cast<int64_t>(std::floor(share * static_cast<double>(size) + 0.5)));
  if (kept >= size)
    return make_status(StatusCode::invalid_argument, "data.test_share ", share, " of ", size,
                       " samples leaves none to train with");
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, {.seed = 0, .purpose = static_cast<uint32_t>(RngPurpose::shard), .rank = 0xffffffff, .step = 0});
  TestSplit out{.train = {order.begin() + kept, order.end()}, .test = {order.begin(), order.begin() + kept}};
  std::sort(out.train.begin(), out.train.end());
  std::sort(out.test.begin(), out.test.end());
  return out;
}

}  // namespace sinew::nn
