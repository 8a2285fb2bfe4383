#!/usr/bin/env bash
# Runs every fuzzer of tests/fuzz, together for about so many seconds (60 by default). Needs clang with libFuzzer.
# Inputs that were found interesting stay in build/fuzz/corpus/, a crash is left in build/fuzz/crashes/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "seconds must be a positive number, not '$seconds'"

if ! compgen -G 'tests/fuzz/*_fuzz.cpp' >/dev/null; then
  echo "skipped: there is no tests/fuzz/*_fuzz.cpp yet"
  exit 0
fi
configure fuzz
build fuzz tests/fuzz/all
fuzzers=(build/fuzz/tests/fuzz/fuzz_*)
each=$(((seconds + ${#fuzzers[@]} - 1) / ${#fuzzers[@]}))
mkdir -p build/fuzz/crashes
for fuzzer in "${fuzzers[@]}"; do
  name=$(basename "$fuzzer")
  mkdir -p "build/fuzz/corpus/$name"
  seeds=()
  [ -d "tests/fuzz/seeds/$name" ] && seeds=("tests/fuzz/seeds/$name")
  log=build/fuzz/$name.log
  if ! "$fuzzer" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/crashes/$name-" "build/fuzz/corpus/$name" "${seeds[@]}" >"$log" 2>&1; then
    tail -n 60 "$log"
    die "$name failed; the input is in build/fuzz/crashes/"
  fi
  echo "  $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $each s, no defect"
done
