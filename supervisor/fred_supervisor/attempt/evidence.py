"""After the end of an attempt: everything that tells how it ended, read once."""

import os
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fred_supervisor.attempt import machine_faults, torchrun
from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord, classify_text, read_error
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux import kernel_log, proc
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.text_io import last_lines, printable, printable_lines, tail
from fred_supervisor.output.built_in import speaks_of_early_stopping
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.machine_fault import MachineFault
from fred_supervisor.store.attempt_files import ExitRecord, LaunchRecord, read_exit, read_launch
from fred_supervisor.store.checkpoints import modified_ns
from fred_supervisor.store.heartbeats import newest_beat, rank_beats
from fred_supervisor.store.matching import matching
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import sentence

_KILLED_IN_SHELL = 128 + 9
_KILLED = ("is killed by signal: Killed", " Killed ")
_PID = re.compile(r"\bpid[ =:]*(\d{2,7})\b|\b(\d{2,7}) +Killed\b", re.IGNORECASE)
"""As loader, torchrun and shells name a child that was killed."""
_PATIENCE_S = 5.0
"""For a file system that data, or a `--done-file`, lie on."""
_LAST_LINES = 40
"""Of an output, that tell why it ended."""


def gather(
    spec: RunSpec,
    attempt: int,
    *,
    oom_kills_before: int | None,
    lookout: Lookout,
    pids: frozenset[int] = frozenset(),
) -> Evidence:
    """The evidence of one attempt, from its files; `pids` have been seen in its tree."""
    folder = spec.dir.attempt(attempt)
    left, launch = read_exit(folder), read_launch(folder)
    error = first_error(folder.error)
    if error is not None:  # its words go into sentences, signatures and files
        error = replace(error, message=printable_lines(error.message), traceback=printable_lines(error.traceback))
    beats = rank_beats(folder.heartbeat)
    beat = newest_beat(folder)
    text = tail(folder.output)
    exit_code, signal = (None, None) if left is None else (left.exit_code, left.signal)
    end = torchrun.blamed(text) if exit_code == 1 else None  # torchrun turns every end of a rank into 1
    if end is not None:
        text, exit_code, signal = torchrun.own_output(text), end.exit_code, end.signal
    last_line = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
    tree = {*pids, *(one.pid for one in beats.values()), *_pids(text), *(() if end is None else (end.pid,))}
    by_kill = signal == 9 or exit_code == _KILLED_IN_SHELL or any(sign in text[-4096:] for sign in _KILLED)
    killed = exit_code != 0 and oom_killed(launch, oom_kills_before, tree, by_kill=by_kill)
    return Evidence(
        attempt=attempt,
        exit_code=exit_code,
        signal=signal,
        exec_error=None if left is None else left.exec_error,
        error=error,
        text_kind=None if exit_code == 0 else classify_text(text[-8192:]),
        last_line=printable(last_line) if last_line else None,
        beat=beat,
        rank=_guilty(error, end, several=len(beats) > 1),
        unverified=spec.command is not None,
        done_file=done_file(spec, lookout),
        oom_killed=killed,
        shm_mib=_shared_memory_mib(),
        fault=_fault(spec, attempt, error, text, lookout),
        resumed_from=launch.resume,
        early_stop=exit_code == 0 and speaks_of_early_stopping("\n".join(text.splitlines()[-_LAST_LINES:])),
    )


def _fault(spec: RunSpec, attempt: int, error: ErrorRecord | None, text: str, lookout: Lookout) -> MachineFault | None:
    """What the machine has to do with it."""
    first, now = (spec.dir.attempt(number) for number in (1, attempt))
    left = read_exit(now)
    if left is not None and left.exec_error is not None:
        return machine_faults.of_exit(left)
    known = {**read_launch(first).paths, **read_launch(now).paths}
    shell_failed = attempt > 1 and _shell_failed(left) and not _shell_failed(read_exit(first))
    look = partial(machine_faults.of_trainer, spec, known, error, text, shell_failed=shell_failed)
    said = text if error is None else f"{error.message}\n{text}"
    try:
        fault = lookout.reach(machine_faults.places_of(spec, known, said), look, patience_s=_PATIENCE_S)
    except NoAnswerError as silent:
        return machine_faults.no_answer(silent)
    except OSError:
        fault = None
    # A keeper that could not even write its files says nothing; then the disk is asked.
    return fault or (machine_faults.room(spec) if left is None else None)


