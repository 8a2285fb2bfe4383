// A leaf of a tree, a worker (dist/schemes/tree.h). theta is written before the gradient, and in finish() by one that
// was stopped or has become the root.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"
#include "dist/schemes/tree.h"

namespace sinew::dist {
namespace {

// Deadlines that a root in the place of another has between two answers.
constexpr int kPatience = 4;
// Periods that others are ahead of who was stopped, when it takes over theirs.
constexpr int64_t kStale = 10;
const std::string kArrived = "arrived.";

class TreeLeaf final : public Scheme {
 public:
  TreeLeaf(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
      : world_(world),
        options_(options),
        tree_(options.workers, static_cast<int>(options.fan_out)),
        period_(tree_periods(options, tree_, world.rank()).up),
        down_(tree_periods(options, tree_, tree_.root()).down),
        alpha_(moving_rate(options)),
        dtype_(dtype),
        links_(options, world, tree_, size, dtype, options.fingerprint),
        root_(tree_.root()),
        stops_(world.stops()),
        parent_(Vec::zeros(size, dtype, device)),
        difference_(Vec::zeros(size, dtype, device)) {}
  ~TreeLeaf() override {
    if (!listening_) return;
    world_.on(Tag::tree_push, {});
    world_.on(Tag::tree_fetch, {});
  }

  Mixes mixes() const override { return Mixes::before; }
  Evaluated evaluated() const override { return Evaluated::center; }

  Status start(VecView theta) override {
    listen();
    const bool adopts = world_.incarnation() > 0;
    const Deadline deadline(world_, options_.deadline);
    Result<Received> asked = ask_root(adopts, deadline);
    if (!asked.ok()) return asked.status();
    const Received& r = *asked;
    if (root_ != world_.rank() && !r.ok())
      return make_status(StatusCode::timeout, "no answer from the root (rank ", root_, ") for ",
                         static_cast<double>(options_.deadline) * 1e-9, " s");
    if (r.ok() && static_cast<uint64_t>(r.message.head.arg[0]) != options_.fingerprint)
      return make_status(StatusCode::invalid_argument, "rank ", world_.rank(), " and the root (rank ", root_,
                         ") differ in model, data type or options; start all with the same configuration");
    if (adopts) {
      Payload x = r.message.body;
      if (x.size() == 0) x = links_.fetch_nearest(deadline.left()).message.body;
      if (x.size() == theta.bytes()) upload(x.data(), theta);
    }
    copy(theta, parent_.mutable_view());
    tell(theta, 0);
    return Status::Ok();
  }

  Status before_step(int64_t step, VecView theta) override {
    const bool cut = world_.suppressed(step / period_);
    if (!cut) come_back(step, theta);
    if (step % period_ == 0) {
      SINEW_RETURN_IF_ERROR(find_root());
      if (!cut) SINEW_RETURN_IF_ERROR(hear_root());
      if (cut) {
        ++counters_.missed;
      } else {
        const Payload x = tell(theta, step);
        links_.push_up(step, x);
        const bool passed = step > 0 && step / down_ > (step - period_) / down_;
        if (root_ == world_.rank() && passed) links_.push_down(step, x);
      }
    }
    if (cut)
      world_.publish([&] { arrived_.clear(); });
    else
      mix(theta);
    return Status::Ok();
  }

  Status evaluation_point(ConstVecView theta, VecView out) override {
    Payload x;
    for (const Deadline deadline(world_, options_.deadline);;) {
      const Result<Received> asked = ask_root(true, deadline);
      if (!asked.ok()) return asked.status();
      if (root_ == world_.rank()) {
        copy(theta, out);
        return Status::Ok();
      }
      if (asked->ok()) x = asked->message.body;
      if (x.size() == out.bytes() || deadline.left() == 0) break;
      world_.sleep(std::min(kLook, deadline.left()));  // it has been restarted, and has none yet
    }
    if (x.size() != out.bytes() && root_ != tree_.root()) return no_majority();
    if (x.size() != out.bytes()) x = links_.fetch_nearest(options_.deadline / 4).message.body;
    if (x.size() == out.bytes())
      upload(x.data(), out);
    else
      copy(parent_.view(), out);
    return Status::Ok();
  }

  Status finish(VecView theta) override {
    come_back(told_, theta);
    links_.push_up(0, tell(theta, told_));  // the last steps count; the clock stays
    SINEW_RETURN_IF_ERROR(find_root());
    // A root in the place of another has to be that of the majority to the end.
    for (answered_ = false; root_ != tree_.root(); world_.sleep(kLook)) {
      SINEW_RETURN_IF_ERROR(world_.health());
      SINEW_RETURN_IF_ERROR(find_root());
      SINEW_RETURN_IF_ERROR(hear_root());
      if (answered_) break;
    }
    if (root_ != world_.rank()) return Status::Ok();
    // As the root it is there until the others are done, and takes their last in.
    for (bool done = false; !done;) {
      Result<bool> all =
          wait_for_workers(world_, options_.workers, kSecond, [this](Rank r) { return r == world_.rank(); });
      if (!all.ok()) return all.status();
      done = *all;
    }
    bool majority = false;
    world_.publish([&] { majority = links_.has_majority(); });
    if (!majority) return no_majority();
    mix(theta);
    return Status::Ok();
  }

  double take_external_write() override { return std::exchange(moved_, 0.0); }
  SchemeCounters counters() const override { return counters_; }

  SchemeState save() const override {
    SchemeState state{{{"parent", parent_.clone()}},
                      {{"exchanges", counters_.exchanges}, {"missed", counters_.missed}}};
    links_.save(state);
    world_.publish([&] {
      state.vectors["told"] = Vec::copy_of(x_.view(dtype_));
      state.numbers["told_at"] = told_, state.numbers["heard"] = heard_;
      for (const auto& [rank, x] : arrived_)
        state.vectors[kArrived + std::to_string(rank)] = Vec::copy_of(x.view(dtype_));
    });
    return state;
  }
  Status load(const SchemeState& state) override {
    Vec told = Vec::empty(parent_.size(), dtype_);
    SINEW_RETURN_IF_ERROR(load_vector(state, "parent", parent_));
    SINEW_RETURN_IF_ERROR(load_vector(state, "told", told));
    SINEW_RETURN_IF_ERROR(links_.load(state));
    int64_t told_at = 0, heard = 0;
    SINEW_RETURN_IF_ERROR(load_numbers(state, {{"told_at", &told_at}, {"heard", &heard}}));
    std::map<Rank, Payload> arrived;
    for (const auto& [name, vector] : state.vectors) {
      if (!name.starts_with(kArrived)) continue;
      const Result<int64_t> rank = load_index(name, kArrived, tree_.nodes());
      if (!rank.ok()) return rank.status();
      Vec x = Vec::empty(parent_.size(), dtype_);
      SINEW_RETURN_IF_ERROR(load_vector(state, name, x));
      arrived[static_cast<Rank>(*rank)] = Payload::copy_of(x.view());
    }
    world_.publish([&] {
      x_ = Payload::copy_of(told.view());
      told_ = told_at, heard_ = known_ = heard;
      arrived_ = std::move(arrived);
    });
    listen();
    return load_numbers(state, {{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}});
  }

 private:
  void listen() {
    listening_ = true;
    world_.on(Tag::tree_push, [this](const Message& m) {
      Payload x = links_.read(m);
      if (x.size() == 0) return;
      arrived_[m.head.source] = std::move(x);
      if (m.head.arg[0] == static_cast<int64_t>(From::above)) heard_ = std::max(heard_, m.head.arg[1]);
    });
    world_.on(Tag::tree_fetch, [this](const Message& m) { links_.answer(m, x_, told_); });
  }

  Status no_majority() const {
    return make_status(StatusCode::peer_lost, "the root of the tree (rank ", tree_.root(), ") is gone, and rank ",
                       root_, " in its place has not heard of a majority of the workers");
  }

  // Who is the root now. peer_lost: it may be on another side of the network, as half of the workers or more are gone.
  Status find_root() {
    const Rank now = root_now(world_, tree_), before = std::exchange(root_, now);
    if (now == tree_.root()) return Status::Ok();
    int here = 0;
    for (Rank r = 0; tree_.is_leaf(r); ++r) here += r == world_.rank() || world_.peer(r) != PeerState::gone;
    if (2 * here <= options_.workers)
      return make_status(StatusCode::peer_lost, "the root of the tree (rank ", tree_.root(),
                         ") is gone, and half of the workers or more are");
    if (now == before) return Status::Ok();
    question_.reset();
    patience_.emplace(world_, kPatience * options_.deadline);
    unanswered_ = 0;
    if (options_.on_note)
      options_.on_note(detail::concat("the root of the tree, rank ", tree_.root(), ", is gone; ",
                                      now == world_.rank() ? "this worker, " : "", "rank ", now, ", is the root now"));
    return Status::Ok();
  }

  // Asks a root in the place of another, and takes its answer to what was asked before. peer_lost: there has been none
  // for too long.
  Status hear_root() {
    if (root_ == tree_.root()) return Status::Ok();
    bool heard = false;
    if (root_ == world_.rank()) {
      world_.publish([&] { heard = links_.has_majority(); });
    } else {
      if (question_)
        heard = world_.receive({.tag = Tag::tree_ack, .source = root_, .request = question_->id()}, 0).ok();
      if (heard || !question_) question_.emplace(world_);
      links_.send_question(root_, question_->id());
    }
    if (heard) {
      answered_ = true;
      patience_.emplace(world_, kPatience * options_.deadline);
      unanswered_ = 0;
    } else if (++unanswered_ > 2 && patience_->left() == 0) {
      return no_majority();
    }
    return Status::Ok();
  }

  // Asks the root, and while it is lost waits for it to come back, or for another in its place. No message where this
  // worker is the root.
  Result<Received> ask_root(bool parameters, const Deadline& deadline) {
    for (;;) {
      SINEW_RETURN_IF_ERROR(find_root());
      if (root_ == world_.rank()) return Received{};
      Received r = links_.ask_root(root_, parameters, deadline.left());
      if (r.what != Received::What::peer_lost || deadline.left() == 0) return r;
      world_.sleep(std::min(kLook, deadline.left()));
    }
  }

  // What others get, who ask for this worker's x.
  Payload tell(ConstVecView theta, int64_t step) {
    Payload x = Payload::copy_of(theta);
    world_.publish([&] { x_ = x, told_ = step; });
    return x;
  }

  // After it was stopped: takes over the nearest node's x where the others went on far since this worker last heard.
  void come_back(int64_t step, VecView theta) {
    int64_t heard = 0;
    world_.publish([&] { heard = heard_; });
    if (const int64_t stops = world_.stops(); stops == std::exchange(stops_, stops)) {
      known_ = heard;
      return;
    }
    const int64_t before = std::max(step, std::exchange(known_, heard));
    const Received there = links_.fetch_nearest(options_.deadline, before + kStale * period_);
    if (!there.ok()) return;
    upload(there.message.body.data(), parent_.mutable_view());
    if (!all_finite(parent_.view())) return;
    const double moved2 = squared_distance(theta, parent_.view());
    if (std::isfinite(moved2)) moved_ += moved2;
    copy(parent_.view(), theta);
    world_.publish([&] { arrived_.clear(); });
    if (options_.on_note)
      options_.on_note(
          detail::concat("this worker was stopped and the others went on: it takes over the parameters of rank ",
                         there.message.head.source));
  }

  // Moves toward the newest of each that has pushed.
  void mix(VecView theta) {
    std::map<Rank, Payload> arrived;
    world_.publish([&] { arrived.swap(arrived_); });
    for (const auto& [rank, x] : arrived) {
      upload(x.data(), parent_.mutable_view());
      const double distance2 = elastic_difference(alpha_, theta, parent_.view(), difference_.mutable_view());
      if (!std::isfinite(distance2)) {
        ++counters_.missed;
        // A worker whose own parameters are not finite takes over what came.
        if (all_finite(parent_.view())) copy(parent_.view(), theta);
        continue;
      }
      // With alpha == 0 nothing moves; adding zeros would still turn -0 into 0.
      if (alpha_ != 0) accumulate(-1.0, difference_.view(), theta);
      moved_ += alpha_ * alpha_ * distance2;
      ++counters_.exchanges;
    }
  }

  World& world_;
  const SchemeOptions options_;
  const Tree tree_;
  const int64_t period_, down_;
  const double alpha_;
  const DType dtype_;
  TreeLinks links_;
  Rank root_;  // as last seen
  int64_t stops_;
  int64_t known_ = 0;                 // the latest clock heard from above before a stop
  std::optional<Request> question_;   // to a root in the place of another
  std::optional<Deadline> patience_;  // for its next answer
  int unanswered_ = 0;                // questions since the last
  bool answered_ = false;             // since finish() began
  bool listening_ = false;
  std::map<Rank, Payload> arrived_;  // the newest of each that has not been mixed yet; the handler's
  Payload x_;                        // as last told; the handler's, too
  int64_t told_ = 0, heard_ = 0;     // when, and the latest clock from above; likewise
  Vec parent_;                       // the last that was mixed
  Vec difference_;
  double moved_ = 0;
  SchemeCounters counters_;
};

}  // namespace

std::unique_ptr<Scheme> make_tree_leaf(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                       Device device) {
  return std::make_unique<TreeLeaf>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
