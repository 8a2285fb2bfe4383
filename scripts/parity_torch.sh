#!/usr/bin/env bash
# `sinew probe` against PyTorch on lenet, resnet20 and vgg16, in training and evaluation mode: logits, gradients,
# Hessian-vector products, running statistics; then weights go from PyTorch to sinew and back. Prints a line for each, exit
# code 1 when one is beyond the bounds. What is compared and how: scripts/parity/compare.py, round_trip.py.
#   [PYTHON=PROGRAM] scripts/parity_torch.sh [--batch N] [--any] [--build FOLDER]
#   [PYTHON=PROGRAM] scripts/parity_torch.sh --record      makes tests/models/data/parity.safetensors anew
# PYTHON: one with PyTorch 1.13 or newer; the default is /usr/bin/python3. Without --build the preset `release` is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

python=${PYTHON:-/usr/bin/python3} folder="" record="" options=()
while [ $# -gt 0 ]; do
  case $1 in
    --record) record=yes ;;
    --any) options+=(--any) ;;
    --batch | --build)
      [ $# -ge 2 ] || die "'$1' needs a value"
      if [ "$1" = --build ]; then folder=$2; else options+=(--batch "$2"); fi
      shift
      ;;
    *) die "unknown option '$1'; see the top of the script" ;;
  esac
  shift
done
"$python" -c 'import torch' 2>/dev/null ||
  die "$python has no torch (Debian: apt-get install python3-torch; or pip install torch, and PYTHON=<that python>)"
export PYTHONDONTWRITEBYTECODE=1
if [ -n "$record" ]; then
  exec "$python" scripts/parity/compare.py --record tests/models/data/parity.safetensors
fi
if [ -z "$folder" ]; then
  configure release
  build release sinew_program
  folder=build/release
fi
bench_machine && echo
status=0
"$python" scripts/parity/compare.py "$folder/models/sinew" ${options[@]+"${options[@]}"} || status=1
echo
"$python" scripts/parity/round_trip.py "$folder/models/sinew" || status=1
exit $status
