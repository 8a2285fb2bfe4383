// An inner node of a tree (dist/schemes/tree.h): its handlers do everything.
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"
#include "dist/schemes/tree.h"

namespace sinew::dist {
namespace {

class TreeNode final : public CenterNode {
 public:
  TreeNode(const SchemeOptions& options, World& world, int64_t size, DType dtype, uint64_t fingerprint)
      : world_(world),
        options_(options),
        tree_(options.workers, static_cast<int>(options.fan_out)),
        periods_(tree_periods(options, tree_, world.rank())),
        alpha_(moving_rate(options)),
        size_(size),
        dtype_(dtype),
        links_(options, world, tree_, size, dtype, fingerprint) {}

  ~TreeNode() override {
    if (!listening_) return;
    world_.on(Tag::tree_push, {});
    world_.on(Tag::tree_fetch, {});
  }

  Status start(ConstVecView initial) override {
    SINEW_CHECK(initial.size == size_ && initial.dtype == dtype_, "easgd_tree", "initial vector of ", initial.size, " ",
                to_string(initial.dtype), ", expected ", size_, " ", to_string(dtype_));
    x_ = Payload::copy_of(initial);
    adopts_ = world_.incarnation() > 0;
    listen();
    if (world_.incarnation() == 0) return Status::Ok();
    const Payload found = links_.fetch_nearest(options_.deadline).message.body;
    world_.publish([&] {
      if (found.size() > 0 && std::exchange(adopts_, false)) x_ = found;
    });
    return Status::Ok();
  }

  Result<bool> serve(Nanos slice) override {
    Result<bool> done = wait_for_workers(world_, options_.workers, slice, [](Rank) { return false; });
    if (!is_root_ && world_.rank() != tree_.root() && root_now(world_, tree_) == world_.rank()) {
      is_root_ = true;
      if (options_.on_note)
        options_.on_note(detail::concat("the root of the tree, rank ", tree_.root(), ", is gone: this node, rank ",
                                        world_.rank(), ", is the root now"));
    }
    bool majority = true;
    if (is_root_ && done.ok() && *done) world_.publish([&] { majority = links_.has_majority(); });
    if (!majority)
      return make_status(StatusCode::peer_lost, "the root of the tree (rank ", tree_.root(),
                         ") is gone, and less than a majority of the workers has come to the end with rank ",
                         world_.rank(), ", the root in its place");
    return done;
  }
  void snapshot(VecView out) override {
    world_.publish([&] { upload(x_.data(), out); });
  }
  int64_t version() override { return read(version_); }
  int64_t refused() override { return read(refused_); }
  bool has_result() override {
    bool has = false;
    world_.publish([&] { has = !adopts_; });
    return has;
  }

  SchemeState save() override {
    SchemeState state;
    world_.publish([&] {
      state.vectors["center"] = Vec::copy_of(x_.view(dtype_));
      state.numbers = {{"clock", clock_}, {"version", version_}, {"refused", refused_}, {"adopts", adopts_}};
      links_.save(state);
    });
    return state;
  }
  Status load(const SchemeState& state) override {
    Vec x = Vec::empty(size_, dtype_);
    int64_t adopts = 0;
    SINEW_RETURN_IF_ERROR(load_vector(state, "center", x));
    SINEW_RETURN_IF_ERROR(
        load_numbers(state, {{"clock", &clock_}, {"version", &version_}, {"refused", &refused_}, {"adopts", &adopts}}));
    SINEW_RETURN_IF_ERROR(links_.load(state));
    x_ = Payload::copy_of(x.view());
    adopts_ = adopts != 0;
    listen();
    return Status::Ok();
  }

 private:
  void listen() {
    listening_ = true;
    world_.on(Tag::tree_push, [this](const Message& m) { on_push(m); });
    world_.on(Tag::tree_fetch, [this](const Message& m) { links_.answer(m, adopts_ ? Payload() : x_, clock_); });
  }

  int64_t read(const int64_t& field) {
    int64_t value = 0;
    world_.publish([&] { value = field; });
    return value;
  }

  void on_push(const Message& m) {
    const Payload body = links_.read(m);
    if (body.size() == 0) return;
    const ConstVecView theirs = body.view(dtype_);
    if (!in_parts(theirs.size, [&](int64_t at, int64_t n) { return all_finite(theirs.slice(at, n)); })) {
      ++refused_;
      return;
    }
    if (std::exchange(adopts_, false)) {
      x_ = body;
    } else {
      if (!x_.unique()) x_ = Payload::copy_of(x_.view(dtype_));
      const VecView x = x_.mutable_view(dtype_);
      in_parts(x.size, [&](int64_t at, int64_t n) {
        move_toward(alpha_, theirs.slice(at, n), x.slice(at, n));
        return true;
      });
    }
    ++version_;
    const int64_t before = clock_, now = m.head.arg[1];
    if (m.head.arg[0] != static_cast<int64_t>(From::below) || now <= before) return;
    clock_ = now;
    auto passed = [&](int64_t period) { return period > 0 && now / period > before / period; };
    if (passed(periods_.up)) links_.push_up(clock_, x_);
    if (passed(periods_.down)) links_.push_down(clock_, x_);
  }

  World& world_;
  const SchemeOptions options_;
  const Tree tree_;
  const TreePeriods periods_;
  const double alpha_;
  const int64_t size_;
  const DType dtype_;
  TreeLinks links_;
  bool listening_ = false, adopts_ = false;
  bool is_root_ = false;  // in the place of another, and has said so
  Payload x_;
  int64_t clock_ = 0, version_ = 0, refused_ = 0;
};

}  // namespace

std::unique_ptr<CenterNode> make_tree_node(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                           uint64_t fingerprint) {
  return std::make_unique<TreeNode>(options, world, size, dtype, fingerprint);
}

}  // namespace sinew::dist
