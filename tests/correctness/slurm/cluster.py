"""A real Slurm on this machine: munge, slurmctld and several slurmd in a folder and on ports of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.correctness.patience import PATIENCE_S

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "salloc", "scancel", "scontrol", "sinfo", "squeue", "setpriv")
GPUS = 8
START_S, STOP_S = 300.0, 60.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
FOREIGN = ("SLURM", "SBATCH", "SALLOC", "SRUN", "PYTEST", "REFIT", "CONTAINER_")

CONFIGURATION = """\
ClusterName=refit
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
GresTypes=gpu
ReturnToService=2
KillWait={kill_wait}
SchedulerParameters=batch_sched_delay=0
"""


class ClusterError(RuntimeError):
    """Slurm did not start, answer or stop; one sentence and the end of its logs."""


def why_not() -> str:
    """Why there can be no cluster here; empty when there can."""
    missing = [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed here: {', '.join(missing)} not found"
    return "" if os.getuid() == 0 else "slurmd needs root"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that has ended."""

    state: str
    exit_code: int
    signal: int
    output: str


@dataclass(kw_only=True)
class Cluster:
    """`nodes` nodes of 8 processors and 8 make-believe GPUs each, named node1, node2, ..."""

    folder: Path
    nodes: int
    kill_wait_s: int = 30
    environ: dict[str, str] = field(default_factory=dict)
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Bring everything up; ClusterError when the nodes are not idle within START_S."""
        self._configure()
        here = self.folder
        self._daemon("munged", "--foreground", "--force", f"--socket={here}/munge.sock",
                     f"--key-file={here}/munge.key", f"--pid-file={here}/munge.pid",
                     f"--log-file={here}/munge.log", f"--seed-file={here}/munge.seed")  # fmt: skip
        self.until("munge socket", (here / "munge.sock").exists)
        self._daemon("slurmctld", "-D", "-f", f"{here}/slurm.conf")
        for node in range(1, self.nodes + 1):
            self._daemon("slurmd", "-D", "-f", f"{here}/slurm.conf", "-N", f"node{node}")
        self.until("idle nodes", lambda: self._idle() == self.nodes)

    def _configure(self) -> None:
        port, *node_ports = _free_ports(1 + self.nodes)
        text = CONFIGURATION.format(port=port, folder=self.folder, kill_wait=self.kill_wait_s)
        for number, node_port in enumerate(node_ports, start=1):
            text += (
                f"NodeName=node{number} NodeHostname=localhost NodeAddr=127.0.0.1 Port={node_port} "
                f"CPUs=8 Gres=gpu:{GPUS} State=UNKNOWN\n"
            )
        text += "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n")
        for number in range(GPUS):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.environ = {**kept, "SLURM_CONF": f"{self.folder}/slurm.conf"}

    def _daemon(self, name: str, *arguments: str) -> None:
        """Start a daemon in the foreground; it ends with this process, whatever ends it."""
        with (self.folder / f"{name}-{len(self._daemons)}.out").open("wb") as log:
            command = ("setpriv", "--pdeathsig", "TERM", name, *arguments)
            self._daemons.append(
                subprocess.Popen(
                    command,
                    env=self.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                )
            )

    def _idle(self) -> int:
        return (
            self.run("sinfo", "--noheader", "--Node", "--format=%T", check=False).stdout.split().count("idle")
        )

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        timeout: float = PATIENCE_S,
        cwd: Path | None = None,
        **extra: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's clients, or a script that calls them; `extra` joins its environment."""
        done = subprocess.run(
            command, env=self.environ | extra, capture_output=True, text=True, timeout=timeout, cwd=cwd
        )
        if check and done.returncode:
            words = " ".join(map(str, command))
            raise ClusterError(f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def wait(self, number: int, log: Path, timeout: float) -> Job:
        """Wait until a job has ended; ClusterError when it has not within `timeout` seconds."""
        shown: dict[str, str] = {}

        def ended() -> bool:
            shown.update(self._show(number))
            return shown.get("JobState") in ENDED

        self.until(f"end of job {number}", ended, timeout, log)
        code, _, of_signal = shown["ExitCode"].partition(":")
        output = log.read_text() if log.exists() else ""
        return Job(state=shown["JobState"], exit_code=int(code), signal=int(of_signal), output=output)

    def state(self, number: int) -> str:
        """A job's state, such as RUNNING."""
        return self._show(number)["JobState"]

    def _show(self, number: int) -> dict[str, str]:
        text = self.run("scontrol", "--oneliner", "show", "job", str(number)).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def until(
        self, what: str, ready: Callable[[], bool], timeout: float = START_S, log: Path | None = None
    ) -> None:
        """Wait for something; ClusterError with the logs when it does not come within `timeout` seconds."""
        end = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > end:
                logs = [log] if log else sorted(self.folder.glob("*.out"))
                tails = [f"--- {p}\n{p.read_text(errors='replace')[-3000:]}" for p in logs if p.exists()]
                raise ClusterError("\n".join((f"no {what} within {timeout:g} s", *tails)))
            time.sleep(0.2)

    def stop(self) -> None:
        """Cancel what runs and stop the daemons; ClusterError when a process of theirs or of a job stays."""
        with contextlib.suppress(ClusterError, subprocess.TimeoutExpired, OSError):
            self.run("scancel", "--user=root")
            self.until("empty queue", lambda: not self.run("squeue", "--noheader").stdout.strip(), STOP_S)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        left = self.processes()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        if left:
            raise ClusterError(f"processes of the cluster were left behind: {left}")

    def processes(self, of_job: int | None = None) -> dict[int, str]:
        """Command by process id of this cluster's daemons and jobs, known by the environment they carry."""
        marks = {f"SLURM_CONF={self.folder}/slurm.conf".encode()}
        if of_job is not None:
            marks.add(f"SLURM_JOB_ID={of_job}".encode())
        found: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = words.decode(errors="replace").strip()
        return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def running(nodes: int) -> Iterator[Cluster]:
    """A cluster that is stopped whatever happens."""
    cluster = Cluster(folder=Path(tempfile.mkdtemp(prefix="slurm-")), nodes=nodes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
