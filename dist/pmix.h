// The place of this process in a job that mpirun or srun started: PMIx (https://pmix.org) tells rank and size, and
// carries where the job meets from rank 0 to the others. The connection to the launcher ends at once: a rank that dies
// later is then survived under srun, which otherwise cancels the whole step.
//
// Thread safety: call it once, from the main thread, before other threads start.
#pragma once

#include <optional>

#include "dist/launch.h"

namespace sinew::dist {

// nullopt: PMIx started nothing here, or only this process. Rank 0 takes MASTER_ADDR and MASTER_PORT from the
// environment, else 127.0.0.1, when all ranks are on its host, and any free port; it draws a secret unless SINEW_SECRET
// is set. Errors: invalid_argument (several hosts without MASTER_ADDR), unavailable (no library, or the launcher does
// not answer).
Result<std::optional<JobEnvironment>> read_pmix_environment();

}  // namespace sinew::dist
