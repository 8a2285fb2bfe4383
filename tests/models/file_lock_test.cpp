#include "models/file_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace sinew::train {
namespace {

class FileLockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/sinew_lock_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    path_ = root_ + "/lock";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string root_, path_;
};

TEST_F(FileLockTest, OneHolderAtATime) {
  EXPECT_FALSE(is_locked(path_));
  FileLock a(path_), b(path_);
  EXPECT_FALSE(is_locked(path_)) << "open is not locked";
  EXPECT_TRUE(a.try_lock());
  EXPECT_TRUE(a.try_lock()) << "held is held";
  EXPECT_TRUE(is_locked(path_));
  EXPECT_FALSE(b.try_lock());
  EXPECT_FALSE(b.lock(std::chrono::milliseconds(30)));
  FileLock moved = std::move(a);
  EXPECT_TRUE(moved.held());
  moved.release();
  EXPECT_FALSE(is_locked(path_));
  EXPECT_TRUE(b.lock(std::chrono::milliseconds(0)));
}

TEST_F(FileLockTest, EndsWithItsProcess) {
  const pid_t child = fork();
  if (child == 0) {
    FileLock lock(path_);
    if (!lock.try_lock()) _exit(1);
    for (;;) pause();
  }
  while (!is_locked(path_) && waitpid(child, nullptr, WNOHANG) == 0) usleep(1000);
  EXPECT_TRUE(is_locked(path_));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(is_locked(path_));
}

TEST_F(FileLockTest, AFileThatCannotBeMadeCannotBeLocked) {
  FileLock lock(root_ + "/nowhere/lock");
  EXPECT_FALSE(lock.try_lock());
  EXPECT_FALSE(lock.lock(std::chrono::hours(1))) << "and is not waited for";
}

}  // namespace
}  // namespace sinew::train
