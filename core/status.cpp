#include "core/status.h"

#include <cstring>

namespace sinew {

const char* to_string(StatusCode code) {
  switch (code) {
    case StatusCode::ok:
      return "ok";
    case StatusCode::invalid_argument:
      return "invalid argument";
    case StatusCode::not_found:
      return "not found";
    case StatusCode::data_error:
      return "data error";
    case StatusCode::io_error:
      return "I/O error";
    case StatusCode::timeout:
      return "timeout";
    case StatusCode::peer_lost:
      return "peer lost";
    case StatusCode::permission_denied:
      return "permission denied";
    case StatusCode::unavailable:
      return "unavailable";
    case StatusCode::non_finite:
      return "non-finite value";
    case StatusCode::cancelled:
      return "cancelled";
    case StatusCode::internal:
      return "internal error";
  }
  return "unknown";
}

namespace detail {
void throw_error(const char* op, const std::string& what, const char* file, int line) {
  const char* base = std::strrchr(file, '/');
  throw Error(concat("[", op, "] ", what, " (", base ? base + 1 : file, ":", line, ")"));
}
}  // namespace detail
}  // namespace sinew
