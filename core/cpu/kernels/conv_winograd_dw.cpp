// The derivative of Winograd's filtering towards the filters alone. Compiled with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd_sums.h"

namespace sinew::SINEW_CPU_NS {
namespace {

using namespace winograd;

// What a block's transformed inputs and cotangents take.
constexpr int64_t kBlockBytes = 256 << 10;

class Gradient {
 public:
  explicit Gradient(const WinogradGradient& w) : w_(w), tiles_{w.g}, sums_(w.g.channels, w.outputs) {
    const int64_t tile_bytes = kPositions * (w.g.channels + w.outputs) * static_cast<int64_t>(sizeof(float));
    block_ = max64(32, kBlockBytes / tile_bytes);
    x_pitch_ = block_ * w.g.channels + kLanes, y_pitch_ = block_ * w.outputs + kLanes;
  }

  void run() {
    const int64_t tiles = tiles_.count(w_.images), blocks = ceil_div(tiles, block_), channels = w_.g.channels;
    const int64_t chunks = sums_.chunks(blocks), size = sums_.size();
    const int64_t floats = tiles_.source_row + kPositions * (x_pitch_ + y_pitch_);
    float* partial = kept_for_call.reserve(chunks * size);
#pragma omp parallel
    {
      float* zeros = kept_for_block.reserve(floats);
      float *x = zeros + tiles_.source_row, *y = x + kPositions * x_pitch_;
      memset(zeros, 0, static_cast<size_t>(tiles_.source_row) * sizeof(float));
#pragma omp for schedule(dynamic)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        float* sums = partial + chunk * size;
        memset(sums, 0, static_cast<size_t>(size) * sizeof(float));
        for (int64_t b = blocks * chunk / chunks; b < blocks * (chunk + 1) / chunks; ++b) {
          const int64_t begin = b * block_, count = min64(block_, tiles - begin);
          tiles_.transform_inputs(w_.x, begin, count, zeros, x_pitch_, channels, x);
          sums_.transform_cotangents(tiles_, w_.y, begin, count, y_pitch_, y);
          sums_.add_block(count, x, x_pitch_, channels, y, y_pitch_, sums);
        }
      }
    }
    sums_.combine(partial, chunks, w_.out, {3 * channels, channels, 1, 9 * channels});
  }

 private:
  const WinogradGradient& w_;
  const Tiles tiles_;
  const FilterSums sums_;
  int64_t block_, x_pitch_, y_pitch_;
};

}  // namespace

bool WinogradGradient::serves() const { return Tiles{g}.fit(images, outputs) && FilterSums(g.channels, outputs).fit(); }

void WinogradGradient::run() const { Gradient(*this).run(); }

}  // namespace sinew::SINEW_CPU_NS
