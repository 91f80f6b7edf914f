"""Starting one attempt: its folder, its environment, its command, its keeper."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import fred_supervisor
from fred_supervisor.attempt.keeper import READY_FD
from fred_supervisor.attempt.machine_faults import paths_of
from fred_supervisor.attempt.nodes.rendezvous import under_rendezvous
from fred_supervisor.attempt.nodes.srun import end_step_words, master_environment, prepare_outputs, under_srun
from fred_supervisor.attempt.torchrun import under_torchrun
from fred_supervisor.contract import environment, placeholders
from fred_supervisor.contract.builtin.flags import to_argv
from fred_supervisor.contract.fence import GENERATION
from fred_supervisor.contract.files import now_text, write_atomic
from fred_supervisor.contract.record import record
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.linux.proc import Identity, identify
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.place import place_of
from fred_supervisor.store.run_spec import RunSpec

_SOURCE_ROOT = str(Path(fred_supervisor.__file__).parents[1])
_KEEPER = "import sys; sys.path[:0] = sys.argv[1:]; from fred_supervisor.attempt.keeper import main; main(sys.argv[1])"


@record
class Launched:
    """A keeper that was told to start a trainer."""

    attempt: int
    keeper: Identity
    ready_fd: int
    """One JSON line comes here: the trainer's pid, or why there is none."""


def spawn(
    spec: RunSpec,
    attempt: int,
    overrides: Overrides,
    resume: Path | None,
    *,
    lookout: Lookout,
    gpus: tuple[str, ...] = (),
    members: Sequence[int] = (0,),
    own: AttemptDir | None = None,
) -> Launched:
    """Prepare an attempt and start its keeper. Raises OSError.

    `gpus`: UUIDs that were chosen for it; `members`: the machines that train together; `own`: the folder of this
    machine's part, where machine 0 has prepared the attempt.
    """
    folder = prepare(spec, attempt) if own is None else _prepare_part(own)
    place = place_of(spec.run_dir)
    environ = trainer_environment(spec, attempt, overrides, resume) | visible(gpus)
    facts: dict[str, object] = {
        "output": str(folder.output),
        "launch_file": str(folder.launch),
        "exit": str(folder.exit),
        "cwd": spec.cwd,
        "cgroup": f"fred-{spec.run_id}-{place}-{attempt}" + (f"-{spec.node}" if spec.node else ""),
        "open_files": overrides.open_files,
        "heartbeat": str(folder.heartbeat),
        "printed": str(folder.printed),
        "end_step": end_step_words(folder) if spec.under_slurm else None,
        "launch": {
            "attempt": attempt,
            "time": now_text(),
            "command": command(spec, attempt, overrides, resume, port=environ["MASTER_PORT"], members=members),
            "members": list(members),
            "cwd": spec.cwd,
            "place": place,
            "resume": None if resume is None else str(resume),
            "overrides": asdict(overrides),
            "paths": paths_of(spec, lookout),
            "environment": {
                key: value
                for key, value in environ.items()
                if key in environment.OF_CONTRACT or key.startswith(environment.OF_COMPUTATION)
            },
        },
    }
    facts_read, facts_write = os.pipe2(os.O_CLOEXEC)
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _KEEPER, _SOURCE_ROOT, spec.name],
            environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, facts_read, 0),
                # Not our own output: who reads that must see its end when we end, and the keeper lives on.
                (os.POSIX_SPAWN_OPEN, 1, str(spec.dir.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, ready_write, READY_FD),
            ],
            setsid=True,
            setsigmask=(),
        )
    except OSError:
        os.close(ready_read)
        os.close(facts_write)
        raise
    finally:
        os.close(facts_read)
        os.close(ready_write)
    # A keeper that has ended already leaves its end as an event, as any that ends before it has started a trainer.
    with contextlib.suppress(BrokenPipeError), open(facts_write, "wb") as pipe:
        pipe.write(json.dumps(facts).encode())
    keeper = identify(pid)
    assert keeper is not None  # ours, and not reaped: at worst a zombie
    return Launched(attempt=attempt, keeper=keeper, ready_fd=ready_read)


def prepare(spec: RunSpec, attempt: int) -> AttemptDir:
    """The folder of an attempt with an empty heartbeat file. Raises OSError."""
    folder = spec.dir.attempt(attempt)
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # We do not know whether every rank of a COMMAND beats. A rank that beats makes its own file.
    ranks = range(spec.rank_count) if spec.command is None else range(1)
    beats = [Path(environment.rank_path(str(folder.heartbeat), rank)) for rank in ranks]
    for path in (*beats, folder.output):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    if spec.nodes is not None:  # before anything of it runs: whoever still trains elsewhere writes no more
        write_atomic(os.path.join(spec.run_dir, GENERATION), f"{attempt}\n".encode())
    if spec.under_slurm:
        prepare_outputs(folder)
    return folder


