#ifdef SINEW_HAVE_UCX

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>
#include <vector>

#include "dist/store.h"
#include "dist/store_wire.h"

namespace sinew::dist {
namespace {

constexpr Nanos kLong = 60 * kSecond;
const std::string kHost = "127.0.0.1";

class TcpStore : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = serve_store(kHost, 0, "secret");
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  std::shared_ptr<Store> client(const std::string& secret = "secret") {
    auto store = connect_store(kHost, server_->port(), secret, kLong);
    EXPECT_TRUE(store.ok()) << store.status().message();
    return *store;
  }
  Socket stranger() {
    auto socket = connect_to(kHost, server_->port(), std::chrono::steady_clock::now() + std::chrono::seconds(60));
    EXPECT_TRUE(socket.ok());
    return std::move(*socket);
  }
  std::unique_ptr<StoreServer> server_;
};

TEST_F(TcpStore, SetGetAdd) {
  auto a = client(), b = client();
  EXPECT_EQ(a->try_get("k").status().code(), StatusCode::not_found);
  ASSERT_TRUE(a->set("k", std::string("v\0w", 3)).ok());
  EXPECT_EQ(*b->try_get("k"), std::string("v\0w", 3));
  EXPECT_EQ(*a->add("n", 5), 5);
  EXPECT_EQ(*b->add("n", -7), -2);
  EXPECT_EQ(b->add("k", 1).status().code(), StatusCode::data_error);
  EXPECT_EQ(b->get("never", kMillisecond).status().code(), StatusCode::timeout);
  EXPECT_EQ(b->set("big", std::string(1 << 20, 'x')).code(), StatusCode::invalid_argument);
  const std::string largest(64 * 1024, 'x');
  ASSERT_TRUE(b->set("big", largest).ok());
  EXPECT_EQ(*a->get("big", kLong), largest);
}

TEST_F(TcpStore, ManyClientsWaitForOneKey) {
  std::vector<std::thread> threads;
  std::vector<std::string> seen(20);
  for (size_t i = 0; i < seen.size(); ++i) {
    threads.emplace_back([&, i] {
      auto store = client();
      EXPECT_TRUE(store->add("ready", 1).ok());
      if (auto value = store->get("go", kLong); value.ok()) seen[i] = *value;
    });
  }
  auto store = client();
  while (store->add("ready", 0).value() < static_cast<int64_t>(seen.size())) std::this_thread::yield();
  ASSERT_TRUE(store->set("go", "now").ok());
  for (std::thread& thread : threads) thread.join();
  for (const std::string& value : seen) EXPECT_EQ(value, "now");
}

TEST_F(TcpStore, WrongSecretIsRefusedAndTheOthersGoOn) {
  auto good = client();
  ASSERT_TRUE(good->set("k", "v").ok());
  for (const char* secret : {"wrong", "", "secret "}) {
    auto bad = connect_store(kHost, server_->port(), secret, kLong);
    ASSERT_FALSE(bad.ok());
    EXPECT_EQ(bad.status().code(), StatusCode::permission_denied) << bad.status().message();
  }
  EXPECT_EQ(*good->try_get("k"), "v");
}

TEST_F(TcpStore, SurvivesGarbageAndHalfOpenConnections) {
  auto good = client();
  std::vector<Socket> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(stranger());  // more than the server keeps
  for (size_t size : {1, 63, 64, 65, 5000, 300000}) {
    Socket socket = stranger();
    std::string garbage(size, '\0');
    for (size_t i = 0; i < size; ++i) garbage[i] = static_cast<char>(i * 37 + size);
    ::send(socket.fd(), garbage.data(), garbage.size(), MSG_NOSIGNAL);  // may be cut off: that is the point
  }
  ASSERT_TRUE(good->set("k", "v").ok());
  EXPECT_EQ(*client()->try_get("k"), "v");
}

// A member of the job that sends nonsense loses its connection, nothing else.
TEST_F(TcpStore, BadRequestsOfMembersAreBounded) {
  auto good = client();
  ASSERT_TRUE(good->set("k", "v").ok());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::vector<std::string> requests;
  std::string huge;
  put_number(huge, uint32_t{0xffffffff});
  std::string short_one;
  put_number(short_one, uint32_t{3});
  short_one += "abc";
  std::string long_key;
  put_number(long_key, static_cast<uint32_t>(kRequestHead));
  put_number(long_key, static_cast<uint8_t>(StoreOperation::set));
  put_number(long_key, int64_t{0});
  put_number(long_key, uint32_t{0xffffffff});
  std::string unknown;
  put_number(unknown, static_cast<uint32_t>(kRequestHead + 1));
  put_number(unknown, uint8_t{77});
  put_number(unknown, int64_t{0});
  put_number(unknown, uint32_t{1});
  unknown += "k";
  for (const std::string& request : {huge, short_one, long_key, unknown}) {
    Socket socket = stranger();
    char greeting[kGreetingSize];
    ASSERT_TRUE(receive_all(socket, greeting, sizeof greeting, deadline).ok());
    const std::string theirs(greeting + sizeof kGreeting, kChallenge), ours(kChallenge, 'c');
    const Digest proof = hmac_sha256("secret", "client" + theirs + ours);
    ASSERT_TRUE(send_all(socket, ours.data(), ours.size(), deadline).ok());
    ASSERT_TRUE(send_all(socket, proof.data(), proof.size(), deadline).ok());
    char welcome[kWelcomeSize];
    ASSERT_TRUE(receive_all(socket, welcome, sizeof welcome, deadline).ok());
    ASSERT_EQ(welcome[0], 1);
    ASSERT_TRUE(send_all(socket, request.data(), request.size(), deadline).ok());
    char byte;
    EXPECT_EQ(receive_all(socket, &byte, 1, deadline).code(), StatusCode::unavailable);  // closed, not timed out
  }
  EXPECT_EQ(*good->try_get("k"), "v");
}

TEST_F(TcpStore, PortInUseSaysWhichAndWhatToDo) {
  auto second = serve_store(kHost, server_->port(), "secret");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::unavailable);
  EXPECT_NE(second.status().message().find(kHost + ":" + std::to_string(server_->port())), std::string::npos);
  EXPECT_NE(second.status().message().find("already in use"), std::string::npos);
}

