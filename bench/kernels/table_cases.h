// One or more cases for every entry of the kernel table, at a size that the caller chooses: what
// bench/kernels/table.cpp verifies and times.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/kernel_api.h"

namespace sinew::bench {

// An array in device memory. Read ones are uniform in [low, high); integers likewise.
struct Buffer {
  DType dtype = DType::f32;
  int64_t n = 0;
  double low = -1, high = 1;
  bool written = false;
};
// The arrays of a call, those of f32 in `dtype`: f64 for the reference, where bf16 is f64 too.
struct Pointers {
  std::vector<void*> data;
  DType dtype = DType::f32;
  DType bf16() const { return dtype == DType::f64 ? DType::f64 : DType::bf16; }
  void* operator[](size_t i) const { return data[i]; }
};

struct Case {
  std::string entry, name;
  std::vector<Buffer> buffers;
  double bytes = 0;  // that the algorithm must read and write
  double flops = 0;  // of products; 0 where memory is the limit
  std::function<void(const KernelTable&, const Pointers&)> run;
};

class CaseList {
 public:
  // n: elements of the arrays that a case reads or writes in full, roughly.
  explicit CaseList(int64_t n) : n_(std::max<int64_t>(n, 1)) {
    elementwise();
    reductions();
    products();
    indexing();
    losses();
    pooling();
    normalisation();
    random();
    vectors();
    optimizers();
    bf16();
  }
  std::vector<Case> take() { return std::move(cases_); }

 private:
  static Buffer in(int64_t n, double low = -1, double high = 1, DType dtype = DType::f32) {
    return {dtype, n, low, high, false};
  }
  static Buffer out(int64_t n, DType dtype = DType::f32) { return {dtype, n, -1, 1, true}; }
  // Read and written.
  static Buffer both(int64_t n, double low = -1, double high = 1) { return {DType::f32, n, low, high, true}; }

  template <class Run>
  Case& add(const char* entry, const std::string& variant, std::vector<Buffer> buffers, double arrays, Run run) {
    cases_.push_back({entry, std::string(entry) + (variant.empty() ? "" : "_" + variant), std::move(buffers),
                      arrays * 4 * static_cast<double>(n_), 0, std::move(run)});
    return cases_.back();
  }

  void elementwise() {
    const int64_t n = n_, columns = 512, rows = std::max<int64_t>(1, n / columns);
    for (UnaryOp op : {UnaryOp::affine, UnaryOp::relu, UnaryOp::tanh, UnaryOp::exp})
      add("unary", kUnaryNames[static_cast<int>(op)], {in(n), out(n)}, 2, [=](const KernelTable& t, const Pointers& p) {
        t.unary({op, p.dtype, n, p[0], p[1], 2.5, -1});
      });
    for (BinaryOp op : {BinaryOp::add, BinaryOp::mul})
      add("binary", op == BinaryOp::add ? "add" : "mul", {in(n), in(n), out(n)}, 3,
          [=](const KernelTable& t, const Pointers& p) {
            t.binary({op, p.dtype, 1, {n}, {1}, {1}, p[0], p[1], p[2]});
          });
    add("binary", "add_row", {in(rows * columns), in(columns), out(rows * columns)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.binary({BinaryOp::add, p.dtype, 2, {rows, columns}, {columns, 1}, {0, 1}, p[0], p[1], p[2]});
        });
    add("binary", "mul_column", {in(rows * columns), in(rows), out(rows * columns)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.binary({BinaryOp::mul, p.dtype, 2, {rows, columns}, {columns, 1}, {1, 0}, p[0], p[1], p[2]});
        });
    add("where", "", {in(n), in(n), in(n), out(n)}, 4, [=](const KernelTable& t, const Pointers& p) {
      t.where({p.dtype, n, p[0], p[1], p[2], p[3]});
    });
    add("fill", "", {out(n)}, 1, [=](const KernelTable& t, const Pointers& p) { t.fill({p.dtype, n, p[0], 0.5}); });
    add("cast", "f64_to_f32", {in(n, -1, 1, DType::f64), out(n)}, 3, [=](const KernelTable& t, const Pointers& p) {
      t.cast({DType::f64, p.dtype, n, p[0], p[1]});
    });
    add("cast", "u8_to_f32", {in(n, 0, 256, DType::u8), out(n)}, 1.25, [=](const KernelTable& t, const Pointers& p) {
      t.cast({DType::u8, p.dtype, n, p[0], p[1]});
    });
    // NHWC to NCHW, a transpose, a slice of every second row.
    const int64_t c = 64, hw = 1024, images = std::max<int64_t>(1, n / (c * hw));
    add("strided_copy", "nhwc_to_nchw", {in(images * c * hw), out(images * c * hw)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.strided_copy({p.dtype, 3, {images, c, hw}, {c * hw, 1, c}, {c * hw, hw, 1}, p[0], p[1]});
        });
    add("strided_copy", "transpose", {in(rows * columns), out(rows * columns)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.strided_copy({p.dtype, 2, {columns, rows}, {1, columns}, {rows, 1}, p[0], p[1]});
        });
    add("strided_copy", "slice", {in(2 * rows * columns), out(rows * columns)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.strided_copy({p.dtype, 2, {rows, columns}, {2 * columns, 1}, {columns, 1}, p[0], p[1]});
        });
  }

