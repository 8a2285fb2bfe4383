#include "dist/ucx/transport.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "dist/ucx/loopback.h"

namespace sinew::dist {

namespace {
constexpr unsigned kMessageId = 1;
constexpr Nanos kCloseTimeout = 2 * kSecond;
// With peer error handling UCX moves bodies in active-message fragments, one system call each; with its default of
// 64 KiB a ring all-reduce takes 1.06 to 1.35 times as long (docs/benchmarks.md). The environment goes first.
constexpr const char* kSegment = "256k";
constexpr int kProgressCalls = 64;  // then commands and timers have their turn

Status failure(const char* what, ucs_status_t status) {
  return make_status(StatusCode::unavailable, "UCX: ", what, ": ", ucs_status_string(status));
}

// Left to the end of the process, which closes its sockets. Kept reachable, so that it does not count as a leak.
void abandon(ucp_context_h context, ucp_worker_h worker) {
  static std::mutex mutex;
  static auto& abandoned = *new std::vector<std::pair<ucp_context_h, ucp_worker_h>>;
  std::lock_guard lock(mutex);
  abandoned.emplace_back(context, worker);
}
}  // namespace

struct UcxTransport::Endpoint {
  UcxTransport* owner = nullptr;
  Rank peer = kAnyRank;
  ucp_ep_h handle = nullptr;
  bool failed = false;
  ucs_status_t status = UCS_OK;
  void* close_request = nullptr;
};

// UCX reads header and body until the send has completed.
struct UcxTransport::Send {
  UcxTransport* owner = nullptr;
  WireHeader header;
  Payload body;
};

struct UcxTransport::Receive {
  UcxTransport* owner = nullptr;
  WireHeader header;
  Payload body;
};

UcxTransport::UcxTransport(Events& events, int peers) : events_(events), endpoints_(static_cast<size_t>(peers)) {}

Result<std::unique_ptr<UcxTransport>> UcxTransport::open(const std::string& network_device, int peers, Events& events) {
  std::unique_ptr<UcxTransport> transport(new UcxTransport(events, peers));
  if (Status status = transport->start(network_device); !status.ok()) return status;
  return transport;
}

Status UcxTransport::start(const std::string& network_device) {
  ucp_config_t* config = nullptr;
  if (ucs_status_t s = ucp_config_read(nullptr, nullptr, &config); s != UCS_OK) return failure("reading settings", s);
  ucs_status_t s = ucp_config_modify(config, "TLS", "tcp");
  if (s == UCS_OK) s = ucp_config_modify(config, "NET_DEVICES", network_device.c_str());
  // UCX 1.13 wants these without the transport's prefix. A connect that blocks would end this process where the peer
  // dies meanwhile (README), and hold up all others where a host does not answer.
  for (const auto& [name, value] : {std::pair{"TX_SEG_SIZE", kSegment}, {"RX_SEG_SIZE", kSegment}, {"CONN_NB", "y"}})
    if (s == UCS_OK && !std::getenv((std::string("UCX_TCP_") + name).c_str()))
      s = ucp_config_modify(config, name, value);
  if (s == UCS_OK) {
    ucp_params_t parameters{};
    parameters.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
    parameters.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
    parameters.name = "sinew";
    s = ucp_init(&parameters, config, &context_);
  }
  ucp_config_release(config);
  if (s != UCS_OK)
    return make_status(StatusCode::unavailable, "UCX cannot use TCP on network device '", network_device,
                       "': ", ucs_status_string(s), "; `ip link` lists the devices of this machine");

  ucp_worker_params_t worker{};
  worker.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker.thread_mode = UCS_THREAD_MODE_SINGLE;
  if (s = ucp_worker_create(context_, &worker, &worker_); s != UCS_OK) return failure("creating the worker", s);

  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kMessageId;
  handler.cb = on_message;
  handler.arg = this;
  if (s = ucp_worker_set_am_recv_handler(worker_, &handler); s != UCS_OK) return failure("setting the handler", s);
  if (s = ucp_worker_get_efd(worker_, &event_fd_); s != UCS_OK) return failure("getting the event descriptor", s);

  ucp_address_t* address = nullptr;
  size_t size = 0;
  if (s = ucp_worker_get_address(worker_, &address, &size); s != UCS_OK) return failure("getting the address", s);
  address_.assign(reinterpret_cast<const char*>(address), size);
  ucp_worker_release_address(worker_, address);
  plain_congestion_control_on_loopback();  // it listens already
  return {};
}

UcxTransport::~UcxTransport() {
  if (worker_) {
    for (auto& endpoint : endpoints_)
      if (endpoint) close(std::move(endpoint), sends_in_flight_ != 0);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(kCloseTimeout);
    while (!closing_.empty() && std::chrono::steady_clock::now() < deadline) {
      ucp_worker_progress(worker_);
      sweep();
    }
    const bool connecting = !settle(deadline);
    // A peer that hangs keeps its close request open. UCX releases it with the worker, but only when we have let go of
    // it; else its assertions end this process.
    for (auto& endpoint : closing_) ucp_request_free(endpoint->close_request);
    if (connecting) {
      abandon(context_, worker_);
      return;
    }
    ucp_worker_destroy(worker_);
  }
  if (context_) ucp_cleanup(context_);
}

// UCX 1.13 ends the process with an assertion when its worker is destroyed while a connection is being made, by a
// restarted peer that greets a node which is just leaving, say. A flush that returns at once says that there is none.
bool UcxTransport::settle(std::chrono::steady_clock::time_point deadline) {
  const ucp_request_param_t parameters{};
  for (ucs_status_ptr_t flush = ucp_worker_flush_nbx(worker_, &parameters); UCS_PTR_IS_PTR(flush);
       flush = ucp_worker_flush_nbx(worker_, &parameters)) {
    while (ucp_request_check_status(flush) == UCS_INPROGRESS && std::chrono::steady_clock::now() < deadline)
      ucp_worker_progress(worker_);
    ucp_request_free(flush);
    if (std::chrono::steady_clock::now() >= deadline) return false;
  }
  return true;
}

Status UcxTransport::connect(Rank peer, const std::string& address) {
  disconnect(peer);
  auto endpoint = std::make_unique<Endpoint>();
  endpoint->owner = this;
  endpoint->peer = peer;
  ucp_ep_params_t parameters{};
  parameters.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  parameters.address = reinterpret_cast<const ucp_address_t*>(address.data());
  parameters.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  parameters.err_handler.cb = on_error;
  parameters.err_handler.arg = endpoint.get();
  if (ucs_status_t s = ucp_ep_create(worker_, &parameters, &endpoint->handle); s != UCS_OK)
    return failure("connecting", s);
  endpoints_[static_cast<size_t>(peer)] = std::move(endpoint);
  plain_congestion_control_on_loopback();
  return {};
}

void UcxTransport::disconnect(Rank peer) {
  if (auto& endpoint = endpoints_[static_cast<size_t>(peer)]) close(std::move(endpoint), true);
}

void UcxTransport::close(std::unique_ptr<Endpoint> endpoint, bool force) {
  ucp_request_param_t parameters{};
  if (force || endpoint->failed) {
    parameters.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    parameters.flags = UCP_EP_CLOSE_FLAG_FORCE;
  }
  ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint->handle, &parameters);
  if (UCS_PTR_IS_PTR(request)) {
    endpoint->close_request = request;
    closing_.push_back(std::move(endpoint));
  }
}

