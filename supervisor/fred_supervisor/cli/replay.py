"""`fred-supervise replay`."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable

if TYPE_CHECKING:
    from fred_supervisor.bundle.manifest import Manifest


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise replay",
        description=tr(
            "Runs fred-train from the checkpoint in a bundle to the step that failed, on the "
            "same samples with the same random state, alone. Says whether it fails again (your "
            "code or data) or not (the machine)."
        ),
        epilog=tr(
            "examples:\n  fred-supervise replay rgb-incident-3.zip\n  fred-supervise replay "
            "rgb-incident-3.zip --data /data/FRED --device cpu\n\nExit code 0 when it does not "
            "fail again, 93 when it does, 1 when that cannot be told."
        ),
    )
    parser.add_argument("bundle", metavar="BUNDLE", help=tr("made by `fred-supervise bundle`"))
    parser.add_argument("--data", metavar="D", help=tr("where the data set is here (default: as it was)"))
    parser.add_argument("--device", metavar="NAME", help=tr("another device than it was, e.g. cpu"))
    parser.add_argument("--weights", metavar="FILE", help=tr("the checkpoint, when the bundle only names it"))
    parser.add_argument("--limit", type=float, metavar="S", help=tr("seconds without progress that count as a hang"))
    parser.add_argument("--keep", metavar="D", help=tr("keep the output of the replay in this new folder"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON document, for programs"))
    given = parser.parse_args(argv)
    from fred_supervisor.bundle import archive  # noqa: PLC0415 - after --help
    from fred_supervisor.bundle.replay import ReplayOptions, replay  # noqa: PLC0415
    from fred_supervisor.bundle.verdict import Verdict  # noqa: PLC0415
    from fred_supervisor.words.sentences import sentence  # noqa: PLC0415

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the trainer ends with us
    folder = _folder(given.keep)
    try:
        path = Path(given.bundle)
        manifest = archive.read_manifest(path)
        _check_data(manifest, folder, given.data)
        weights = _weights(manifest, path, folder, given.weights)
        options = ReplayOptions(data=given.data, device=given.device, limit_s=given.limit)
        result = replay(manifest, weights, folder, options, _nothing if given.json else _print)
    except (archive.BundleError, ValueError) as error:
        raise CommandError(CommandExit.BAD_INPUT, str(error)) from None
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    text = printable(sentence(result.message))
    print(json.dumps({"verdict": result.verdict, "text": text}) if given.json else text)
    codes = {
        Verdict.PASSED: CommandExit.OK,
        Verdict.AGAIN: CommandExit.RUN_FAILED,
        Verdict.UNKNOWN: CommandExit.REFUSED,
    }
    return codes[result.verdict]


def _print(line: str) -> None:
    print(printable(line), flush=True)


def _nothing(_line: str) -> None:
    """A program reads one document."""


def _folder(keep: str | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="fred-replay-"))
    try:
        os.makedirs(keep, mode=0o700)
    except FileExistsError:
        raise CommandError(
            CommandExit.REFUSED, tr("{keep} is there already; name a new folder with --keep", keep=keep)
        ) from None
    return Path(os.path.abspath(keep))


def _check_data(manifest: "Manifest", folder: Path, given: str | None) -> None:
    """Without the data set the replay would fail for that, and not as it did. Raises CommandError."""
    data = manifest.flags.get("data") if given is None else os.path.abspath(given)
    if isinstance(data, str) and not manifest.foreign and not os.path.isdir(folder / data):
        raise CommandError(
            CommandExit.BAD_INPUT, tr("there is no data set {data} here: name its folder with --data", data=data)
        )


def _weights(manifest: "Manifest", path: Path, folder: Path, given: str | None) -> Path | None:
    """The checkpoint to begin from; None: it began afresh. Raises BundleError, CommandError."""
    from fred_supervisor.bundle import archive  # noqa: PLC0415 - after --help
    from fred_supervisor.contract.checkpoint import digest_of  # noqa: PLC0415

    if manifest.foreign:
        raise CommandError(
            CommandExit.REFUSED, tr("{path} is of a COMMAND: only fred-train can be replayed", path=path)
        )
    if manifest.ranks != 1:
        raise CommandError(
            CommandExit.REFUSED,
            tr("{path} is of {ranks} ranks, which cannot be replayed alone", path=path, ranks=manifest.ranks),
        )
    known = manifest.weights
    if known is None:
        if manifest.afresh:
            return None
        raise CommandError(
            CommandExit.REFUSED, tr("{path} has no checkpoint: that one was gone when it was made", path=path)
        )
    if given is not None:
        file = Path(os.path.abspath(given))
        if not file.is_file():
            raise CommandError(CommandExit.BAD_INPUT, tr("{file} is no file", file=file))
        if digest_of(file) != known.digest:
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr("{file} is not the {name} that the attempt began from", file=file, name=known.name),
            )
        return file
    if not known.held:
        raise CommandError(
            CommandExit.REFUSED,
            tr("{path} only names its checkpoint, {name}: give it with --weights", path=path, name=known.name),
        )
    target = folder / "checkpoint.pth"
    archive.take_weights(path, replace(known, held=True), target)
    return target
