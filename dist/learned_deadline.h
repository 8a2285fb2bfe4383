// How long to wait for what usually comes in time, learned from how long it has taken.
//
// Thread safety: values.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <string>

#include "dist/world.h"

namespace sinew::dist {

// Mean plus six deviations of the times so far, both by exponential averages (the estimator of TCP's retransmission
// time, Jacobson and Karels 1988, with the true variance), within bounds.
class LearnedDeadline {
 public:
  LearnedDeadline(Nanos lower, Nanos upper) : lower_(lower), upper_(std::max(lower, upper)) {}

  void observe(Nanos time) {
    const double x = static_cast<double>(time);
    if (++count_ == 1) {
      mean_ = x;
      return;
    }
    const double difference = x - mean_;
    mean_ += kGain * difference;
    variance_ = (1 - kGain) * (variance_ + kGain * difference * difference);
  }
  // Before enough was heard: the upper bound.
  Nanos value() const {
    if (count_ < kEnough) return upper_;
    const double learned = mean_ + 6 * std::sqrt(variance_);
    return learned >= static_cast<double>(upper_) ? upper_ : std::max(lower_, static_cast<Nanos>(learned));
  }

  void save(const std::string& name, std::map<std::string, int64_t>& numbers) const {
    numbers[name + ".mean"] = std::bit_cast<int64_t>(mean_);
    numbers[name + ".variance"] = std::bit_cast<int64_t>(variance_);
    numbers[name + ".count"] = count_;
  }
  void load(const std::string& name, const std::map<std::string, int64_t>& numbers) {
    const auto find = [&](const char* part, int64_t otherwise) {
      const auto found = numbers.find(name + part);
      return found == numbers.end() ? otherwise : found->second;
    };
    mean_ = std::bit_cast<double>(find(".mean", std::bit_cast<int64_t>(mean_)));
    variance_ = std::bit_cast<double>(find(".variance", std::bit_cast<int64_t>(variance_)));
    count_ = find(".count", count_);
  }

 private:
  static constexpr double kGain = 0.125;
  static constexpr int64_t kEnough = 8;
  Nanos lower_, upper_;
  double mean_ = 0, variance_ = 0;
  int64_t count_ = 0;
};

}  // namespace sinew::dist
