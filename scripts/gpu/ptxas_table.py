"""Registers, shared memory and spills of every kernel, from `nvcc -Xptxas -v`: a Markdown table. Needs nvcc, no GPU.

usage: ptxas_table.py BUILD_FOLDER [--jobs N] [--json FILE] [--into FILE] [--ptx-only]
BUILD_FOLDER: of the preset cuda or gpu, configured. --into: between the lines "<!-- ptxas -->" of docs/gpu.md.
Instances of one template are one row. Then, for files whose kernels use the tensor cores or asynchronous copies, how
often those instructions are in their PTX. Exit code 1 when a kernel spills, a kernel's wgmma instructions wait for each
other (ptxas says "serialized"), or a file that is for the tensor cores has no matrix instructions.
--ptx-only: only the PTX, in a quarter of the time.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("build")
parser.add_argument("--jobs", type=int, default=os.cpu_count())
parser.add_argument("--json")
parser.add_argument("--into")
parser.add_argument("--arch", default="sm_90", help="whose PTX is searched")
parser.add_argument("--ptx-only", action="store_true")
args = parser.parse_args()
commands = [c for c in json.load(open(os.path.join(args.build, "compile_commands.json"))) if c["file"].endswith(".cu")]
if not commands:
    sys.exit(f"{args.build}: no .cu files; the preset is cuda or gpu")


SPECIAL = {"mma.sync tf32": r"mma\.sync\S*tf32", "mma.sync bf16": r"mma\.sync\S*bf16", "wgmma": r"wgmma\.mma_async",
           "ldmatrix": r"ldmatrix\.sync", "cp.async": r"cp\.async\.c",
           "cp.async.bulk": r"cp\.async\.bulk\.tensor", "mbarrier": r"mbarrier\.try_wait", "cluster": r"barrier\.cluster\.wait"}


def special_instructions(words, folder, arch):
    with tempfile.NamedTemporaryFile(suffix=".ptx") as ptx:
        words = list(words)
        words[words.index("-o") + 1] = ptx.name
        words = [w for w in words if w != "-c" and not w.startswith(("-gencode", "--generate-code", "-Xptxas"))]
        run = subprocess.run(words + ["-ptx", f"-arch={arch}"], cwd=folder, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        if run.returncode != 0:
            sys.exit(f"nvcc -ptx failed\n{run.stdout[-2000:]}")
        text = open(ptx.name).read()
    return {name: len(re.findall(pattern, text)) for name, pattern in SPECIAL.items()}


def for_tensor_cores(name):
    return "tensor" in name or "wgmma" in name or name == "gemm_probe.cu"


def report(entry):
    words = shlex.split(entry["command"])
    words = words[[os.path.basename(w) for w in words].index("nvcc") :]  # a launcher stands before it
    words[words.index("-o") + 1] = os.devnull
    # Its report is all that is wanted: what is an error in the build is a row here.
    words = [w for w in words if "warning-as-error" not in w and w not in ("-MD",)]
    if "-MF" in words:
        del words[words.index("-MF") : words.index("-MF") + 2]
    if "-MT" in words:
        del words[words.index("-MT") : words.index("-MT") + 2]
    name, source = os.path.basename(entry["file"]), open(entry["file"]).read()
    special = {}
    if for_tensor_cores(name) or "mma" in source:
        special = special_instructions(words, entry["directory"], args.arch + ("a" if "wgmma" in name else ""))
    if args.ptx_only:
        return name, "", special
    run = subprocess.run(words + ["-Xptxas", "-v"], cwd=entry["directory"], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    if run.returncode != 0:
        sys.exit(f"{entry['file']}: nvcc failed\n{run.stdout[-2000:]}")
    return name, run.stdout, special


def demangled(names):
    text = subprocess.run(["c++filt", "--no-params"], input="\n".join(names), text=True, stdout=subprocess.PIPE).stdout
    return text.splitlines()


def kernel_of(name):
    name = re.sub(r"^void ", "", name)
    depth, out = 0, ""
    for c in name:  # template arguments away
        depth += c == "<"
        out += c if depth == 0 else ""
        depth -= c == ">"
    return out.split("::")[-1].split("(")[0]


rows, instructions, lacking, serialized = {}, {}, [], []
with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    for file, text, special in pool.map(report, commands):
        if any(special.values()):
            instructions[file] = special
        needed = ["wgmma"] if "wgmma" in file else ["mma.sync tf32", "mma.sync bf16"]
        if for_tensor_cores(file) and not all(special[name] for name in needed):
            lacking.append(file)
        if "wgmma.mma_async instructions are serialized" in text:
            serialized.append(file)
        found = []
        for block in re.split(r"ptxas info\s+: Compiling entry function ", text)[1:]:
            numbers = lambda pattern: [int(n) for n in re.findall(pattern, block)]
            found.append((block.split("'")[1], re.search(r"for '(\w+)'", block).group(1),
                          numbers(r"Used (\d+) registers")[0], sum(numbers(r"(\d+) bytes smem")),
                          sum(numbers(r"(\d+) bytes spill (?:stores|loads)")), sum(numbers(r"(\d+) bytes stack frame"))))
        for (_, arch, *values), name in zip(found, demangled([f[0] for f in found])):
            rows.setdefault((file, kernel_of(name), arch), []).append(values)

lines = [] if args.ptx_only else ["| file | kernel | target | instances | registers | static shared bytes | spilled bytes | stack bytes |",
                                 "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"]


def span(values):
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


spills = 0
for (file, kernel, arch), values in sorted(rows.items()):
    registers, shared, spilled, stack = zip(*values)
    spills += max(spilled) > 0
    lines.append(f"| {file} | {kernel} | {arch} | {len(values)} | {span(registers)} | {span(shared)} | {span(spilled)} | "
                 f"{span(stack)} |")
if not args.ptx_only:
    lines += ["", f"{sum(map(len, rows.values()))} instances of {len(rows)} kernels, {spills} with spills."]
lines += ["", "| file | " + " | ".join(SPECIAL) + " |", "| --- |" + " ---: |" * len(SPECIAL)] if instructions else []
lines += [f"| {file} | " + " | ".join(map(str, special.values())) + " |" for file, special in sorted(instructions.items())]
print("\n".join(lines))
if args.into:
    begin, end = "<!-- ptxas -->\n", "<!-- end of ptxas -->\n"
    text = open(args.into).read()
    text = text[: text.index(begin) + len(begin)] + "\n".join(lines) + "\n" + text[text.index(end) :]
    open(args.into, "w").write(text)
if args.json:
    json.dump([{"file": f, "kernel": k, "target": a, "instances": len(v), "registers": max(x[0] for x in v),
                "spilled": max(x[2] for x in v)} for (f, k, a), v in sorted(rows.items())], open(args.json, "w"), indent=1)
if lacking:
    print(f"no matrix instructions in the PTX of {', '.join(lacking)}", file=sys.stderr)
if serialized:
    print(f"wgmma instructions that wait for each other in {', '.join(serialized)}", file=sys.stderr)
sys.exit(1 if spills or lacking or serialized else 0)
