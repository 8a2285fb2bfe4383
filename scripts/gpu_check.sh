#!/usr/bin/env bash
# Verifies and measures the CUDA backend on a machine with an NVIDIA GPU, in one call.
#
#   scripts/gpu_check.sh pack             here: what must be carried goes to .gpu/ (see below); needs nvcc, no GPU
#   scripts/gpu_check.sh                  there: info, build, tests, bench, train, torch, sanitizer
#   scripts/gpu_check.sh tests bench      there: only these parts
#   scripts/gpu_check.sh --stale [..]     there: with the packed binaries, though they are of another source tree; says so
#   scripts/gpu_check.sh --dry-run [..]   here: every part on the emulated device, with tiny sizes
#
# Results: gpu_check.md, gpu_check.json and the parts' whole output gpu_check.log in $OUT (default build/gpu_check).
# The machine needs: python3 with lzma, the driver; for a build also nvcc 12.8 or newer, g++, CMake 3.25, ninja. No network.
#
# Carry the source tree and .gpu/, together at most 64 MiB (`pack` sees to it). The latter holds binaries for sm_90
# (programs, tests and benchmarks, CUDA runtime linked statically; with UCX and its libraries where `pack` finds them, so
# that the tests with several processes run too), the headers and libraries that a build there needs (GoogleTest, Google
# Benchmark, nlohmann-json, toml++: `pack` copies this machine's), and, from $SINEW_DATA, MNIST and 6,000 images of
# CIFAR-10; about 40 MB. Binaries of another source tree than the one that lies there, or for another GPU, are not used:
# the part `build` compiles then, a few minutes on 16 cores. A GPU newer than they are for does with them where there is
# no nvcc, by the PTX in them.
#
# Parts, and how long each may take (seconds):
parts=(info build tests bench train torch sanitizer)
declare -A limit=([info]=20 [build]=420 [tests]=100 [bench]=180 [train]=100 [torch]=170 [sanitizer]=70 [ptxas]=300)
# `ptxas` (registers and spills of every kernel; needs nvcc, no GPU) runs when it is named. All parts together end within
# $GPU_CHECK_SECONDS (default 530); what does not fit any more is reported as not run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

out=$(mkdir -p "${OUT:-build/gpu_check}" && cd "${OUT:-build/gpu_check}" && pwd)
work=build/gpu_check/work
carried=.gpu
export SINEW_GPU_DRY=${SINEW_GPU_DRY:-} SINEW_GPU_STALE=${SINEW_GPU_STALE:-}

# What binaries are made of; a change of it makes packed ones stale.
stamp() {
  find CMakeLists.txt CMakePresets.json core cuda nn optim dist models tests bench scripts/cmake -type f ! -name '*.md' ! -path 'cuda/emulate/*' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
}
# The GPU's compute capability, without its point; empty where there is none.
capability() {
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -m 1 -oE '^[0-9]+\.[0-9]+$' | tr -d .
}
has_nvcc() { command -v "${CUDACXX:-nvcc}" >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }
# Whether binaries in FOLDER, of which the file `arch` says what they were compiled for, are for this GPU.
fits() {
  local built has
  built=$(cat "$1/arch" 2>/dev/null || echo 90)
  has=$(capability)
  [ -z "$has" ] || [ "$has" = "$built" ] || { [ "$has" -gt "$built" ] && ! has_nvcc; }
}
targets() { for t in test_cuda sinew_program bench_kernels_table bench_kernels_cuda_matrix bench_train_train_step; do
  if has_target gpu $t; then echo $t; fi; done; }

# The folder with test_cuda, sinew and the benchmarks.
bin() {
  if [ -n "$SINEW_GPU_DRY" ]; then echo build/emulate; return; fi
  if [ -x build/gpu/tests/test_cuda ] && [ "$(cat build/gpu/stamp 2>/dev/null)" = "$(stamp)" ] && fits build/gpu; then echo build/gpu; return; fi
  fits $carried || return
  if [ -n "$SINEW_GPU_STALE" ] || [ "$(cat $carried/stamp 2>/dev/null)" = "$(stamp)" ]; then
    local at=build/gpu_check/packed
    if ! cmp -s $carried/stamp $at/stamp; then  # not yet unpacked, or of an earlier call
      rm -rf "${at:?}" && mkdir -p $at && python3 -m tarfile -e $carried/bin.tar.xz $at >&2 && cp $carried/stamp $at/stamp || return
    fi
    echo $at
  fi
}

