#!/usr/bin/env bash
# clang-format in its dry mode over all sources; names every file that would change. Skips with a reason where there is
# no clang-format.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null; then
  echo "format: skipped, no clang-format (scripts/setup.sh --lint installs it)"
  exit 0
fi
mapfile -t sources < <(git ls-files --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh')
printf '%s\0' "${sources[@]}" | xargs -0 clang-format --dry-run --Werror 2>&1 |
  sed -nE 's/^([^:]+):([0-9]+):[0-9]+: (error|warning): code should be clang-formatted.*/\1/p' | sort | uniq -c |
  awk '{ print $2 ": format: " $1 " places differ from clang-format -i"; bad = 1 } END { exit bad }'
echo "format: ${#sources[@]} files follow .clang-format"
