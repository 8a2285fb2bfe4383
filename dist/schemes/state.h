// Reading what a scheme has saved. data_error names what is missing or does not fit.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "dist/scheme.h"

namespace sinew::dist {

// Same size and type; `into` may be on a device, saved vectors too.
Status load_vector(const SchemeState& state, const std::string& name, Vec& into);
Status load_numbers(const SchemeState& state, std::initializer_list<std::pair<const char*, int64_t*>> numbers);

}  // namespace sinew::dist
