// DOWNPOUR and its kin: workers send what they have moved since the last exchange, v = x - base, and go on from the
// center. What the center makes of v is its own affair (CenterRule).
//   downpour, adownpour, mvadownpour   before the gradient, when the period divides the step:  c += v; x <- c
//                                      (Zhang et al., arXiv:1412.6651v8, Algorithm 3 and section 5)
//   mdownpour                          after the step:  v_c = momentum v_c + v; c += v_c; x <- c + momentum v_c
//                                      (Zhang, PhD thesis 2016, Algorithms 4 and 5; there the period is 1 and v = -eta
//                                      g)
// v is taken as a difference, not added up, so it holds for every optimizer, and an exchange that fails leaves it as it
// is: each movement reaches the center once. While a part of the center is silent nothing more is sent to it than what
// it has not confirmed: the movement adds up by itself. Buffers (batch norm's statistics) are averages already, so of
// their v a p-th part is sent, and without momentum: a sum over the workers would leave the range of the statistics.
#include <algorithm>
#include <cmath>
#include <vector>

#include "dist/rules.h"
#include "dist/schemes/center_scheme.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

constexpr char kSilent[] = "silent.";  // before a part's number, where it is saved

class Downpour final : public CenterScheme {
 public:
  Downpour(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
      : CenterScheme(options, world, size, dtype, device),
        after_(options.name == "mdownpour"),
        workers_(options.workers),
        parameters_(parameters_of(options, size)),
        base_(Vec::zeros(size, dtype, device)),
        pushed_(static_cast<size_t>(shards_.parts)),
        silent_(pushed_) {}

  Mixes mixes() const override { return after_ ? Mixes::after : Mixes::before; }

  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(CenterScheme::start(theta));
    copy(theta, base_.mutable_view());
    return Status::Ok();
  }

  Status before_step(int64_t step, VecView theta) override {
    return !after_ && step % period_ == 0 ? exchange(step / period_, theta) : Status::Ok();
  }

  Status after_step(int64_t step, VecView theta) override {
    return after_ && (step + 1) % period_ == 0 ? exchange(step / period_, theta) : Status::Ok();
  }

  // What was not sent yet is sent: nobody's last steps are for nothing.
  Status finish(VecView theta) override {
    remember(theta);
    std::fill(silent_.begin(), silent_.end(), 0);  // the last steps go out all the same
    if (squared_distance(theta, base_.view()) != 0 && !push(theta)) {
      // Too much is unconfirmed. An answer of the center makes room; unanswered, leaving fails as well.
      (void)client_.pull([](int, const Payload&) {});
      (void)push(theta);
    }
    return CenterScheme::finish(theta);
  }

  SchemeState save() const override {
    SchemeState state = CenterScheme::save();
    state.vectors["base"] = base_.clone();
    for (size_t p = 0; p < silent_.size(); ++p)
      if (silent_[p]) state.numbers[kSilent + std::to_string(p)] = 1;
    return state;
  }

  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(CenterScheme::load(state));
    for (size_t p = 0; p < silent_.size(); ++p) silent_[p] = state.numbers.count(kSilent + std::to_string(p)) > 0;
    return load_vector(state, "base", base_);
  }

 private:
  Status exchange(int64_t round, VecView theta) {
    if (world_.suppressed(round)) {
      ++counters_.missed;
      return Status::Ok();
    }
    remember(theta);
    refused_ = false;
    const bool pushed = push(theta);
    std::vector<int> missing;  // shards of each part
    for (int p = 0; p < shards_.parts; ++p) missing.push_back(shards_.first(p + 1) - shards_.first(p));
    Result<bool> complete = client_.pull([&](int s, const Payload& c) {
      --missing[static_cast<size_t>(shards_.part_of(s))];
      if (!pushed_[shards_.part_of(s)]) return;  // only to learn what arrived
      known_[s] = c;
      const ConstVecView theirs = on_device(c);
      if (!refused_) moved_ += squared_distance(part(theta, s), theirs);
      copy(theirs, part(theta, s));
      copy(theirs, part(base_.mutable_view(), s));
    });
    for (size_t p = 0; p < silent_.size(); ++p) silent_[p] = missing[p] > 0;
    complete = go_on(std::move(complete));
    if (!complete.ok()) return complete.status();
    ++(pushed && *complete && !refused_ ? counters_.exchanges : counters_.missed);
    return Status::Ok();
  }

  // False: a part is silent, or too much of it is unconfirmed, so that its movement waits.
  bool push(ConstVecView theta) {
    for (int p = 0; p < shards_.parts; ++p) pushed_[p] = push_part(p, theta);
    return std::count(pushed_.begin(), pushed_.end(), 0) == 0;
  }

  bool push_part(int p, ConstVecView theta) {
    return !silent_[p] && client_.push(p, [&](int s) {
      auto [v, moved2] = difference(1.0, part(theta, s), part(base_.view(), s));
      copy(part(theta, s), part(base_.mutable_view(), s));
      if (!std::isfinite(moved2)) {
        refused_ = true;  // it must not reach the center; this worker adopts the center instead
        return Rounded();
      }
      const int64_t first = std::clamp<int64_t>(parameters_ - shards_.begin(s), 0, shards_.length(s));
      const VecView buffers = v.mutable_view(dtype_).slice(first, shards_.length(s) - first);
      axpby(1.0 / workers_, buffers, 0, buffers, buffers);
      return quantize(s, std::move(v));
    });
  }

  const bool after_;
  const int workers_;
  const int64_t parameters_;
  Vec base_;                  // theta as of the last exchange
  std::vector<char> pushed_;  // of an exchange, by part
  std::vector<char> silent_;  // parts that did not answer the last exchange
  bool refused_ = false;
};

}  // namespace

std::unique_ptr<Scheme> make_downpour(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                      Device device) {
  return std::make_unique<Downpour>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
