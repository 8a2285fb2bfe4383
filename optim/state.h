// What transforms with a memory share: vectors of the parameters' layout and counters, kept, saved and loaded by name.
//
// Policy on outside writes of theta (elastic moves, averaging): the state is kept. It is local, never averaged and
// never reset (EASGD spec, section 0, trap 3); and a second moment that is cleared alone makes steps of 1 / eps.
//
// Example: optim/lion.cpp.
#pragma once

#include "optim/optimizer.h"

namespace sinew::optim {

class StatefulTransform : public Transform {
 public:
  std::string name() const override { return name_; }
  void init(const ParamLayout& layout, DType dtype, Device device) override;
  void save(State& state) const override;
  Status load(const State& state) override;

 protected:
  // The names after "<name>." in a State. All start as zero.
  StatefulTransform(std::string name, std::vector<std::string> vectors, std::vector<std::string> counters = {});
  // By place in the lists above.
  VecView vector(size_t i) { return vectors_[i].mutable_view(); }
  int64_t& counter(size_t i) { return counters_[i]; }
  int64_t counter(size_t i) const { return counters_[i]; }
  // A vector without a memory, for apply(); made at its first use.
  VecView scratch();

 private:
  const std::string name_;
  const std::vector<std::string> vector_names_, counter_names_;
  std::vector<Vec> vectors_;
  std::vector<int64_t> counters_;
  Vec scratch_;
};

// 1 / (1 - beta^t): undoes the start from zero of an exponential average (Kingma and Ba 2015, section 3).
double bias_correction(double beta, int64_t t);

// Throw Error, for constructors: unless momentum is in [0, 1); unless the betas are in [0, 1) and eps > 0.
void check_momentum(const char* op, double momentum);
void check_averages(const char* op, double beta1, double beta2, double eps);

}  // namespace sinew::optim