pack() {
  configure gpu -DCMAKE_CUDA_ARCHITECTURES=90 -DSINEW_UCX=AUTO || die "cannot configure; see build/gpu/configure.log"
  # shellcheck disable=SC2046
  build gpu $(targets) || die "the build failed"
  stamp >build/gpu/stamp
  echo 90 >build/gpu/arch
  rm -rf "${carried:?}"/{tree,bin.tar.xz,usr.tar.gz,stamp,arch,commit} && mkdir -p $carried/tree/{tests,models,bench,lib}
  cp build/gpu/tests/test_cuda $carried/tree/tests/
  cp build/gpu/models/sinew $carried/tree/models/
  for t in build/gpu/bench/bench_*; do [ -x "$t" ] && [ -f "$t" ] && cp "$t" $carried/tree/bench/; done
  for t in bench/bench_kernels_table models/sinew; do
    ldd build/gpu/$t | awk '/libbenchmark|libuc[pstm]\.|libnuma|libcrypto/ { print $3 }' | xargs -rI{} cp {} $carried/tree/lib/
  done
  strip $carried/tree/{tests,models,bench}/*
  # The programs hold the same kernels: with a window as large as all of them, these are packed once.
  tar -cf - -C $carried/tree . | xz --lzma2=preset=3,dict=128MiB >$carried/bin.tar.xz || die "cannot pack; it needs xz"
  rm -r $carried/tree
  # For a build there. The packages' CMake files find everything relative to themselves.
  (cd /usr && for p in include/gtest include/gmock include/benchmark include/nlohmann include/toml++ share/cmake/nlohmann_json \
    lib/*/libgtest*.a lib/*/libgmock*.a lib/*/libbenchmark* lib/*/cmake/GTest lib/*/cmake/benchmark; do
    if [ -e "$p" ]; then echo "$p"; fi
  done | tar -czf - -T -) >$carried/usr.tar.gz
  if [ -n "${SINEW_DATA:-}" ]; then python3 scripts/gpu/data.py pack "$SINEW_DATA" $carried/data
  else echo "SINEW_DATA is not set: the data sets in $carried/data, if any, stay as they are"; fi
  stamp >$carried/stamp
  echo 90 >$carried/arch
  git describe --always --dirty >$carried/commit 2>/dev/null
  du -ch $carried/* | sed 's/^/  /'
  local bytes
  bytes=$({ git ls-files -z; find $carried -type f -print0; } | du -cb --files0-from=- | awk 'END { print $1 }')
  echo "  with the source tree $((bytes >> 20)) MiB"
  [ "$bytes" -le $((64 << 20)) ] || die "that is more than the 64 MiB that are carried"
}

# ---- the parts: exit code 0 passed, 3 skipped (the last line says why), else failed ----

skip() { echo "skipped: $*"; exit 3; }
need_bin() { bin=$(bin); [ -n "$bin" ] || { echo "there are no binaries of this source tree"; exit 1; }; }
# cuBLAS, cuDNN and NCCL may lie in Python's packages only.
libraries() {
  python3 - <<'PYTHON'
import glob, importlib.util
spec = importlib.util.find_spec("nvidia")
print(":".join(f for p in (spec.submodule_search_locations if spec else []) for f in glob.glob(p + "/*/lib")))
PYTHON
}

part_info() {
  bench_machine
  echo
  (nvcc --version || /usr/local/cuda/bin/nvcc --version) 2>/dev/null | tail -n 2
  g++ --version | head -n 1
  cmake --version | head -n 1
  echo "source tree $(stamp | cut -c 1-12), packed binaries: $([ -f $carried/stamp ] && echo "$(cut -c 1-12 $carried/stamp) for sm_$(cat $carried/arch 2>/dev/null || echo 90)" || echo none), commit $(git describe --always --dirty 2>/dev/null || cat $carried/commit 2>/dev/null || echo unknown)"
  [ -n "$SINEW_GPU_DRY" ] ||
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.memory,power.limit --format=csv
}

part_build() {
  if [ -n "$(bin)" ]; then skip "$(bin)/ holds binaries of this source tree"; fi
  local arch prefix=()
  arch=$(capability)
  if [ -f $carried/usr.tar.gz ]; then
    mkdir -p build/gpu_check/usr && tar -xzf $carried/usr.tar.gz -C build/gpu_check/usr
    prefix=("-DCMAKE_PREFIX_PATH=$PWD/build/gpu_check/usr")
  fi
  configure gpu "${prefix[@]}" "-DCMAKE_CUDA_ARCHITECTURES=${arch:-90}" "-DSINEW_NVCC_JOBS=$(nproc)" || return 1
  # shellcheck disable=SC2046
  build gpu $(targets) && stamp >build/gpu/stamp && echo "${arch:-90}" >build/gpu/arch
}

# Where NCCL is, as PyTorch's packages bring it along; empty where the loader finds it, or there is none.
nccl_library() {
  if ldconfig -p 2>/dev/null | grep -q 'libnccl\.so\.2'; then return; fi
  python3 -c 'import glob, sys
print(*[f for p in sys.path for f in glob.glob(p + "/nvidia/nccl/lib/libnccl.so.2")][:1])'
}

