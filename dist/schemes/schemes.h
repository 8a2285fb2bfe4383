// The constructors of the schemes, for dist/scheme.cpp.
#pragma once

#include <memory>

#include "dist/scheme.h"

namespace sinew::dist {

std::unique_ptr<Scheme> make_local();
std::unique_ptr<Scheme> make_all_reduce(const SchemeOptions& options, World& world);
std::unique_ptr<Scheme> make_elastic(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                     Device device);
std::unique_ptr<Scheme> make_elastic_sync(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                          Device device);

// The moving rate in force: as given, else 0.9 / workers (EASGD specification, trap 1: per exchange, whatever the
// period).
inline double moving_rate(const SchemeOptions& o) { return o.alpha >= 0 ? o.alpha : 0.9 / o.workers; }

}  // namespace sinew::dist
