#!/usr/bin/env bash
# Compares two commits by a benchmark: builds both, runs them alternately, prints each case's medians, their ratio, and
# whether the two differ by more than their rounds do among themselves.
#   scripts/bench_compare.sh A B [--bench NAME]... [--filter REGEX] [--rounds N] [--threads N] [--json FILE]
#                                [--define NAME=VALUE]... [--keep] [-- options of the benchmark]
# A, B: commits, branches or tags; '.' is the working tree as it is. NAME: a Google Benchmark
# program (bench_kernels_gemm or kernels_gemm); default: bench_kernels_table and bench_train_train_step. --filter goes by
# Google Benchmark's names. --define adds to CMake's options of both, for example SINEW_CPU_ISAS=v4. A commit is built
# in a worktree below build/compare, which is removed at the end; --keep leaves it for the next run. The working tree's
# build, build/compare_tree, always stays.
# A round of a case is the median of three repetitions. The verdict is 'slower' or 'faster' where the rounds of equal
# sides would lie so far apart in less than one case of a hundred (Mann-Whitney test), else 'same': of 5 rounds all of one
# side must be slower than all of the other; with more rounds, exceptions are allowed.
#
# Exit codes: 0 compared, no case of B is slower; 1 a case of B is slower, or only one side has it; 2 bad options, an
# unknown commit, or changes that are in neither side; 3 a build failed (Google Benchmark missing, no such benchmark in
# that commit); 4 a benchmark failed (a wrong result among others).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

quit() { # CODE message
  printf '%s: %s\n' "${0##*/}" "$2" >&2
  exit "$1"
}

sides=() benches=() filter=. rounds=7 threads=$(nproc) json="" defines=() keep="" own=()
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; own=("$@"); break ;;
    --keep) keep=yes; shift; continue ;;
    --*) [ $# -ge 2 ] || quit 2 "'$1' needs a value" ;;
    *) sides+=("$1"); shift; continue ;;
  esac
  case $1 in
    --bench) benches+=("bench_${2#bench_}") ;;
    --filter) filter=$2 ;;
    --rounds) rounds=$2 ;;
    --threads) threads=$2 ;;
    --json) json=$2 ;;
    --define) defines+=("-D$2") ;;
    *) quit 2 "unknown option '$1'; see the top of the script" ;;
  esac
  shift 2
done
[ ${#sides[@]} -eq 2 ] || quit 2 "needs two commits, for example: ${0##*/} main ."
[[ $rounds =~ ^[0-9]+$ && $rounds -ge 5 ]] || quit 2 "--rounds $rounds: at least 5; from fewer nothing follows"
[[ $threads =~ ^[1-9][0-9]*$ ]] || quit 2 "--threads $threads is not a number of threads"
[ ${#benches[@]} -gt 0 ] || benches=(bench_kernels_table bench_train_train_step)

# The commit of each side, empty for the working tree.
commits=()
for side in "${sides[@]}"; do
  [ "$side" = . ] && { commits+=(""); continue; }
  commits+=("$(git rev-parse --verify --quiet "$side^{commit}")") || quit 2 "'$side' is not a commit, a branch or a tag here, nor '.'"
done
[ "${commits[0]}" != "${commits[1]}" ] || quit 2 "'${sides[0]}' and '${sides[1]}' are the same"
if [ -n "${commits[0]}" ] && [ -n "${commits[1]}" ] && [ -n "$(git status --porcelain --untracked-files=no)" ]; then
  quit 2 "there are uncommitted changes, which neither side has: commit them, or compare with '.'"
fi

root=$PWD/build/compare results=$(mktemp -d)
clean() {
  rm -rf "$results"
  [ -n "$keep" ] && return
  for commit in "${commits[@]}"; do
    [ -z "$commit" ] || git worktree remove --force "$root/$commit" 2>/dev/null || true
  done
  rmdir "$root" 2>/dev/null || true
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

# prepare SIDE: builds the benchmarks in folders[SIDE].
prepare() {
  local source=$PWD name=${names[$1]} commit=${commits[$1]} build=${folders[$1]} log=$results/build.log
  if [ -n "$commit" ]; then
    source=$root/$commit
    [ -e "$source/.git" ] || git worktree add --detach "$source" "$commit" >"$log" 2>&1 || { cat "$log" >&2; quit 3 "no worktree for $name"; }
  fi
  (cd "$source" && cmake --preset release -B "$build" -DSINEW_BENCH=ON "${defines[@]}") >"$log" 2>&1 || {
    grep -q "Google Benchmark was not found" "$log" && quit 3 "Google Benchmark is missing; scripts/setup.sh installs it"
    cat "$log" >&2
    quit 3 "configuring $name failed"
  }
  for bench in "${benches[@]}"; do
    ninja -C "$build" -t query "$bench" >/dev/null 2>&1 || quit 3 "$name has no benchmark $bench"
  done
  cmake --build "$build" --parallel "$jobs" --target "${benches[@]}" >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    quit 3 "building $name failed"
  }
}
names=() folders=()
for i in 0 1; do
  if [ -n "${commits[i]}" ]; then
    names+=("${sides[i]} ($(git log -1 --format=%h "${commits[i]}"))") folders+=("$root/${commits[i]}/build/release")
  else
    names+=("working tree ($(git describe --always --dirty))") folders+=("$PWD/build/compare_tree")
  fi
  echo "building ${names[i]}" >&2
  prepare $i
done

# run SIDE BENCH ROUND
run() {
  local out=$results/$2.$1.$3.json
  OMP_NUM_THREADS=$threads "${folders[$1]}/bench/$2" "--benchmark_filter=$filter" --benchmark_repetitions=3 --benchmark_out="$out" --benchmark_out_format=json \
    "${own[@]}" >"$results/log" 2>&1 || { tail -n 20 "$results/log" >&2; quit 4 "$2 of ${names[$1]} failed"; }
}
echo "$(bench_machine), $threads threads, $rounds rounds"
for ((round = 0; round < rounds; ++round)); do
  order=(0 1)
  ((round % 2)) && order=(1 0) # whoever goes first has no advantage
  for bench in "${benches[@]}"; do
    for side in "${order[@]}"; do run "$side" "$bench" "$round"; done
  done
  echo "round $((round + 1)) of $rounds" >&2
done
status=0
python3 scripts/bench/compare.py "$results" "${names[0]}" "${names[1]}" ${json:+--json "$json"} || status=$?
exit $status
