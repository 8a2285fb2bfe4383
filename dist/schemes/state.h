// Reading what a scheme has saved. data_error names what is missing or does not fit.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "dist/scheme.h"

namespace sinew::dist {

// Same size and type; `into` may be on a device, saved vectors too.
Status load_vector(const SchemeState& state, const std::string& name, Vec& into);
// The number that follows the prefix in a name, below `limit`.
Result<int64_t> load_index(const std::string& name, const std::string& prefix, int64_t limit);
Status load_numbers(const SchemeState& state, std::initializer_list<std::pair<const char*, int64_t*>> numbers);

}  // namespace sinew::dist
