#include "dist/solo_world.h"

#include <chrono>
#include <thread>

namespace sinew::dist {
namespace {

using Clock = std::chrono::steady_clock;

class SoloWorld : public World {
 public:
  explicit SoloWorld(std::function<void(int64_t)> on_step) : on_step_(std::move(on_step)) {}

  Rank rank() const override { return 0; }
  int size() const override { return 1; }
  uint32_t incarnation() const override { return 0; }
  bool simulated() const override { return false; }
  Nanos now() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin_).count();
  }
  void compute(const Cost&, const std::function<void()>& fn) override { fn(); }
  void sleep(Nanos duration) override { std::this_thread::sleep_for(std::chrono::nanoseconds(duration)); }
  void send(Rank to, Head head, Payload) override {
    SINEW_FAIL("world", "message ", static_cast<int>(head.tag), " to rank ", to, " in a job of one process");
  }
  Received receive(const Match& match, Nanos) override {
    SINEW_FAIL("world", "waiting for message ", static_cast<int>(match.tag), " in a job of one process");
  }
  uint64_t open_request() override { return ++requests_; }
  void close_request(uint64_t) override {}
  void on(Tag, Handler) override {}
  void publish(const std::function<void()>& fn) override { fn(); }
  PeerState peer(Rank) const override { return PeerState::alive; }
  bool suppressed(int64_t) override { return false; }
  void report_step(int64_t step, VecView) override {
    if (on_step_) on_step_(step);
  }
  void leave() override {}
  TrafficCounters traffic() const override { return {}; }
  int64_t stops() const override { return 0; }
  Status health() const override { return Status::Ok(); }

 private:
  std::function<void(int64_t)> on_step_;
  Clock::time_point begin_ = Clock::now();
  uint64_t requests_ = 0;
};

}  // namespace

std::unique_ptr<World> make_solo_world(std::function<void(int64_t)> on_step) {
  return std::make_unique<SoloWorld>(std::move(on_step));
}

}  // namespace sinew::dist
