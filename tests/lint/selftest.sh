#!/usr/bin/env bash
# Shows that lint.sh can fail: a small tree that it accepts, then one defect after the other, each of which it must name.
set -uo pipefail
lint=$(cd "$(dirname "$0")" && pwd)/lint.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
bad=0

write() { mkdir -p "$tree/$(dirname "$1")" && printf '%s\n' "${@:2}" >"$tree/$1"; }
good_tree() {
  rm -rf "${tree:?}"/*
  local folder
  for folder in core nn cuda dist optim models tests bench scripts; do write $folder/README.md "What it is for."; done
  write core/tensor.h '#pragma once' '#include <vector>'
  write core/vec.h '#pragma once'
  write core/ops/gemm.cpp '#include "core/tensor.h"'
  write core/cpu/kernels/gemm.cpp '#include <cmath>'
  write core/cpu/kernels/flat.cpp ''
  write core/cpu/onednn.cpp '#include <oneapi/dnnl/dnnl.hpp>'
  write nn/linear.cpp '#include "core/tensor.h"' '#include "nn/module.h"'
  write nn/module.h '#pragma once'
  write dist/schemes/easgd.cpp '#include "core/vec.h"' 'void f() {' '  try { g(); } catch (...) {' '    h();' '    throw;' '  }' '}'
  write dist/ucx/world.cpp '#include <ucp/api/ucp.h>' '#include <sys/epoll.h>'
  write cuda/gemm.cu '// std::vector is not used here' 'void f(float* x);'
  write models/main.cpp '#include <CLI/CLI.hpp>' '#include "dist/world.h"'
  write tests/core/gemm_test.cpp '#include <gtest/gtest.h>' '#include "core/tensor.h"'
}
# expect WORDS FILE LINES...: with this file instead, lint.sh must fail and say WORDS about that file.
expect() {
  local words=$1 file=$2 output
  good_tree
  write "$file" "${@:3}"
  if output=$(bash "$lint" "$tree"); then
    echo "not found: $words in $file"
    bad=1
  elif ! grep -F "$file" <<<"$output" | grep -qF "$words"; then
    echo "found something else than '$words' in $file: $output"
    bad=1
  fi
}

good_tree
output=$(bash "$lint" "$tree") || { echo "the good tree is not accepted: $output"; bad=1; }

expect "include wall" dist/schemes/easgd.cpp '#include "core/tensor.h"'
expect "include wall" dist/world.cpp '#include "optim/optimizer.h"'
expect "include wall" nn/linear.cpp '#include "optim/optimizer.h"'
expect "include wall" optim/sgd.cpp '#include "nn/module.h"'
expect "include wall" core/vec.h '#include "nn/module.h"'
expect "include wall" cuda/gemm.cpp '  #  include "core/tensor.h"'
expect "include wall" cuda/launch.cpp '#include "core/fiber.h"'
expect "include wall" nn/linear.cpp '#include "core/cpu/onednn.h"'
expect "include wall" nn/linear.cpp '#include "module.h"'
expect "include wall" models/main.cpp '#include "tests/support/gradcheck.h"'
expect "include wall" core/vec.h '#include <nlohmann/json.hpp>'
expect "include wall" core/gemm.cpp '#include <oneapi/dnnl/dnnl.hpp>'
expect "include wall" nn/linear.cpp '#include <ucp/api/ucp.h>'
expect "include wall" dist/world.cpp '#include <spdlog/spdlog.h>'
expect "include wall" core/vec.h '#include <gtest/gtest.h>'
expect "include wall" core/vec.h '#include <boost/any.hpp>'
expect "thread_local" nn/linear.cpp 'static thread_local int count;'
expect "randomness" nn/linear.cpp 'std::mt19937 engine(1);'
expect "randomness" dist/schemes/easgd.cpp 'int i = rand();'
mapfile -t long < <(yes '// a line' | head -n 601)
expect "file size" core/vec.h "${long[@]}"
expect "device code" cuda/gemm.cu '#include <vector>'
expect "device code" cuda/gemm.cu 'std::string name;'
expect "device code" cuda/gemm.cu '  __shared__ float x[32];'
expect "machine path" nn/linear.cpp 'const char* dir = "/home/somebody/data";'
expect "machine path" scripts/run.sh 'cd ../shared'
expect "mirrored names" core/cpu/kernels/conv.cpp ''
expect "mirrored names" cuda/vectors.cu ''
expect "op table" core/ops.h 'Tensor argmax(const Tensor& x, int axis);' 'Tensor cube(const Tensor& x);'
expect "catch (...)" dist/schemes/easgd.cpp 'void f() {' '  try { g(); } catch (...) {' '    if (x) { h(); }' '  }' '}'
expect "catch (...)" dist/schemes/easgd.cpp 'void f() { try { g(); } catch (...) { } }'

good_tree
rm "$tree/optim/README.md"
output=$(bash "$lint" "$tree") && { echo "not found: a missing README.md"; bad=1; }
grep -qF "optim/README.md" <<<"$output" || { echo "a missing README.md is not named"; bad=1; }

[ $bad -eq 0 ] && echo "lint.sh finds every planted defect"
exit $bad
