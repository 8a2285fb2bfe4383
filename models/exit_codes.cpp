#include "models/exit_codes.h"

#include <csignal>
#include <ostream>

namespace sinew::train {

int exit_code(const Status& status, bool has_center) {
  switch (status.code()) {
    case StatusCode::ok:
      return kExitOk;
    case StatusCode::invalid_argument:
      return kExitUsage;
    case StatusCode::not_found:
    case StatusCode::data_error:
    case StatusCode::io_error:
      return kExitData;
    case StatusCode::timeout:
    case StatusCode::unavailable:
      return kExitNetwork;
    case StatusCode::permission_denied:
      return kExitPermission;
    case StatusCode::non_finite:
      return kExitNonFinite;
    case StatusCode::peer_lost:
      return has_center ? kExitCenterLost : kExitPeerLost;
    case StatusCode::cancelled:
      return kExitInterrupted;
    case StatusCode::internal:
      return kExitInternal;
  }
  return kExitInternal;
}

Status status_of_exit_code(int code, const std::string& message) {
  switch (code) {
    case kExitOk:
      return Status::Ok();
    case kExitUsage:
      return Status(StatusCode::invalid_argument, message);
    case kExitData:
      return Status(StatusCode::data_error, message);
    case kExitNetwork:
      return Status(StatusCode::unavailable, message);
    case kExitPermission:
      return Status(StatusCode::permission_denied, message);
    case kExitNonFinite:
      return Status(StatusCode::non_finite, message);
    case kExitCenterLost:
    case kExitPeerLost:
      return Status(StatusCode::peer_lost, message);
    case kExitInterrupted:
      return Status(StatusCode::cancelled, message);
    default:
      return Status(StatusCode::internal, message);
  }
}

int report_stopped(int signal, const std::string& folder, std::ostream& err) {
  const char* what = signal == SIGINT ? "interrupted" : "terminated";
  err << detail::concat("sinew: ", what, " by signal ", signal, " before the end; metrics and logs until then are in ",
                        folder, "\n")
      << std::flush;
  return 128 + signal;
}

int report(const Status& status, std::ostream& err, bool has_center) {
  if (!status.ok()) err << "sinew: " + status.message() + "\n" << std::flush;
  return exit_code(status, has_center);
}

}  // namespace sinew::train
