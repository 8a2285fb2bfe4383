#!/usr/bin/env bash
# scripts/bench/compare.py, the second half of scripts/bench_compare.sh, on figures that are known.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# round SIDE NUMBER CASE UNIT TIME...: a round's file; one entry for each repetition, and an aggregate, which is no figure.
round() {
  local side=$1 number=$2 case=$3 unit=$4 time runs=""
  shift 4
  for time in "$@"; do
    runs+="{\"run_type\": \"iteration\", \"name\": \"$case/real_time\", \"real_time\": $time, \"time_unit\": \"$unit\"}, "
  done
  runs+="{\"run_type\": \"aggregate\", \"name\": \"${case}_mean\", \"real_time\": 1, \"time_unit\": \"$unit\"}"
  echo "{\"benchmarks\": [$runs]}" >"$work/$case.$side.$number.json"
}
# side SIDE CASE UNIT FACTOR: five rounds of FACTOR times 10, 11, 12, 13 and 14, each the median of three repetitions.
side() {
  local k
  for k in 0 1 2 3 4; do round "$1" "$k" "$2" "$3" "$(($4 * (10 + k)))" "$(($4 * 1))" "$(($4 * 100))"; done
}
# expect CODE TEXT: the exit code of a comparison, and a text in what it prints, spaces apart.
expect() {
  local got=0 out
  out=$(python3 scripts/bench/compare.py "$work" A B --json "$work/out" 2>&1) || got=$?
  rm -f "$work"/*.json
  if [ "$got" -eq "$1" ] && [[ $(tr -s ' ' <<<"$out") == *"$2"* ]]; then return; fi
  printf 'expected exit code %s and "%s", got %s:\n%s\n' "$1" "$2" "$got" "$out" >&2
  failures=$((failures + 1))
}

side 0 twice us 1 && side 1 twice us 2
expect 1 'twice 12.0 (33.3%) 24.0 (33.3%) 2.000 slower'
side 0 half us 4 && side 1 half us 2
expect 0 'half 48.0 (33.3%) 24.0 (33.3%) 0.500 faster'
side 0 equal us 3 && side 1 equal ns 3000
expect 0 'equal 36.0 (33.3%) 36.0 (33.3%) 1.000 same'
side 0 both us 1 && side 1 both us 1 && side 0 gone us 1
expect 1 'gone 12.0 (33.3%) - - only in A'
side 0 both us 1 && side 1 both us 1 && side 1 new us 1
expect 1 '1 same, 1 only in B'
side 0 wrong us 1 && side 1 wrong us 1
sed -i 's|"run_type": "iteration"|&, "error_occurred": true, "error_message": "not the reference"|' "$work/wrong.1.3.json"
expect 4 'wrong of B: wrong/real_time: not the reference'
expect 4 'no case matches --filter'
side 0 twice us 1 && side 1 twice us 2
expect 1 'twice'
python3 - "$work/out" <<'PY' || failures=$((failures + 1))
import json, sys
(case,) = json.load(open(sys.argv[1]))["cases"]
assert case["verdict"] == "slower" and case["ratio"] == 2 and abs(case["p"] - 2 / 252) < 1e-12, case
PY
[ "$failures" -eq 0 ]
