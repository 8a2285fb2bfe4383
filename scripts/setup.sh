#!/usr/bin/env bash
# Installs the packages that sinew is built with (Debian 12 or newer, Ubuntu 24.04 or newer).
#
#   scripts/setup.sh           install what is missing; does nothing when all are there
#   scripts/setup.sh --print   only say what is missing
#   scripts/setup.sh --lint    clang-format and clang-tidy as well
#
# Exit code 0: everything that a build needs is there (without an optional package, that part is left out).
# 1: something needed is missing and could not be installed.
set -euo pipefail

needed=(g++ cmake ninja-build pkg-config nlohmann-json3-dev libtomlplusplus-dev libgtest-dev)
optional=(ccache libdnnl-dev libucx-dev libpmix-dev libssl-dev zlib1g-dev libpng-dev libjpeg-dev libbenchmark-dev
  librapidcheck-dev)
print_only=""
for argument in "$@"; do
  case $argument in
    --print) print_only=1 ;;
    --lint) optional+=(clang-format clang-tidy) ;;
    *)
      echo "setup.sh: unknown option $argument (allowed: --print, --lint)" >&2
      exit 2
      ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup.sh: not Debian or Ubuntu, nothing installed. sinew is built with the equivalents of:"
  echo "  needed:   ${needed[*]}"
  echo "  optional: ${optional[*]}"
  exit 0
fi

missing_of() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}
mapfile -t missing_needed < <(missing_of "${needed[@]}")
mapfile -t missing < <(missing_of "${needed[@]}" "${optional[@]}")
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: all packages are installed"
  exit 0
fi
if [ -n "$print_only" ]; then
  echo "setup: would install: ${missing[*]}"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root=(sudo)
  else
    echo "setup: not root and no sudo; an administrator would have to run:"
    echo "  apt-get install --no-install-recommends ${missing[*]}"
    [ ${#missing_needed[@]} -eq 0 ] && exit 0
    echo "setup: a build needs: ${missing_needed[*]}" >&2
    exit 1
  fi
fi

echo "setup: installing ${missing[*]}"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
# One unknown package fails a whole call: what is needed comes by itself, first.
get() { [ $# -eq 0 ] || "${install[@]}" install -y --no-install-recommends "$@" >/dev/null; }
if ! { "${install[@]}" update && get "${missing_needed[@]}" && get "${missing[@]}"; } </dev/null; then
  mapfile -t missing_needed < <(missing_of "${needed[@]}")
  [ ${#missing_needed[@]} -eq 0 ] || { echo "setup: apt-get failed; a build needs: ${missing_needed[*]}" >&2; exit 1; }
  echo "setup: apt-get failed; going on without: $(missing_of "${optional[@]}" | tr '\n' ' ')"
fi
