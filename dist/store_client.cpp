// The client of a TCP store: one connection, one request at a time.
#include <mutex>

#include "dist/store_wire.h"

namespace sinew::dist {

#ifndef SINEW_HAVE_UCX

Result<std::shared_ptr<Store>> connect_store(const std::string&, int, const std::string&, Nanos) {
  return make_status(
      StatusCode::unavailable,
      "this build has no TCP store (it needs UCX and libcrypto): run scripts/setup.sh and configure again");
}

#else

namespace {

constexpr auto kAnswer = std::chrono::seconds(5);  // longest wait for what the server can do at once
constexpr auto kReconnect = std::chrono::seconds(1);

SteadyTime after(std::chrono::nanoseconds time) { return std::chrono::steady_clock::now() + time; }

class TcpStore final : public Store {
 public:
  TcpStore(std::string host, int port, std::string secret)
      : host_(std::move(host)), port_(port), secret_(std::move(secret)) {}

  // Connects and proves the secret.
  Status connect(SteadyTime deadline) {
    Result<Socket> socket = connect_to(host_, port_, deadline);
    if (!socket.ok()) return socket.status();
    char greeting[kGreetingSize];
    SINEW_RETURN_IF_ERROR(receive_all(*socket, greeting, sizeof greeting, after(kAnswer)));
    if (std::memcmp(greeting, kGreeting, sizeof kGreeting) != 0)
      return make_status(StatusCode::data_error, host_, ":", port_,
                         " is not a store of this program: is MASTER_PORT right?");
    const std::string theirs(greeting + sizeof kGreeting, kChallenge);
    const std::string ours = random_bytes(kChallenge);
    const Digest proof = hmac_sha256(secret_, "client" + theirs + ours);
    std::string answer = ours;
    answer.append(reinterpret_cast<const char*>(proof.data()), proof.size());
    SINEW_RETURN_IF_ERROR(send_all(*socket, answer.data(), answer.size(), after(kAnswer)));
    char welcome[kWelcomeSize];
    SINEW_RETURN_IF_ERROR(receive_all(*socket, welcome, sizeof welcome, after(kAnswer)));
    const Digest expected = hmac_sha256(secret_, "server" + ours + theirs);
    if (welcome[0] != 1 || !equal_in_constant_time(welcome + 1, expected.data(), expected.size()))
      return make_status(StatusCode::permission_denied, "the store at ", host_, ":", port_,
                         " refused this process: all processes of a job need the same SINEW_SECRET");
    socket_ = std::move(*socket);
    return {};
  }

  Status set(const std::string& key, const std::string& value) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, value.size()));
    Result<Reply> reply = ask(StoreOperation::set, key, value, 0, kAnswer);
    return reply.ok() ? status_of(*reply, key) : reply.status();
  }
  Result<std::string> get(const std::string& key, Nanos timeout) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, 0));
    timeout = std::max<Nanos>(timeout, 0);
    return value_of(ask(StoreOperation::get, key, "", timeout, std::chrono::nanoseconds(timeout) + kAnswer), key);
  }
  Result<std::string> try_get(const std::string& key) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, 0));
    return value_of(ask(StoreOperation::try_get, key, "", 0, kAnswer), key);
  }
  Result<int64_t> add(const std::string& key, int64_t amount) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, 0));
    Result<Reply> reply = ask(StoreOperation::add, key, "", amount, kAnswer);
    if (!reply.ok()) return reply.status();
    SINEW_RETURN_IF_ERROR(status_of(*reply, key));
    return reply->number;
  }

 private:
  struct Reply {
    StatusCode code = StatusCode::ok;
    int64_t number = 0;
    std::string value;
  };

  Result<Reply> ask(StoreOperation operation, const std::string& key, const std::string& value, int64_t number,
                    std::chrono::nanoseconds limit) {
    std::lock_guard lock(mutex_);
    if (!socket_) SINEW_RETURN_IF_ERROR(connect(after(kReconnect)));
    Result<Reply> reply = exchange(operation, key, value, number, after(limit));
    if (!reply.ok()) socket_ = Socket();  // out of step with the server: the next request connects again
    return reply;
  }

  Result<Reply> exchange(StoreOperation operation, const std::string& key, const std::string& value, int64_t number,
                         SteadyTime deadline) {
    std::string request;
    put_number(request, static_cast<uint32_t>(kRequestHead + key.size() + value.size()));
    put_number(request, static_cast<uint8_t>(operation));
    put_number(request, number);
    put_number(request, static_cast<uint32_t>(key.size()));
    request += key;
    request += value;
    SINEW_RETURN_IF_ERROR(send_all(socket_, request.data(), request.size(), deadline));
    char head[4 + kReplyHead];
    SINEW_RETURN_IF_ERROR(receive_all(socket_, head, sizeof head, deadline));
    const uint32_t size = take_number<uint32_t>(head);
    if (size < kReplyHead || size > kMaxReply)
      return make_status(StatusCode::data_error, "the store at ", host_, ":", port_, " sent a reply of ", size,
                         " bytes");
    Reply reply;
    reply.code = static_cast<StatusCode>(head[4]);
    reply.number = take_number<int64_t>(head + 5);
    reply.value.resize(size - kReplyHead);
    SINEW_RETURN_IF_ERROR(receive_all(socket_, reply.value.data(), reply.value.size(), deadline));
    return reply;
  }

  static Status status_of(const Reply& reply, const std::string& key) {
    if (reply.code == StatusCode::ok) return {};
    if (reply.code == StatusCode::not_found) return missing_store_key(key);
    return Status(reply.code, reply.value);
  }
  static Result<std::string> value_of(Result<Reply> reply, const std::string& key) {
    if (!reply.ok()) return reply.status();
    SINEW_RETURN_IF_ERROR(status_of(*reply, key));
    return std::move(reply->value);
  }

  const std::string host_;
  const int port_;
  const std::string secret_;
  std::mutex mutex_;
  Socket socket_;
};

}  // namespace

Result<std::shared_ptr<Store>> connect_store(const std::string& host, int port, const std::string& secret,
                                             Nanos timeout) {
  auto store = std::make_shared<TcpStore>(host, port, secret);
  SINEW_RETURN_IF_ERROR(store->connect(after(std::chrono::nanoseconds(timeout))));
  return std::shared_ptr<Store>(std::move(store));
}

#endif

}  // namespace sinew::dist
