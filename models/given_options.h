// Settings that somebody gave for this run and that its scheme has no use for.
#pragma once

#include "models/config.h"

namespace sinew::train {

// invalid_argument: one line with the first flag or variable that would count for nothing, and whose setting it is.
// Presets and files may set what other schemes need, since --scheme may be given beside them; and so may be given what
// is the same in all runs of a comparison: scheme.period, scheme.deadline, scheme.bn. What dist::validate refuses by
// its value, such as scheme.wire, is not looked at here.
Status check_given(const Configuration& configuration);

}  // namespace sinew::train