part_tests() {
  need_bin
  export SINEW_NCCL=${SINEW_NCCL:-$(nccl_library)}
  SINEW_TEST_PROGRAM=$PWD/$bin/models/sinew python3 scripts/gpu/run_tests.py "$bin/tests/test_cuda" $work/tests.json \
    $((seconds * 9 / 10)) ${SINEW_GPU_DRY:+--jobs 2 --filter "CudaInstall*:CudaGemm*:ProgramOnCuda.Trains*"}
}

# google_benchmark NAME [options]: runs a benchmark where there is one; false when it or a case of it failed. Its results
# go to $work/NAME$suffix.json.
google_benchmark() {
  local program=$bin/bench/$1 name=$1${suffix:-}
  shift
  [ -x "$program" ] || { echo "no $program in these binaries"; return 0; }
  "$program" "--benchmark_out=$work/$name.json" --benchmark_out_format=json "$@" || return 1
  local errors
  errors=$(grep '"error_message"' "$work/$name.json" | sort | uniq -c)
  [ -z "$errors" ] || printf '%s: cases with errors, by message\n%s\n' "$name" "$errors"
  echo "$name: $(grep -c '"run_type": "iteration"' "$work/$name.json") cases, $(grep -c '"error_message"' "$work/$name.json") of them with errors"
  ! grep -qvE '(cuBLAS|cuDNN|NCCL|library|libcu|no function)' <<<"${errors:-library}"  # a peer that is not there, or off, is no failure
}

part_bench() {
  need_bin
  local status=0 small=()
  [ -z "$SINEW_GPU_DRY" ] || small=(--elements 4097 --benchmark_filter='axpby|unary_relu|gemm')
  google_benchmark bench_kernels_table --device cuda "${small[@]}" || status=1
  google_benchmark bench_kernels_cuda_matrix || status=1
  return $status
}

part_train() {
  need_bin
  python3 scripts/gpu/data.py unpack $carried/data build/gpu_check/data
  python3 scripts/gpu/train.py "$bin/models/sinew" build/gpu_check/data $work/train.json ${SINEW_GPU_DRY:+--small}
}

part_torch() {
  need_bin
  local cases='mlp1024_b128|lenet_b64|resnet20_b128|vgg16_b64|resnet20_adahessian_b128|mlp1024_bf16_b128|resnet20_bf16_b128|vgg16_bf16_b64' seconds=0.6 python=python3 options=(--cuda)
  if [ -n "$SINEW_GPU_DRY" ]; then
    cases='small64_b16' seconds=0.1 options=()
    LD_LIBRARY_PATH=$peers_path "$python" -c 'import torch' 2>/dev/null || python=/usr/bin/python3
  fi
  rm -f $work/torch.tsv
  OMP_NUM_THREADS=1 google_benchmark bench_train_train_step --device cuda --benchmark_filter="train_step/.*($cases)" \
    --benchmark_min_time=0.02 --benchmark_repetitions=3 || return 1
  python3 scripts/bench/google_benchmark.py sinew <$work/bench_train_train_step.json >$work/torch.tsv || return 1
  # The same steps, recorded and replayed.
  OMP_NUM_THREADS=1 suffix=_graph google_benchmark bench_train_train_step --device cuda --graph on --benchmark_filter="train_step/.*($cases)" \
    --benchmark_min_time=0.02 --benchmark_repetitions=3 || return 1
  python3 scripts/bench/google_benchmark.py sinew_graphs <$work/bench_train_train_step_graph.json >>$work/torch.tsv || return 1
  LD_LIBRARY_PATH=$peers_path "$python" -c 'import torch' 2>/dev/null || { cat $work/torch.tsv; skip "python3 has no torch; only sinew was measured"; }
  LD_LIBRARY_PATH=$peers_path "$python" scripts/bench/torch_train.py 4 $seconds "$cases" "${options[@]}" >>$work/torch.tsv || return 1
  if [ -z "$SINEW_GPU_DRY" ]; then  # by default PyTorch rounds the operands of convolutions to TF32
    LD_LIBRARY_PATH=$peers_path "$python" scripts/bench/torch_train.py 4 $seconds '^(resnet20_b128|vgg16_b64)' "${options[@]}" --no-tf32 >>$work/torch.tsv || return 1
  fi
  python3 scripts/bench/table.py sinew <$work/torch.tsv
}