TEST_F(TcpStore, NobodyThere) {
  const int port = server_->port();
  auto orphan = client();
  server_.reset();
  EXPECT_EQ(connect_store(kHost, port, "secret", 100 * kMillisecond).status().code(), StatusCode::timeout);
  EXPECT_FALSE(orphan->try_get("k").ok());
  EXPECT_FALSE(orphan->try_get("k").ok());
  // A server that comes back is found again.
  auto again = serve_store(kHost, port, "secret");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_TRUE(orphan->set("k", "v").ok());
}

TEST_F(TcpStore, NoSecretOnlyOnLoopback) {
  EXPECT_EQ(serve_store("0.0.0.0", 0, "").status().code(), StatusCode::invalid_argument);
  EXPECT_TRUE(serve_store("127.0.0.1", 0, "").ok());
  EXPECT_EQ(serve_store("127.0.0.1", 70000, "").status().code(), StatusCode::invalid_argument);
}

// Not this protocol at all.
TEST_F(TcpStore, ClientRejectsAStrangeServer) {
  auto listener = listen_on(kHost, 0);
  ASSERT_TRUE(listener.ok());
  std::thread other([&] {
    int fd = -1;
    while (fd < 0) fd = ::accept4(listener->fd(), nullptr, nullptr, SOCK_CLOEXEC);
    Socket socket(fd);
    const std::string page(100, 'H');
    ::send(fd, page.data(), page.size(), MSG_NOSIGNAL);
    char byte;
    while (::recv(fd, &byte, 1, 0) > 0) {
    }
  });
  EXPECT_EQ(connect_store(kHost, port_of(*listener), "secret", kLong).status().code(), StatusCode::data_error);
  other.join();
}

}  // namespace
}  // namespace sinew::dist

#endif  // SINEW_HAVE_UCX
