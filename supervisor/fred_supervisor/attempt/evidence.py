"""After the end of an attempt: everything that tells how it ended, read once."""

import os
import re
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

from fred_supervisor.attempt import launcher_end, machine_faults, torchrun
from fred_supervisor.attempt.killer import killer_of
from fred_supervisor.attempt.nodes import srun
from fred_supervisor.attempt.nodes.rendezvous import part_of
from fred_supervisor.attempt.output_reader import patterns_of
from fred_supervisor.attempt.torchrun import RankEnd
from fred_supervisor.attempt.tree_ends import HiddenEnd, TreeEnds
from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord, classify_text, read_error
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux import kernel_log, proc
from fred_supervisor.linux.killers import OF_MEMORY
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.text_io import last_lines, printable, printable_lines, tail
from fred_supervisor.output.built_in import ends_in_traceback
from fred_supervisor.output.early_stop import says_it_stopped_early, speaks_of_early_stopping
from fred_supervisor.output.last_stride import (
    is_long_over,
    last_remark,
    last_words,
    time_is_left,
    within_a_stride,
)
from fred_supervisor.output.patterns import LinePatterns
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.history import names_goal, short_of_goal
from fred_supervisor.policy.machine_fault import MachineFault
from fred_supervisor.store.attempt_files import ExitRecord, LaunchRecord, read_exit, read_launch
from fred_supervisor.store.checkpoints import modified_ns
from fred_supervisor.store.heartbeats import newest_beat, rank_beats
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.matching import matching
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import stored_sentence

_NEARLY = 0.9
"""Of the steps of an epoch: who has come so far by its records has come to its end."""
_KILLED_IN_SHELL = 128 + 9
_KILLED = ("is killed by signal: Killed", " Killed ")
_PID = re.compile(r"\bpid[ =:]*(\d{2,7})\b|\b(\d{2,7}) +Killed\b", re.IGNORECASE)
"""As loader, torchrun and shells name a child that was killed."""
_WORDS_MIB = 0.1
"""Less room than this on a disk, and the output may have lost its end."""
_PATIENCE_S = 5.0
"""For a file system that data, or a `--done-file`, lie on."""


def gather(
    spec: RunSpec,
    attempt: int,
    *,
    oom_kills_before: int | None,
    lookout: Lookout,
    pids: frozenset[int] = frozenset(),
    ends: TreeEnds | None = None,
) -> Evidence:
    """The evidence of one attempt, from its files; `pids` have been seen in its tree.

    `ends`: how its processes ended, should the command itself have nothing to say of it.
    """
    folder = spec.dir.attempt(attempt)
    left, launch = read_exit(folder), read_launch(folder)
    error = first_error(folder.error)
    if error is not None:  # its words go into sentences, signatures and files
        error = replace(error, message=printable_lines(error.message), traceback=printable_lines(error.traceback))
    beats = rank_beats(folder.heartbeat)
    beat = newest_beat(folder)
    text = tail(folder.output)
    exit_code, signal = (None, None) if left is None else (left.exit_code, left.signal)
    done, patterns = done_file(spec, lookout), None if spec.command is None else patterns_of(spec.progress_output)
    if exit_code == 0 and beat is not None and patterns is not None and is_long_over(text, patterns, beat):
        beat = None
    midway = exit_code == 0 and beat is not None and _midway(text, patterns, beat)
    at_goal = beat is not None and names_goal(beat) and short_of_goal(beat) is False and not midway
    finished = done or at_goal or (beat is not None and beat.done)
    hidden = None if finished or exit_code != 0 or ends is None else _hidden(ends, left)
    if hidden is not None:
        exit_code, signal = hidden.exit_code, hidden.signal
    raised = exit_code == 0 and not finished and spec.command is not None and ends_in_traceback(text)
    end, text = _of_ranks(spec, folder, text, exit_code)
    if end is not None:
        exit_code, signal = end.exit_code, end.signal
    elif exit_code and (launched := launcher_end.passed_on(text)) is not None:
        exit_code, signal, text = launched.exit_code, launched.signal, launched.text
    elif (number := launcher_end.signal_in_shell(spec.command or ("",), exit_code)) is not None:
        exit_code, signal = None, number
    tree = {*pids, *(one.pid for one in beats.values()), *_pids(text), *(() if end is None else (end.pid,))}
    by_kill = signal == 9 or exit_code == _KILLED_IN_SHELL or any(sign in text[-4096:] for sign in _KILLED)
    killed = exit_code != 0 and oom_killed(launch, oom_kills_before, tree, by_kill=by_kill)
    killer = killer_of(folder, launch, tree) if by_kill and exit_code != 0 else None
    last_line = _last_line(text) if patterns is None else last_remark(text, patterns)
    return Evidence(
        attempt=attempt,
        exit_code=exit_code,
        signal=signal,
        exec_error=None if left is None else left.exec_error,
        error=error,
        text_kind=None if (exit_code == 0 and not raised) or signal == SIGKILL else _kind_of(text[-8192:], patterns),
        last_line=printable(last_line) if last_line else None,
        beat=beat,
        rank=_guilty(error, end, several=len(beats) > 1),
        unverified=spec.command is not None,
        done_file=done,
        awaited=spec.done_file if done is False else None,
        raised=raised,
        behind=None if hidden is None else f"{hidden.name} (pid {hidden.pid})",
        oom_killed=True if killer is not None and killer.kind in OF_MEMORY else killed,
        killer=killer,
        shm_mib=_shared_memory_mib(),
        fault=_fault(spec, attempt, error, text, lookout),
        resumed_from=launch.resume,
        near_goal=exit_code == 0 and beat is not None and beat.printed and _near_goal(text, patterns, beat),
        midway=midway,
        time_is_left=exit_code == 0 and patterns is not None and time_is_left(text, patterns),
        stopped_early=says_it_stopped_early(text, patterns) if exit_code == 0 else None,
        early_stop=exit_code == 0 and speaks_of_early_stopping(text, patterns),
    )


