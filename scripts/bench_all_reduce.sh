#!/usr/bin/env bash
# Ring all-reduce of sinew, gloo and Open MPI over UCX/TCP on this machine, 2 and 4 processes, alternating; prints
# medians and ratios. What is not installed is left out, and said so.
#   scripts/bench_all_reduce.sh [--rounds N] [--processes 2,4] [--floats 1,1000,1000000,25000000]
#                               [--python PROGRAM] [--build FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

rounds=5 processes=2,4 floats=1,1000,1000000,25000000 python=/usr/bin/python3 folder=""
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "'$1' needs a value"
  case $1 in
    --rounds) rounds=$2 ;;
    --processes) processes=$2 ;;
    --floats) floats=$2 ;;
    --python) python=$2 ;;
    --build) folder=$2 ;;
    *) die "unknown option '$1'; see the top of the script" ;;
  esac
  shift 2
done
if [ -z "$folder" ]; then
  configure release -DSINEW_BENCH=ON
  build release bench_dist_all_reduce
  folder=build/release
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
with_gloo=yes with_mpi=yes
"$python" -c 'import torch.distributed' 2>/dev/null || { with_gloo="" && echo "no gloo: $python has no torch"; }
if ! mpicc -O2 -o "$scratch/mpi_all_reduce" bench/peers/mpi_all_reduce.c 2>/dev/null; then
  with_mpi="" && echo "no Open MPI: apt-get install libopenmpi-dev openmpi-bin"
fi

gloo() { OMP_NUM_THREADS=1 "$python" scripts/bench/torch_all_reduce.py "$1" ${floats//,/ } 2>/dev/null; }
mpi() {
  # By itself Open MPI takes UCX only for the hardware that it lists.
  UCX_TLS=tcp,self UCX_NET_DEVICES=lo mpirun --allow-run-as-root --oversubscribe -np "$1" --mca pml ucx \
    --mca opal_common_ucx_tls any --mca opal_common_ucx_devices any "$scratch/mpi_all_reduce" ${floats//,/ } 2>/dev/null
}

echo "$(bench_machine), $rounds rounds"
for ((round = 0; round < rounds; ++round)); do
  for count in ${processes//,/ }; do
    "$folder/bench/bench_dist_all_reduce" --processes "$count" --floats "$floats"
    [ -z "$with_gloo" ] || gloo "$count"
    [ -z "$with_mpi" ] || mpi "$count"
  done
done | python3 scripts/bench/table.py sinew
