#include "optim/state.h"

#include <cmath>
#include <utility>

namespace sinew::optim {
namespace {

Status load_vector(const std::string& name, const Vec& saved, Vec& mine) {
  if (saved.size() != mine.size() || saved.dtype() != mine.dtype())
    return make_status(StatusCode::data_error, "optimizer state '", name, "' has ", saved.size(), " ",
                       to_string(saved.dtype()), " elements; this model needs ", mine.size(), " ",
                       to_string(mine.dtype()));
  if (saved.device() == mine.device()) {
    copy(saved.view(), mine.mutable_view());
    return Status::Ok();
  }
  std::vector<std::byte> host(saved.view().bytes());
  download(saved.view(), host.data());
  upload(host.data(), mine.mutable_view());
  return Status::Ok();
}

}  // namespace

StatefulTransform::StatefulTransform(std::string name, std::vector<std::string> vectors,
                                     std::vector<std::string> counters)
    : name_(std::move(name)),
      vector_names_(std::move(vectors)),
      counter_names_(std::move(counters)),
      vectors_(vector_names_.size()),
      counters_(counter_names_.size()) {}

void StatefulTransform::init(const ParamLayout& layout, DType dtype, Device device) {
  for (Vec& v : vectors_) v = Vec::zeros(layout.size(), dtype, device);
}

VecView StatefulTransform::scratch() {
  if (!scratch_.defined()) {
    const Vec& model = vectors_.at(0);
    scratch_ = Vec::empty(model.size(), model.dtype(), model.device());
  }
  return scratch_.mutable_view();
}

void StatefulTransform::save(State& state) const {
  for (size_t i = 0; i < vectors_.size(); ++i) state.vectors[name_ + "." + vector_names_[i]] = vectors_[i].clone();
  for (size_t i = 0; i < counters_.size(); ++i)
    state.numbers[name_ + "." + counter_names_[i]] = static_cast<double>(counters_[i]);
}

Status StatefulTransform::load(const State& state) {
  for (size_t i = 0; i < vectors_.size(); ++i) {
    const std::string name = name_ + "." + vector_names_[i];
    SINEW_RETURN_IF_ERROR(load_vector(name, state.vectors.at(name), vectors_[i]));
  }
  for (size_t i = 0; i < counters_.size(); ++i) {
    const std::string name = name_ + "." + counter_names_[i];
    Result<int64_t> count = whole_number(name, state.numbers.at(name));
    if (!count.ok()) return count.status();
    counters_[i] = *count;
  }
  return Status::Ok();
}

double bias_correction(double beta, int64_t t) { return 1 / (1 - std::pow(beta, static_cast<double>(t))); }

void check_momentum(const char* op, double momentum) {
  SINEW_CHECK(momentum >= 0 && momentum < 1, op, "momentum ", momentum, " is not in [0, 1)");
}
void check_averages(const char* op, double beta1, double beta2, double eps) {
  SINEW_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && eps > 0, op, "beta1 ", beta1, ", beta2 ", beta2,
              " must be in [0, 1) and eps ", eps, " positive");
}

}  // namespace sinew::optim
