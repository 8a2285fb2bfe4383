#include "models/stop_signal.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <iostream>

#include "models/exit_codes.h"

namespace sinew::train {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};

std::atomic<int> signal_pipe{-1};
void on_signal(int number) {
  const int saved = errno;
  const char byte = static_cast<char>(number);
  (void)!::write(signal_pipe.load(), &byte, 1);
  errno = saved;
}

}  // namespace

StopSignal::StopSignal(std::string folder, std::function<void()> last_words)
    : folder_(std::move(folder)), last_words_(std::move(last_words)) {
  if (::pipe2(pipe_.data(), O_CLOEXEC) != 0) return;  // signals then end the process as they always do
  signal_pipe = pipe_[1];
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART | SA_RESETHAND;  // a second signal ends the process
  for (size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &old_[i]);
    if (kSignals[i] != SIGHUP || old_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
  thread_ = std::thread([this] { wait(); });
}

StopSignal::~StopSignal() {
  if (!thread_.joinable()) return;
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &old_[i], nullptr);
  const char end = 0;
  (void)!::write(pipe_[1], &end, 1);
  thread_.join();
  signal_pipe = -1;
  for (int fd : pipe_) ::close(fd);
}

void StopSignal::wait() {
  char number = 0;
  while (::read(pipe_[0], &number, 1) < 0 && errno == EINTR) {
  }
  if (number == 0) return;
  last_words_();
  ::_exit(report_stopped(number, folder_, std::cerr));
}

}  // namespace sinew::train
