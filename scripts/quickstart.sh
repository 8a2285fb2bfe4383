#!/usr/bin/env bash
# From nothing to a trained network: installs packages, builds the sinew program, trains four elastic workers (real
# processes on this machine) on the embedded data set, and says where the run folder lies. Most of its time is compiling.
# Further options go to `sinew train`: scripts/quickstart.sh --epochs 3
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

stage "set-up"
scripts/setup.sh
stage "build"
configure release
build release sinew_program
stage "train"
folder=runs/quickstart-$(date +%Y%m%d-%H%M%S)
build/release/models/sinew train --data synthetic --model mlp --scheme easgd --workers 4 --epochs 1 --out "$folder" "$@"
stage_end
echo
echo "run folder: $folder (config.toml, metrics.jsonl, model.safetensors, summary.json...)"
grep -E '"(test_accuracy|test_loss|evaluated|workers|samples_per_second|wall_seconds)"' "$folder/summary.json" | sed 's/,$//'
echo "took $SECONDS s. Next: build/release/models/sinew train --help"
