#!/usr/bin/env bash
# Jobs that others start: `mpirun -n 4` and `srun -n 4` find their ranks through PMIx, train with EASGD, and go on when one
# rank is killed, where the launcher lets them.
#
#   scripts/launchers.sh [--install] [PROGRAM]     # PROGRAM: the `sinew` to run; build/dev/models/sinew
#
# --install: apt-get installs openmpi-bin, slurm-wlm and munge. A Slurm of one node is started by hand in a temporary folder,
# on ports of its own, and ends with the script (root only). With SINEW_DATA the jobs train on MNIST, to an accuracy of at least
# 0.96, else on the embedded set. What is missing is skipped and said. Exit code 1 when something that ran went wrong, which
# includes a summary that names other ranks as lost than the one that was killed: both launchers are told to go on without it.
# `mpirun` without --enable-recovery and `srun` without --kill-on-bad-exit=0 end the whole job, as they should; these are not run.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
if [ "${1:-}" = --install ]; then
  shift
  DEBIAN_FRONTEND=noninteractive apt-get install -y openmpi-bin slurm-wlm munge >/dev/null || die "apt-get failed"
fi
program=$(realpath "${1:-build/dev/models/sinew}")
[ -x "$program" ] || die "no program $program: build the target sinew_program, or name another one"
folder=$(mktemp -d)
failures=0

cleanup() {
  for daemon in slurmd slurmctld munged; do
    [ -f "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null
  done
  pkill -9 -f -- "--out $folder" 2>/dev/null
  sleep 0.5
  rm -rf "$folder"
}
trap cleanup EXIT

data=(--model mlp --model.hidden 32 --data.train_size 2000 --batch 16) steps=2000 least=0
[ -z "${SINEW_DATA:-}" ] || data=(--data mnist --data.dir "$SINEW_DATA/mnist" --model mlp --model.hidden 128 --batch 64) steps=1000 least=0.96
# job RUN STEPS
job() { echo "$program" train --scheme easgd --workers 3 "${data[@]}" --steps "$2" --train.threads 1 --log.progress none --out "$folder/$1"; }

complain() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}
# field RUN NAME: a value of its summary.
field() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$folder/$1/summary.json" "$2" 2>/dev/null; }
# report RUN LOST
report() {
  local accuracy lost
  accuracy=$(field "$1" test_accuracy)
  if [ -z "$accuracy" ]; then
    complain "$1 left no summary"
    tail -n 5 "$folder/$1.out"
    return
  fi
  lost=$(field "$1" lost)
  echo "$1: trained, test accuracy $accuracy (center), lost ranks $lost"
  [ "$lost" = "$2" ] || complain "$1: lost ranks $lost, not $2"
  awk "BEGIN { exit !($accuracy >= $least) }" || complain "$1: test accuracy $accuracy, less than $least"
}
# kill_rank RUN RANK: SIGKILL, once the job trains.
kill_rank() {
  local pid
  for _ in $(seq 300); do
    [ "$(cat "$folder/$1/metrics.jsonl" 2>/dev/null | wc -l)" -ge 3 ] && break
    sleep 0.1
  done
  for pid in $(pgrep -f -- "--out $folder/$1"); do
    if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "PMIX_RANK=$2"; then
      kill -9 "$pid" && echo "$1: rank $2 killed" && return
    fi
  done
  complain "$1: no process of rank $2 was found"
}
# run NAME LAUNCHER...: a job to its end; run_killed: one of which a worker is killed, long enough to find it.
run() {
  local name=$1
  shift
  # shellcheck disable=SC2046
  if timeout 300 "$@" $(job "$name" $steps) >"$folder/$name.out" 2>&1; then report "$name" "[]"
  else complain "$name ended with $?"; tail -n 5 "$folder/$name.out"; fi
}
run_killed() {
  local name=$1
  shift
  # shellcheck disable=SC2046
  timeout 300 "$@" $(job "$name" $((4 * steps))) >"$folder/$name.out" 2>&1 &
  kill_rank "$name" 1
  wait $!
  echo "$name: the launcher ended with $? (a rank was killed)"
  report "$name" "[1]"
}

if command -v mpirun >/dev/null; then
  mpi=(mpirun -n 4 --oversubscribe --bind-to none)
  [ "$(id -u)" != 0 ] || mpi+=(--allow-run-as-root)
  run mpirun "${mpi[@]}"
  run_killed mpirun-killed "${mpi[@]}" --enable-recovery
else
  echo "skipped: no mpirun (scripts/launchers.sh --install)"
fi

start_slurm() {
  local host key=$folder/munge.key socket=$folder/munge.socket
  host=$(hostname)
  mkdir -p "$folder"/{state,spool,log,seed}
  chmod 755 "$folder"
  dd if=/dev/urandom of="$key" bs=1 count=1024 status=none && chmod 400 "$key"
  cat >"$folder/slurm.conf" <<CONF
ClusterName=sinew
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
NodeName=$host NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  export SLURM_CONF=$folder/slurm.conf
  munged --force --key-file="$key" --socket="$socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/seed/seed" || return 1
  slurmctld -f "$SLURM_CONF" && slurmd -f "$SLURM_CONF" || return 1
  for _ in $(seq 100); do
    sinfo -h -o %t 2>/dev/null | grep -q idle && return 0
    sleep 0.1
  done
  return 1
}

if ! command -v srun >/dev/null || ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
  echo "skipped: no Slurm (scripts/launchers.sh --install)"
elif [ "$(id -u)" != 0 ]; then
  echo "skipped: starting a Slurm by hand needs root"
elif start_slurm; then
  run srun srun -n 4 --mpi=pmix
  run_killed srun-killed srun -n 4 --mpi=pmix --kill-on-bad-exit=0
else
  complain "Slurm did not start"
  tail -n 3 "$folder"/log/slurmctld.log "$folder"/log/slurmd.log
fi

[ $failures = 0 ]