def _prepare_part(folder: AttemptDir) -> AttemptDir:
    """The folder of another machine's part: its keeper's files, and the output of its ranks. Raises OSError."""
    folder.path.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(folder.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    return folder


def trainer_environment(spec: RunSpec, attempt: int, overrides: Overrides, resume: Path | None) -> dict[str, str]:
    """Our own environment, less what belongs to systemd, and what the contract promises."""
    folder = spec.dir.attempt(attempt)
    environ = {
        key: value
        for key, value in os.environ.items()
        if key not in environment.OF_SYSTEMD and not key.startswith(environment.OF_CONFIGURATION)
    }
    environ |= {
        environment.RUN_ID: spec.run_id,
        environment.RUN_PLACE: place_of(spec.run_dir) or "",
        environment.RUN_DIR: spec.run_dir,
        environment.ATTEMPT: str(attempt),
        environment.HEARTBEAT: str(folder.heartbeat),
        environment.ERROR_FILE: str(folder.error),
        environment.RESUME: "" if resume is None else str(resume),
        environment.UNFREEZE_BATCH_SIZE: _text(overrides.unfreeze_batch),
        environment.ACCUMULATE: _text(overrides.accumulate),
        "MASTER_PORT": str(_free_port()),
        "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED", "1"),  # its last lines are evidence
    }
    if spec.rank_count > 1 and not spec.under_slurm and "OMP_NUM_THREADS" not in environ:  # torchrun would make it 1
        environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // spec.rank_count))
    if spec.under_slurm:
        environ |= master_environment()
    elif spec.nodes is not None:
        environ[environment.NODE] = str(spec.node or 0)
    if overrides.expandable_segments:
        before = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
        environ["PYTORCH_CUDA_ALLOC_CONF"] = ",".join(filter(None, (before, "expandable_segments:True")))
    return environ


def visible(gpus: tuple[str, ...]) -> dict[str, str]:
    """What makes CUDA see the chosen GPUs and no others. Indices, where the driver was silent, are the bus's."""
    if not gpus:
        return {}
    counted = any(gpu.isdigit() for gpu in gpus)
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if counted else {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus), **order}


def command(
    spec: RunSpec,
    attempt: int,
    overrides: Overrides,
    resume: Path | None,
    *,
    port: str = "",
    members: Sequence[int] = (0,),
) -> list[str]:
    """The argument vector of an attempt; `port` is free, for ranks to meet at, `members` are the machines."""
    if spec.command is None:
        words = _own_command(spec, overrides)
    else:
        where = _placeholders_of_nodes(spec, port, members)
        words = _foreign_command(spec, attempt, overrides, resume, where)
    if spec.under_slurm:
        return under_srun(words, spec, spec.dir.attempt(attempt), attempt)
    if spec.nodes is not None:
        return under_rendezvous(words, spec, members) or words
    together = under_torchrun(words, spec.rank_count) if spec.rank_count > 1 else None
    return together or words


def _foreign_command(
    spec: RunSpec, attempt: int, overrides: Overrides, resume: Path | None, where: Mapping[str, str]
) -> list[str]:
    assert spec.command is not None
    values = {
        "run_dir": spec.run_dir,
        "modality": spec.modality or "",
        "attempt": str(attempt),
        **placeholders.of_checkpoint(None if resume is None else str(resume)),
        "unfreeze_batch_size": _text(overrides.unfreeze_batch),
        "accumulate": _text(overrides.accumulate),
        "heartbeat": str(spec.dir.attempt(attempt).heartbeat),
        **where,
    }
    return placeholders.fill(spec.command, values)


def _placeholders_of_nodes(spec: RunSpec, port: str, members: Sequence[int]) -> dict[str, str]:
    if spec.rendezvous is not None:
        host, _, port = spec.rendezvous.rpartition(":")
        node = str(members.index(spec.node or 0))
        return {"nodes": str(len(members)), "node": node, "master_addr": host, "master_port": port}
    if not spec.under_slurm:
        return {**placeholders.OF_ONE_MACHINE, "master_port": port}
    return {**placeholders.DEFERRED, "nodes": os.environ.get("SLURM_JOB_NUM_NODES", "1"), "master_port": port}


def _own_command(spec: RunSpec, overrides: Overrides) -> list[str]:
    flags = {**spec.flags, "modality": spec.modality, "run_dir": spec.run_dir, "force_resume": spec.accepted}
    if spec.on_cpu:
        flags["device"] = "cpu"
    learnt = {
        "freeze_batch_size": overrides.freeze_batch,
        "eval_batch_size": overrides.eval_batch,
        "workers": overrides.workers,
        # Fewer workers are ordered when the host ran out of memory; frames kept in it are the first to go then.
        "cache": "none" if overrides.workers is not None and flags.get("cache") == "ram" else None,
        "no_eval_map": overrides.no_eval_map or None,
        "amp": "off" if overrides.full_precision else None,
    }
    flags |= {key: value for key, value in learnt.items() if value is not None}
    words = [sys.executable, "-m", "fred_trainer", *to_argv(flags)]
    return [*words, f"--drill={spec.drill}"] if spec.drill else words


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _free_port() -> int:
    """A port that was free just now: torchrun's default collides with every other run on the machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
