// A scheme: how loosely coupled workers keep their parameters together. The trainer calls the hooks of one step
// in this order (architecture, section 3):
//
//   before_step(step, theta) -> gradient -> observe(loss) -> reduce(gradient) -> optimizer -> after_step(step, theta)
//
// Invariants
//  - theta belongs to the training thread; a scheme writes it only in start, before_step (when mixes() == before),
//    after_step and finish. With mixes() == after, before_step only reads it: the difference waits in the scheme's own
//    buffer and is applied after the optimizer (EASGD, Algorithm 1: the gradient is taken before the elastic move).
//  - Every outside write of theta is reported by take_external_write(), so that the optimizer can treat its momentum.
//  - Schemes know flat vectors and a World, nothing of tensors, models or optimizers.
//  - Same initial theta on all workers (the caller's duty: the same seed); fingerprints are compared at start.
//
// Adding a scheme: dist/README.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "core/vec.h"
#include "dist/weighting.h"
#include "dist/world.h"

namespace sinew::dist {

// What a worker did in one round of a leader scheme.
struct LeaderRound {
  int64_t round = 0;
  Rank local = kAnyRank, global = kAnyRank;  // whom it followed, or itself; kAnyRank: nobody
  double loss = 0;                           // that it stood for election with
  double distance = 0;                       // from the first of them, before its pull
  int64_t steps = 0;                         // its own since the round before
};
using RoundLog = std::function<void(const LeaderRound&)>;

struct SchemeOptions {
  std::string name = "local";  // scheme_names()
  int workers = 1;
  int64_t period = 10;               // communication period tau, in steps
  double alpha = -1;                 // moving rate; < 0: 0.9 / workers (easgd spec, trap 1)
  double beta = -1;                  // easgd_sync Gauss-Seidel: rate of the center; < 0: workers * alpha
  std::string order = "jacobi";      // easgd_sync: jacobi | gauss_seidel
  std::string tree = "multi_scale";  // easgd_tree: multi_scale | up_down (dist/schemes/tree.h)
  int64_t fan_out = 4;               // easgd_tree: children of a node, at most; 2 and more
  int64_t far_period = -1;           // easgd_tree: period of the pushes between inner nodes, or down; < 0: 10 x period
  std::string outer = "none";        // local_sgd: none | momentum | nesterov (dist/schemes/local_sgd.cpp)
  double outer_lr = 1;               // local_sgd
  double outer_momentum = 0.9;       // local_sgd; mdownpour: of the center; below 1
  double average_rate = 0.001;       // mvadownpour, mvasgd: of the moving average; 0 to 1
  // Leading elements that are parameters; what follows are buffers (batch norm's statistics), which take part but not
  // where only parameters make sense. < 0: all.
  int64_t parameters = -1;
  WeightingOptions weighting = {};  // easgd, eamsgd, easgd_sync jacobi: the weights of an exchange
  // Of these: pre: the gradient is taken at the unmoved x (Algorithm 1); post: x moves first. "": post where weights
  // differ from alpha, since only then no exchange makes anything larger (dynamic-weighting specification, 1.6).
  std::string update_order = {};
  WeightsLog on_weights = {};  // gets each contact of this worker whose weights are not alpha, on the training thread
  // Gets a line now and then on what happened to this worker's scheme, on the training thread.
  std::function<void(const std::string&)> on_note = {};
  // Elements of the center that are fetched and added as one. With its header an f32 shard of this size fits one TCP
  // segment of the transport (dist/ucx/transport.cpp); 1 << 16 does not, and an exchange took 1.15 times as long.
  int64_t shard = 60 * 1024;
  // Of a scheme with a center (not easgd_tree, admm): how many nodes serve it, or "workers": they do it themselves.
  std::string servers = "1";
  // Of the collectives of vectors on a GPU: ring (through host memory) | nccl (real world, wire f32).
  std::string communicator = "ring";
  std::string wire = "f32";  // packing_names() of what is exchanged (dist/packing.h)
  // Gossip (docs/schemes.md); "" or below 0: the scheme's own.
  double probability = 1;          // of an exchange, in each round
  std::string collision = "sum";   // elastic_gossip: sum | matching | capped
  std::string topology;            // topology_names()
  std::string edges;               // of topology `edges`
  std::string mode = "sync";       // sync: in lockstep | async
  std::string mixing = "awc";      // dpsgd: awc | atc
  std::string direction = "pull";  // gossiping_sgd: pull | push
  // push-sum: rounds between sending and taking in. easgd, eamsgd: steps between asking for the center and the
  // exchange.
  int64_t overlap = 0;
  int64_t global_average_every = 0;  // steps; 0: never
  // lsgd, lgd (dist/schemes/leader.h).
  double pull = 0.1, pull_global = 0.1;       // toward the leader of the group, and of all
  int64_t period_global = -1;                 // steps, a multiple of the period; < 0: 2 x period
  std::string groups;                         // leader_groups()
  int64_t host = 0;                           // of groups `hosts`: the same on all workers of one host, 0 to 2^31
  std::string leader = "running_train";       // chosen by: running_train | probe_batch
  int64_t loss_window = 10;                   // lsgd, running_train: losses in the mean
  double proximal = 0, proximal_global = 0;   // lsgd: pulls of a whole period, in parts after each step
  std::function<double(ConstVecView)> probe;  // probe_batch: the loss of a batch that is the same for all workers
  double probe_cost = 1;                      // of one such loss, in steps
  RoundLog on_round = {};                     // gets each round of this worker, on the training thread
  Nanos deadline = 10 * kSecond;              // longest wait for others that do not answer
  uint64_t seed = 1;
  uint64_t fingerprint = 0;  // of the parameter layout and the configuration
};

enum class Mixes { before, after };
enum class Statistic : size_t { gradient, curvature };  // curvature: the signed diagonal of the Hessian
enum class Evaluated { own, average, center };
const char* to_string(Evaluated evaluated);

// What a scheme must remember to continue bit for bit.
struct SchemeState {
  std::map<std::string, Vec> vectors;
  std::map<std::string, int64_t> numbers;
};

// How old what a worker mixed in was, where nobody waits for a common round (dynamic weighting, failure matrix, row 6).
// With a center: exchanges of others that reached it between two looks of this worker. Gossip: the worker's steps from
// when it asked, or sent, until it knew that the other end had taken it in (then it moves by what was answered). lsgd:
// rounds that a worker was behind when it took over a leader. Not counted in lockstep and in trees.
struct Staleness {
  int64_t count = 0, sum = 0, most = 0;
  void add(int64_t age, int64_t times = 1) {
    age = std::max<int64_t>(age, 0);
    count += times, sum += times * age, most = std::max(most, age);
  }
  void add(const Staleness& other) { count += other.count, sum += other.sum, most = std::max(most, other.most); }
  // NaN: nothing was mixed in.
  double mean() const {
    return count > 0 ? static_cast<double>(sum) / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
  }
  void save(std::map<std::string, int64_t>& numbers) const;
  void load(const std::map<std::string, int64_t>& numbers);
};

struct SchemeCounters {
  int64_t exchanges = 0;
  int64_t missed = 0;  // exchanges given up at the deadline, or suppressed
  int64_t resent = 0;
  int64_t lost = 0;     // exchanges that a death took along
  int64_t refused = 0;  // parameters that were not finite
  Staleness staleness;
  // After finish(), with a center: of theta from what the center last answered. NaN: unknown.
  double distance = std::numeric_limits<double>::quiet_NaN();
};

class Scheme {
 public:
  virtual ~Scheme() = default;
  virtual Mixes mixes() const { return Mixes::after; }
  virtual Evaluated evaluated() const = 0;

