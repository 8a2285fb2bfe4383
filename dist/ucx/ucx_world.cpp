#include "dist/ucx/ucx_world.h"

#include <poll.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "dist/launch_status.h"
#include "dist/ucx/engine.h"
#include "dist/ucx/fault_actor.h"

namespace sinew::dist {

namespace {

constexpr Nanos kWatchInterval = kSecond / 2;
constexpr Nanos kStarved = 2 * kSecond;  // this process itself was stopped or starved: others are judged anew
constexpr int kDoneTimeout = 1000;       // milliseconds for the supervisor to take the last report
constexpr int kStoreFailures = 3;        // in a row, until the store counts as unreachable

class UcxWorld final : public World {
 public:
  UcxWorld(const UcxOptions& options, std::shared_ptr<Store> store)
      : options_(options),
        store_(std::move(store)),
        inbox_(options.size, options.incarnation),
        actor_(options.faults, options.rank, options.incarnation, options.age, options.on_event),
        engine_(options, inbox_, [this](Nanos now) { return actor_.on_time(now); }) {}
  ~UcxWorld() override {
    {
      std::lock_guard lock(watch_mutex_);
      watching_ = false;
    }
    watch_wake_.notify_all();
    if (watcher_.joinable()) watcher_.join();
    engine_.stop();
  }

  Status join();

  Rank rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  uint32_t incarnation() const override { return options_.incarnation; }
  bool simulated() const override { return false; }
  Nanos now() const override { return engine_.now(); }

  void compute(const Cost&, const std::function<void()>& fn) override {
    const Nanos begin = now();
    fn();
    const double factor = plan_slowdown(options_.faults, options_.rank, engine_.moment());
    if (factor > 1) sleep(static_cast<Nanos>(static_cast<double>(now() - begin) * (factor - 1)));
  }
  void sleep(Nanos duration) override { std::this_thread::sleep_for(std::chrono::nanoseconds(duration)); }

  void send(Rank to, Head head, Payload body) override { engine_.send(to, head, std::move(body)); }
  Received receive(const Match& match, Nanos timeout) override {
    Received received = inbox_.receive(match, timeout);
    if (received.what == Received::What::timeout) ++timeouts_;
    return received;
  }
  Received::What receive_each(const Match& match, Nanos timeout, const Taker& take) override {
    const Received::What what = engine_.receive_each(match, timeout, take);
    if (what == Received::What::timeout) ++timeouts_;
    return what;
  }
  uint64_t open_request() override { return inbox_.open_request(); }
  void close_request(uint64_t request) override { inbox_.close_request(request); }
  void on(Tag tag, Handler handler) override { engine_.on(tag, std::move(handler)); }
  void publish(const std::function<void()>& fn) override { engine_.publish(fn); }

  PeerState peer(Rank rank) const override { return inbox_.state(rank); }
  bool suppressed(int64_t round) override {
    return plan_suppresses(options_.faults, options_.rank, round, engine_.moment());
  }
  void report_step(int64_t step, VecView theta) override;
  void leave() override;
  TrafficCounters traffic() const override {
    TrafficCounters counters = engine_.traffic();
    counters.timeouts = timeouts_;
    return counters;
  }
  int64_t stops() const override { return engine_.stops(); }
  Status health() const override { return engine_.health(); }

 private:
  void report(StatusRecord record);
  void watch();
  bool stopping(Nanos wait);
  // False when the store does not answer.
  bool look_up(Rank rank);

  const UcxOptions options_;
  const std::shared_ptr<Store> store_;
  Inbox inbox_;
  FaultActor actor_;
  Engine engine_;
  std::atomic<int64_t> timeouts_{0};

