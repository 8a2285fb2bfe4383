"""Reads lines `peer <tab> case <tab> microseconds` (others pass through) and prints medians and each peer's ratio to ours.

usage: table.py OURS < lines        a ratio above 1: we are that much faster
"""
import statistics
import sys

ours = sys.argv[1]
figures, peers, cases = {}, [], []
for line in sys.stdin:
    fields = line.rstrip("\n").split("\t")
    if len(fields) != 3:
        print(line, end="")
        continue
    peer, case, value = fields
    figures.setdefault((peer, case), []).append(float(value))
    peers += [peer] if peer not in peers else []
    cases += [case] if case not in cases else []
if not any(peer == ours for peer in peers):
    sys.exit(f"table.py: no figures of '{ours}'")
print(f"{'case':<18}{'peer':<24}{'median us':>12}{'min us':>12}{'runs':>6}{'ratio':>8}")
for case in cases:
    own = statistics.median(figures[ours, case])
    for peer in peers:
        values = figures.get((peer, case))
        if values:
            middle = statistics.median(values)
            print(f"{case:<18}{peer:<24}{middle:>12.1f}{min(values):>12.1f}{len(values):>6}{middle / own:>8.2f}")
