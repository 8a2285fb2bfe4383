#include "models/exit_codes.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

namespace sinew::train {
namespace {

Status of(StatusCode code) { return Status(code, "what, which, allowed, next"); }

TEST(ExitCodes, Mapping) {
  EXPECT_EQ(exit_code(Status::Ok()), 0);
  EXPECT_EQ(exit_code(of(StatusCode::internal)), 1);
  EXPECT_EQ(exit_code(of(StatusCode::invalid_argument)), 2);
  EXPECT_EQ(exit_code(of(StatusCode::not_found)), 3);
  EXPECT_EQ(exit_code(of(StatusCode::data_error)), 3);
  EXPECT_EQ(exit_code(of(StatusCode::io_error)), 3);
  EXPECT_EQ(exit_code(of(StatusCode::timeout)), 4);
  EXPECT_EQ(exit_code(of(StatusCode::unavailable)), 4);
  EXPECT_EQ(exit_code(of(StatusCode::permission_denied)), 5);
  EXPECT_EQ(exit_code(of(StatusCode::non_finite)), 6);
  EXPECT_EQ(exit_code(of(StatusCode::peer_lost), true), 7);
  EXPECT_EQ(exit_code(of(StatusCode::peer_lost), false), 8);
  EXPECT_EQ(exit_code(of(StatusCode::cancelled)), 130);
}

TEST(ExitCodes, ASupervisorHandsOnWhatAProcessReported) {
  for (int code = 0; code <= 8; ++code) {
    Status status = status_of_exit_code(code, "why");
    EXPECT_EQ(exit_code(status, code == kExitCenterLost), code);
    EXPECT_EQ(status.message(), code == 0 ? "" : "why");
  }
  EXPECT_EQ(exit_code(status_of_exit_code(130, "asked")), 130);
  EXPECT_EQ(exit_code(status_of_exit_code(139, "crashed")), kExitInternal);
}

TEST(ExitCodes, ReportPrintsOneLine) {
  std::ostringstream err;
  EXPECT_EQ(report(of(StatusCode::not_found), err), 3);
  EXPECT_EQ(err.str(), "sinew: what, which, allowed, next\n");
  EXPECT_EQ(report(Status::Ok(), err), 0);
  EXPECT_EQ(err.str(), "sinew: what, which, allowed, next\n");
}

}  // namespace
}  // namespace sinew::train
