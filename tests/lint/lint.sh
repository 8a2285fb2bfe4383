#!/usr/bin/env bash
# The house rules that a grep can check. Prints one line per defect, "file:line: rule: what"; exit code 1 if any.
#
#   tests/lint/lint.sh [root]
#
# tests/lint/selftest.sh shows for every rule that it can fail.
set -uo pipefail
export LC_ALL=C
cd "${1:-$(dirname "$0")/../..}" || exit 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# What git has or would take; in a tree without git (a source archive) everything but build folders.
list_files() {
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1 && [ -z "$(git rev-parse --show-prefix)" ]; then
    git ls-files --cached --others --exclude-standard
  else
    find . -type f -not -path './build*' -not -path './.git/*' -not -path './runs/*' | sed 's|^\./||'
  fi
}
mapfile -t files < <(list_files | sort -u | while IFS= read -r f; do [ -f "$f" ] && printf '%s\n' "$f"; done)
mapfile -t code < <(printf '%s\n' "${files[@]}" | grep -E '^(core|nn|cuda|dist|optim|models|tests|bench)/.*\.(h|cpp|cu|cuh)$')
[ ${#code[@]} -gt 0 ] || { echo "lint: no source files under $PWD"; exit 2; }

defects=$(
  # Walls: who includes whom, what third-party code is used where. One line per file and include.
  awk '
    function defect(what) { printf "%s:%d: include wall: %s\n", FILENAME, FNR, what }
    FNR == 1 { split(FILENAME, part, "/"); folder = part[1] }
    !/^[ \t]*#[ \t]*include[ \t]*[<"]/ { next }
    /"/ && /include[ \t]*"/ {
      match($0, /"[^"]*"/); header = substr($0, RSTART + 1, RLENGTH - 2)
      if (FILENAME ~ /^tests\/install\/outside\//) next
      if (header !~ /\//) { defect("\"" header "\" is not relative to the repository root"); next }
      split(header, part, "/"); to = part[1]
      if (to !~ /^(core|nn|cuda|dist|optim|models|tests|bench)$/) { defect("\"" header "\" is in no folder of ours"); next }
      if (to == folder || folder == "tests" || folder == "bench") next
      ok = 0
      if (folder == "models") ok = to !~ /^(tests|bench)$/
      else if (folder != "core") ok = to == "core"
      if (folder == "dist" && header ~ /^core\/(tensor|autograd|ops)\.h$/) ok = 0
      if (folder == "cuda" && header ~ /^core\/(tensor|autograd|ops|safetensors|param_layout)\.h$/) ok = 0
      if (folder == "cuda" && header == "core/fiber.h" && FILENAME !~ /^cuda\/emulate\//) ok = 0
      if (header ~ /^core\/cpu\// && header != "core/cpu/cpu_info.h") ok = 0
      if (!ok) defect(folder " may not include \"" header "\"")
      next
    }
    {
      match($0, /<[^>]*>/); header = substr($0, RSTART + 1, RLENGTH - 2)
      where = ""
      if (header ~ /^(oneapi\/)?dnnl/) where = "^core/cpu/"
      else if (header ~ /^nlohmann\//) where = "^(core/safetensors\\.cpp|models/|tests/)"
      else if (header ~ /^(cuda|cublas|cudnn|nccl|nvrtc|nvtx|cub\/|thrust\/|cooperative_groups)/) where = "^cuda/"
      else if (header ~ /^(zlib|png|pngconf|turbojpeg|jpeglib)\.h$/) where = "^(nn|tests)/"
      else if (header ~ /^(ucp|ucs|uct)\//) where = "^(dist|bench)/"
      else if (header ~ /^pmix/) where = "^dist/"
      else if (header ~ /^openssl\//) where = "^dist/"
      else if (header ~ /^(CLI|toml\+\+|fmt|spdlog)\// || header == "toml.hpp") where = "^models/"
      else if (header ~ /^(gtest|gmock|rapidcheck)/) where = "^tests/"
      else if (header ~ /^benchmark\//) where = "^bench/"
      else if (header == "omp.h") where = "^(core|bench)/"
      else if (header ~ /\// && header !~ /^(sys|arpa|net|netinet|linux|asm|sanitizer|bits)\//) where = "^$"
      if (where == "^$") defect("<" header "> is not in the table of third-party code (architecture, section 1)")
      else if (where != "" && FILENAME !~ where) defect("<" header "> is allowed in " where " only")
    }' "${code[@]}"

  # One thread_local pointer in the library, and the caches that tests/lint/thread_local.txt names.
  allowed=$(sed 's/#.*//; s/[ \t].*//; /^$/d' "$here/thread_local.txt")
  grep -nHE '\b(thread_local|__thread)\b' "${code[@]}" | grep -vE '^[^:]*:[0-9]+:[ \t]*(//|\*)' | while IFS= read -r hit; do
    grep -qxF "${hit%%:*}" <<<"$allowed" || echo "$(cut -d: -f1,2 <<<"$hit"): thread_local: not in tests/lint/thread_local.txt"
  done

  # Chance and time decide nothing: random numbers come from core/philox.h.
  mapfile -t libraries < <(printf '%s\n' "${code[@]}" | grep -E '^(core|nn|cuda|dist|optim|models)/')
  if [ ${#libraries[@]} -gt 0 ]; then
    grep -nHE 'std::(mt19937|minstd_rand|random_device|default_random_engine|(uniform|normal|bernoulli)[a-z_]*_distribution)|\b(s?rand|drand48)\(' \
      "${libraries[@]}" | grep -vE '^[^:]*:[0-9]+:[ \t]*(//|\*)' | sed -E 's/^([^:]*:[0-9]+):.*/\1: randomness: use core\/philox.h/'
  fi

  # File size.
  wc -l "${code[@]}" | awk '$2 != "total" && $1 > 600 { printf "%s:%d: file size: %d lines, 600 at most\n", $2, $1, $1 }'

  # Every folder explains itself.
  for folder in core nn cuda dist optim models tests bench scripts; do
    [ -d "$folder" ] && [ ! -s "$folder/README.md" ] && echo "$folder:1: readme: $folder/README.md is missing"
  done

  # Device code holds plain data only.
  mapfile -t device < <(printf '%s\n' "${code[@]}" | grep -E '^cuda/.*\.cuh?$')
  if [ ${#device[@]} -gt 0 ]; then
    grep -nHE '#include *<(vector|string|map|unordered_map|set|list|deque|memory|functional|iostream|sstream|optional|variant|span|tuple)>|std::(vector|string|map|unordered_map|set|deque|function|shared_ptr|unique_ptr|span|optional|tuple)\b' \
      "${device[@]}" | grep -vE '^[^:]*:[0-9]+:[ \t]*(//|\*)' | sed -E 's/^([^:]*:[0-9]+):.*/\1: device code: std containers in a .cu file/'
    grep -nHE '(^|[^_[:alnum:]])__shared__\b' "${device[@]}" | grep -vE '^cuda/device/|^[^:]*:[0-9]+:[ \t]*(//|\*)' |
      sed -E 's/^([^:]*:[0-9]+):.*/\1: device code: bare __shared__, use the macros of cuda\/device/'
  fi

  # Nothing knows the machine that it was written on; only .ci/run knows where the shared data lies.
  mapfile -t texts < <(printf '%s\n' "${files[@]}" | grep -vE '^(tests/lint/|LICENSE$)|\.(png|gz|bin|safetensors|json)$')
  grep -nHIE '(^|[^[:alnum:]_.$}/])/(work|tmp|root|home|Users)(/|\b)' "${texts[@]}" |
    sed -E 's/^([^:]*:[0-9]+):.*/\1: machine path: a path of one machine/'
  grep -nHIF '../shared' "${texts[@]}" | grep -v '^\.ci/run:' | sed -E 's/^([^:]*:[0-9]+):.*/\1: machine path: only .ci\/run may name ..\/shared/'

  # Mirrored names: a family is called the same in core/ops, core/cpu/kernels and cuda, and a large one may have parts
  # (conv_dw). Families without an op: flat vectors, packed messages and optimizers; entries fills the table.
  names() { printf '%s\n' "${files[@]}" | sed -nE "s|^$1/([a-z0-9_]+)\.$2\$|\1|p"; }
  families=$(names core/ops cpp; printf 'flat\noptim\npacking\n')
  for kernel in $(names core/cpu/kernels cpp | grep -vx entries); do
    grep -qxF -e "$kernel" -e "${kernel%%_*}" <<<"$families" || echo "core/cpu/kernels/$kernel.cpp:1: mirrored names: there is no core/ops/$kernel.cpp"
  done
  for kernel in $(names cuda cu); do
    grep -qxF -e "$kernel" -e "${kernel%%_*}" < <(names core/cpu/kernels cpp; names core/ops cpp) || echo "cuda/$kernel.cu:1: mirrored names: there is no core/cpu/kernels/$kernel.cpp, nor core/ops/$kernel.cpp"
  done

  # Every op that has a derivative is in the op table, where its derivatives are checked.
  if [ -f core/ops.h ]; then
    grep -nE '^(inline )?(Tensor|BatchNorm|std::(pair|tuple|vector)<Tensor[^>]*>) [a-z_0-9]+\(' core/ops.h |
      sed -E 's/^([0-9]+):.* ([a-z_0-9]+)\(.*/\1 \2/' | grep -vE ' (argmax|random_(normal|rademacher|uniform))$' |
      while read -r line op; do
        grep -qE "\\b$op\\(" tests/core/op_table.cpp 2>/dev/null || echo "core/ops.h:$line: op table: $op is not in tests/core/op_table.cpp"
      done
  fi

  # A simulated node is ended by an exception that passes through the scheme: swallowing it wedges the simulation.
  mapfile -t schemes < <(printf '%s\n' "${code[@]}" | grep -E '^dist/schemes/')
  if [ ${#schemes[@]} -gt 0 ]; then
    awk '
      FNR == 1 { inside = 0 }
      !inside && /catch[ \t]*\([ \t]*\.\.\.[ \t]*\)/ { inside = 1; depth = 0; opened = 0; rethrown = 0; line = FNR; sub(/.*catch[ \t]*\([^)]*\)/, "") }
      inside {
        if (/(^|[^[:alnum:]_])throw[ \t]*;|rethrow_exception/) rethrown = 1
        depth += gsub(/{/, "{"); if (depth > 0) opened = 1
        depth -= gsub(/}/, "}")
        if (opened && depth <= 0) {
          if (!rethrown) printf "%s:%d: catch (...): without throw; in a scheme\n", FILENAME, line
          inside = 0
        }
      }' "${schemes[@]}"
  fi
)
if [ -n "$defects" ]; then
  printf '%s\n' "$defects"
  printf 'lint: %d defects in %d files looked at\n' "$(wc -l <<<"$defects")" ${#files[@]}
  exit 1
fi
printf 'lint: %d files, no defects\n' ${#files[@]}
