"""`fred-supervise checkpoints`."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_run, answering, find_run
from fred_supervisor.cli.common.view import aligned
from fred_supervisor.cli.start.trainer_checks import is_foreign
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.checkpoint import CheckpointFile, why_invalid
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.record import record
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.checkpoint_order import is_blamed
from fred_supervisor.store.checkpoints import Proof, Stamp, doubt, foreign_checkpoints, proofs, stamp, why_foreign
from fred_supervisor.store.file_ages import file_age_s, size_and_time
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import span


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise checkpoints",
        description=tr("Every checkpoint, newest first; the one that a relaunch would use is marked with >."),
        epilog=tr("example:\n  fred-supervise checkpoints rgb --verify --phase unfreeze"),
    )
    add_run(parser)
    parser.add_argument("--verify", action="store_true", help=tr("read every file and compare its digest"))
    parser.add_argument("--phase", choices=("freeze", "unfreeze"), help=tr("of this phase only"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON document, for programs"))
    given = parser.parse_args(argv)
    spec = _run_or_folder(given.name, given.run_dir)
    rows = checkpoint_rows(spec, phase=given.phase, verify=given.verify)
    if spec.lost and not rows:
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name}: its run.json cannot be read, so it is not known where its checkpoints lie", name=spec.name),
        )
    if given.json:
        print(json.dumps([asdict(row) for row in rows], allow_nan=False))
    elif not rows:
        print(tr("{name}: no checkpoint.", name=spec.name))
    else:
        names = (tr("checkpoint"), tr("phase"), tr("epoch"), tr("step"), tr("age"))
        head = ("", *names, "MiB", tr("loss"), "mAP50", tr("state"))
        print("\n".join(aligned([head, *(tuple(map(printable, _cells(row, spec.run_dir))) for row in rows)])))
        if any(row.foreign for row in rows):
            print(
                tr("foreign: of another trainer, nothing of it fits our detector; `start --resume none` puts it aside.")
            )
    return CommandExit.OK


def _run_or_folder(name: str | None, run_dir: str | None) -> RunSpec:
    """The run that is meant; else what lies in a folder where `start` would look, e.g. of the trainer before ours."""
    try:
        return find_run(name, run_dir)
    except CommandError as fault:
        names = (name,) if name is not None else BY_KEY["modality"].choices or ()
        folders = [Path(run_dir)] if run_dir is not None else [Path("logs", f"fred_{one}") for one in names]
        found = next((folder for folder in folders if list_checkpoints(folder)), None)
        if fault.code is not CommandExit.NO_SUCH_RUN or found is None:
            raise
    return RunSpec(
        name=found.name.removeprefix("fred_"), modality=None, run_dir=os.path.abspath(found), cwd=os.getcwd()
    )


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
    foreign: bool
    """Of another trainer: nothing of it fits our detector."""
    blamed: bool
    proved: bool | None = None
    """A second process has loaded it and got what was recorded (or something else); None: none has."""
    unproved_why: str | None = None
    chosen: bool = False
    """A relaunch would use it."""


def checkpoint_rows(spec: RunSpec, *, phase: str | None, verify: bool) -> list[CheckpointRow]:
    """Newest first. `valid` without `verify` means that size and sidecar fit; digests are not computed."""
    run_dir = Path(spec.run_dir)
    foreign = spec.checkpoints
    overrides = read_state(spec.dir).history.overrides
    if foreign is None:
        every = list_checkpoints(run_dir)
    else:
        named = partial(foreign_checkpoints, run_dir, foreign)
        every = answering(os.path.join(run_dir, foreign), named, home=spec.run_dir)
    known = proofs(spec.dir.proofs)
    rows = [
        _proved(_row(f, overrides=overrides, verify=verify, foreign=None if foreign is None else spec.dir), f, known)
        for f in every
    ]
    valid = {row.path for row in rows if row.valid}
    order = sorted((f for f in every if str(f.path) in valid), key=partial(doubt, overrides, known))
    rows = [replace(row, chosen=bool(order) and row.path == str(order[0].path)) for row in rows]
    return [row for row in rows if phase is None or row.phase == phase]


def _proved(row: CheckpointRow, found: CheckpointFile, known: Mapping[Stamp, Proof]) -> CheckpointRow:
    """`row`, with what a second process has found in it."""
    try:
        proof = known.get(stamp(found)) if known else None
    except OSError:
        proof = None
    if proof is None:
        return row
    why = tr("not proved: {why}", why=proof.why) if proof.proved is False else None
    return replace(row, proved=proof.proved, unproved_why=why)


def _row(found: CheckpointFile, *, overrides: Overrides, verify: bool, foreign: RunDir | None) -> CheckpointRow:
    sidecar = found.sidecar
    reason = why_foreign(foreign, found.path, quick=not verify) if foreign else why_invalid(found, quick=not verify)
    stranger = not foreign and reason is None and is_foreign(found)
    if stranger:
        reason = tr("of another trainer: nothing of it fits our detector")
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
        foreign=stranger,
        blamed=is_blamed(overrides, found),
    )


def _cells(row: CheckpointRow, run_dir: str) -> tuple[str, ...]:
    def text(value: object, form: str = "") -> str:
        return "-" if value is None else format(value, form)

    plain = tr("blamed") if row.blamed else tr("proved") if row.proved else tr("valid")
    state = tr("foreign") if row.foreign else row.reason or row.unproved_why or plain
    return (
        ">" if row.chosen else "",
        os.path.relpath(row.path, run_dir),
        "-" if row.phase is None else term(row.phase),
        text(row.epoch),
        text(row.step),
        "-" if row.age_s is None else span(row.age_s),
        "-" if row.size is None else f"{row.size / 2**20:.1f}",
        text(row.loss, ".4g"),
        text(row.map50, ".3f"),
        state,
    )
