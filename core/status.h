// What the world did wrong: a missing file, corrupt data, a lost peer, a timeout.
//
// Status is [[nodiscard]]; the function that first knows what went wrong writes the message, callers hand it
// on, and the program prints it once. A message is one line: what, which value, what is allowed or what to do next.
//
// Example:
//   Result<Bytes> bytes = read_file(path);
//   if (!bytes.ok()) return bytes.status();
//
// Thread safety: values; share them as you would a std::string.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/check.h"

namespace sinew {

enum class StatusCode {
  ok,
  invalid_argument,   // a value the user gave
  not_found,          // file, directory, name
  data_error,         // contents that cannot be read as what they should be
  io_error,           // reading, writing, sockets, address in use
  timeout,            // a deadline passed
  peer_lost,          // a peer that the caller cannot go on without
  permission_denied,  // authentication
  unavailable,        // built without it, or the machine lacks it
  non_finite,         // NaN or infinity where training cannot go on
  cancelled,          // asked to stop
  internal,
};

const char* to_string(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}
  static Status Ok() { return {}; }

  bool ok() const { return code_ == StatusCode::ok; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

template <class... Parts>
Status make_status(StatusCode code, const Parts&... parts) {
  return Status(code, detail::concat(parts...));
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {
    SINEW_CHECK(!status_.ok(), "result", "an ok Status carries no value");
  }
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // REQUIRES: ok().
  T& value() & {
    SINEW_CHECK(ok(), "result", status_.message());
    return *value_;
  }
  const T& value() const& {
    SINEW_CHECK(ok(), "result", status_.message());
    return *value_;
  }
  T&& value() && {
    SINEW_CHECK(ok(), "result", status_.message());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace sinew

#define SINEW_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                     \
    if (::sinew::Status sinew_status_ = (expr); !sinew_status_.ok()) return sinew_status_; \
  } while (false)
