// Programmer errors: wrong shapes, wrong types, broken contracts.
//
// SINEW_CHECK(cond, "op", parts...) throws sinew::Error whose text is
// "[op] parts... (file:line)". It is meant for mistakes in the calling code. What the world does wrong
// (files, peers, bad data) is a Status, see core/status.h.
//
// Thread safety: everything here may be called from any thread.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace sinew {

class Error : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace detail {
[[noreturn]] void throw_error(const char* op, const std::string& what, const char* file, int line);

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}
}  // namespace detail
}  // namespace sinew

#define SINEW_FAIL(op, ...) ::sinew::detail::throw_error(op, ::sinew::detail::concat(__VA_ARGS__), __FILE__, __LINE__)

#define SINEW_CHECK(cond, op, ...) \
  do {                             \
    if (!(cond)) [[unlikely]]      \
      SINEW_FAIL(op, __VA_ARGS__); \
  } while (false)
