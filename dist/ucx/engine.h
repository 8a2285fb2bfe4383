// The communication thread of a node: owns UCX, orders what arrives, runs handlers, keeps heartbeats.
//
// Thread safety: the public methods may be called from any thread; handlers run on the engine's own.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "dist/ucx/inbox.h"
#include "dist/ucx/link.h"
#include "dist/ucx/transport.h"
#include "dist/ucx/ucx_world.h"

namespace sinew::dist {

class Engine final : private UcxTransport::Events {
 public:
  // `alarm` is called on the communication thread; it acts on timed faults and returns when it wants to be called next.
  Engine(const UcxOptions& options, Inbox& inbox, std::function<Nanos(Nanos now)> alarm);
  ~Engine() override { stop(); }

  Status start();
  const std::string& address() const { return address_; }
  Nanos now() const { return (Clock::now() - begin_).count(); }
  // For the fault plan.
  Moment moment() const { return {now() + options_.age, step_}; }
  void set_step(int64_t step) { step_ = step; }

  // Does nothing when there is a connection to that incarnation already, or a try has failed a moment ago.
  void connect(Rank peer, AddressRecord record);
  void mark_gone(Rank peer);
  // A peer that is still joining counts as dead.
  void give_up(Rank peer);
  void send(Rank to, Head head, Payload body);
  Received::What receive_each(const Match& match, Nanos timeout, const Taker& take);
  void leave();
  // An empty handler ends it: when this returns, no call is under way. Not inside publish().
  void on(Tag tag, Handler handler);
  void publish(const std::function<void()>& fn);
  // Sends what is queued, for at most 5 s, and ends the thread.
  void stop();

  TrafficCounters traffic() const;
  int64_t stops() const;
  Status health() const;
  int64_t refused() const { return refused_; }  // messages without a valid token

 private:
  bool admit(const WireHeader& header) override;
  void arrived(const WireHeader& header, Payload body) override;
  void broken(Rank peer, const std::string& reason) override;

  void run(std::promise<Status> started);
  void loop();
  void post(std::function<void()> command);
  bool run_commands();
  // When the next timer is due.
  Clock::time_point run_timers();
  void heartbeat(Clock::time_point now);
  void release_delayed(Link& link, Rank to, Clock::time_point now);
  void transmit(Rank to, const Head& head, Payload body, const MessageFate& fate);

  Link& link(Rank rank) { return links_[static_cast<size_t>(rank)]; }
  void open_link(Rank peer, uint32_t incarnation, const std::string& address);
  void transmit_now(Rank to, const Head& head, Payload body);
  void transmit_control(Rank to, Control kind, Payload body = {}, int64_t argument = 0);
  void deliver(Message message);
  // False when nobody has registered for the tag.
  bool handle(const Message& message);
  void deliver_control(const Message& message);
  // why: of one that counts as dead.
  void set_state(Rank peer, PeerState state, const std::string& why = {});
  void touch(Link& link);

  const UcxOptions options_;
  Inbox& inbox_;
  const std::function<Nanos(Nanos)> alarm_;
  const Clock::time_point begin_ = Clock::now();
  std::string address_;
  const bool faulty_;  // the plan does something to messages

  std::mutex queue_mutex_;
  std::vector<std::function<void()>> queue_;
  bool asleep_ = false;
  bool stopping_ = false;

  std::mutex publish_mutex_;
  std::map<Tag, Handler> handlers_;  // under publish_mutex_

  std::thread thread_;
  std::atomic<std::thread::id> thread_id_{};

  // The communication thread's own.
  std::unique_ptr<UcxTransport> transport_;
  std::vector<Link> links_;
  Clock::time_point next_heartbeat_{};
  bool left_ = false;
  bool taking_ = false;  // what is sent now, a taker sends

  std::atomic<int64_t> step_{-1};
  std::atomic<int64_t> stops_{0};
  std::atomic<Clock::time_point> last_timers_{};
  std::array<std::atomic<uint64_t>, 2> sequences_{};  // training side, handlers
  std::atomic<int64_t> bytes_sent_{0}, bytes_received_{0}, messages_sent_{0}, messages_received_{0}, late_replies_{0};
  std::atomic<int64_t> refused_{0};
  mutable std::mutex health_mutex_;
  Status health_;
};

}  // namespace sinew::dist
