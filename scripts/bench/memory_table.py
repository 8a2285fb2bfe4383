"""Reads lines `peer <tab> case <tab> bytes over the steps <tab> bytes with the model` (lines without tabs pass through)
and prints medians and what scripts/bench_memory.sh asks of them; its exit code. A line of figures that lacks one, a case
without sinew's or without a peer's, and no case at all are errors: nothing can be said about what was not measured.
"""
import statistics
import sys

AT_MOST, HESSIAN = 1.0, 2.5
figures, cases = {}, []
for number, line in enumerate(sys.stdin, 1):
    fields = line.rstrip("\n").split("\t")
    if len(fields) == 1:
        print(line, end="")
        continue
    if len(fields) != 4 or not all(f.isdecimal() for f in fields[2:]):
        sys.exit(f"memory_table.py: line {number}: expected peer, case and two numbers of bytes, got {fields}")
    peer, case = fields[:2]
    figures.setdefault((case, peer), []).append([int(f) for f in fields[2:]])
    cases += [case] if case not in cases else []
if not cases:
    sys.exit("memory_table.py: no figures")

missed, ours = [], {}
print(f"{'case':<28}{'peer':<36}{'steps MB':>10}{'with model MB':>15}{'peer / ours':>13}")
for case in cases:
    middle = {peer: [statistics.median(column) / 1e6 for column in zip(*runs)] for (c, peer), runs in figures.items() if c == case}
    peers = [steps for peer, (steps, _) in middle.items() if peer != "sinew"]
    if "sinew" not in middle or not peers:
        sys.exit(f"memory_table.py: {case}: only figures of {', '.join(middle)}")
    own, least = middle["sinew"][0], min(peers)
    ours[case] = own
    for peer, (steps, whole) in middle.items():
        ratio = f"{steps / own:.2f}" if own else "-"
        print(f"{case:<28}{peer:<36}{steps:>10.1f}{whole:>15.1f}{ratio:>13}")
    if own > AT_MOST * least:
        missed.append(f"{case}: {own:.1f} MB, PyTorch {least:.1f} MB")
if {"resnet20_b128", "resnet20_adahessian_b128"} <= ours.keys():
    ratio = ours["resnet20_adahessian_b128"] / ours["resnet20_b128"]
    print(f"AdaHessian / SGD on resnet20: {ratio:.2f} (at most {HESSIAN})")
    if ratio > HESSIAN:
        missed.append(f"AdaHessian {ratio:.2f} times SGD")
for line in missed:
    print(f"missed: {line}")
sys.exit(1 if missed else 0)
