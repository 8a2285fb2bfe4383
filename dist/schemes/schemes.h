// The constructors of the schemes, for dist/scheme.cpp.
#pragma once

#include <memory>

#include "dist/scheme.h"

namespace sinew::dist {

std::unique_ptr<Scheme> make_local();
std::unique_ptr<Scheme> make_all_reduce(const SchemeOptions& options, World& world);
std::unique_ptr<Scheme> make_elastic(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                     Device device);
std::unique_ptr<Scheme> make_admm(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device);
std::unique_ptr<Scheme> make_downpour(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                      Device device);
std::unique_ptr<Scheme> make_averaged(const SchemeOptions& options, int64_t size, DType dtype);
std::unique_ptr<Scheme> make_tree_leaf(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                       Device device);
std::unique_ptr<Scheme> make_local_sgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
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
std::unique_ptr<Scheme> make_leader_sync(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                         Device device);
std::unique_ptr<Scheme> make_leader_async(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                          Device device);
std::unique_ptr<Scheme> make_global_average(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                            Device device, std::unique_ptr<Scheme> inner);

// gossip_options.cpp
bool is_gossip(const std::string& name);
SchemeOptions with_gossip_defaults(SchemeOptions options);
Status validate_gossip(const SchemeOptions& options);
std::string warning_about_gossip(const SchemeOptions& options);
std::unique_ptr<Scheme> make_gossip(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                    Device device);

// Whether an elastic exchange moves the worker before its gradient.
inline bool moves_first(const SchemeOptions& o) {
  return o.update_order == "post" || (o.update_order.empty() && !is_fixed(o.weighting));
}

// The moving rate in force: as given, else 0.9 / workers (EASGD specification, trap 1: per exchange, whatever the
// period); in a tree 0.9 / (children and parent).
inline double moving_rate(const SchemeOptions& o) {
  if (o.alpha >= 0) return o.alpha;
  return 0.9 / (o.name == "easgd_tree" ? static_cast<double>(o.fan_out + 1) : o.workers);
}

inline int64_t parameters_of(const SchemeOptions& o, int64_t size) { return o.parameters >= 0 ? o.parameters : size; }

}  // namespace sinew::dist
