"""What our own trainer would refuse for certain: it is refused in the same second, before anything is launched."""

import importlib.util
import os
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.refusals import is_of_another_trainer, refused_flag
from fred_supervisor.contract.checkpoint import CheckpointFile, read_sidecar, why_invalid
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.store.run_spec import RunSpec


def check_trainer(spec: RunSpec) -> None:
    """Its libraries, data, flags and checkpoints."""
    missing = next(
        (m for m in ("fred_trainer", "torch", "torchvision", "cv2") if importlib.util.find_spec(m) is None), None
    )
    if missing:
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("{missing} is not installed; `pip install '.[train]'` in the checkout installs it", missing=missing),
        )
    _check_data(spec)
    if (refusal := refused_flag(spec.flags)) is not None:
        raise CommandError(
            CommandExit.BAD_INPUT, tr("{refusal}; nothing was started", refusal=tr(refusal[0], **refusal[1]))
        )
    pretrained = spec.flags.get("pretrained")
    if pretrained not in (None, "auto", "none") and not os.path.isfile(os.path.join(spec.cwd, pretrained)):
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr(
                "--pretrained {pretrained}: no such file; give a state dict of torchvision, or none",
                pretrained=pretrained,
            ),
        )
    _check_checkpoints(spec)


def _check_data(spec: RunSpec) -> None:
    data = spec.flags.get("data")
    if data is None:
        raise CommandError(CommandExit.BAD_INPUT, tr("--data is missing: the folder with the FRED sequences"))
    path = Path(data)
    if not path.exists():
        raise CommandError(CommandExit.BAD_INPUT, tr("--data {data}: no such folder", data=data))
    if not path.is_dir():
        raise CommandError(
            CommandExit.BAD_INPUT, tr("--data {data}: is a file; give the folder that holds the sequences", data=data)
        )
    if not any(path.iterdir()):
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr("--data {data}: the folder is empty; `fred-train data check` shows a data set", data=data),
        )
    if not _holds_sequences(path):
        raise CommandError(
            CommandExit.BAD_INPUT,
            tr(
                "--data {data}: no sequence in it; a sequence is a folder named by a number, with RGB/ "
                "and Event/, in the folder itself or in train/ and test/",
                data=data,
            ),
        )


def _holds_sequences(data: Path) -> bool:
    folders = [data, data / "train", data / "test"]
    return any(entry.name.isdigit() and entry.is_dir() for f in folders if f.is_dir() for entry in f.iterdir())


def _check_checkpoints(spec: RunSpec) -> None:
    """Whether the one that would be resumed from is of another trainer: of what it holds nothing fits."""
    if spec.resume == "none":
        return
    if spec.resume != "auto":
        path = Path(spec.resume)
        if read_sidecar(path) is None and is_of_another_trainer(path):
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr(
                    "--resume {path}: a checkpoint of another trainer, of which nothing fits this "
                    "detector; `--resume none` begins anew",
                    path=path,
                ),
            )
        return
    every = list_checkpoints(Path(spec.run_dir))
    fitting = [one for one in every if spec.phase in (None, one.phase)]
    newest = next((one for one in fitting if why_invalid(one, quick=True) is None), None)
    if newest is None or not is_foreign(newest):
        return
    count = sum(map(is_foreign, every))
    many = tr("{count} checkpoints are", count=count) if count > 1 else tr("the checkpoint is")
    raise CommandError(
        CommandExit.BAD_INPUT,
        tr(
            "{run_dir}: {many} of another trainer, {newest} the newest, and nothing of it fits "
            "this detector; `--resume none` puts all of them aside into previous/ and begins anew",
            run_dir=spec.run_dir,
            many=many,
            newest=newest.path.name,
        ),
    )


def is_foreign(checkpoint: CheckpointFile) -> bool:
    """Ours have a sidecar, or, where it is lost, keys that no other has."""
    return checkpoint.sidecar is None and is_of_another_trainer(checkpoint.path)
