// The server of a TCP store: one thread, poll, a table. What comes from a connection is hostile until it has proved
// the secret, and bounded after.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "dist/store_wire.h"

namespace sinew::dist {

#ifndef SINEW_HAVE_UCX

Result<std::unique_ptr<StoreServer>> serve_store(const std::string&, int, const std::string&) {
  return make_status(
      StatusCode::unavailable,
      "this build has no TCP store (it needs UCX and libcrypto): run scripts/setup.sh and configure again");
}

#else

namespace {

constexpr auto kHandshake = std::chrono::seconds(5);  // a connection must have proved the secret by then
constexpr auto kWholeRequest = std::chrono::seconds(10);
constexpr size_t kMaxStrangers = 64;  // connections without proof; the oldest gives way
constexpr size_t kMaxConnections = 4096;
constexpr size_t kMaxOutput = 4 * kMaxReply;

struct Connection {
  Socket socket;
  bool known = false;
  bool closed = false;
  std::string challenge;
  std::string input, output;
  SteadyTime deadline;  // of the handshake, or of the request that has begun; otherwise max
  struct Waiting {
    std::string key;
    SteadyTime until;
    Nanos timeout;
  };
  std::optional<Waiting> waiting;  // for a key
};

class TcpStoreServer final : public StoreServer {
 public:
  TcpStoreServer(Socket listener, std::string secret, Socket wake)
      : secret_(std::move(secret)), listener_(std::move(listener)), wake_(std::move(wake)), port_(port_of(listener_)) {
    thread_ = std::thread([this] { run(); });
  }
  ~TcpStoreServer() override {
    const uint64_t one = 1;
    (void)!::write(wake_.fd(), &one, sizeof one);
    thread_.join();
  }
  int port() const override { return port_; }

 private:
  void run();
  void accept_all(SteadyTime now);
  void read_from(Connection& connection, SteadyTime now);
  void check_proof(Connection& connection);
  void handle_requests(Connection& connection, SteadyTime now);
  void handle(Connection& connection, const std::string& request, SteadyTime now);
  void reply(Connection& connection, StatusCode code, int64_t number, const std::string& value);
  void flush(Connection& connection);
  void expire(Connection& connection, SteadyTime now);
  void changed(const std::string& key);

  const std::string secret_;
  Socket listener_, wake_;
  const int port_;
  std::map<std::string, std::string> table_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread thread_;
};

void TcpStoreServer::run() {
  std::vector<pollfd> polled;
  for (;;) {
    auto next = SteadyTime::max();
    polled.assign({{wake_.fd(), POLLIN, 0}, {listener_.fd(), POLLIN, 0}});
    for (const auto& connection : connections_) {
      // A client that does not take its replies is not read from either.
      const bool full = connection->output.size() > kMaxOutput;
      const short events = static_cast<short>((full ? 0 : POLLIN) | (connection->output.empty() ? 0 : POLLOUT));
      polled.push_back({connection->socket.fd(), events, 0});
      next = std::min(next, connection->deadline);
      if (connection->waiting) next = std::min(next, connection->waiting->until);
    }
    int timeout = -1;
    if (next != SteadyTime::max()) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(next - std::chrono::steady_clock::now()).count();
      timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 60 * 1000));
    }
    ::poll(polled.data(), polled.size(), timeout);
    if (polled[0].revents) return;
    const auto now = std::chrono::steady_clock::now();
    for (size_t i = 0; i + 2 < polled.size(); ++i) {
      Connection& connection = *connections_[i];
      if (polled[i + 2].revents & (POLLIN | POLLHUP | POLLERR)) read_from(connection, now);
      if (polled[i + 2].revents & POLLOUT) flush(connection);
      expire(connection, now);
    }
    std::erase_if(connections_, [](const auto& connection) { return connection->closed; });
    if (polled[1].revents) accept_all(now);
  }
}

void TcpStoreServer::accept_all(SteadyTime now) {
  for (;;) {
    Socket socket(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      // Out of descriptors: without a pause poll would return at once, forever.
      if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return;
    }
    const auto strangers =
        std::count_if(connections_.begin(), connections_.end(), [](const auto& c) { return !c->known; });
    if (static_cast<size_t>(strangers) >= kMaxStrangers)
      connections_.erase(
          std::find_if(connections_.begin(), connections_.end(), [](const auto& c) { return !c->known; }));
    if (connections_.size() >= kMaxConnections) continue;
    auto connection = std::make_unique<Connection>();
    connection->socket = std::move(socket);
    connection->deadline = now + kHandshake;
    connection->challenge = random_bytes(kChallenge);
    connection->output = std::string(kGreeting, sizeof kGreeting) + connection->challenge;
    flush(*connection);
    connections_.push_back(std::move(connection));
  }
}

void TcpStoreServer::read_from(Connection& connection, SteadyTime now) {
  if (connection.closed) return;
  // A stranger may fill no more than its proof; a client no more than one request.
  const size_t limit = connection.known ? 4 + kMaxRequest : kProofSize;
  char buffer[16 * 1024];
  while (connection.input.size() < limit) {
    ssize_t n = ::recv(connection.socket.fd(), buffer, std::min(sizeof buffer, limit - connection.input.size()), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      connection.closed = true;
      return;
    }
    connection.input.append(buffer, static_cast<size_t>(n));
  }
  if (connection.waiting && !connection.input.empty()) {
    connection.closed = true;  // one request at a time
  } else if (!connection.known) {
    if (connection.input.size() == kProofSize) check_proof(connection);
  } else {
    handle_requests(connection, now);
  }
}

