#!/usr/bin/env bash
# A job on two hosts: two network namespaces with a virtual cable between them stand for the hosts; two processes run
# in each, started as another launcher would. Then the same once more, with the cable pulled from one worker's host.
#
#   scripts/two_hosts.sh [PROGRAM]     # PROGRAM: the `sinew` to run; build/dev/models/sinew
#
# Needs iproute2 and the right to make network namespaces (root); where that is missing it says so and ends with 0.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
program=${1:-build/dev/models/sinew}
[ -x "$program" ] || die "no program $program: build the target sinew_program, or name another one"
a=sinew-a-$$ b=sinew-b-$$
folder=$(mktemp -d)

skip() {
  echo "skipped: $*"
  exit 0
}
cleanup() {
  for process in $(jobs -p); do kill -9 "$process" 2>/dev/null; done
  ip netns del "$a" 2>/dev/null
  ip netns del "$b" 2>/dev/null
  rm -rf "$folder"
}
trap cleanup EXIT

command -v ip >/dev/null || skip "no iproute2 (apt-get install iproute2)"
why=$(ip netns add "$a" 2>&1 && ip netns add "$b" 2>&1 &&
  ip link add cable-a netns "$a" type veth peer name cable-b netns "$b" 2>&1) || skip "no network namespaces here: ${why##*$'\n'}"
ip -n "$a" addr add 10.213.7.1/24 dev cable-a
ip -n "$b" addr add 10.213.7.2/24 dev cable-b
for host in "$a" "$b"; do ip -n "$host" link set lo up; done
ip -n "$a" link set cable-a up
ip -n "$b" link set cable-b up
# The kernel may take a second to call an end of the cable up; until then UCX does not see it.
for _ in $(seq 50); do
  grep -q ' UP ' <<<"$(ip -n "$a" -br link show cable-a)" && grep -q ' UP ' <<<"$(ip -n "$b" -br link show cable-b)" && break
  sleep 0.1
done

# rank HOST DEVICE RANK RUN [options]: one process of the job.
rank() {
  local host=$1 device=$2 number=$3 run=$4
  shift 4
  RANK=$number WORLD_SIZE=4 MASTER_ADDR=10.213.7.1 MASTER_PORT=29600 SINEW_SECRET=two-hosts \
    ip netns exec "$host" "$program" train --scheme easgd --workers 3 --data.train_size 2000 --model.hidden 32 --batch 16 \
    --run.network "$device" --log.progress none --out "$folder/$run" "$@" >"$folder/$run-$number.out" 2>&1
}
# job RUN [options]: ranks 0 and 1 on the first host, 2 and the center, 3, on the second.
job() {
  rank "$a" cable-a 0 "$@" & ranks[0]=$!
  rank "$a" cable-a 1 "$@" & ranks[1]=$!
  rank "$b" cable-b 2 "$@" & ranks[2]=$!
  rank "$b" cable-b 3 "$@" & ranks[3]=$!
}
complain() {
  echo "two hosts: $*"
  tail -n 5 "$folder"/*.out
  exit 1
}
expect() { grep -q "$2" "$folder/$1" || complain "$1 lacks $2"; }

job run --steps 300
for n in 0 1 2 3; do wait "${ranks[n]}" || complain "rank $n ended with $?"; done
expect run/summary.json '"exchanges": 90,'
expect run/status.json '"state": "finished"'
echo "a job on two hosts: done"

# The cable is pulled: the center is on host b with worker 2, and workers 0 and 1 are cut off for good.
job cut --steps 100000 --run.grace 5s --scheme.deadline 5s
for _ in $(seq 600); do
  grep -q '"state": "running"' "$folder/cut/status.json" 2>/dev/null && [ "$(wc -l <"$folder/cut/metrics.jsonl")" -ge 4 ] && break
  sleep 0.1
done
ip -n "$a" link set cable-a down
wait "${ranks[0]}"; codes=$?
wait "${ranks[1]}"; codes="$codes $?"
[ "$codes" = "7 7" ] || complain "the workers without a center ended with $codes, not 7 7"
wait "${ranks[2]}" || complain "rank 2 ended with $?"
wait "${ranks[3]}" || complain "the center ended with $?"
grep -A2 '"lost"' "$folder/cut/summary.json" | tr -d ' \n' | grep -q '"lost":\[0,1' || complain "the summary names no lost ranks"
echo "a cable that is pulled: the center's side finished, the other side ended"
