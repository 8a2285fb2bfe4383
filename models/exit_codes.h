// The program's exit codes and how they follow from what went wrong (docs/exit_codes.md is their manual).
//
// A process of a job tells its supervisor what happened by its exit code; status_of_exit_code turns it back into a
// Status, so that the whole job ends with the code of its first failure.
#pragma once

#include <iosfwd>
#include <string>

#include "core/status.h"

namespace sinew::train {

enum ExitCode : int {
  kExitOk = 0,
  kExitInternal = 1,      // a defect of sinew
  kExitUsage = 2,         // unknown verb, flag or value
  kExitData = 3,          // a file or data set is missing or cannot be read as what it should be
  kExitNetwork = 4,       // rendezvous or network: port in use, nobody came, UCX not available
  kExitPermission = 5,    // wrong secret
  kExitNonFinite = 6,     // the loss is NaN or infinite and train.nonfinite = stop
  kExitCenterLost = 7,    // the node that holds the center variable died
  kExitPeerLost = 8,      // a synchronous scheme lost a worker or the majority
  kExitInterrupted = 130  // asked to stop; another signal that stops a job or ends a process gives 128 + its number
};

// has_center: the scheme keeps a center variable, so a peer that one cannot go on without is the center.
int exit_code(const Status& status, bool has_center = false);
// Not ok unless code is 0.
Status status_of_exit_code(int code, const std::string& message);
// For a job that a signal stopped: prints the one line and returns 128 + signal.
int report_stopped(int signal, const std::string& folder, std::ostream& err);
// Prints the one line "sinew: ..." unless ok. Returns the exit code.
int report(const Status& status, std::ostream& err, bool has_center = false);

}  // namespace sinew::train