void TcpStoreServer::check_proof(Connection& connection) {
  const std::string theirs = connection.input.substr(0, kChallenge);
  const Digest expected = hmac_sha256(secret_, "client" + connection.challenge + theirs);
  connection.known = equal_in_constant_time(connection.input.data() + kChallenge, expected.data(), expected.size());
  connection.input.clear();
  std::string welcome(kWelcomeSize, '\0');
  if (connection.known) {
    const Digest proof = hmac_sha256(secret_, "server" + theirs + connection.challenge);
    welcome[0] = 1;
    std::memcpy(welcome.data() + 1, proof.data(), proof.size());
    connection.deadline = SteadyTime::max();
  }
  connection.output += welcome;
  flush(connection);
  if (!connection.known) connection.closed = true;
}

void TcpStoreServer::handle_requests(Connection& connection, SteadyTime now) {
  while (!connection.closed && !connection.waiting && connection.input.size() >= 4) {
    const uint32_t size = take_number<uint32_t>(connection.input.data());
    if (size < kRequestHead || size > kMaxRequest) {
      connection.closed = true;
      return;
    }
    if (connection.input.size() < 4 + size) break;
    const std::string request = connection.input.substr(4, size);
    connection.input.erase(0, 4 + size);
    handle(connection, request, now);
  }
  const bool begun = !connection.input.empty() && !connection.waiting;
  if (!begun)
    connection.deadline = SteadyTime::max();
  else if (connection.deadline == SteadyTime::max())
    connection.deadline = now + kWholeRequest;
}

void TcpStoreServer::handle(Connection& connection, const std::string& request, SteadyTime now) {
  const auto operation = static_cast<StoreOperation>(request[0]);
  const auto number = take_number<int64_t>(request.data() + 1);
  const auto key_size = take_number<uint32_t>(request.data() + 9);
  if (key_size > request.size() - kRequestHead) {
    connection.closed = true;
    return;
  }
  const std::string key = request.substr(kRequestHead, key_size);
  const std::string value = request.substr(kRequestHead + key_size);
  if (Status status = check_store_entry(key, value.size()); !status.ok())
    return reply(connection, status.code(), 0, status.message());
  const auto found = table_.find(key);
  switch (operation) {
    case StoreOperation::set:
      table_[key] = value;
      reply(connection, StatusCode::ok, 0, "");
      return changed(key);
    case StoreOperation::try_get:
    case StoreOperation::get:
      if (found != table_.end()) return reply(connection, StatusCode::ok, 0, found->second);
      if (operation == StoreOperation::try_get) return reply(connection, StatusCode::not_found, 0, "");
      {
        const Nanos timeout = std::clamp<Nanos>(number, 0, 24 * 3600 * kSecond);
        connection.waiting = {key, now + std::chrono::nanoseconds(timeout), timeout};
      }
      return;
    case StoreOperation::add: {
      Result<int64_t> old = found == table_.end() ? Result<int64_t>(0) : parse_store_counter(key, found->second);
      if (!old.ok()) return reply(connection, old.status().code(), 0, old.status().message());
      const auto sum = static_cast<int64_t>(static_cast<uint64_t>(*old) + static_cast<uint64_t>(number));
      table_[key] = std::to_string(sum);
      reply(connection, StatusCode::ok, sum, "");
      return changed(key);
    }
  }
  connection.closed = true;  // an unknown operation
}

void TcpStoreServer::reply(Connection& connection, StatusCode code, int64_t number, const std::string& value) {
  put_number(connection.output, static_cast<uint32_t>(kReplyHead + value.size()));
  put_number(connection.output, static_cast<uint8_t>(code));
  put_number(connection.output, number);
  connection.output += value;
  flush(connection);
}

void TcpStoreServer::flush(Connection& connection) {
  while (!connection.closed && !connection.output.empty()) {
    ssize_t n = ::send(connection.socket.fd(), connection.output.data(), connection.output.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0)
      connection.closed = true;
    else
      connection.output.erase(0, static_cast<size_t>(n));
  }
}

void TcpStoreServer::expire(Connection& connection, SteadyTime now) {
  if (connection.waiting && now >= connection.waiting->until) {
    const Status late = late_store_key(connection.waiting->key, connection.waiting->timeout);
    connection.waiting.reset();
    reply(connection, late.code(), 0, late.message());
  }
  if (now >= connection.deadline) connection.closed = true;
}

void TcpStoreServer::changed(const std::string& key) {
  for (auto& connection : connections_) {
    if (connection->closed || !connection->waiting || connection->waiting->key != key) continue;
    connection->waiting.reset();
    reply(*connection, StatusCode::ok, 0, table_[key]);
  }
}

}  // namespace

Result<std::unique_ptr<StoreServer>> serve_store(const std::string& host, int port, const std::string& secret) {
  if (secret.empty() && !is_loopback(host))
    return make_status(StatusCode::invalid_argument, "a store on ", host,
                       " without a secret would let anybody join: set SINEW_SECRET, the same in all processes");
  Result<Socket> listener = listen_on(host, port);
  if (!listener.ok()) return listener.status();
  Socket wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return make_status(StatusCode::unavailable, "cannot make an event descriptor: ", std::strerror(errno));
  return std::unique_ptr<StoreServer>(std::make_unique<TcpStoreServer>(std::move(*listener), secret, std::move(wake)));
}

#endif

}  // namespace sinew::dist
