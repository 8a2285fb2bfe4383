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
std::unique_ptr<Scheme> make_lockstep_gossip(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                             Device device);
std::unique_ptr<Scheme> make_async_gossip(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                          Device device);
std::unique_ptr<Scheme> make_gossiping_sgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                           Device device);
std::unique_ptr<Scheme> make_gosgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                   Device device);
std::unique_ptr<Scheme> make_push_sum(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                      Device device);
std::unique_ptr<Scheme> make_global_average(const SchemeOptions& options, World& world, std::unique_ptr<Scheme> inner);

// gossip_options.cpp
bool is_gossip(const std::string& name);
SchemeOptions with_gossip_defaults(SchemeOptions options);
Status validate_gossip(const SchemeOptions& options);
std::unique_ptr<Scheme> make_gossip(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                    Device device);

// The moving rate in force: as given, else 0.9 / workers (EASGD specification, trap 1: per exchange, whatever the
// period).
inline double moving_rate(const SchemeOptions& o) { return o.alpha >= 0 ? o.alpha : 0.9 / o.workers; }

}  // namespace sinew::dist
