#!/usr/bin/env bash
# Sets up, builds and runs all tests. Ends with the line "N passed, N failed, N skipped"; exit code 0 when none failed.
#
#   scripts/test.sh                    the preset dev
#   scripts/test.sh --preset minimal   another one
#   scripts/test.sh --record           write the number of tests that ran into scripts/test_count.txt
#
# Fewer tests than recorded there is a failure. Tests on real data sets run when SINEW_DATA names the folder that
# holds mnist/ and cifar-10-batches-bin/; otherwise they are skipped and say so. SINEW_JOBS sets the parallelism.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

preset=dev record=""
while [ $# -gt 0 ]; do
  case $1 in
    --preset)
      [ $# -ge 2 ] || die "--preset needs a name (cmake --list-presets shows them)"
      preset=$2
      shift
      ;;
    --record) record=1 ;;
    *) die "unknown option $1 (allowed: --preset NAME, --record)" ;;
  esac
  shift
done

stage "set-up"
scripts/setup.sh
stage "configure $preset"
configure "$preset"
stage "build $preset"
build "$preset"
stage "test $preset"
status=0
run_tests "$preset" || status=1
stage_end

if [ -n "$record" ]; then
  record_count "$preset"
else
  expect_count "$preset" || status=1
fi
total
exit $status
