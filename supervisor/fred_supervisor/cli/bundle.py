"""`fred-supervise bundle`."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import find_run
from fred_supervisor.cli.incidents import name_and_number
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import ENGLISH, speaking, tr
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.run_spec import RunSpec

_ABOUT: Final = """\
Incident {incident} of the run {name}, {created}.

  incident.json   what, when, where in training, why, what was done; stacks and the last lines of output
  bundle.json     command line, flags, the checkpoint that it began from, the place of the failure
  samples.json    ids of the samples of the step that failed
  machine.json    versions, GPUs, driver, and the variables that change how training computes
  code.json, code.diff   commit, and what differs from it

{replay}
"""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise bundle",
        description=tr(
            "One file with everything of an incident, to send to a colleague or to attach to an "
            "issue: evidence, versions, code, command line, samples, the checkpoint that it "
            "began from. What looks like a secret is left out; look into it all the same before "
            "you send it."
        ),
        epilog=tr("examples:\n  fred-supervise bundle rgb\n  fred-supervise bundle rgb 3 --no-weights -o failure.zip"),
    )
    parser.add_argument(
        "words", nargs="*", metavar="[NAME] [INCIDENT]", help=tr("name of the run, number of the incident")
    )
    parser.add_argument("--run-dir", metavar="D", help=tr("the run dir, instead of the name"))
    parser.add_argument("--no-weights", action="store_true", help=tr("name the checkpoint only: a small file"))
    parser.add_argument("--no-code", action="store_true", help=tr("without the code's changes"))
    parser.add_argument("-o", "--output", metavar="FILE", help=tr("default NAME-incident-N.zip, here"))
    given = parser.parse_args(argv)
    name, number = name_and_number(given.words)
    spec = find_run(name, given.run_dir)
    incident = _incident(spec, number)
    target = Path(os.path.abspath(given.output or f"{spec.name}-incident-{incident.id}.zip"))
    if target.exists():
        raise CommandError(CommandExit.REFUSED, tr("{target} is there already; name another with -o", target=target))
    print(_made(spec, incident, target, weights=not given.no_weights, code=not given.no_code))
    return CommandExit.OK


def _incident(spec: RunSpec, number: int | None) -> Incident:
    incidents = Incidents(spec.dir)
    found = incidents.last() if number is None else incidents.read(number)
    if found is None:
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name} has no such incident; `fred-supervise incidents` lists them", name=spec.name),
        )
    return found


def _made(spec: RunSpec, incident: Incident, target: Path, *, weights: bool, code: bool) -> str:
    """Write the bundle; what a person is told."""
    from fred_supervisor.bundle import archive, machine  # noqa: PLC0415 - after --help
    from fred_supervisor.bundle.failure import failure_of  # noqa: PLC0415
    from fred_supervisor.bundle.samples import samples_document  # noqa: PLC0415
    from fred_supervisor.bundle.secrets import document_without_secrets  # noqa: PLC0415

    failure = failure_of(spec, incident)
    file = failure.weights if weights else None
    known = failure.manifest.weights
    manifest = failure.manifest
    if known is not None:
        manifest = replace(manifest, weights=replace(known, held=file is not None))
    documents: dict[str, Mapping[str, object]] = {
        archive.MANIFEST: asdict(manifest),
        "incident.json": incident.document(),
        "machine.json": machine.machine_document(spec, failure.launch),
        "samples.json": samples_document(manifest),
    }
    if code:
        documents["code.json"] = machine.code_document(spec, spec.dir.attempt(manifest.attempt))
    members = {each: json.dumps(document_without_secrets(value), indent=1) for each, value in documents.items()}
    if code:
        members["code.diff"] = machine.diff(spec)
    replayed = manifest.foreign, manifest.ranks, target.name
    how = partial(_how_to_replay, *replayed, held=file is not None or manifest.afresh)
    with speaking(ENGLISH):
        told = how()
    members["README.txt"] = _ABOUT.format(incident=incident.id, name=spec.name, created=manifest.created, replay=told)
    archive.write(target, members, file)
    size = target.stat().st_size / 2**20
    begun = tr("it began afresh") if manifest.afresh else tr("its checkpoint is gone") if known is None else known.name
    held = "" if known is None else tr(" inside") if file is not None else tr(" named only")
    return tr(
        "{target}: {size:.1f} MiB; {begun}{held}. Look into it before you send it.\n{how}",
        target=target,
        size=size,
        begun=begun,
        held=held,
        how=how(),
    )


def _how_to_replay(foreign: bool, ranks: int, name: str, *, held: bool) -> str:  # noqa: FBT001 - one of a kind
    if foreign:
        return tr("It is of a COMMAND, which cannot be replayed.")
    if ranks > 1:
        return tr("It is of {ranks} ranks, which cannot be replayed alone.", ranks=ranks)
    weights = "" if held else " --weights CHECKPOINT"
    return tr(
        "To run to the same step again: fred-supervise replay {name} --data DATA{weights}", name=name, weights=weights
    )
