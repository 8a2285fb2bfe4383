#!/usr/bin/env bash
# Training steps of sinew and of PyTorch on this machine, same threads, alternating; prints medians and ratios.
#   scripts/bench_vs_torch.sh [--threads N] [--rounds N] [--seconds S] [--cases REGEX] [--python PROGRAM]... [--compile PROGRAM] [--build FOLDER]
# --python may be given several times (default: /usr/bin/python3 where it has torch); --compile also measures
# torch.compile with that Python. Without --build the preset `release` is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

threads=$(nproc) rounds=5 seconds=1 cases=. folder="" pythons=() compiled=""
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "'$1' needs a value"
  case $1 in
    --threads) threads=$2 ;;
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --cases) cases=$2 ;;
    --python) pythons+=("$2") ;;
    --compile) compiled=$2 ;;
    --build) folder=$2 ;;
    *) die "unknown option '$1'; see the top of the script" ;;
  esac
  shift 2
done
[ ${#pythons[@]} -gt 0 ] || pythons=(/usr/bin/python3)
for python in "${pythons[@]}" ${compiled:+"$compiled"}; do
  "$python" -c 'import torch' 2>/dev/null || die "$python has no torch (Debian: apt-get install python3-torch); name another with --python"
done
if [ -z "$folder" ]; then
  configure release -DSINEW_BENCH=ON
  build release bench_train_train_step
  folder=build/release
fi

ours() {
  OMP_NUM_THREADS=$threads "$folder/bench/bench_train_train_step" --benchmark_filter="train_step/.*($cases)" --benchmark_min_time="$(awk "BEGIN { print $seconds / 5 }")" \
    --benchmark_repetitions=5 --benchmark_format=json 2>/dev/null | python3 scripts/bench/google_benchmark.py sinew
}
# torch PYTHON [--compile]
torch() {
  LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp "$1" scripts/bench/torch_train.py "$threads" "$seconds" "$cases" ${2:+"$2"} 2>/dev/null
}
# OpenBLAS 0.3.21 does not know newer CPUs and falls back to AVX2 there.
if grep -qw avx512f /proc/cpuinfo; then export OPENBLAS_CORETYPE=SkylakeX; fi

echo "$(bench_machine), $threads threads, $rounds rounds of 5 blocks of $seconds/5 s a case"
for ((round = 0; round < rounds; ++round)); do
  ours
  for python in "${pythons[@]}"; do torch "$python"; done
  [ -z "$compiled" ] || torch "$compiled" --compile
done | python3 scripts/bench/table.py sinew