  std::mutex watch_mutex_;
  std::condition_variable watch_wake_;
  bool watching_ = true;
  std::thread watcher_;
};

Status UcxWorld::join() {
  const auto deadline = Clock::now() + std::chrono::nanoseconds(options_.join_timeout);
  SINEW_RETURN_IF_ERROR(engine_.start());
  inbox_.set_state(options_.rank, PeerState::alive);
  SINEW_RETURN_IF_ERROR(
      store_->set(address_key(options_.rank),
                  seal_address(options_.secret, options_.rank, {options_.incarnation, engine_.address()})));
  const auto left = [&] { return std::max<Nanos>(0, (deadline - Clock::now()).count()); };
  std::string missing;
  for (Rank rank = 0; rank < options_.size; ++rank) {
    if (rank == options_.rank) continue;
    Result<std::string> text = make_status(StatusCode::timeout, "");
    while (text.status().code() == StatusCode::timeout) {
      text = store_->get(address_key(rank), std::min(left(), kWatchInterval));
      if (text.ok() || store_->try_get(gone_key(rank)).ok() || left() == 0) break;
    }
    if (text.ok()) {
      Result<AddressRecord> record = open_address(options_.secret, rank, *text);
      if (!record.ok()) return record.status();
      engine_.connect(rank, std::move(*record));
    } else if (text.status().code() != StatusCode::timeout) {
      return text.status();
    } else if (store_->try_get(gone_key(rank)).ok()) {
      engine_.mark_gone(rank);
    }
  }
  // A restarted node goes on without those that do not answer.
  const Nanos answer = options_.incarnation == 0 ? left() : std::min(left(), options_.silence);
  inbox_.wait_for_states(answer, [](const std::vector<PeerState>& states) {
    return std::find(states.begin(), states.end(), PeerState::joining) == states.end();
  });
  for (Rank rank = 0; rank < options_.size; ++rank) {
    if (inbox_.state(rank) != PeerState::joining) continue;
    missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
  }
  if (!missing.empty() && options_.incarnation == 0)
    return make_status(StatusCode::timeout, "rank ", options_.rank, " waited ",
                       static_cast<double>(options_.join_timeout) / kSecond, " s for rank ", missing,
                       " to join: check that all ", options_.size, " processes were started");
  for (Rank rank = 0; rank < options_.size; ++rank)
    if (inbox_.state(rank) == PeerState::joining) engine_.give_up(rank);
  watcher_ = std::thread([this] { watch(); });
  return {};
}

bool UcxWorld::stopping(Nanos wait) {
  std::unique_lock lock(watch_mutex_);
  return watch_wake_.wait_for(lock, std::chrono::nanoseconds(wait), [this] { return !watching_; });
}

// Asks the store about dead peers: does the supervisor restart them, or are they gone?
void UcxWorld::watch() {
  int failures = 0;
  std::vector<Clock::time_point> dead_since(static_cast<size_t>(options_.size), Clock::time_point::max());
  auto last = Clock::now();
  while (!stopping(kWatchInterval)) {
    const auto now = Clock::now();
    if ((now - last).count() > kStarved) dead_since.assign(dead_since.size(), Clock::time_point::max());
    last = now;
    bool asked = false, answered = true;
    for (Rank rank = 0; rank < options_.size && answered; ++rank) {
      auto& since = dead_since[static_cast<size_t>(rank)];
      if (inbox_.state(rank) != PeerState::dead) {
        since = Clock::time_point::max();
        continue;
      }
      since = std::min(since, now);
      if (options_.give_up > 0 && (now - since).count() >= options_.give_up) {
        engine_.mark_gone(rank);
        continue;
      }
      asked = true;
      answered = look_up(rank);
    }
    if (!asked) continue;
    failures = answered ? 0 : failures + 1;
    if (failures < kStoreFailures) continue;
    // Without the store nobody is restarted any more.
    for (Rank rank = 0; rank < options_.size; ++rank)
      if (inbox_.state(rank) == PeerState::dead) engine_.mark_gone(rank);
  }
}

bool UcxWorld::look_up(Rank rank) {
  Result<std::string> gone = store_->try_get(gone_key(rank));
  if (gone.ok()) {
    engine_.mark_gone(rank);
    return true;
  }
  if (gone.status().code() != StatusCode::not_found) return false;
  Result<std::string> text = store_->try_get(address_key(rank));
  if (!text.ok()) return text.status().code() == StatusCode::not_found;
  if (Result<AddressRecord> record = open_address(options_.secret, rank, *text); record.ok())
    engine_.connect(rank, std::move(*record));
  return true;
}

void UcxWorld::report_step(int64_t step, VecView theta) {
  report({.step = step});
  engine_.set_step(step);
  actor_.on_step(step, now(), theta);
}

void UcxWorld::leave() {
  if (options_.status_fd >= 0) {
    pollfd room{options_.status_fd, POLLOUT, 0};
    ::poll(&room, 1, kDoneTimeout);
  }
  report({.done = 1});
  engine_.leave();
}

void UcxWorld::report(StatusRecord record) {
  record.rank = options_.rank;
  record.incarnation = options_.incarnation;
  send_status(options_.status_fd, record);
}

}  // namespace

Result<std::unique_ptr<World>> make_ucx_world(const UcxOptions& options, std::shared_ptr<Store> store) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size)
    return make_status(StatusCode::invalid_argument, "rank ", options.rank, " of ", options.size,
                       ": ranks go from 0 to the number of processes minus 1");
  auto world = std::make_unique<UcxWorld>(options, std::move(store));
  if (Status status = world->join(); !status.ok()) return status;
  return std::unique_ptr<World>(std::move(world));
}

bool ucx_available() { return true; }

}  // namespace sinew::dist
