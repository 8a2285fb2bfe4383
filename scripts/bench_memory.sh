#!/usr/bin/env bash
# Peak memory of training steps, of sinew and of PyTorch: by how much the peak of a process that does nothing else rises
# over some steps, from just before the first one, and from before the model was made.
#   scripts/bench_memory.sh [--threads N] [--runs N] [--steps N] [--cases REGEX] [--python PROGRAM]... [--build FOLDER]
# --python may be given several times (default: /usr/bin/python3 where it has torch); each is measured with channels first
# and last. Without --build the preset `release` is built. Nothing is timed: other work beside it does no harm.
# Exit code 1 when one of them fails or prints no figures, when sinew's steps take more than the least of PyTorch's, or AdaHessian's more than 2.5 times SGD's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

threads=$(nproc) runs=3 steps=5 cases=. folder="" pythons=()
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "'$1' needs a value"
  case $1 in
    --threads) threads=$2 ;;
    --runs) runs=$2 ;;
    --steps) steps=$2 ;;
    --cases) cases=$2 ;;
    --python) pythons+=("$2") ;;
    --build) folder=$2 ;;
    *) die "unknown option '$1'; see the top of the script" ;;
  esac
  shift 2
done
[ ${#pythons[@]} -gt 0 ] || pythons=(/usr/bin/python3)
versions=()
for python in "${pythons[@]}"; do
  versions+=("torch-$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null)") ||
    die "$python has no torch (Debian: apt-get install python3-torch); name another with --python"
done
if [ -z "$folder" ]; then
  configure release -DSINEW_BENCH=ON
  build release bench_train_train_step
  folder=build/release
fi

echo "$(bench_machine), $threads threads, $runs runs of $steps steps"
export OMP_NUM_THREADS=$threads
# row PEER COMMAND...: the line of $case, with what the command prints.
row() {
  local peer=$1 figures
  shift
  figures=$("$@") || die "$case: $peer failed"
  printf '%s\t%s\t%s\n' "$peer" "$case" "$figures"
}
for case in lenet_b64 easgd_cifar_b128 resnet20_b128 vgg16_b64 resnet20_adahessian_b128; do
  [[ $case =~ $cases ]] || continue
  for ((run = 0; run < runs; ++run)); do
    row sinew "$folder/bench/bench_train_train_step" --memory "$case" --steps "$steps"
    for i in "${!pythons[@]}"; do
      for layout in contiguous_format channels_last; do
        row "${versions[i]} ${layout%_format}" env LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp \
          "${pythons[i]}" scripts/bench/torch_train.py "$threads" "$steps" "$case" --memory "$layout"
      done
    done
  done
done | python3 scripts/bench/memory_table.py
