#!/usr/bin/env bash
# The longer checks, by hand before a release (an hour or so on two cores):
#   everything of .ci/run; the sanitizers on every test binary, and on the emulation of a GPU; the dist tests ten times over; shared libraries; the
#   release build with all instruction sets and its benchmarks compiled; ten minutes of fuzzing; a job on two hosts (network namespaces); clang-tidy.
# The stages go on after a failure; the failed ones, and what was skipped since something is not installed, are named at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
failures=() left_out=()

check() {
  local line
  stage "$1"
  mkdir -p build
  "${@:2}" </dev/null 2>&1 | tee build/check.log || failures+=("$1")
  while read -r line; do left_out+=("$1: ${line#skipped: }"); done < <(grep '^skipped: ' build/check.log)
}

sanitize_everything() {
  local preset status=0
  for preset in asan tsan; do
    configure "$preset" && build "$preset" && run_tests "$preset" --label-exclude '^(lint|install|slow)$' || status=1
  done
  return $status
}
# The emulated GPU finds races of kernels and accesses out of bounds by itself, when it is built without a sanitizer. This is
# about the emulation itself, and about accesses at any distance.
sanitize_emulation() {
  local sanitizer filter status=0
  for sanitizer in address,undefined thread; do
    filter='CudaEmulator*:CudaWarps*:CudaMemoryCache*:CudaPinnedCache*:CudaLaunchLog*:CudaRuntime*:CudaVendor*'
    [ $sanitizer != thread ] || filter='CudaEmulator.LaunchesFromSeveralOsThreads'
    cmake --preset emulate -B "build/emulate-${sanitizer%%,*}" -DSINEW_SANITIZE=$sanitizer -DSINEW_OPENMP=OFF \
      -DCMAKE_CXX_FLAGS_RELWITHDEBINFO='-O1 -g1 -D_GLIBCXX_ASSERTIONS' >"build/emulate-${sanitizer%%,*}.log" &&
      cmake --build "build/emulate-${sanitizer%%,*}" -j "$jobs" --target test_cuda || return 1
    ASAN_OPTIONS=halt_on_error=1:detect_leaks=1:detect_stack_use_after_return=0 LSAN_OPTIONS=print_suppressions=0:suppressions=$PWD/scripts/sanitizers/lsan.supp \
      UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
      TSAN_OPTIONS=halt_on_error=1:suppressions=$PWD/scripts/sanitizers/tsan.supp \
      "build/emulate-${sanitizer%%,*}/tests/test_cuda" --gtest_brief=1 --gtest_filter="$filter" || status=1
  done
  return $status
}
shared_libraries() {
  cmake -S . -B build/shared -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_SHARED_LIBS=ON -DSINEW_CPU_ISAS=v3 >build/shared.log &&
    build shared && ctest --test-dir build/shared --output-on-failure --no-tests=error -L install
}
release_and_benchmarks() { configure release -DSINEW_BENCH=ON && build release; }
tidy() {
  command -v run-clang-tidy >/dev/null || { echo "skipped: no clang-tidy (scripts/setup.sh --lint installs it)"; return 0; }
  # Clang reads neither GCC's precompiled headers nor all of its options, and has no <omp.h> of its own here.
  cmake -S . -B build/tidy -G Ninja -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DSINEW_CPU_ISAS=v3 -DSINEW_TESTS=OFF \
    -DSINEW_OPENMP=OFF >build/tidy.log || return 1
  run-clang-tidy -quiet -p build/tidy -j "$jobs" -extra-arg=-Wno-unknown-warning-option \
    "^$PWD/(core|nn|dist|optim|models)/" 2>/dev/null >build/tidy.log
  ! grep -E '(warning|error):' build/tidy.log | sort -u
}

check "ci" .ci/run
check "dist tests ten times" run_tests dev --label-regex '^dist$' --repeat until-fail:10
check "sanitizers on everything" sanitize_everything
check "sanitizers on the emulation" sanitize_emulation
check "shared libraries" shared_libraries
check "release and benchmarks" release_and_benchmarks
check "fuzzing" scripts/fuzz.sh 600
check "hosts" scripts/hosts.sh
check "launchers" scripts/launchers.sh
check "clang-tidy" tidy
stage_end
[ ${#left_out[@]} = 0 ] || printf 'skipped: %s\n' "${left_out[@]}"
if [ ${#failures[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failures[@]}"
  exit 1
fi
[ ${#left_out[@]} = 0 ] && echo "all checks passed" || echo "all checks that ran passed"