part_sanitizer() {
  need_bin
  local tool log checker status=0
  checker=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer /usr/local/cuda/compute-sanitizer/compute-sanitizer 2>/dev/null | head -n 1)
  [ -n "$checker" ] || skip "no compute-sanitizer on this machine"
  for tool in memcheck racecheck; do
    log=$work/$tool.txt
    local quiet=()
    [ $tool = racecheck ] || quiet=(--report-api-errors no)  # tests ask for what the runtime refuses
    timeout $((seconds / 2 - 3)) "$checker" --tool $tool "${quiet[@]}" --error-exitcode 9 $bin/tests/test_cuda \
      --gtest_filter='-Program*:*Training*:*CudaSchemes*:*CudaOptimizers*' >$log 2>&1
    local code=$?
    tail -n 5 $log
    if grep -qE 'Device not supported|Unable to|LibraryNotLoaded|not supported on this' $log; then skip "$tool refuses this machine"; fi
    if grep -qE '========= (Invalid|Error: Race|Warning: Race|Misaligned|Program hit|Uninit)' $log; then
      grep -m 3 -A 4 -E '========= (Invalid|Error: Race|Warning: Race|Misaligned|Program hit|Uninit)' $log
      status=1
    elif [ $code = 124 ]; then
      echo "$tool: no error in the $(grep -c '\[       OK' $log) tests until its time was over"
    elif [ $code != 0 ]; then
      echo "$tool: exit code $code"
      status=1
    else
      echo "$tool: no error in $(grep -c '\[       OK' $log) tests"
    fi
  done
  return $status
}

part_ptxas() {
  local preset=gpu
  [ -f build/gpu/compile_commands.json ] || preset=cuda
  [ -f build/$preset/compile_commands.json ] || configure $preset || return 1
  python3 scripts/gpu/ptxas_table.py build/$preset --jobs "$jobs" --json $work/ptxas.json
}

# ---- running them ----

if [ "${1:-}" = --part ]; then  # this script calls itself, so that `timeout` ends a part with all its processes
  peers_path="$(libraries):${LD_LIBRARY_PATH:-}"  # for Python: without the libraries that our programs bring
  LD_LIBRARY_PATH="$PWD/build/gpu_check/packed/lib:$PWD/build/gpu_check/usr/lib/x86_64-linux-gnu:$peers_path"
  export LD_LIBRARY_PATH
  seconds=$3
  "part_$2"
  exit
fi
chosen=()
for word in "$@"; do
  case $word in
    pack) pack; exit ;;
    --dry-run) SINEW_GPU_DRY=1 ;;
    --stale) SINEW_GPU_STALE=1 ;;
    *) [ -n "${limit[$word]:-}" ] || die "no part '$word' (there are: ${parts[*]} ptxas)"; chosen+=("$word") ;;
  esac
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${parts[@]}")
if [ -n "$SINEW_GPU_DRY" ]; then
  configure emulate -DSINEW_BENCH=ON && build emulate test_cuda sinew_program bench_kernels_table bench_kernels_cuda_matrix bench_train_train_step || exit 1
fi
budget=${GPU_CHECK_SECONDS:-530}
rm -rf "${work:?}" && mkdir -p $work
gpu="emulated, none, 9.0"
[ -n "$SINEW_GPU_DRY" ] || gpu=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>&1 | head -n 1)
echo "$gpu" >$work/gpu.txt
: >"$out/gpu_check.log"
for part in "${chosen[@]}"; do
  left=$((budget - SECONDS)) seconds=${limit[$part]}
  [ "$seconds" -le "$left" ] || seconds=$left
  if [ "$seconds" -lt 10 ] && [ "$part" != info ]; then
    printf '%s\tnot run\t0\tout of time\n' "$part" >>$work/parts.tsv
    continue
  fi
  printf '\n==== %s (at most %d s)\n' "$part" "$seconds" | tee -a "$out/gpu_check.log"
  began=$SECONDS
  timeout --kill-after=5 "$seconds" bash scripts/gpu_check.sh --part "$part" "$seconds" </dev/null >$work/$part.log 2>&1
  code=$?
  case $code in 0) state=passed ;; 3) state=skipped ;; 124 | 137) state="failed (time over)" ;; *) state=failed ;; esac
  cat $work/$part.log >>"$out/gpu_check.log"
  tail -n 40 $work/$part.log | cut -c 1-200
  printf '%s\t%s\t%d\t%s\n' "$part" "$state" $((SECONDS - began)) "$(grep -v '^ *$' $work/$part.log | tail -n 1 | tr '\t' ' ' | cut -c 1-200)" >>$work/parts.tsv
  python3 scripts/gpu/report.py $work "$out"  # after every part: what is there survives the end of the machine
done
printf '\n%-12s %-20s %8s  %s\n' part result seconds ""
while IFS=$'\t' read -r part state seconds note; do printf '%-12s %-20s %8s  %s\n' "$part" "$state" "$seconds" "$note"; done <$work/parts.tsv
echo "$out/gpu_check.md, gpu_check.json, gpu_check.log"
! grep -q $'\tfailed' $work/parts.tsv
