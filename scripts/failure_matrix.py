#!/usr/bin/env python3
"""The failure matrix on real processes: each scheme through each fault, against the same run without one.

  scripts/failure_matrix.py                                  # all rows, 3 seeds: over an hour
  scripts/failure_matrix.py --schemes easgd,gosgd --rows 1,2 --seeds 1

Runs take as many steps as one without a fault makes in --seconds, or --steps. A round is the time of scheme.period steps
without a fault; messages of rows 5 and 6 are delayed by so many.

Rows are numbered as in the dynamic-weighting specification, section 4.2. What a table says, worst of the seeds:
  exit     the run's exit code; `restarts` and `lost` as its summary has them
  detect   from the fault until the last of those that count the process that it hits as dead do so, s: by the logs, where the
           process itself says when the fault acts. Where a rank is cut off: the silence after which they do. `none`: nobody
           does. Not where only messages are lost: heartbeats pass, nobody is dead, and waits for answers end by themselves
  recover  rows 8 and 8b: from the center's death until the last worker has it back, or its successor goes on, s
  goodput  steps a second of the workers that are not hit, the lowest of the seeds: for as long as the pause, else --window, from
           the fault on, in parts of those before it; in rows 3, 5, 6, 11 and 12, whose faults go on or come again, over the whole
           run, in parts of those of the run without a fault
  stall    the longest time without a report of a step from the workers that the fault does not hit, s; in row 11, which hits one
           after the other, but for the silence in which a worker is killed
  back     the longest time without one from the worker that it hits, s; less the pause's own length. In row 11 that silence
  stale    how old what workers mixed in was, on average and at most, as summary.json has it (dist/scheme.h, Staleness);
           the worst of the seeds
  loss     test accuracy without the fault less that with it, mean over the seeds
  missed   which of the bounds below do not hold; one that does not makes the exit code 1. `early`: a run ended before the
           last fault of its plan, so that the row says less than its name
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from failure_events import Run, detection, faults_of, goodput, rate, read_logs, recovery

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
TRACE = 'seconds,event,rank'
# A closed connection is noticed within a second. Silence while connections stand is told by the deadline alone, which
# learns from the answers and is 3 s here at most.
SILENT = ('2', '2b', '4', '4b')
STALL, STALL_SILENT, BACK, LOSS = 1, 3, 5, 0.01
DETECT, DETECT_SILENT, RECOVER, GOODPUT = 1, 3, 5, 0.9
WITH_DETECT = ('1', '2', '2b', '7', '8', '8b', '10.1', '10.2', '10', '10b', '11')
WITH_RECOVER = ('8', '8b')
WITH_GOODPUT = ('12',)
OVER_ALL = ('3', '5', '6', '11', '12')
WITH_BACK = ('1', '2', '2b', '4', '4b', '7', '11')
WITH_LOSS = ('1', '2', '2b', '4', '4b', '5', '6', '7', '12')
NEVER = '-'


OUTAGES, BETWEEN = 4, 2.5  # of the trace, seconds


def last_fault(plan, o):
    """Seconds after the start; 0 where faults go on all the time."""
    times = [float(t) for t in re.findall(r'\b(?:at|after)=([0-9.]+)s', plan)]
    return max(times + [o.at + BETWEEN * (OUTAGES - 1)] * plan.startswith('trace'), default=0)


def rows(o, round_ms):
    """(row, what happens, plan, the rank that is hit or None, more options, seconds of a pause)"""
    hit, center, at = 1, o.workers, o.at
    span = f'after={at}s until={at + o.window}s'
    kills = [f'kill rank={r} at={at}s' for r in range(o.workers)]
    return [
        ('1', 'kill -9 a worker', f'kill rank={hit} at={at}s', hit, [], 0),
        ('2', f'SIGSTOP for {o.pause} s', f'pause rank={hit} at={at}s for={o.pause}s', hit, [], o.pause),
        ('2b', f'cut off for {o.window} s', f'partition ranks={hit} {span}', hit, [], 0),
        ('3', 'suppression 1/3', 'suppress rank=* probability=0.3333', None, [], 0),
        ('4', 'its messages are lost', f'drop from={hit} {span}', hit, [], 0),
        ('4b', 'messages to it are lost', f'drop to={hit} {span}', hit, [], 0),
        ('5', 'duplicates, reordered', f'duplicate probability=0.2\nreorder probability=0.2 by={2 * round_ms:.2f}ms', None, [], 0),
        ('6', f'delay U(0, 3 rounds: {3 * round_ms:.0f} ms)', f'delay by=0s jitter={3 * round_ms:.2f}ms', None, [], 0),
        ('7', 'rejoins, twice', f'kill rank={hit} at={at}s\nkill rank={hit} at={at + 3}s', hit, [], 0),
        ('8', 'the center is killed', f'kill rank={center} at={at}s', None, [], 0),
        ('8b', 'the same, for good', f'kill rank={center} at={at}s', None, ['--run.restarts', '0'], 0),
        ('9', 'NaN in a worker', f'corrupt rank={hit} at={at}s value=nan', hit, ['--train.nonfinite', 'skip'], 0),
        ('9i', 'infinity in a worker', f'corrupt rank={hit} at={at}s value=inf', hit, ['--train.nonfinite', 'skip'], 0),
        ('9b', 'noise in a worker', f'corrupt rank={hit} at={at}s sigma=1', hit, [], 0),
        ('10.1', 'a worker, for good', kills[1], None, ['--run.restarts', '0'], 0),
        ('10.2', 'two workers, for good', '\n'.join(kills[1:3]), None, ['--run.restarts', '0'], 0),
        ('10', 'all workers but rank 0', '\n'.join(kills[1:]), None, ['--run.restarts', '0'], 0),
        ('10b', 'all but the last', '\n'.join(kills[:-1]), None, ['--run.restarts', '0'], 0),
        ('11', 'a trace of outages', 'trace file=trace.csv as=kill', None, ['--run.restarts', '20'], 0),
        ('12', 'a worker 5 times slower', f'slow rank={hit} factor=5', hit, [], 0),
    ]


def write_trace(path, o):
    lines = ['# ' + TRACE]
    for i in range(OUTAGES):
        t = o.at + BETWEEN * i
        lines += [f'{t},down,{i % o.workers}', f'{t + 1},up,{i % o.workers}']
    open(path, 'w').write('\n'.join(lines) + '\n')


def run(o, folder, scheme, seed, plan, more, steps):
    out = os.path.join(folder, 'run')
    shutil.rmtree(out, ignore_errors=True)
    command = [o.program, 'train', '--workers', str(o.workers), '--steps', str(steps), '--seed', str(seed), '--out', out,
               '--data.train_size', '4000', '--model.hidden', '64', '--batch', '16', '--scheme.deadline', '3s',
               '--run.grace', '60s', '--log.progress', 'none'] + scheme_options(scheme) + more + o.more.split()
    if plan:
        path = os.path.join(folder, 'fault.plan')
        open(path, 'w').write(plan + '\n')
        command += ['--fault.plan', path]
    times, metrics, rest = {}, os.path.join(out, 'metrics.jsonl'), ''
    with open(os.path.join(folder, 'log'), 'w') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        begin, start, file = time.monotonic(), time.time(), None
        while True:
            ended = process.poll() is not None
            if file is None and os.path.exists(metrics):
                file = open(metrics)
            lines = (rest + file.read()).split('\n') if file else ['']
            rest = lines.pop()
            for line in lines:
                record = json.loads(line)
                if record['measured'] == 'own' and 'loss' in record:
                    times.setdefault(record['worker'], []).append(time.monotonic() - begin)
            if ended:
                break
            if time.monotonic() - begin > o.limit:
                process.terminate()
                process.wait()
                return Run('limit', {}, times, start, read_logs(out))
            time.sleep(0.01)
    summary = os.path.join(out, 'summary.json')
    return Run(process.returncode, json.load(open(summary)) if os.path.exists(summary) else {}, times, start,
               read_logs(out))


# What is not a preset and not in its default mode.
SETTINGS = {'lsgd': ['--scheme', 'lsgd', '--scheme.mode', 'async'],
            'elastic_gossip': ['--scheme', 'elastic_gossip', '--scheme.mode', 'async']}


def scheme_options(scheme):
    if scheme in SETTINGS:
        return SETTINGS[scheme]
    presets = os.path.join(ROOT, 'models', 'presets')
    if os.path.exists(os.path.join(presets, scheme + '.toml')):
        return ['--preset', scheme, '--data', 'synthetic', '--model', 'mlp']  # not the paper's data and network
    return ['--scheme', scheme]


def missed(row, codes, detect, recover, flow, stall, back, loss, early):
    in_time = DETECT_SILENT if row in SILENT else DETECT
    bounds = [('exit', codes == {0}), ('early', not early),
              ('detect', all(s is not None and s <= in_time for s in detect)),
              ('recover', all(s is not None and s <= RECOVER for s in recover)),
              ('goodput', row not in WITH_GOODPUT or all(f is not None and f >= GOODPUT for f in flow)),
              ('stall', stall <= (STALL_SILENT if row in SILENT else STALL)),
              ('back', row not in WITH_BACK or back <= BACK), ('loss', row not in WITH_LOSS or loss <= LOSS)]
    return ', '.join(name for name, holds in bounds if not holds)


def worst(seconds):
    return NEVER if not seconds else 'none' if None in seconds else f'{max(seconds):.2f}'


def staleness(summaries):
    means = [s['staleness_mean'] for s in summaries if s.get('staleness_mean') is not None]
    return f"{max(means):.1f}, {max(s.get('staleness_most', 0) for s in summaries)}" if means else NEVER


def print_row(cells):
    print('| ' + ' | '.join(map(str, cells)) + ' |', flush=True)


def longest_silence(times, ranks, kills=(), killed=False):
    """killed: of those in which the rank is killed; else of the others. kills: (time, rank)."""
    silences = [later - earlier for r in ranks for earlier, later in zip(times.get(r, []), times.get(r, [])[1:])
                if killed == any(rank == r and earlier <= when <= later for when, rank in kills)]
    return max(silences, default=0)


def length_of(o, folder, scheme):
    """The steps of a run, as many as one without a fault makes in o.seconds; milliseconds of a round."""
    trial = max(o.steps, 3000)
    whole = run(o, folder, scheme, 1, '', [], trial)
    if whole.code != 0 or 0 not in whole.times:
        sys.exit(f'{scheme} fails without a fault: exit {whole.code}\n' + open(os.path.join(folder, 'log')).read())
    seconds = (whole.times[0][-1] - whole.times[0][0]) / trial
    period = int(re.search(r'^period = (\d+)', open(os.path.join(folder, 'run', 'config.toml')).read(), re.M).group(1))
    return o.steps or int(o.seconds / seconds), 1000 * period * seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--program', default=os.path.join(ROOT, 'build/dev/models/sinew'))
    p.add_argument('--schemes', default='easgd,deahes,lsgd,elastic_gossip,gosgd')
    p.add_argument('--rows', default='', help='such as 1,2,8; default: all')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--workers', type=int, default=4)
    p.add_argument('--steps', type=int, default=0)
    p.add_argument('--seconds', type=float, default=12)
    p.add_argument('--at', type=float, default=4, help='seconds after the start of the processes; heartbeats need 2 to be learned')
    p.add_argument('--pause', type=float, default=6,
                   help='seconds; with 30, say, and --seconds 40 the others still train when it is back')
    p.add_argument('--window', type=float, default=3, help='seconds for which links are cut')
    p.add_argument('--limit', type=float, default=300, help='seconds for a run')
    p.add_argument('--more', default='', help='further options of sinew train')
    o = p.parse_args()
    if not os.access(o.program, os.X_OK):
        sys.exit(f'no program {o.program}: build the target sinew_program, or name another one')
    chosen = set(o.rows.split(',')) if o.rows else None
    folder = tempfile.mkdtemp()
    write_trace(os.path.join(folder, 'trace.csv'), o)
    bad = 0
    columns = ['scheme', 'row', 'what happens', 'exit', 'restarts', 'lost', 'detect', 'recover', 'goodput', 'stall', 'back', 'stale', 'loss', 'missed']
    for cells in columns, ['---'] * len(columns):
        print_row(cells)
    try:
        for scheme in o.schemes.split(','):
            whole, usual, ages, (steps, round_ms) = {}, 0, [], length_of(o, folder, scheme)
            for seed in range(1, o.seeds + 1):
                one = run(o, folder, scheme, seed, '', [], steps)
                if one.code != 0:
                    sys.exit(f'{scheme} fails without a fault: exit {one.code}\n' + open(os.path.join(folder, 'log')).read())
                whole[seed] = one
                ages.append(one.summary)
                usual = max(usual, longest_silence(one.times, range(o.workers)))
            accuracy = sum(one.summary['test_accuracy'] for one in whole.values()) / len(whole)
            print_row([scheme, '', f'none, {steps} steps: accuracy {accuracy:.4f}', 0, 0, [], '', '', '',
                       f'{usual:.2f}', '', staleness(ages), '', ''])
            for row, what, plan, hit, more, pause in rows(o, round_ms):
                if chosen and row not in chosen:
                    continue
                if row in ('8', '8b') and ('gos' in scheme or scheme == 'lsgd'):
                    print_row([scheme, row, what, 'cannot apply: it has no center'] + [''] * 10)
                    continue
                codes, restarts, lost, stall, back, losses, early = set(), 0, set(), 0, 0, [], False
                detect, recover, flow, ages = [], [], [], []
                for seed in whole:
                    one = run(o, folder, scheme, seed, plan, more, steps)
                    codes.add(one.code)
                    ages.append(one.summary)
                    restarts += one.summary.get('restarts', 0)
                    lost.update(one.summary.get('lost', []))
                    alive = [r for r in range(o.workers) if r != hit and r not in one.summary.get('lost', [])]
                    kills = [(when - one.start, rank) for when, rank in faults_of(one)] if row == '11' else ()
                    stall = max(stall, longest_silence(one.times, alive, kills))
                    if kills:
                        back = max(back, longest_silence(one.times, alive, kills, killed=True))
                    if hit is not None:
                        back = max(back, longest_silence(one.times, [hit]) - pause)
                    if row in WITH_DETECT:
                        has_center = 'gos' not in scheme and scheme != 'lsgd'
                        center = o.workers if has_center else None
                        must = () if not has_center else alive if row in ('8', '8b') else (center,)
                        detect.append(detection(one, center if row in ('8', '8b') else hit, must))
                    if row in WITH_RECOVER:
                        recover.append(recovery(one, o.workers, alive))
                    flow.append(rate(one, alive) / rate(whole[seed], alive) if row in OVER_ALL else goodput(one, alive, pause or o.window))
                    early |= max((t[-1] for t in one.times.values()), default=0) < last_fault(plan, o)
                    losses.append(whole[seed].summary['test_accuracy'] - one.summary.get('test_accuracy', 0))
                loss = sum(losses) / len(losses)
                wrong = missed(row, codes, detect, recover, flow, stall, back, loss, early)
                bad += wrong != ''
                print_row([scheme, row, what, ','.join(map(str, sorted(codes, key=str))), restarts, sorted(lost), worst(detect),
                           worst(recover), NEVER if None in flow else f'{min(flow):.2f}', f'{stall:.2f}',
                           f'{back:.2f}' if hit is not None or row == '11' else NEVER, staleness(ages), f'{loss:+.4f}', wrong])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if bad else 0)


main()