void UcxTransport::sweep() {
  std::erase_if(closing_, [](const std::unique_ptr<Endpoint>& endpoint) {
    if (ucp_request_check_status(endpoint->close_request) == UCS_INPROGRESS) return false;
    ucp_request_free(endpoint->close_request);
    return true;
  });
}

void UcxTransport::send(Rank to, const WireHeader& header, Payload body) {
  std::unique_ptr<Send> send;
  if (idle_sends_.empty()) {
    send = std::make_unique<Send>();
    // Room for this one too, so that on_sent() need not allocate.
    idle_sends_.reserve(sends_in_flight_ + 1);
  } else {
    send = std::move(idle_sends_.back());
    idle_sends_.pop_back();
  }
  send->owner = this;
  send->header = header;
  send->body = std::move(body);
  ++sends_in_flight_;
  if (inside_)
    held_.emplace_back(to, std::move(send));
  else
    submit(to, std::move(send));
}

void UcxTransport::submit_held() {
  for (auto& [to, send] : held_) submit(to, std::move(send));
  held_.clear();
}

void UcxTransport::submit(Rank to, std::unique_ptr<Send> send) {
  if (!connected(to)) return on_sent(nullptr, UCS_OK, send.release());
  ucp_request_param_t parameters{};
  parameters.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  parameters.cb.send = on_sent;
  parameters.user_data = send.get();
  ucs_status_ptr_t request = ucp_am_send_nbx(endpoints_[static_cast<size_t>(to)]->handle, kMessageId, &send->header,
                                             sizeof send->header, send->body.data(), send->body.size(), &parameters);
  Send* pending = send.release();
  // Errors need no handling here: the endpoint's error callback tells.
  if (!UCS_PTR_IS_PTR(request)) on_sent(nullptr, UCS_PTR_STATUS(request), pending);
}