  // Packed are numbers that the form holds, so each case rounds first.
  void packing() {
    const int64_t n = n_, bytes = 2 * n;
    const std::pair<const char*, PackedForm> forms[] = {{"bf16", PackedForm::bf16}, {"int8", PackedForm::int8}};
    for (const auto& [name, form] : forms) {
      const double packed = form == PackedForm::bf16 ? 0.5 : 0.25;
      const auto round = [=, form = form](const KernelTable& t, const Pointers& p) {
        t.round_to_packed({p.dtype, form, n, p[0], nullptr});
      };
      const auto round_then_pack = [=, form = form](const KernelTable& t, const Pointers& p) {
        round(t, p);
        t.pack({p.dtype, form, n, p[0], p[1], static_cast<int32_t*>(p[2])});
      };
      add("round_to_packed", name, {both(n)}, 2, round);
      add("pack", name, {both(n), out(bytes, DType::u8), out(1, DType::i32)}, 3 + packed, round_then_pack);
      add("round_and_pack", name, {in(n), out(n), out(bytes, DType::u8), out(1, DType::i32)}, 2 + packed,
          [=, form = form](const KernelTable& t, const Pointers& p) {
            t.round_and_pack({p.dtype, form, n, p[0], nullptr, p[1], p[2], static_cast<int32_t*>(p[3])});
          });
      add("unpack", name, {both(n), out(bytes, DType::u8), out(1, DType::i32), out(n)}, 4 + 2 * packed,
          [=, form = form](const KernelTable& t, const Pointers& p) {
            round_then_pack(t, p);
            t.unpack({p.dtype, form, n, p[1], p[3]});
          });
    }
  }

  // What a training step in bf16 spends its time in beside products; arrays are half as long in bytes.
  void bf16() {
    const int64_t n = n_, c = 64, rows = std::max<int64_t>(2, n / c);
    const Buffer x = in(n, -1, 1, DType::bf16), y = out(n, DType::bf16);
    add("cast", "f32_to_bf16", {in(n), y}, 1.5, [=](const KernelTable& t, const Pointers& p) {
      t.cast({p.dtype, p.bf16(), n, p[0], p[1]});
    });
    add("unary", "relu_bf16", {x, y}, 1, [=](const KernelTable& t, const Pointers& p) {
      t.unary({UnaryOp::relu, p.bf16(), n, p[0], p[1], 0, 0});
    });
    add("binary", "add_bf16", {x, x, y}, 1.5, [=](const KernelTable& t, const Pointers& p) {
      t.binary({BinaryOp::add, p.bf16(), 1, {n}, {1}, {1}, p[0], p[1], p[2]});
    });
    const Buffer data = in(rows * c, -1, 1, DType::bf16), result = out(rows * c, DType::bf16);
    const Buffer v = in(c), std = in(c, 0.5, 2);
    add("batch_norm", "relu_64_bf16", {data, std, v, result, out(c), out(c), out(c)}, 1.5,
        [=](const KernelTable& t, const Pointers& p) {
          t.batch_norm({p.bf16(), true, rows, c, 1e-5, p[0], p[1], p[2], nullptr, p[3], p[4], p[5], p[6]});
        });
    add("batch_norm_grad", "relu_64_bf16", {data, data, std, v, v, std, result, out(c), out(c)}, 2.5,
        [=](const KernelTable& t, const Pointers& p) {
          t.batch_norm_grad(
              {p.bf16(), true, rows, c, p[0], p[1], nullptr, p[2], p[3], p[4], p[5], p[6], p[7], p[8], nullptr});
        });
  }

