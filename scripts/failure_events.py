"""What the processes' logs of a run with faults say: when each fault acted, who noticed it when, who took over."""
import calendar
import collections
import os
import re
import time

# code: the exit code. times: for each rank those at which it reported, from `start`, which is in seconds since 1970.
# log: (time in seconds since 1970, rank, text) of all processes.
Run = collections.namedtuple('Run', 'code summary times start log')


def read_logs(out):
    """The log of a run folder."""
    lines, folder = [], os.path.join(out, 'log')
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        rank = int(re.search(r'\d+', name).group())
        for line in open(os.path.join(folder, name), errors='replace'):
            found = re.match(r'(\d+-\d+-\d+T\d+:\d+:\d+)\.(\d+)Z .*?: (.*)', line)
            if found:
                when = calendar.timegm(time.strptime(found.group(1), '%Y-%m-%dT%H:%M:%S')) + int(found.group(2)) / 1000
                lines.append((when, rank, found.group(3)))
    return sorted(lines)


def faults_of(run):
    """(time, rank) of each kill and pause that acted."""
    return [(when, rank) for when, rank, text in run.log if text.startswith('fault plan: ')]


def detection(run, hit, observers=()):
    """Seconds until the last of those that notice it does; None when nobody has, or not all `observers`, who have to."""
    faults, slowest = faults_of(run), 0
    if not faults:  # cut off
        silences = [re.match(f'rank {hit} counts as dead: nothing heard for ([0-9.e-]+) s', text) for _, rank, text in run.log
                    if rank != hit]
        return max((float(found.group(1)) for found in silences if found), default=None)
    for i, (when, rank) in enumerate(faults):
        until = min((later for later, other in faults[i + 1:] if other == rank), default=float('inf'))
        first = {}  # notice of each other process
        for at, by, text in run.log:
            if by != rank and when <= at < until and text.startswith(f'rank {rank} counts as dead'):
                first.setdefault(by, at)
        if not first or any(by not in first for by in observers):
            return None
        slowest = max([slowest] + [at - when for at in first.values()])
    return slowest


def recovery(run, center, workers):
    """Seconds from the center's death until the last of these workers has it back, or its successor goes on; None: never."""
    killed = min((when for when, rank in faults_of(run) if rank == center), default=None)
    if killed is None:
        return None
    successor = [when for when, _, text in run.log if re.search(r', at rank \d+ now, goes on', text)]
    back = {}
    for when, rank, text in run.log:
        if text == f'rank {center} is back' and when > killed:
            back.setdefault(rank, when)
    if not successor and any(rank not in back for rank in workers):
        return None
    return max(successor or [back[rank] for rank in workers]) - killed


def rate(run, ranks):
    """Reports a second of these ranks, from the first to the last, breaks included."""
    return sum((len(run.times[r]) - 1) / (run.times[r][-1] - run.times[r][0]) for r in ranks if len(run.times.get(r, [])) > 1)


def goodput(run, ranks, span):
    """Reports of these ranks in `span` seconds from the first fault on, while all still train, in parts of those before it.
    None: the fault has no time, or they have been done within a second."""
    faults = faults_of(run)
    if not faults or not ranks or not all(run.times.get(r) for r in ranks):
        return None
    acted = faults[0][0] - run.start
    begin = max(run.times[r][0] for r in ranks)
    before = sum(begin < t <= acted for r in ranks for t in run.times[r])
    until = min([acted + span] + [run.times[r][-1] for r in ranks])
    during = sum(acted < t <= until for r in ranks for t in run.times[r])
    return during / (until - acted) / (before / (acted - begin)) if before > 0 and until > acted + 1 else None
