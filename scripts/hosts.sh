#!/usr/bin/env bash
# Jobs on several hosts: network namespaces, joined by a bridge, stand for them; the processes in them are started as another
# launcher would start them, and meet on real addresses.
#
#   scripts/hosts.sh [PROGRAM]     # PROGRAM: the `sinew` to run; build/dev/models/sinew
#
#   two hosts     easgd, whole
#   cut           its cable is pulled from one host for good: the center's side finishes, the other ends with 7
#   healed        its cable is pulled in training and plugged in again: nobody is lost
#   three hosts   elastic_gossip, one worker's host unplugged and plugged in again: all finish
#
# Needs iproute2 and the right to make network namespaces (root); where that is missing it says so and ends with 0.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
program=${1:-build/dev/models/sinew}
[ -x "$program" ] || die "no program $program: build the target sinew_program, or name another one"
net=sinew-$$
folder=$(mktemp -d)

skip() {
  echo "skipped: $*"
  exit 0
}
cleanup() {
  for process in $(jobs -p); do kill -9 "$process" 2>/dev/null; done
  for host in net 1 2 3; do ip netns del "$net-$host" 2>/dev/null; done
  rm -rf "$folder"
}
trap cleanup EXIT

command -v ip >/dev/null || skip "no iproute2 (apt-get install iproute2)"
why=$(ip netns add "$net-net" 2>&1 && ip -n "$net-net" link add bridge type bridge 2>&1 && ip -n "$net-net" link set bridge up 2>&1) ||
  skip "no network namespaces or bridges here: ${why##*$'\n'}"
for n in 1 2 3; do
  why=$(ip netns add "$net-$n" 2>&1 && ip link add cable netns "$net-$n" type veth peer name "to-$n" netns "$net-net" 2>&1) ||
    skip "no network namespaces here: ${why##*$'\n'}"
  ip -n "$net-net" link set "to-$n" master bridge up
  ip -n "$net-$n" addr add 10.213.7.$n/24 dev cable
  ip -n "$net-$n" link set lo up
  ip -n "$net-$n" link set cable up
done
# The kernel may take a second to call an end of the cable up; until then UCX does not see it.
for _ in $(seq 50); do
  up=0
  for n in 1 2 3; do grep -q ' UP ' <<<"$(ip -n "$net-$n" -br link show cable)" && up=$((up + 1)); done
  [ $up = 3 ] && break
  sleep 0.1
done

# job RUN "HOST OF EACH RANK" [options]
job() {
  local run=$1 hosts rank=0 host
  read -ra hosts <<<"$2"
  shift 2
  ranks=()
  for host in "${hosts[@]}"; do
    RANK=$rank WORLD_SIZE=${#hosts[@]} MASTER_ADDR=10.213.7.1 MASTER_PORT=29600 SINEW_SECRET=hosts \
      ip netns exec "$net-$host" "$program" train --data.train_size 2000 --model.hidden 32 --batch 16 --train.threads 1 \
      --run.network cable --log.progress none --out "$folder/$run" "$@" >"$folder/$run-$rank.out" 2>&1 &
    ranks[rank]=$!
    rank=$((rank + 1))
  done
}
complain() {
  echo "hosts: $*"
  tail -n 5 "$folder"/*.out
  exit 1
}
expect() { grep -q "$2" "$folder/$1" || complain "$1 lacks $2"; }
nobody_lost() { grep -A1 '"lost"' "$folder/$1/summary.json" | tr -d ' \n' | grep -q '"lost":\[\]' || complain "$1 lost a rank"; }
pull() { ip -n "$net-net" link set "to-$1" down || complain "the cable of host $1 cannot be pulled"; }
plug() { ip -n "$net-net" link set "to-$1" up || complain "the cable of host $1 cannot be plugged in"; }
missed() { grep '"missed"' "$folder/$1/summary.json" | tr -cd 0-9; }
some_missed() { [ "$(missed "$1")" -gt 0 ] || complain "$1 has missed no exchange: the cable made no difference"; }
lines() { cat "$folder/$1/metrics.jsonl" 2>/dev/null | wc -l; }
# Until the job has written N lines of metrics more.
trains() {
  local before now
  before=$(lines "$1")
  for _ in $(seq 900); do
    now=$(lines "$1")
    [ "$now" -ge $((before + $2)) ] && return
    sleep 0.1
  done
  complain "$1 does not train"
}
all_finish() {
  local n
  for n in "${!ranks[@]}"; do wait "${ranks[n]}" || complain "$1: rank $n ended with $?"; done
}

job run "1 1 2 2" --scheme easgd --workers 3 --steps 300
all_finish run
expect run/summary.json '"exchanges": 90,'
expect run/status.json '"state": "finished"'
echo "two hosts: done"

# The center is on host 2 with worker 2, and workers 0 and 1 are cut off for good.
job cut "1 1 2 2" --scheme easgd --workers 3 --steps 100000 --run.grace 5s --scheme.deadline 5s
trains cut 4
pull 1
wait "${ranks[0]}"; codes=$?
wait "${ranks[1]}"; codes="$codes $?"
[ "$codes" = "7 7" ] || complain "the workers without a center ended with $codes, not 7 7"
wait "${ranks[2]}" || complain "rank 2 ended with $?"
wait "${ranks[3]}" || complain "the center ended with $?"
plug 1
grep -A2 '"lost"' "$folder/cut/summary.json" | tr -d ' \n' | grep -q '"lost":\[0,1' || complain "the summary names no lost ranks"
echo "a cable that is pulled: the center's side finished, the other side ended"

job healed "1 1 2 2" --scheme easgd --workers 3 --steps 60000 --run.grace 30s --scheme.deadline 2s
trains healed 4
pull 1
sleep 3
plug 1
trains healed 2
all_finish healed
nobody_lost healed
some_missed healed
echo "a cable that is pulled for 3 s: all finished, missed exchanges $(missed healed)"

job three "1 2 3" --scheme elastic_gossip --scheme.mode async --workers 3 --steps 60000 --run.grace 30s --scheme.deadline 2s
trains three 4
pull 3
sleep 3
plug 3
trains three 2
all_finish three
nobody_lost three
some_missed three
echo "three hosts, one unplugged for 3 s: all finished, missed exchanges $(missed three)"
