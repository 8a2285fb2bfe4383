"""gloo's all-reduce, for scripts/bench_all_reduce.sh: the counts and lines of bench/dist/all_reduce.cpp.

usage: torch_all_reduce.py PROCESSES FLOATS...
"""
import os
import socket
import statistics
import sys
import time


def measure(rank, size, port, sizes):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=size)
    for floats in sizes:
        x = torch.arange(floats).remainder(1000).float() + rank
        want = size * torch.arange(floats).remainder(1000).float() + size * (size - 1) // 2
        dist.all_reduce(x)
        assert torch.equal(x, want), "gloo's sum is wrong"
        x.zero_()
        seconds = []
        for _ in range(min(max(20_000_000 // floats, 3), 300)):
            begin = time.perf_counter()
            dist.all_reduce(x)
            seconds.append(time.perf_counter() - begin)
        if rank == 0:
            print(f"gloo\t{size}p_{floats}\t{statistics.median(seconds) * 1e6:.1f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    import torch.multiprocessing as mp

    processes = int(sys.argv[1])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free_port = s.getsockname()[1]
    mp.spawn(measure, (processes, free_port, [int(n) for n in sys.argv[2:]]), processes)