void UcxTransport::on_sent(void* request, ucs_status_t, void* user) {
  std::unique_ptr<Send> send(static_cast<Send*>(user));
  UcxTransport* self = send->owner;
  --self->sends_in_flight_;
  send->body = {};
  self->idle_sends_.push_back(std::move(send));
  if (request) ucp_request_free(request);
}

ucs_status_t UcxTransport::on_message(void* self, const void* header, size_t header_size, void* data, size_t size,
                                      const ucp_am_recv_param_t* parameters) {
  auto* transport = static_cast<UcxTransport*>(self);
  const bool rendezvous = parameters->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV;
  const ucs_status_t refused = rendezvous ? UCS_ERR_REJECTED : UCS_OK;
  WireHeader copy;
  if (header_size != sizeof copy) return refused;
  std::memcpy(static_cast<void*>(&copy), header, sizeof copy);
  bool admitted = false;
  try {
    admitted = transport->events_.admit(copy);
    return admitted ? transport->receive(copy, data, size, rendezvous) : refused;
  } catch (const std::exception&) {  // out of memory, above all; must not pass through UCX
    if (admitted) transport->lose(copy.head.source);
    return refused;
  }
}

void UcxTransport::lose(Rank peer) {
  auto& endpoint = endpoints_[static_cast<size_t>(peer)];
  if (!endpoint) return;
  endpoint->failed = true;
  endpoint->status = UCS_ERR_NO_MEMORY;
  error_seen_ = true;
}

ucs_status_t UcxTransport::receive(const WireHeader& header, void* data, size_t size, bool rendezvous) {
  if (!rendezvous) {
    events_.arrived(header, Payload::borrow(data, size));
    return UCS_OK;
  }
  auto receive = std::make_unique<Receive>(Receive{this, header, Payload::allocate(size)});
  ucp_request_param_t parameters{};
  parameters.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  parameters.cb.recv_am = on_received;
  parameters.user_data = receive.get();
  ucs_status_ptr_t request = ucp_am_recv_data_nbx(worker_, data, receive->body.data(), size, &parameters);
  Receive* pending = receive.release();
  if (!UCS_PTR_IS_PTR(request)) on_received(nullptr, UCS_PTR_STATUS(request), size, pending);
  return UCS_INPROGRESS;
}

void UcxTransport::on_received(void* request, ucs_status_t status, size_t, void* user) {
  std::unique_ptr<Receive> receive(static_cast<Receive*>(user));
  UcxTransport* self = receive->owner;
  if (request) ucp_request_free(request);
  // A receive that failed belongs to a peer that died; its endpoint's error callback tells.
  if (status != UCS_OK) return;
  try {
    self->events_.arrived(receive->header, std::move(receive->body));
  } catch (const std::exception&) {
    self->lose(receive->header.head.source);
  }
}

void UcxTransport::on_error(void* user, ucp_ep_h, ucs_status_t status) {
  auto* endpoint = static_cast<Endpoint*>(user);
  endpoint->failed = true;
  endpoint->status = status;
  endpoint->owner->error_seen_ = true;
}

bool UcxTransport::progress() {
  bool any = false;
  for (int i = 0; i < kProgressCalls; ++i) {
    inside_ = true;
    const bool more = ucp_worker_progress(worker_) > 0;
    inside_ = false;
    submit_held();
    if (!more) break;
    any = true;
  }
  if (!closing_.empty()) sweep();
  if (!error_seen_) return any;
  error_seen_ = false;  // endpoints are closed here, not inside UCX's callback
  for (size_t peer = 0; peer < endpoints_.size(); ++peer) {
    if (!endpoints_[peer] || !endpoints_[peer]->failed) continue;
    std::string reason = ucs_status_string(endpoints_[peer]->status);
    close(std::move(endpoints_[peer]), true);
    events_.broken(static_cast<Rank>(peer), reason);
  }
  return true;
}

void UcxTransport::wait(Nanos timeout) {
  // Arming fails while there is something to do.
  if (timeout <= 0 || ucp_worker_arm(worker_) != UCS_OK) return;
  pollfd event{event_fd_, POLLIN, 0};
  timespec limit{static_cast<time_t>(timeout / kSecond), static_cast<long>(timeout % kSecond)};
  ::ppoll(&event, 1, &limit, nullptr);
}

void UcxTransport::wake() { ucp_worker_signal(worker_); }

}  // namespace sinew::dist
