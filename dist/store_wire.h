// The TCP store's protocol, and sockets whose every operation has a deadline. Internal to dist/store_*.cpp.
//
// Handshake (fixed sizes: nothing is allocated from a peer's numbers before it is known):
//   server -> client   kGreeting, challenge[32]
//   client -> server   challenge[32], HMAC(secret, "client" + server's challenge + client's challenge)
//   server -> client   1 byte: 1 welcome, 0 refused; HMAC(secret, "server" + client's challenge + server's challenge)
// Then requests and replies, one at a time per connection:
//   request  u32 size of what follows, u8 operation, i64 number, u32 size of key, key, value
//   reply    u32 size of what follows, u8 StatusCode, i64 number, value
// Numbers are little-endian.
//
// Thread safety: functions from any thread; a Socket is used by one at a time.
#pragma once

#include <array>
#include <chrono>
#include <cstring>
#include <string>

#include "dist/store_auth.h"
#include "dist/store_table.h"

namespace sinew::dist {

inline constexpr char kGreeting[8] = {'s', 'i', 'n', 'e', 'w', 's', 't', '1'};
inline constexpr size_t kChallenge = 32;
inline constexpr size_t kGreetingSize = sizeof kGreeting + kChallenge;
inline constexpr size_t kProofSize = kChallenge + sizeof(Digest);
inline constexpr size_t kWelcomeSize = 1 + sizeof(Digest);

enum class StoreOperation : uint8_t {
  set = 1,
  get = 2,
  try_get = 3,
  add = 4
};  // number: nanoseconds of get, amount of add

inline constexpr size_t kRequestHead = 1 + 8 + 4;
inline constexpr size_t kReplyHead = 1 + 8;
inline constexpr size_t kMaxRequest = kRequestHead + kMaxStoreKey + kMaxStoreValue;
inline constexpr size_t kMaxReply = kReplyHead + kMaxStoreValue;

template <class T>
void put_number(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <class T>
T take_number(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

using SteadyTime = std::chrono::steady_clock::time_point;

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();
  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

bool is_loopback(const std::string& host);
// Listens, non-blocking. io_error that names the address.
Result<Socket> listen_on(const std::string& host, int port);
int port_of(const Socket& socket);
// Tries until the deadline: the server may be starting.
Result<Socket> connect_to(const std::string& host, int port, SteadyTime deadline);
Status send_all(const Socket& socket, const void* data, size_t size, SteadyTime deadline);
Status receive_all(const Socket& socket, void* data, size_t size, SteadyTime deadline);

}  // namespace sinew::dist
