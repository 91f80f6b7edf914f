"""Several machines under Slurm: the command line that makes an attempt one step, and what srun says of its end.

Signals are sent to the step by `scancel`, never to srun: it would end the ranks without a word to them.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.attempt.torchrun import RankEnd
from fred_supervisor.contract.environment import rank_path
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.nodes.node_files import first_host, step_of
from fred_supervisor.store.run_spec import RunSpec

_SOURCE_ROOT: Final = str(Path(fred_supervisor.__file__).parents[1])
_RUN: Final = "import sys; sys.path[:0] = [sys.argv[1]]; from {module} import main; main(*sys.argv[2:])"


def under_srun(words: Sequence[str], spec: RunSpec, folder: AttemptDir, attempt: int) -> list[str]:
    """`words` as the tasks of one step of the job that we are in.

    One rank that fails ends all: without that the others would wait for it for ever. The output of rank 0 is srun's
    own, each other rank has a file beside it, which its machine writes.
    """
    output = rank_path(str(folder.output), 0).replace("\\", "\\\\").replace("%", "%%")
    tasks = []
    if spec.ranks is not None:
        nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
        tasks = [f"--nodes={nodes}", f"--ntasks-per-node={spec.ranks}", f"--ntasks={spec.ranks * int(nodes)}"]
    return [
        *("srun", "--kill-on-bad-exit=1", "--input=none", "--open-mode=append", f"--output={output}.rank%t"),
        *(f"--job-name=fred-{spec.name}-{attempt}", *tasks, sys.executable, "-I", "-S", "-c"),
        *(_RUN.format(module="fred_supervisor.attempt.nodes.task"), _SOURCE_ROOT, str(folder.path), *words),
    ]


def prepare_outputs(folder: AttemptDir) -> None:
    """The file of rank 0 is the output itself. Raises OSError."""
    link = Path(f"{folder.output}.rank0")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.output.name)


def end_step_words(folder: AttemptDir) -> list[str]:
    """The command by which a keeper has the step of its attempt killed."""
    run = _RUN.format(module="fred_supervisor.attempt.nodes.step")
    return [sys.executable, "-I", "-S", "-c", run, _SOURCE_ROOT, str(folder.path), "KILL"]


def master_environment() -> dict[str, str]:
    """Where the ranks meet, where Slurm's own word for it does not hold: we run on another machine than rank 0."""
    first = first_host(os.environ.get("SLURM_JOB_NODELIST", ""))
    if os.environ.get("MASTER_ADDR") or first is None or os.environ.get("SLURMD_NODENAME") == first:
        return {}
    return {"MASTER_ADDR": first}


def of_step(folder: AttemptDir) -> bool:
    """Whether an attempt was, or is, a step whose tasks have begun."""
    return step_of(folder) is not None


_ENDED: Final = re.compile(r"^srun: error: (\S+): tasks? ([\d,\-]+): (.+)$", re.MULTILINE)
_CODE: Final = re.compile(r"Exited with exit code (\d+)")
_OF_SLURM: Final = re.compile(r"^(srun|slurmstepd-\S+|slurmstepd|scancel): ")


def own_output(text: str) -> str:
    """`text` without what Slurm has said."""
    return "".join(line for line in text.splitlines(keepends=True) if not _OF_SLURM.match(line))


def blamed(text: str) -> RankEnd | None:
    """The rank that srun's last words leave to blame; None where it has said nothing of one.

    srun exits with the highest code of all, and tells the ranks' ends in the order in which it learns of them. What
    follows on the first bad end is its own work: SIGTERM, then SIGKILL. Those may leave with "state saved", or not.
    """
    ends = [_end(int(tasks.split(",")[0].split("-")[0]), what) for _, tasks, what in _ENDED.findall(text)]
    order = {id(end): at for at, end in enumerate(ends)}
    return min(ends, key=lambda end: (_weight(end, first=order[id(end)] == 0), order[id(end)]), default=None)


def _end(rank: int, what: str) -> RankEnd:
    code = _CODE.search(what)
    if code is not None:
        number = int(code[1])
        return RankEnd(rank=rank, pid=0, exit_code=number, signal=None)
    name = what.split(" (core dumped)", maxsplit=1)[0]
    found = next((one for one in signal.Signals if signal.strsignal(one) == name), None)
    return RankEnd(rank=rank, pid=0, exit_code=None, signal=None if found is None else int(found))


def _weight(end: RankEnd, *, first: bool) -> int:
    if end.signal is not None:
        return 5 if end.signal in (signal.SIGTERM, signal.SIGKILL) and not first else 0
    order = {TrainerExit.CONFIG: 1, TrainerExit.SAVED: 3}
    return next((weight for code, weight in order.items() if code == end.exit_code), 2)