  void reductions() {
    struct Shape3 {
      const char* name;
      int64_t outer, reduced, inner;
    };
    const int64_t n = n_, side = std::max<int64_t>(1, n / 1024);
    for (const Shape3& s : {Shape3{"all", 1, n, 1}, Shape3{"rows", side, 1024, 1}, Shape3{"columns", 1, side, 1024},
                            Shape3{"few_columns", 1, std::max<int64_t>(1, n / 16), 16}}) {
      const int64_t outer = s.outer, reduced = s.reduced, inner = s.inner;
      for (ReduceOp op : {ReduceOp::sum, ReduceOp::max})
        add("reduce", std::string(op == ReduceOp::sum ? "sum_" : "max_") + s.name,
            {in(outer * reduced * inner), out(outer * inner)}, 1, [=](const KernelTable& t, const Pointers& p) {
              t.reduce({op, p.dtype, outer, reduced, inner, p[0], p[1]});
            });
    }
    add("reduce", "argmax_rows", {in(side * 1024), out(side, DType::i64)}, 1,
        [=](const KernelTable& t, const Pointers& p) {
          t.reduce({ReduceOp::argmax, p.dtype, side, 1024, 1, p[0], p[1]});
        });
  }

  void products() {
    const auto side = std::clamp<int64_t>(static_cast<int64_t>(std::sqrt(static_cast<double>(n_))) / 2, 1, 4096);
    Case& gemm = add("gemm", "", {in(side * side), in(side * side), out(side * side)}, 0,
                     [=](const KernelTable& t, const Pointers& p) {
                       t.gemm({p.dtype, false, true, side, side, side, 1, 0, p[0],    side,
                               p[1],    side,  p[2], side, 1,    0,    0, 0, nullptr, Activation::none});
                     });
    gemm.bytes = 12.0 * static_cast<double>(side * side), gemm.flops = 2 * std::pow(static_cast<double>(side), 3);
    // Layers of ResNet-20: 3x3, 16 channels of 32 x 32.
    const int64_t images = std::clamp<int64_t>(n_ / 16384, 1, 1024), image = 32 * 32 * 16, filter = 16 * 9 * 16;
    kernel::ConvArgs conv{.dtype = DType::f32,
                          .n = images,
                          .h = 32,
                          .w = 32,
                          .c = 16,
                          .k = 16,
                          .r = 3,
                          .s = 3,
                          .p = 32,
                          .q = 32,
                          .stride_h = 1,
                          .stride_w = 1,
                          .pad_h = 1,
                          .pad_w = 1,
                          .x = nullptr,
                          .filter = nullptr,
                          .y = nullptr,
                          .out = nullptr,
                          .bias = nullptr,
                          .act = Activation::none};
    const int64_t map = images * image;
    add("conv_forward", "", {in(map), in(filter), out(map)}, 0, [=](const KernelTable& t, const Pointers& p) {
      kernel::ConvArgs a = conv;
      a.dtype = p.dtype;
      a.x = p[0], a.filter = p[1], a.out = p[2];
      t.conv_forward(a);
    });
    add("conv_dx", "", {in(map), in(filter), out(map)}, 0, [=](const KernelTable& t, const Pointers& p) {
      kernel::ConvArgs a = conv;
      a.dtype = p.dtype;
      a.y = p[0], a.filter = p[1], a.out = p[2];
      t.conv_dx(a);
    });
    add("conv_dw", "", {in(map), in(map), out(filter)}, 0, [=](const KernelTable& t, const Pointers& p) {
      kernel::ConvArgs a = conv;
      a.dtype = p.dtype;
      a.x = p[0], a.y = p[1], a.out = p[2];
      t.conv_dw(a);
    });
    for (size_t i = cases_.size() - 3; i < cases_.size(); ++i) {
      cases_[i].bytes = 8.0 * static_cast<double>(map);
      cases_[i].flops = 2.0 * static_cast<double>(map) * 144;
    }
    add("conv_pair", "", {in(map), in(filter), in(map), in(filter), out(map)}, 3,
        [=](const KernelTable& t, const Pointers& p) {
          kernel::ConvPairArgs pair{conv, false, p[2], p[3]};
          pair.dtype = p.dtype;
          pair.x = p[0], pair.filter = p[1], pair.out = p[4];
          if (t.conv_pair && t.conv_pair(pair)) return;
          kernel::ConvArgs one = pair;
          t.conv_forward(one);
          one.x = pair.second, one.filter = pair.second_filter, one.accumulate = true;
          t.conv_forward(one);
        });
    cases_.back().flops = 4.0 * static_cast<double>(map) * 144;
  }

