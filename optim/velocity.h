// The state that all momentum transforms share: a velocity with the parameters' layout.
//
// Policy on outside writes of theta (elastic moves, averaging): the velocity is kept. Momentum is local, never
// averaged and never reset (EASGD spec, section 0, trap 3).
#pragma once

#include "optim/optimizer.h"

namespace sinew::optim {

class VelocityTransform : public Transform {
 public:
  // Throws Error unless momentum is in [0, 1).
  VelocityTransform(std::string name, double momentum);
  std::string name() const override { return name_; }
  void init(const ParamLayout& layout, DType dtype, Device device) override;
  void save(State& state) const override;
  Status load(const State& state) override;

 protected:
  double momentum() const { return momentum_; }
  VecView velocity() { return velocity_.mutable_view(); }

 private:
  std::string name_;
  double momentum_;
  Vec velocity_;
};

}  // namespace sinew::optim
