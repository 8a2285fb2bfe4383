# Sourced by the scripts and by .ci/run, with the repository root as the working directory:
# stages with their times, presets, and counting test results.

passed=0 failed=0 skipped=0 ran=0
stage_name="" stage_began=0
jobs=${SINEW_JOBS:-$(nproc)}

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# stage NAME: ends the stage before it and prints what that took.
stage() {
  stage_end
  stage_name=$1 stage_began=$SECONDS
  printf '\n==== %s\n' "$stage_name"
}
stage_end() {
  [ -z "$stage_name" ] || printf '==== %s: %d s\n' "$stage_name" $((SECONDS - stage_began))
  stage_name=""
}

# configure PRESET [cmake options]
configure() {
  local preset=$1
  shift
  local log="build/$preset/configure.log"
  mkdir -p "build/$preset"
  if ! cmake --preset "$preset" "$@" >"$log" 2>&1; then
    cat "$log"
    return 1
  fi
  grep -A1 -- "-- sinew " "$log"
}

# build PRESET [targets]
build() {
  local preset=$1
  shift
  cmake --build "build/$preset" --parallel "$jobs" ${1:+--target "$@"}
}

# has_target PRESET NAME: whether the configured build has that target.
has_target() { ninja -C "build/$1" -t query "$2" >/dev/null 2>&1; }

# run_tests PRESET [ctest options]: adds the results to passed, failed, skipped; false when a test failed or none ran.
run_tests() {
  local preset=$1 status=0
  shift
  local report="$PWD/build/$preset/junit.xml" log="build/$preset/ctest.log" failures="build/$preset/failures.log"
  rm -f "$report" "$failures"
  ctest --preset "$preset" --parallel "$jobs" --output-junit "$report" "$@" >"$log" 2>&1 || status=1
  if [ $status -ne 0 ]; then
    grep -vE '^ *[0-9]+/[0-9]+ Test|^ +Start ' "$log" | tee "$failures"
  fi
  count_results "$report" || return 1
  sed -n 's/^.*Total Test time (real) = *\(.*\)$/  ctest took \1/p' "$log"
  print_skipped "$report"
  return $status
}

# count_results REPORT: adds a JUnit file of ctest to passed, failed, skipped; says so.
count_results() {
  [ -s "$1" ] || { echo "no test report $1"; return 1; }
  local header tests failures disabled skips
  header=$(sed -n '/<testsuite/,/>/p' "$1" | tr '\n\t' '  ')
  tests=$(attribute tests "$header") failures=$(attribute failures "$header")
  disabled=$(attribute disabled "$header") skips=$(attribute skipped "$header")
  ran=$((tests - disabled - skips))
  printf '  %d passed, %d failed, %d skipped\n' $((ran - failures)) "$failures" $((skips + disabled))
  passed=$((passed + ran - failures)) failed=$((failed + failures)) skipped=$((skipped + skips + disabled))
}
attribute() { printf '%s\n' "$2" | grep -o "[< ]$1=\"[0-9]*\"" | head -n 1 | tr -cd '0-9'; }

# How many tests run at least, of a build with every optional part: by preset, with and without the real data sets.
counts=scripts/test_count.txt
count_key() { echo "$1${SINEW_DATA:++data}"; }

# record_count PRESET: writes down how many ran in the last run_tests.
record_count() {
  local key
  key=$(count_key "$1")
  { awk '/^#/' "$counts"; { awk -v key="$key" '!/^#/ && $1 != key' "$counts"; echo "$key $ran"; } | sort; } >"$counts.tmp"
  mv "$counts.tmp" "$counts"
}

# expect_count PRESET [PART]: false when fewer ran in the last run_tests than are recorded, of a part under PRESET:PART.
expect_count() {
  local preset=$1 key floor off
  key=$(count_key "$preset${2:+:$2}")
  floor=$(awk -v key="$key" '$1 == key { print $2 }' "$counts")
  off=$(grep -E '^(ONEDNN|UCX|ZLIB|PNG|JPEG|RAPIDCHECK)=OFF' "build/$preset/features.txt" | tr '\n' ' ' || true)
  if [ "$preset" != minimal ] && [ -n "$off" ]; then
    echo "not compared with $counts: this build is without some optional parts ($off)"
  elif [ -z "$floor" ]; then
    echo "no number of tests recorded for $key in $counts: scripts/test.sh --record writes a preset's"
  elif [ "$ran" -lt "$floor" ]; then
    echo "only $ran tests ran; $counts records $floor for $key. If tests were removed on purpose: scripts/test.sh --record; a part's by hand"
    return 1
  fi
}

# Names the skipped tests, each with the reason that it gave.
print_skipped() {
  awk '
    /<testcase name=/ { match($0, /name="[^"]*"/); name = substr($0, RSTART + 6, RLENGTH - 7); skip = 0; said = 0 }
    /<skipped/ { skip = 1 }
    skip && !said && /Skipped$/ { getline reason; sub(/^ +/, "", reason); printf "  skipped %s: %s\n", name, reason; said = 1 }
    /<\/testcase>/ { if (skip && !said) printf "  skipped %s\n", name }' "$1"
}

total() { printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"; }

# Where a benchmark ran: processor, cores, system, date, load.
bench_machine() {
  local cpu
  cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  printf '%s, %s cores, %s, %s, load %s' "$cpu" "$(nproc)" "$(. /etc/os-release && echo "$PRETTY_NAME")" "$(date +%F)" \
    "$(cut -d ' ' -f 1 /proc/loadavg)"
}
