#include "dist/store_wire.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <thread>

namespace sinew::dist {

namespace {

constexpr auto kRetry = std::chrono::milliseconds(50);

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (port < 0 || port > 65535)
    return make_status(StatusCode::invalid_argument, "port ", port, " is outside 0 to 65535");
  if (int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0)
    return make_status(StatusCode::unavailable, "no address for host '", host, "': ", ::gai_strerror(error));
  return Addresses(found, &freeaddrinfo);
}

int milliseconds_until(SteadyTime deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 3600 * 1000));
}

Status wait_for(const Socket& socket, short events, SteadyTime deadline) {
  for (;;) {
    pollfd entry{socket.fd(), events, 0};
    int ready = ::poll(&entry, 1, milliseconds_until(deadline));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return make_status(StatusCode::unavailable, "poll: ", std::strerror(errno));
    if (std::chrono::steady_clock::now() >= deadline)
      return make_status(StatusCode::timeout, "the store did not answer in time");
  }
}

// One try on one address; the error number, or 0.
int try_connect(const addrinfo& address, SteadyTime deadline, Socket& out) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return errno;
  if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return errno;
    if (!wait_for(socket, POLLOUT, deadline).ok()) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return error;
  }
  int on = 1;
  ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  out = std::move(socket);
  return 0;
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

bool is_loopback(const std::string& host) {
  if (host == "localhost" || host == "::1") return true;
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

Result<Socket> listen_on(const std::string& host, int port) {
  Result<Addresses> addresses = resolve(host, port);
  if (!addresses.ok()) return addresses.status();
  const addrinfo& address = **addresses;
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return make_status(StatusCode::unavailable, "cannot make a socket: ", std::strerror(errno));
  int on = 1;  // a port in TIME_WAIT may be taken, one that somebody listens on may not
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.fd(), address.ai_addr, address.ai_addrlen) != 0 || ::listen(socket.fd(), 128) != 0) {
    if (errno == EADDRINUSE)
      return make_status(StatusCode::unavailable, "address ", host, ":", port,
                         " is already in use: stop the program that uses it, or choose another port "
                         "(--run.port or MASTER_PORT; 0 takes any free one)");
    return make_status(StatusCode::unavailable, "cannot listen on ", host, ":", port, ": ", std::strerror(errno));
  }
  return socket;
}

int port_of(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return address.ss_family == AF_INET6 ? ntohs(reinterpret_cast<sockaddr_in6*>(&address)->sin6_port)
                                       : ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

Result<Socket> connect_to(const std::string& host, int port, SteadyTime deadline) {
  Result<Addresses> addresses = resolve(host, port);
  if (!addresses.ok()) return addresses.status();
  for (;;) {
    int error = 0;
    for (const addrinfo* address = addresses->get(); address; address = address->ai_next) {
      Socket socket;
      error = try_connect(*address, deadline, socket);
      if (error == 0) return socket;
    }
    if (std::chrono::steady_clock::now() + kRetry >= deadline)
      return make_status(StatusCode::timeout, "nobody answers on ", host, ":", port, " (", std::strerror(error),
                         "): is the process that hosts the store running, and do MASTER_ADDR and MASTER_PORT agree?");
    std::this_thread::sleep_for(kRetry);
  }
}

Status send_all(const Socket& socket, const void* data, size_t size, SteadyTime deadline) {
  const char* at = static_cast<const char*>(data);
  while (size) {
    ssize_t n = ::send(socket.fd(), at, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return make_status(StatusCode::unavailable, "lost the store: ", std::strerror(errno));
    if (n < 0) {
      SINEW_RETURN_IF_ERROR(wait_for(socket, POLLOUT, deadline));
      continue;
    }
    at += n;
    size -= static_cast<size_t>(n);
  }
  return {};
}

Status receive_all(const Socket& socket, void* data, size_t size, SteadyTime deadline) {
  char* at = static_cast<char*>(data);
  while (size) {
    ssize_t n = ::recv(socket.fd(), at, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) return make_status(StatusCode::unavailable, "lost the store: the connection was closed");
    if (n < 0 && errno != EAGAIN) return make_status(StatusCode::unavailable, "lost the store: ", std::strerror(errno));
    if (n < 0) {
      SINEW_RETURN_IF_ERROR(wait_for(socket, POLLIN, deadline));
      continue;
    }
    at += n;
    size -= static_cast<size_t>(n);
  }
  return {};
}

}  // namespace sinew::dist
