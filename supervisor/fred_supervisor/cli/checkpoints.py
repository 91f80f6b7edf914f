"""`fred-supervise checkpoints`."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.cli.common.find_run import add_run, answering, find_run
from fred_supervisor.cli.common.view import aligned, span
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile, why_invalid
from fred_supervisor.contract.checkpoint_content import why_not_whole
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.record import record
from fred_supervisor.store.checkpoints import foreign_checkpoints, size_and_time
from fred_supervisor.store.file_ages import file_age_s
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise checkpoints",
        description="Every checkpoint, newest first; the one that a relaunch would use is marked with >.",
        epilog="example:\n  fred-supervise checkpoints rgb --verify --phase unfreeze",
    )
    add_run(parser)
    parser.add_argument("--verify", action="store_true", help="read every file and compare its digest")
    parser.add_argument("--phase", choices=("freeze", "unfreeze"), help="of this phase only")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)
    rows = checkpoint_rows(spec, phase=given.phase, verify=given.verify)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], allow_nan=False))
    elif not rows:
        print(f"{spec.name}: no checkpoint.")
    else:
        head = ("", "checkpoint", "phase", "epoch", "step", "age", "MiB", "loss", "mAP50", "state")
        print("\n".join(aligned([head, *(_cells(row, spec.run_dir) for row in rows)])))
    return CommandExit.OK


@record
class CheckpointRow:
    """One checkpoint, as `checkpoints --json` has it. What is not known is None."""

    path: str
    phase: str | None
    epoch: int | None
    step: int | None
    samples: int | None
    age_s: float | None
    size: int | None
    """Bytes."""
    loss: float | None
    map50: float | None
    valid: bool
    reason: str | None
    """Why it is not valid."""
    blamed: bool
    chosen: bool = False
    """A relaunch would use it."""


def checkpoint_rows(spec: RunSpec, *, phase: str | None, verify: bool) -> list[CheckpointRow]:
    """Newest first. `valid` without `verify` means that size and sidecar fit; digests are not computed."""
    run_dir = Path(spec.run_dir)
    foreign = spec.checkpoints
    blamed = read_state(spec.dir).history.overrides.blamed
    if foreign is None:
        every = list_checkpoints(run_dir)
    else:
        named = partial(foreign_checkpoints, run_dir, foreign)
        every = answering(os.path.join(run_dir, foreign), named, home=spec.run_dir)
    rows = [_row(f, blamed=blamed, verify=verify, foreign=foreign is not None) for f in every]
    valid = sorted((row for row in rows if row.valid), key=lambda row: row.blamed)  # stable: the newest first
    rows = [replace(row, chosen=row is valid[0]) if valid else row for row in rows]
    return [row for row in rows if phase is None or row.phase == phase]


def _row(found: CheckpointFile, *, blamed: tuple[str, ...], verify: bool, foreign: bool) -> CheckpointRow:
    sidecar = found.sidecar
    reason = why_not_whole(found.path, quick=not verify) if foreign else why_invalid(found, quick=not verify)
    size: int | None = None
    age_s: float | None = None
    with contextlib.suppress(OSError):
        size, changed_ns = size_and_time(found.path)
        age_s = file_age_s(changed_ns / 1e9)
    return CheckpointRow(
        path=str(found.path),
        phase=found.phase,
        epoch=found.epoch,
        step=sidecar.step if sidecar else None,
        samples=sidecar.samples if sidecar else None,
        age_s=age_s,
        size=size,
        loss=sidecar.loss if sidecar else None,
        map50=sidecar.map50 if sidecar else None,
        valid=reason is None,
        reason=reason,
        blamed=str(found.path) in blamed,
    )


def _cells(row: CheckpointRow, run_dir: str) -> tuple[str, ...]:
    def text(value: object, form: str = "") -> str:
        return "-" if value is None else format(value, form)

    state = row.reason or ("blamed" if row.blamed else "valid")
    return (
        ">" if row.chosen else "",
        os.path.relpath(row.path, run_dir),
        text(row.phase),
        text(row.epoch),
        text(row.step),
        "-" if row.age_s is None else span(row.age_s),
        "-" if row.size is None else f"{row.size / 2**20:.1f}",
        text(row.loss, ".4g"),
        text(row.map50, ".3f"),
        state,
    )
