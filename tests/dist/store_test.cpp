#include "dist/store.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>
#include <vector>

#include "tests/support/processes.h"

namespace sinew::dist {
namespace {

// What every store must do.
void check_store(Store& store) {
  EXPECT_EQ(store.try_get("a").status().code(), StatusCode::not_found);
  ASSERT_TRUE(store.set("a", "1").ok());
  EXPECT_EQ(*store.try_get("a"), "1");
  const std::string bytes("\0\xff/..\n", 6);
  ASSERT_TRUE(store.set("dir/../key with spaces", bytes).ok());
  EXPECT_EQ(*store.get("dir/../key with spaces", kSecond), bytes);
  ASSERT_TRUE(store.set("a", "").ok());
  EXPECT_EQ(*store.try_get("a"), "");

  EXPECT_EQ(*store.add("count", 2), 2);
  EXPECT_EQ(*store.add("count", -5), -3);
  EXPECT_EQ(*store.try_get("count"), "-3");
  EXPECT_EQ(store.add("a", 1).status().code(), StatusCode::data_error);

  EXPECT_EQ(store.get("never", kMillisecond).status().code(), StatusCode::timeout);
  EXPECT_EQ(store.set("", "x").code(), StatusCode::invalid_argument);
  EXPECT_EQ(store.set(std::string(1000, 'k'), "x").code(), StatusCode::invalid_argument);
  EXPECT_EQ(store.set("big", std::string(1 << 20, 'x')).code(), StatusCode::invalid_argument);
  const std::string largest(64 * 1024, 'x');
  ASSERT_TRUE(store.set("big", largest).ok());
  EXPECT_EQ(*store.try_get("big"), largest);
}

// Concurrent adds are not lost; a waiting get sees what another user of the store sets.
// `users`: one per thread; `setter` is one more.
void check_threads(const std::vector<Store*>& users, Store& setter) {
  std::vector<std::thread> threads;
  std::vector<std::string> seen(users.size());
  for (size_t i = 0; i < users.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 50; ++k) EXPECT_TRUE(users[i]->add("sum", 1).ok());
      Result<std::string> value = users[i]->get("go", 60 * kSecond);
      seen[i] = value.ok() ? *value : value.status().message();
    });
  }
  const std::string all = std::to_string(50 * users.size());
  EXPECT_TRUE(test::eventually([&] {
    Result<std::string> sum = setter.try_get("sum");
    return sum.ok() && *sum == all;
  }));
  EXPECT_TRUE(setter.set("go", "now").ok());
  for (std::thread& thread : threads) thread.join();
  for (const std::string& value : seen) EXPECT_EQ(value, "now");
}

TEST(Store, Memory) {
  check_store(*make_memory_store());
  auto store = make_memory_store();
  check_threads({store.get(), store.get(), store.get()}, *store);
}

TEST(Store, File) {
  test::TemporaryDirectory directory;
  auto store = make_file_store(directory.path() + "/a");
  ASSERT_TRUE(store.ok());
  check_store(**store);
  // Several objects on one directory are one store.
  auto one = make_file_store(directory.path() + "/b"), two = make_file_store(directory.path() + "/b");
  ASSERT_TRUE(one.ok() && two.ok());
  check_threads({one->get(), two->get()}, **one);
  EXPECT_EQ(*(*two)->try_get("go"), "now");
}

TEST(Store, FileStoreNeedsADirectory) {
  test::TemporaryDirectory directory;
  std::ofstream(directory.path() + "/file") << "x";
  EXPECT_EQ(make_file_store(directory.path() + "/file").status().code(), StatusCode::io_error);
  EXPECT_EQ(make_file_store(directory.path() + "/no/such/parent").status().code(), StatusCode::io_error);
}

}  // namespace
}  // namespace sinew::dist
