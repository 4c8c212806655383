"""A local Slurm controller and one node, in a separate folder, for the tests of batch scripts."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo")
_UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
_SEEN = "/usr/sbin:/usr/bin"
# No authentication, no accounting, no control groups: the node is this machine, and all jobs belong to the test. The
# configuration claims more processors and memory than exist, so that printed requests need not be changed.
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldParameters=enable_configless
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000
KillWait=5
MinJobAge=300
ReturnToService=2
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs=64 RealMemory=400000 State=UNKNOWN
PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; `environment` makes its commands use it."""

    environment: Mapping[str, str]

    def ask(self, *command: str, cwd: Path | None = None) -> str:
        """Output of one of Slurm's commands, which must succeed."""
        done = subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def states(self, job: str) -> dict[str, str]:
        """State and exit code of a job, or of each task of an array: {"7_1": "COMPLETED 0:0"}."""
        found = {}
        for record in self.ask("scontrol", "--oneliner", "show", "job", job).splitlines():
            fields = dict(word.split("=", 1) for word in record.split() if "=" in word)
            name = f"{fields['ArrayJobId']}_{fields['ArrayTaskId']}" if "ArrayTaskId" in fields else fields["JobId"]
            found[name] = f"{fields['JobState']} {fields['ExitCode']}"
        return found

    def wait(self, job: str, *, seconds: float = 300) -> dict[str, str]:
        """States of a job's tasks after all have ended."""
        end = time.monotonic() + seconds
        while True:
            found = self.states(job)
            if not any(state.split()[0] in _UNFINISHED for state in found.values()):
                return found
            assert time.monotonic() < end, found
            time.sleep(0.1)


@contextmanager
def slurm_server(folder: Path, commands: Path) -> Iterator[Slurm]:
    """Start Slurm; skip the test where it is not installed.

    Args:
        folder: empty folder of its files. commands: folder of the programs that jobs call, first on their PATH.
    """
    path = f"{commands}:{os.environ.get('PATH', '')}:{_SEEN}"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"no Slurm here ({', '.join(missing)}); `make slurm` installs Debian's")
    host, ports = socket.gethostname().split(".")[0], _free_ports(2)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(host=host, user=getpass.getuser(), folder=folder, controller=ports[0], node=ports[1])
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment |= {"PATH": path, "SLURM_CONF": str(configuration)}
    slurm = Slurm(environment)
    with ExitStack() as stack:
        for program, *options in (("slurmctld", "-i"), ("slurmd", "-N", "node")):
            log = stack.enter_context(open(folder / f"{program}.log", "wb"))
            command = [program, "-D", "-f", str(configuration), *options]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            stack.callback(_stop, daemon)
        _until_idle(slurm, folder)
        stack.callback(subprocess.run, ["scancel", "--full", "--user", getpass.getuser()], env=environment, check=False)
        yield slurm


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _until_idle(slurm: Slurm, folder: Path) -> None:
    end = time.monotonic() + 30
    while True:
        call = ["sinfo", "--noheader", "--format=%T"]
        done = subprocess.run(call, env=slurm.environment, capture_output=True, text=True, check=False)
        if done.stdout.strip() == "idle":
            return
        if time.monotonic() > end:
            logs = "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
            raise AssertionError(f"Slurm does not start: {done.stdout} {done.stderr}\n{logs}")
        time.sleep(0.1)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(10)