def _last_line(text: str) -> str | None:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def _hidden(ends: TreeEnds, left: ExitRecord | None) -> HiddenEnd | None:
    ended = None if left is None else left.ended
    return ends.hidden(None if ended is None else {one.pid for one in ended})


def _kind_of(text: str, patterns: LinePatterns | None) -> ErrorKind | None:
    """What the end of an output says; what was printed before the first traceback, the program has survived."""
    text = text if patterns is None else last_words(text, patterns)
    before, found, raised = text.partition("Traceback (most recent call last)")
    survived = found and '\n  File "' not in before  # else that is the end of a longer one
    return classify_text(raised if survived else text)


def _midway(text: str, patterns: LinePatterns | None, beat: Beat) -> bool:
    """Whether it was in the last epoch, and not near the end of that; the client's records may be far apart."""
    if None in (beat.epoch, beat.epochs, beat.step, beat.steps) or short_of_goal(beat):
        return False
    assert beat.step is not None
    assert beat.steps is not None
    if not beat.printed:
        return beat.step < _NEARLY * beat.steps
    of_steps = replace(beat, epoch=None, epochs=None)
    return beat.step < beat.steps and patterns is not None and not within_a_stride(text, patterns, of_steps)


def _near_goal(text: str, patterns: LinePatterns | None, beat: Beat) -> bool:
    return patterns is not None and within_a_stride(text, patterns, beat)


def _of_ranks(spec: RunSpec, folder: AttemptDir, text: str, code: int | None) -> tuple[RankEnd | None, str]:
    """The rank to blame by what the launcher says of their ends, and that rank's own last words."""
    if spec.under_slurm:
        end = srun.blamed(text) if code else None
        own = srun.own_output(text)
        theirs = "" if end is None or not end.rank else tail(Path(f"{folder.output}.rank{end.rank}"))
        return end, theirs or own or text
    if spec.rendezvous is not None and code != 0:
        return _of_machines(spec, int(folder.path.name), text)
    end = torchrun.blamed(text) if code == 1 else None  # torchrun turns every end of a rank into 1
    return end, text if end is None else torchrun.own_output(text)


def _of_machines(spec: RunSpec, attempt: int, text: str) -> tuple[RankEnd | None, str]:
    """The same of several torchruns: what one says follows, mostly, from what another one says."""
    others = range(1, int(spec.nodes or 0))
    parts = [text, *(tail(part_of(spec, attempt, node).output) for node in others)]
    ends = [(end, part) for part in parts if (end := torchrun.blamed(part)) is not None]
    end = torchrun.worst([one for one, _ in ends])
    return end, next((torchrun.own_output(part) for one, part in ends if one == end), text)


def _fault(spec: RunSpec, attempt: int, error: ErrorRecord | None, text: str, lookout: Lookout) -> MachineFault | None:
    """What the machine has to do with it."""
    first, now = (spec.dir.attempt(number) for number in (1, attempt))
    left = read_exit(now)
    if left is not None and left.exec_error is not None:
        return machine_faults.of_exit(spec, left)
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
    return fault or (machine_faults.room(spec) if left is None else _no_room_for_words(spec, left, error, text))


def _no_room_for_words(spec: RunSpec, left: ExitRecord, error: ErrorRecord | None, text: str) -> MachineFault | None:
    """The full disk of a trainer that failed without a word of why: there was no room for one."""
    if not left.exit_code or error is not None or "Traceback" in text[-4096:]:
        return None
    fault = machine_faults.room(spec)
    full = fault is not None and fault.free_mib is not None and fault.free_mib < _WORDS_MIB
    return fault if full else None


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
        "exec_error": None if seen.exec_error is None else stored_sentence(seen.exec_error),
        "exception": error.message if error else None,
        "traceback": error.traceback if error else None,
        "output": [printable(line) for line in last_lines(output, 50, end=end)],
        "stalled_s": seen.stalled_s,
        "oom_killed": seen.oom_killed,
        "killer": None if seen.killer is None else asdict(seen.killer),
        "last_heartbeat": None if beat is None else heartbeat_document(beat),
    }


def heartbeat_document(beat: Beat) -> dict[str, object]:
    return {key: getattr(beat, key) for key in ("pid", "section", "phase", "epoch", "step", "steps", "samples")}
