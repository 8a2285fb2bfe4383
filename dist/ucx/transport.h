// UCX as this project uses it: active messages over TCP between numbered peers. Everything but wake() belongs to
// the thread that made the object (UCX's single-threaded mode).
//
// Facts that shape it (measured with UCX 1.13.1): own endpoints with peer error handling on both sides report a
// killed peer in milliseconds; endpoints that UCX makes for replies have no error callback and dangle; eager data
// lives only during the callback; a rendezvous may be overtaken by a later eager message, so the user orders.
#pragma once

#include <ucp/api/ucp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "dist/ucx/wire.h"

namespace sinew::dist {

class UcxTransport {
 public:
  // Called on the transport's thread, from progress().
  class Events {
   public:
    virtual ~Events() = default;
    // Before anything is allocated or received for a message: does it come from a member of the job, and now?
    virtual bool admit(const WireHeader& header) = 0;
    // A whole message. Not in the order of sending. The body may be borrowed.
    virtual void arrived(const WireHeader& header, Payload body) = 0;
    // The current connection to the peer broke, and has been closed.
    virtual void broken(Rank peer, const std::string& reason) = 0;
  };

  static Result<std::unique_ptr<UcxTransport>> open(const std::string& network_device, int peers, Events& events);
  // Gives up what is still in flight; see flush().
  ~UcxTransport();
  UcxTransport(const UcxTransport&) = delete;
  UcxTransport& operator=(const UcxTransport&) = delete;

  const std::string& address() const { return address_; }
  // Replaces an earlier connection to the peer.
  Status connect(Rank peer, const std::string& address);
  void disconnect(Rank peer);
  bool connected(Rank peer) const { return endpoints_[static_cast<size_t>(peer)] != nullptr; }

  // The body is held until UCX has sent it. What a handler sends goes out when UCX's progress has returned: a send that
  // finds its peer dead closes that connection, and UCX 1.13 ends the process when the same progress then comes to the
  // closed one's events. REQUIRES: connected(to).
  void send(Rank to, const WireHeader& header, Payload body);
  size_t sends_in_flight() const { return sends_in_flight_; }

  // Handles what has arrived; true when there was something.
  bool progress();
  // Sleeps until something arrives, wake() is called or the time is over. May return early.
  void wait(Nanos timeout);
  // Any thread.
  void wake();

 private:
  struct Endpoint;
  struct Send;
  struct Receive;

  UcxTransport(Events& events, int peers);
  Status start(const std::string& network_device);
  void close(std::unique_ptr<Endpoint> endpoint, bool force);
  void sweep();
  void submit(Rank to, std::unique_ptr<Send> send);
  void submit_held();
  bool settle(std::chrono::steady_clock::time_point deadline);

  static ucs_status_t on_message(void* self, const void* header, size_t header_size, void* data, size_t size,
                                 const ucp_am_recv_param_t* parameters);
  static void on_sent(void* request, ucs_status_t status, void* user);
  static void on_received(void* request, ucs_status_t status, size_t size, void* user);
  static void on_error(void* endpoint, ucp_ep_h handle, ucs_status_t status);
  // A message that could not be taken leaves a hole in its connection's order: the connection counts as broken.
  void lose(Rank peer);
  ucs_status_t receive(const WireHeader& header, void* data, size_t size, bool rendezvous);

  Events& events_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;
  std::string address_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;  // by peer
  std::vector<std::unique_ptr<Endpoint>> closing_;
  std::vector<std::unique_ptr<Send>> idle_sends_;             // recycled
  std::vector<std::pair<Rank, std::unique_ptr<Send>>> held_;  // sent by handlers, in order
  bool inside_ = false;                                       // of UCX's progress
  size_t sends_in_flight_ = 0;
  bool error_seen_ = false;
};

}  // namespace sinew::dist
