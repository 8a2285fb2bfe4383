#include "cuda/graph.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cuda/entries.h"
#include "cuda/recording.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

struct StepGraph {
  RecordedWork work = nullptr;
  MixedKey* places = nullptr;  // of kMaxRecordedKeys keys
  std::vector<RngKey> keys;
};
constexpr size_t kMaxRecordedKeys = 1024;

thread_local std::unique_ptr<StepGraph> recorded;

}  // namespace

MixedKey mixed(const RngKey& key) {
  return {philox4x32_10(static_cast<uint32_t>(key.step), static_cast<uint32_t>(key.step >> 32), key.rank, key.purpose,
                        static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32))};
}

const MixedKey* recorded_key(const RngKey& key) {
  if (recorded == nullptr) return nullptr;
  SINEW_CHECK(recorded->keys.size() < kMaxRecordedKeys, "cuda", "more than ", kMaxRecordedKeys,
              " random tensors in a graph");
  recorded->keys.push_back(key);
  return recorded->places + (recorded->keys.size() - 1);
}

void graph_begin() {
  auto graph = std::make_unique<StepGraph>();
  graph->places = static_cast<MixedKey*>(memory_allocate(kMaxRecordedKeys * sizeof(MixedKey), stream()));
  try {
    record_begin(stream());
  } catch (const Error&) {
    memory_free(graph->places, stream());
    throw;
  }
  recorded = std::move(graph);
}

void* graph_end(bool keep) {
  SINEW_CHECK(recorded != nullptr, "cuda", "this thread records no graph");
  std::unique_ptr<StepGraph> graph = std::move(recorded);
  try {
    graph->work = record_end(stream(), keep);
  } catch (const Error&) {
    memory_free(graph->places, stream());
    throw;
  }
  if (!keep) {
    memory_free(graph->places, stream());
    return nullptr;
  }
  return graph.release();
}

void graph_renew(void* graph, bool on) { record_renew(static_cast<StepGraph*>(graph)->work, on); }

void graph_launch(void* graph, uint64_t steps) {
  const StepGraph& g = *static_cast<StepGraph*>(graph);
  for (size_t first = 0; first < g.keys.size(); first += kKeysOfLaunch) {
    const size_t count = std::min<size_t>(kKeysOfLaunch, g.keys.size() - first);
    Keys keys{};
    for (size_t i = 0; i < count; ++i) {
      RngKey key = g.keys[first + i];
      key.step += steps;
      keys.at[i] = mixed(key);
    }
    launch(write_keys_kernel(), {1}, {kKeysOfLaunch}, 0, stream(), static_cast<int>(count), keys, g.places + first);
  }
  record_launch(g.work, stream());
}

void graph_release(void* graph) {
  const std::unique_ptr<StepGraph> g(static_cast<StepGraph*>(graph));
  record_release(g->work, stream());
  memory_free(g->places, stream());
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