  // Meets the others. A restarted worker (world.incarnation() > 0) adopts the scheme's current parameters here.
  virtual Status start(VecView theta) = 0;
  // `step` counts this worker's steps from 0.
  virtual Status before_step(int64_t step, VecView theta) { return Status::Ok(); }
  // Combines a statistic over the workers where the scheme is synchronous; else nothing.
  virtual Status reduce(VecView statistic, Statistic which = Statistic::gradient) { return Status::Ok(); }
  // The loss of the step's batch, at the parameters before the step. Between the gradient and after_step().
  virtual void observe(double loss) {}
  // Whether reduce() combines anything: every worker must then step with what it returns, so that they stay equal.
  virtual bool reduces() const { return false; }
  virtual Status after_step(int64_t step, VecView theta) { return Status::Ok(); }
  // The vector that results are measured on. Collective when evaluated() == average. With Evaluated::center,
  // this worker's newest knowledge of the center.
  virtual Status evaluation_point(ConstVecView theta, VecView out) = 0;
  // Delivers what is in flight and says goodbye to the others of this scheme. World::leave() is the caller's. timeout:
  // not all is confirmed within the deadline; it may be called again, and goes on.
  virtual Status finish(VecView theta) { return Status::Ok(); }

  // Sum of squared movement that others caused since the last call, in units of parameters; 0 when theta is its own.
  virtual double take_external_write() { return 0; }
  // At a step boundary. load() takes the place of start(): the next call is before_step().
  virtual SchemeState save() const { return {}; }
  virtual Status load(const SchemeState& state) { return Status::Ok(); }
  virtual SchemeCounters counters() const { return {}; }
};

// The passive node of a center scheme.
class CenterNode {
 public:
  virtual ~CenterNode() = default;
  // Registers the handlers; from here on workers are served.
  virtual Status start(ConstVecView initial) = 0;
  // Returns when every worker has left or is gone for good, or after `slice` of time: true when all are done.
  virtual Result<bool> serve(Nanos slice) = 0;
  // The vector that results are measured on.
  virtual void snapshot(VecView out) = 0;
  // Applied additions so far.
  virtual int64_t version() = 0;
  // Differences that were not finite and moved nothing.
  virtual int64_t refused() = 0;
  // False for one that took the place of a dead one, when no worker has told it what that one had.
  virtual bool has_result() { return true; }
  virtual SchemeState save() = 0;
  // Takes the place of start().
  virtual Status load(const SchemeState& state) = 0;
};

// For CenterNode::serve: true when every worker has left, is gone for good, or is `done`; false after `slice`. Not ok:
// the world must stop.
Result<bool> wait_for_workers(World& world, int workers, Nanos slice, const std::function<bool(Rank)>& done);
// Serves until every worker has left or is gone for good, or the world must stop.
Status serve_all(CenterNode& center, const World& world);

bool needs_center(const SchemeOptions& options);
// Nodes that serve the center and do nothing else; 0: there is none, or the workers serve it.
int center_servers(const SchemeOptions& options);
// Whether the node of rank `workers` has all that results are measured on; else the workers have it.
bool center_is_measured(const SchemeOptions& options);
// Whether the workers go on when the center, or a tree's root, dies: a survivor takes it over.
bool survives_center(const SchemeOptions& options);
// Whether a restarted worker can join the others again.
bool takes_workers_back(const SchemeOptions& options);
// One line about settings that work badly; "" if there is nothing to say.
std::string warning_about(const SchemeOptions& options);
// Workers that never meet: local and the sequential baselines.
bool is_alone(const SchemeOptions& options);
// Workers are ranks 0 .. workers-1; the center, where there is one, is rank `workers`, and the other nodes that serve
// it, or inner nodes of a tree, follow.
int node_count(const SchemeOptions& options);
std::vector<std::string> scheme_names();
// One line on what the scheme does, with its source. "" for an unknown name.
std::string describe_scheme(const std::string& name);
// invalid_argument with the allowed names or ranges.
Status validate(const SchemeOptions& options);
// size and dtype of theta. REQUIRES: validate(options).ok(); the world outlives the scheme.
std::unique_ptr<Scheme> make_scheme(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                    Device device = Device::cpu);
std::unique_ptr<CenterNode> make_center(const SchemeOptions& options, World& world, int64_t size, DType dtype);

}  // namespace sinew::dist
