// What the schemes with a center node share on the worker's side: joining it, its shards, what is known of it, state.
//
// Thread safety: the training thread; handlers belong to the CenterServer, if this worker serves (dist/center.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dist/center.h"
#include "dist/scheme.h"

namespace sinew::dist {

class CenterScheme : public Scheme {
 public:
  Evaluated evaluated() const override { return Evaluated::center; }
  Status start(VecView theta) override;
  // Where results are measured on something that workers do not know, asks the center; unanswered within the deadline,
  // the newest that is known. After finish(), with several parts, the lowest worker has the center's final values.
  Status evaluation_point(ConstVecView theta, VecView out) override;
  Status finish(VecView theta) override;
  double take_external_write() override { return std::exchange(moved_, 0.0); }
  SchemeCounters counters() const override;
  SchemeState save() const override;
  Status load(const SchemeState& state) override;

 protected:
  CenterScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device);

  // To be called with what the client says: a node of the center that is lost is a missed exchange, of its part. When
  // it is gone for good, the lowest worker that is not takes its part over (dist/center_part.h); the others find it by
  // the same rule. Where less than a majority of all nodes is left, the part may live on another side: peer_lost.
  Result<bool> go_on(Result<bool> complete);
  // To be called with theta before the client is used: what a new node may be told.
  void remember(ConstVecView theta) { theta_ = theta; }

  template <class View>
  View part(View v, int shard) const {
    return v.slice(shards_.begin(shard), shards_.length(shard));
  }
  // factor (x - y) of the whole shard in host memory, as it is sent, and ||x - y||^2. y is in host memory when it comes
  // from a payload, else on the device of x.
  std::pair<Payload, double> difference(double factor, ConstVecView x, ConstVecView y);
  // Rounds a difference that is sent, in place. What rounding leaves waits for the shard's next one: c + what is sent
  // and what waits have moved by all differences.
  Rounded quantize(int shard, Payload difference);
  // A message's numbers on the parameters' device; valid until the next call.
  ConstVecView on_device(const Payload& payload);

  World& world_;
  const int64_t period_;
  const DType dtype_;
  const Device device_;
  const SchemeOptions options_;
  const CenterSetup setup_;
  const Shards& shards_ = setup_.shards;
  CenterClient client_;
  std::vector<Payload> known_;  // what the center last answered, by shard
  double moved_ = 0;            // of take_external_write()
  SchemeCounters counters_;

 private:
  // The node that has a part, or takes it over.
  Rank seat(int part) const;
  bool is_gone(Rank r) const;
  // No other side of a partition has more of the nodes.
  bool has_majority() const;
  void take_over(int part);
  // A worker that is done asks all the time, and waits longer: those that train come with their next exchanges.
  void wait_for_new_node();
  bool has_seen(int part) const;
  CenterClient::Memory memory();
  // Whether this worker is the one that leaves last, and takes the center's final values along.
  bool collects() const;
  Status collect();
  // Of a worker that serves.
  Status serve_others();
  std::string name_of(int part) const;
  void note(const std::string& text) const {
    if (options_.on_note) options_.on_note(text);
  }

  Vec staging_;
  ConstVecView theta_;
  std::optional<Deadline> patience_;      // with a new node, until it answers
  int unanswered_ = 0;                    // exchanges since then
  std::unique_ptr<CenterServer> server_;  // when this worker serves
  std::vector<int> taken_over_;           // and has not said yet where they come from
  bool ends_ = false;                     // in finish()
  bool finished_ = false;                 // its last differences are sent
  std::vector<Payload> final_;            // what results are measured on, when this worker has left
  Vec unsent_;                            // of quantize()
};

// The center that the scheme works with.
CenterSetup center_setup(const SchemeOptions& options, int64_t size, DType dtype, uint64_t fingerprint);
// That serves part `part` at first.
Rank center_home(const SchemeOptions& options, int part);

}  // namespace sinew::dist