  void indexing() {
    const int64_t width = 256, rows = std::max<int64_t>(1, n_ / width);
    const auto i64 = [](void* p) { return static_cast<const int64_t*>(p); };
    const double high = static_cast<double>(rows);
    add("gather", "", {in(rows * width), in(rows, 0, high, DType::i64), out(rows * width)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.gather({p.dtype, rows, rows, width, p[0], i64(p[1]), p[2]});
        });
    add("scatter_add", "", {in(rows * width), in(rows, 0, high, DType::i64), out(rows * width)}, 2,
        [=](const KernelTable& t, const Pointers& p) {
          t.scatter_add({p.dtype, rows, rows, width, p[0], i64(p[1]), p[2]});
        });
    add("one_hot", "", {in(rows, 0, 256, DType::i64), out(rows * width)}, 1,
        [=](const KernelTable& t, const Pointers& p) {
          t.one_hot({p.dtype, rows, width, i64(p[0]), p[1]});
        });
  }

  void losses() {
    for (int64_t columns : {10, 1000}) {
      const int64_t rows = std::max<int64_t>(1, n_ / columns), all = rows * columns;
      const std::string at = std::to_string(columns);
      for (bool log : {false, true})
        add("softmax", (log ? "log_" : "") + at, {in(all, -5, 5), out(all)}, 2,
            [=](const KernelTable& t, const Pointers& p) {
              t.softmax({p.dtype, log, rows, columns, p[0], p[1]});
            });
      add("cross_entropy", at,
          {in(all, -5, 5), in(rows, 0, static_cast<double>(columns), DType::i64), out(1), out(all)}, 2,
          [=](const KernelTable& t, const Pointers& p) {
            t.cross_entropy({p.dtype, rows, columns, p[0], static_cast<const int64_t*>(p[1]), p[2], p[3], nullptr});
          });
    }
  }

  void pooling() {
    const int64_t images = std::max<int64_t>(1, n_ / 65536), big = images * 65536;
    struct Window {
      int64_t kernel, stride, pad;
    };
    for (const Window& w : {Window{2, 2, 0}, Window{3, 2, 1}}) {
      const int64_t side = 16, small = images * side * side * 64;  // (32 + 2 pad - kernel) / stride + 1 in both
      kernel::PoolArgs args{DType::f32, images,   32,    32,      64,      side,   side,
                            w.kernel,   w.stride, w.pad, nullptr, nullptr, nullptr};
      const std::string at = std::to_string(w.kernel);
      const auto with = [args](DType dtype, const void* x, void* y, void* index) {
        kernel::PoolArgs a = args;
        a.dtype = dtype, a.x = x, a.y = y, a.index = static_cast<uint8_t*>(index);
        return a;
      };
      const double high = static_cast<double>(w.kernel * w.kernel);
      // Places inside the image only: of the padded window the lower right corner.
      const Buffer places = in(small, w.pad == 0 ? 0 : high - 1, high, DType::u8);
      add("max_pool", at, {in(big), out(small), out(small, DType::u8)}, 1.3125,
          [=](const KernelTable& t, const Pointers& p) { t.max_pool(with(p.dtype, p[0], p[1], p[2])); });
      add("max_pool_gather", at, {in(big), out(small), places}, 1.3125,
          [=](const KernelTable& t, const Pointers& p) { t.max_pool_gather(with(p.dtype, p[0], p[1], p[2])); });
      add("max_pool_scatter", at, {in(small), out(big), places}, 1.3125,
          [=](const KernelTable& t, const Pointers& p) { t.max_pool_scatter(with(p.dtype, p[0], p[1], p[2])); });
      add("avg_pool", at, {in(big), out(small)}, 1.25,
          [=](const KernelTable& t, const Pointers& p) { t.avg_pool(with(p.dtype, p[0], p[1], nullptr)); });
      add("avg_pool_grad", at, {in(small), out(big)}, 1.25,
          [=](const KernelTable& t, const Pointers& p) { t.avg_pool_grad(with(p.dtype, p[0], p[1], nullptr)); });
    }
  }

