// What the schemes with a center node share on the worker's side: joining it, its shards, what is known of it, state.
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
  // the newest that is known.
  Status evaluation_point(ConstVecView theta, VecView out) override;
  Status finish(VecView theta) override;
  double take_external_write() override { return std::exchange(moved_, 0.0); }
  SchemeCounters counters() const override;
  SchemeState save() const override;
  Status load(const SchemeState& state) override;

 protected:
  CenterScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device);

  // To be called with what the client says: a center that is lost is a missed exchange. When it is gone for good, the
  // lowest worker that is not takes it over, from what it has last seen of it; the others find it by the same rule.
  // Where less than a majority of all nodes is left, the center may live on another side: peer_lost.
  Result<bool> go_on(Result<bool> complete, ConstVecView theta);

  template <class View>
  View part(View v, int shard) const {
    return v.slice(shards_.begin(shard), shards_.length(shard));
  }
  // factor (x - y) of the whole shard in host memory, as it is sent, and ||x - y||^2. y is in host memory when it comes
  // from a payload, else on the device of x.
  std::pair<Payload, double> difference(double factor, ConstVecView x, ConstVecView y);
  // Rounds a difference that is sent. What rounding leaves waits for the shard's next one: c + what is sent and what
  // waits have moved by all differences.
  void quantize(int shard, const Payload& difference);
  // A message's numbers on the parameters' device; valid until the next call.
  ConstVecView on_device(const Payload& payload);

  World& world_;
  const int64_t period_;
  const uint64_t fingerprint_;
  const DType dtype_;
  const Device device_;
  const Shards shards_;
  const bool measured_apart_;
  const SchemeOptions options_;
  const Packing packing_;
  CenterClient client_;
  std::vector<Payload> known_;  // what the center last answered, by shard
  double moved_ = 0;            // of take_external_write()
  SchemeCounters counters_;

 private:
  // The node that is the center, or becomes it.
  Rank seat() const;
  // Of all nodes, more than half are not gone: no other side has a center.
  bool is_majority() const;
  Status take_over(ConstVecView theta);
  void note(const std::string& text) const {
    if (options_.on_note) options_.on_note(text);
  }

  Vec staging_;
  std::optional<Deadline> patience_;      // with a new center, until it answers
  int unanswered_ = 0;                    // exchanges since then
  std::unique_ptr<CenterServer> server_;  // when this worker has taken the center over
  Vec unsent_;                            // of quantize()
};

// The rule of the center node that the scheme works with.
CenterRule center_rule(const SchemeOptions& options, int64_t size);

}  // namespace sinew::dist
