// Sequential SGD whose result is an average of its parameters, z <- (1 - a) z + a x_t before every step:
//   asgd    a = 1 / (t + 1): the mean of all x so far (Polyak and Juditsky 1992; arXiv:1412.6651v8, section 5)
//   mvasgd  a constant
// As in `local` nothing is communicated: with several workers, each is one run of the baseline.
#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

class Averaged final : public Scheme {
 public:
  Averaged(const SchemeOptions& options, int64_t size, DType dtype)
      : rate_(options.name == "mvasgd" ? options.average_rate : -1), dtype_(dtype), mean_(static_cast<size_t>(size)) {}

  Evaluated evaluated() const override { return Evaluated::own; }

  Status start(VecView theta) override {
    mean_ = to_doubles(theta);
    return Status::Ok();
  }

  Status before_step(int64_t, VecView theta) override {
    const double rate = rate_ >= 0 ? rate_ : 1.0 / static_cast<double>(count_ + 1);
    ++count_;
    if (theta.device == Device::cpu) {
      average_toward(rate, theta, mean_);
    } else {
      Vec host = Vec::empty(theta.size, dtype_);
      download(theta, host.mutable_view().data);
      average_toward(rate, host.view(), mean_);
    }
    return Status::Ok();
  }

  Status evaluation_point(ConstVecView, VecView out) override {
    if (dtype_ == DType::f64)
      upload(mean_.data(), out);
    else
      upload(std::vector<float>(mean_.begin(), mean_.end()).data(), out);
    return Status::Ok();
  }

  SchemeState save() const override { return {{{"mean", Vec::copy_of(ConstVecView(mean_))}}, {{"count", count_}}}; }
  Status load(const SchemeState& state) override {
    Vec mean = Vec::empty(static_cast<int64_t>(mean_.size()), DType::f64);
    SINEW_RETURN_IF_ERROR(load_vector(state, "mean", mean));
    mean_ = to_doubles(mean.view());
    return load_numbers(state, {{"count", &count_}});
  }

 private:
  const double rate_;  // < 0: the mean of all
  const DType dtype_;
  std::vector<double> mean_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<Scheme> make_averaged(const SchemeOptions& options, int64_t size, DType dtype) {
  return std::make_unique<Averaged>(options, size, dtype);
}

}  // namespace sinew::dist