  void normalisation() {
    const double eps = 1e-5;
    for (int64_t c : {16, 64, 512}) {
      const int64_t rows = std::max<int64_t>(2, n_ / c), n = rows * c;
      const std::string at = std::to_string(c);
      const Buffer x = in(n), v = in(c), std = in(c, 0.5, 2);
      add("channel_affine", "relu_" + at, {x, v, std, v, out(n)}, 2, [=](const KernelTable& t, const Pointers& p) {
        t.channel_affine({p.dtype, true, rows, c, p[0], p[1], p[2], p[3], nullptr, p[4]});
      });
      for (bool residual : {false, true}) {
        const std::string name = (residual ? "residual_relu_" : "relu_") + at;
        add("batch_norm", name, {x, std, v, x, out(n), out(c), out(c), out(c)}, residual ? 4 : 3,
            [=](const KernelTable& t, const Pointers& p) {
              t.batch_norm(
                  {p.dtype, true, rows, c, eps, p[0], p[1], p[2], residual ? p[3] : nullptr, p[4], p[5], p[6], p[7]});
            });
        add("batch_norm_grad", name, {x, x, x, std, v, v, std, out(n), out(c), out(c), out(n)}, residual ? 7 : 5,
            [=](const KernelTable& t, const Pointers& p) {
              t.batch_norm_grad({p.dtype, true, rows, c, p[0], p[1], residual ? p[2] : nullptr, p[3], p[4], p[5], p[6],
                                 p[7], p[8], p[9], residual ? p[10] : nullptr});
            });
        add("batch_norm_grad2", name, {x, x, x, std, v, v, std, x, v, v, x, out(n), out(n), out(c)}, residual ? 11 : 8,
            [=](const KernelTable& t, const Pointers& p) {
              t.batch_norm_grad2({p.dtype, true, rows, c, p[0], p[1], residual ? p[2] : nullptr, p[3], p[4], p[5], p[6],
                                  p[7], p[8], p[9], residual ? p[10] : nullptr, p[11], p[12], p[13]});
            });
      }
      add("layer_norm", at, {x, std, v, out(n), out(rows), out(rows)}, 2, [=](const KernelTable& t, const Pointers& p) {
        t.layer_norm({p.dtype, rows, c, eps, p[0], p[1], p[2], p[3], p[4], p[5]});
      });
      add("layer_norm_grad", at, {x, x, std, in(rows), in(rows, 0.5, 2), out(n), out(c), out(c)}, 3,
          [=](const KernelTable& t, const Pointers& p) {
            t.layer_norm_grad({p.dtype, rows, c, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]});
          });
    }
  }

  void random() {
    const int64_t n = n_;
    const RngKey key{3, static_cast<uint32_t>(RngPurpose::test), 0, 0};
    add("dropout", "", {in(n), out(n)}, 2, [=](const KernelTable& t, const Pointers& p) {
      t.dropout({p.dtype, n, 0.6, key, p[0], p[1]});
    });
    const std::pair<const char*, RandomDist> kinds[] = {
        {"uniform", RandomDist::uniform}, {"normal", RandomDist::normal}, {"rademacher", RandomDist::rademacher}};
    for (const auto& [name, dist] : kinds)
      add("random", name, {out(n)}, 1, [=, dist = dist](const KernelTable& t, const Pointers& p) {
        t.random({dist, p.dtype, n, key, p[0], 0, 1});
      });
  }

