#!/usr/bin/env bash
# scripts/bench_memory.sh with stand-ins for the benchmark and for PyTorch: what fails or has no figures must show.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

mkdir -p "$work/bench"
cat >"$work/bench/bench_train_train_step" <<'EOF'
#!/bin/sh
printf '1000000\t2000000\n'
EOF
cat >"$work/python" <<'EOF'
#!/bin/sh
[ "$1" != -c ] || { echo 1.0; exit; }
. "$(dirname "$0")/answer"
EOF
chmod +x "$work/bench/bench_train_train_step" "$work/python"

# expect CODE TEXT COMMAND...: its exit code, and a text in what it prints.
expect() {
  local code=$1 text=$2 got=0 out
  shift 2
  out=$("$@" 2>&1) || got=$?
  if [ "$got" -eq "$code" ] && [[ $out == *"$text"* ]]; then return; fi
  printf 'expected exit code %s and "%s", got %s:\n%s\n' "$code" "$text" "$got" "$out" >&2
  failures=$((failures + 1))
}
# script ANSWER: a run whose peer does this.
script() {
  echo "$1" >"$work/answer"
  scripts/bench_memory.sh --threads 1 --runs 2 --cases lenet --python "$work/python" --build "$work"
}
table() { printf "$1" | python3 scripts/bench/memory_table.py; }

expect 0 '3.00' script "printf '3000000\t4000000\n'"
expect 1 'missed: lenet_b64' script "printf '900000\t4000000\n'"
expect 1 'lenet_b64: torch-1.0 contiguous failed' script 'echo "TypeError: an argument is missing" >&2; exit 1'
expect 1 'expected peer, case and two numbers' script ':'
expect 1 'expected peer, case and two numbers' script "printf '3000000\n'"

good='sinew\tlenet\t1000000\t2000000\ntorch\tlenet\t2000000\t3000000\n'
expect 0 '2.00' table "the machine\n$good"
expect 1 'line 3' table "${good}torch\tlenet\t\n"
expect 1 'line 3' table "${good}torch\tlenet\tnan\t1\n"
expect 1 'line 3' table "${good}torch\tlenet\t\t\n"
expect 1 'vgg16: only figures of torch' table "${good}torch\tvgg16\t1\t2\n"
expect 1 'vgg16: only figures of sinew' table "${good}sinew\tvgg16\t1\t2\n"
expect 1 'no figures' table 'the machine\n'
[ "$failures" -eq 0 ]
