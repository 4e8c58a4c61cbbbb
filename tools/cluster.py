"""A Slurm cluster of hosts on this machine, while a command (default: a shell) runs on its login node.

refit-bench cluster --hosts 4 sbatch --wait --nodes=4 --ntasks-per-node=4 benchmark_refit_kimi_k2.sh

Hosts reach each other only over TCP, at most at --rate. Ranks have no GPU and one thread each, and share
the memory of what they import: REFIT_PYTHON forks from one Python.
Exit code: the command's; 2 where there can be no cluster, with the reason in one sentence.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

from fixtures.cluster.hosts import HEAD, HostsError
from fixtures.cluster.slurm import running
from fixtures.cluster.warm import warm_python
from tools import command_parser

ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def main(argv: list[str]) -> int:
    """Start, run the command, stop."""
    parser = command_parser("cluster", __doc__)
    add = parser.add_argument
    add("--hosts", type=int, default=16, metavar="N", help="nodes of 8 processors each (default 16)")
    add("--rate", metavar="RATE", help="what a node sends and receives at most, like 100mbit or 10gbit")
    add("command", nargs=argparse.REMAINDER, help="what to run on the login node")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    began = time.monotonic()
    try:
        with running(options.hosts, options.rate) as cluster, warm_python(cluster.folder) as python:
            said = f"{options.hosts} hosts are up after {time.monotonic() - began:.0f} s"
            print(f"{said}: node1 to node{options.hosts}", file=sys.stderr)
            command = options.command or [os.environ.get("SHELL", "sh")]
            chosen = {name: value for name, value in os.environ.items() if name.startswith("REFIT_")}
            environ = cluster.environ | chosen | ON_CPU | {"REFIT_PYTHON": str(python)}
            return subprocess.call(cluster.hosts[HEAD].command(*command), env=environ)
    except HostsError as error:
        print(error, file=sys.stderr)
        return 2