  void vectors() {
    const int64_t n = n_;
    add("axpby", "", {in(n), in(n), out(n)}, 3, [=](const KernelTable& t, const Pointers& p) {
      t.axpby({p.dtype, n, 2, -0.5, p[0], p[1], p[2]});
    });
    add("axpby", "in_place", {in(n), both(n)}, 3, [=](const KernelTable& t, const Pointers& p) {
      t.axpby({p.dtype, n, 0.25, 0.5, p[0], p[1], p[1]});
    });
    add("dot", "", {in(n), in(n), out(1, DType::f64)}, 2, [=](const KernelTable& t, const Pointers& p) {
      t.dot({p.dtype, n, p[0], p[1], static_cast<double*>(p[2])});
    });
    add("dot", "norm", {in(n), out(1, DType::f64)}, 1, [=](const KernelTable& t, const Pointers& p) {
      t.dot({p.dtype, n, p[0], p[0], static_cast<double*>(p[1])});
    });
    add("elastic", "difference", {in(n), in(n), out(n), out(1, DType::f64)}, 3,
        [=](const KernelTable& t, const Pointers& p) {
          t.elastic({p.dtype, n, 0.3, p[0], p[1], p[2], false, false, static_cast<double*>(p[3])});
        });
    add("elastic", "move", {both(n), both(n), out(1, DType::f64)}, 4, [=](const KernelTable& t, const Pointers& p) {
      t.elastic({p.dtype, n, 0.3, p[0], p[1], nullptr, true, true, static_cast<double*>(p[2])});
    });
    packing();
    const int64_t outer = std::max<int64_t>(1, n / (9 * 64));
    add("block_mean", "", {both(outer * 9 * 64)}, 2, [=](const KernelTable& t, const Pointers& p) {
      t.block_mean({p.dtype, outer, 9, 64, 9, true, p[0]});
    });
  }

  void optimizers() {
    const int64_t n = n_;
    const auto frame = [n](auto args, const Pointers& p) {
      args.dtype = p.dtype, args.n = n, args.x = p[0], args.g = p[1];
      args.grad_scale = 0.9, args.weight_decay = 1e-3, args.decoupled = 1e-4, args.x_scale = -0.01;
      return args;
    };
    const Buffer x = both(n), g = in(n), m = both(n, -0.1, 0.1), v = both(n, 0.1, 1), d = in(n, 0.1, 1);
    for (bool nesterov : {false, true})
      add("sgd", nesterov ? "nesterov" : "momentum", {x, g, m}, 5, [=](const KernelTable& t, const Pointers& p) {
        auto a = frame(kernel::SgdArgs{}, p);
        a.v = p[2], a.momentum = 0.9, a.nesterov = nesterov;
        t.sgd(a);
      });
    add("sgd", "plain", {x, g}, 3,
        [=](const KernelTable& t, const Pointers& p) { t.sgd(frame(kernel::SgdArgs{}, p)); });
    add("adam", "", {x, g, m, v}, 7, [=](const KernelTable& t, const Pointers& p) {
      auto a = frame(kernel::AdamArgs{}, p);
      a.m = p[2], a.v = p[3], a.beta1 = 0.9, a.beta2 = 0.999, a.m_scale = 1.5, a.v_scale = 2, a.eps = 1e-8;
      t.adam(a);
    });
    for (bool fresh : {false, true})
      add("adahessian", fresh ? "with_diagonal" : "", {x, g, m, v, d}, fresh ? 8 : 6,
          [=](const KernelTable& t, const Pointers& p) {
            auto a = frame(kernel::AdaHessianArgs{}, p);
            a.m = p[2], a.v = p[3], a.d = fresh ? p[4] : nullptr;
            a.beta1 = 0.9, a.beta2 = 0.999, a.m_scale = 1.5, a.v_scale = 2, a.power = 1, a.eps = 1e-4;
            t.adahessian(a);
          });
    add("sophia", "with_diagonal", {x, g, m, v, d}, 8, [=](const KernelTable& t, const Pointers& p) {
      auto a = frame(kernel::SophiaArgs{}, p);
      a.m = p[2], a.h = p[3], a.d = p[4], a.beta1 = 0.96, a.beta2 = 0.99, a.m_scale = 1.2, a.rho = 0.04, a.eps = 1e-12;
      t.sophia(a);
    });
    add("lion", "", {x, g, m}, 5, [=](const KernelTable& t, const Pointers& p) {
      auto a = frame(kernel::LionArgs{}, p);
      a.m = p[2], a.beta1 = 0.9, a.beta2 = 0.99;
      t.lion(a);
    });
  }

  static constexpr const char* kUnaryNames[] = {
#define SINEW_NAME(name) #name,
      SINEW_UNARY_OPS(SINEW_NAME)
#undef SINEW_NAME
  };
  int64_t n_;
  std::vector<Case> cases_;
};

}  // namespace sinew::bench