def _shared_memory_mib() -> float | None:
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size
    except OSError:
        return None
    return found.f_blocks * found.f_frsize / (1 << 20)


def _shell_failed(left: ExitRecord | None) -> bool:
    """Whether a shell, or `env`, could not execute a command."""
    return left is not None and left.exit_code in (126, 127)


_CONSEQUENCES = (ErrorKind.NCCL, ErrorKind.PREEMPTED)


def first_error(path: Path) -> ErrorRecord | None:
    """Of all ranks, what was said first: later ones are mostly consequences.

    If another rank reports something else, "a collective operation failed" and "asked to leave" are certainly only
    consequences of it.
    """
    records = [read_error(path)]
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    records += [read_error(path.with_name(name)) for name in names if name.startswith(f"{path.name}.rank")]
    said = [record for record in records if record is not None]
    return min(said, key=lambda record: (record.kind in _CONSEQUENCES, record.time), default=None)


def _guilty(error: ErrorRecord | None, end: torchrun.RankEnd | None, *, several: bool) -> int | None:
    """The rank to blame, where there are several."""
    if error is not None and (several or error.rank) and not (error.kind is ErrorKind.NCCL and end is not None):
        return error.rank
    return None if end is None else end.rank


def _pids(text: str) -> set[int]:
    return {int(one or other) for one, other in _PID.findall(text[-4096:])}


_RECENTLY_S = 300.0
"""A worker that was killed earlier, and replaced, is not why the trainer has ended now."""


def oom_killed(launch: LaunchRecord, before: int | None, tree: set[int], *, by_kill: bool) -> bool | None:
    """Whether the kernel's out-of-memory killer ended the trainer, or a process of its tree.

    `by_kill`: something of it is known to have died of SIGKILL.
    """
    now, who = oom_kills(), launch.trainer
    more = None if now is None or before is None else now > before
    guess = more if by_kill else None if more else more
    if more is False or who is None or not kernel_log.counts_our_pids():
        return guess  # of the whole machine: somebody else's kill meanwhile cannot be told from ours
    began_s = kernel_log.began_s(who)
    since_s = began_s if before is None else max(began_s, time.monotonic() - _RECENTLY_S)
    lines = kernel_log.relevant_lines(since_s)
    return guess if lines is None else bool(kernel_log.killed(lines) & {who.pid, *tree})


def kernel_lines(launch: LaunchRecord) -> list[str] | None:
    """What the kernel said since an attempt began; None when that may not be read."""
    who = launch.trainer
    if who is None or who.boot != proc.boot_id():
        return None
    found = kernel_log.relevant_lines(kernel_log.began_s(who))
    return None if found is None else [printable(line) for line in found]


def oom_kills() -> int | None:
    """How often the kernel's out-of-memory killer was at work since boot; None where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_bytes().splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    except OSError:
        return None
    return None


def done_file(spec: RunSpec, lookout: Lookout) -> bool | None:
    """Whether a file that matches `--done-file` is newer than the start of the run; None without the flag.

    False, too, where its file system does not answer: a run is completed only by a file that was seen.
    """
    if spec.done_file is None:
        return None
    started_ns = next(iter(modified_ns([spec.dir.run])), None)
    if started_ns is None:  # deleted, and not yet written again
        return None
    pattern = spec.done_file
    try:
        changed_ns = lookout.look(
            (os.path.join(spec.run_dir, pattern),),
            lambda: modified_ns(matching(Path(spec.run_dir), pattern)),
            patience_s=_PATIENCE_S,
        )
    except (NoAnswerError, OSError):
        return False
    return any(ns > started_ns for ns in changed_ns)


def document(seen: Evidence, output: Path, *, end: int | None) -> dict[str, Any]:
    """The evidence for an incident file; of the output, what stood before position `end`."""
    beat, error = seen.beat, seen.error
    return {
        "exit_code": seen.exit_code,
        "signal": seen.signal,
        "rank": seen.rank,
        "exec_error": None if seen.exec_error is None else sentence(seen.exec_error),
        "exception": error.message if error else None,
        "traceback": error.traceback if error else None,
        "output": [printable(line) for line in last_lines(output, 50, end=end)],
        "stalled_s": seen.stalled_s,
        "oom_killed": seen.oom_killed,
        "last_heartbeat": None if beat is None else heartbeat_document(beat),
    }


def heartbeat_document(beat: Beat) -> dict[str, object]:
    return {key: getattr(beat, key) for key in ("pid", "section", "phase", "epoch", "step", "steps", "samples")}
