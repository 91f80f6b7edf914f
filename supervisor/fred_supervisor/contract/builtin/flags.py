"""The flags of `fred-train`, as data: its parser and that of `fred-supervise start` are both built from this table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fred_supervisor.contract.record import record
from fred_supervisor.language import mark, tr

if TYPE_CHECKING:
    import argparse


def _unfit(text: str, wanted: str) -> Exception:
    """What argparse shows in one line."""
    import argparse  # noqa: PLC0415 - the supervisor reads this table, and parses nothing

    return argparse.ArgumentTypeError(tr("{text!r} is not {wanted}", text=text, wanted=wanted))


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise _unfit(text, tr("a whole number from 1"))
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise _unfit(text, tr("a whole number from 0"))
    return int(text)


def _real(text: str) -> float:
    """A number; NaN, which fits no range, when it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def ratio(text: str) -> float:
    """A number above 0, up to 1."""
    if not 0 < _real(text) <= 1:
        raise _unfit(text, tr("a number above 0, up to 1"))
    return float(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= _real(text) <= 1:
        raise _unfit(text, tr("a number from 0 to 1"))
    return float(text)


def rate(text: str) -> float:
    """A number above 0."""
    if not 0 < _real(text) < float("inf"):
        raise _unfit(text, tr("a number above 0"))
    return float(text)


def seconds_or_auto(text: str) -> float | str:
    """Seconds above 0, or `auto`."""
    return text if text == "auto" else rate(text)


@record
class Flag:
    """One flag of the trainer."""

    name: str
    """With dashes; underscores are accepted too."""
    help: str
    default: Any = None
    kind: Callable[[str], Any] | None = str
    """Converter of one value; None for a switch."""
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    recorded: bool = False
    """Changes the model or the data: a run keeps the value that it was started with."""
    own: bool = False
    """Of `fred-train` alone: the supervisor sets it by itself."""

    @property
    def key(self) -> str:
        """As an attribute and in TOML."""
        return self.name.replace("-", "_")


FLAGS: Final[tuple[Flag, ...]] = (
    Flag(
        name="modality",
        choices=("dual", "rgb", "event"),
        default="dual",
        recorded=True,
        help=mark("which streams the detector sees"),
    ),
    Flag(name="data", metavar="DIR", recorded=True, help=mark("data set: a folder with sequences in the FRED layout")),
    Flag(
        name="fred-root",
        metavar="DIR",
        help=mark(
            "with a fusion JSON as --data: where its paths begin (default: --data, $FRED_ROOT or the folder above)"
        ),
    ),
    Flag(
        name="split",
        choices=("canonical", "challenging"),
        default="canonical",
        recorded=True,
        help=mark("published split: its test sequences are never trained on"),
    ),
    Flag(
        name="train-on",
        choices=("held-in", "all"),
        default="held-in",
        recorded=True,
        help=mark("all: on the validation sequences, too, as published results are; nothing is chosen by mAP then"),
    ),
    Flag(
        name="negatives",
        kind=share,
        metavar="SHARE",
        default=0.0,
        recorded=True,
        help=mark("share of the frames without a drone that are used, 0 to 1; none in FRED's official loader"),
    ),
    Flag(name="run-dir", metavar="DIR", own=True, help=mark("where everything of the run is written")),
    Flag(name="resume", metavar="auto|none|PATH", default="auto", own=True, help=mark("checkpoint to go on from")),
    Flag(
        name="phase",
        choices=("auto", "freeze", "unfreeze"),
        default="auto",
        own=True,
        help=mark("with --resume auto: start from the newest checkpoint of this phase"),
    ),
    Flag(
        name="force-resume",
        kind=None,
        default=False,
        own=True,
        help=mark("go on from a checkpoint of another data set or of other settings, as far as the weights fit"),
    ),
    Flag(name="skip-freeze", kind=None, default=False, help=mark("straight to the unfreeze phase")),
    Flag(name="freeze-only", kind=None, default=False, help=mark("end after the freeze phase: that is the goal then")),
    Flag(name="freeze-epochs", kind=natural, metavar="N", default=50, help=mark("epochs with frozen backbones")),
    Flag(name="epochs", kind=positive, metavar="N", default=300, help=mark("epochs in all, the frozen ones included")),
    Flag(name="freeze-batch-size", kind=positive, metavar="N", default=8, help=mark("batch of the freeze phase")),
    Flag(name="unfreeze-batch-size", kind=positive, metavar="N", default=8, help=mark("batch of the unfreeze phase")),
    Flag(
        name="eval-batch-size",
        kind=positive,
        metavar="N",
        help=mark("batch of the evaluation (default: that of the phase)"),
    ),
    Flag(name="accumulate", kind=positive, metavar="N", default=1, help=mark("batches per optimiser step")),
    Flag(
        name="save-every-epochs",
        kind=positive,
        metavar="N",
        default=10,
        help=mark("epochs between two named checkpoints"),
    ),
    Flag(
        name="save-every-seconds",
        kind=seconds_or_auto,
        metavar="auto|S",
        default="auto",
        help=mark("seconds between two mid-epoch states; auto: as often as costs under 1 %% of the time, at most 300"),
    ),
    Flag(name="eval-every", kind=positive, metavar="N", default=5, help=mark("epochs between two evaluations")),
    Flag(
        name="patience",
        kind=positive,
        metavar="N",
        help=mark("end, the goal reached, when mAP50 has not risen for N evaluations of the last phase"),
    ),
    Flag(name="no-eval-map", kind=None, default=False, help=mark("never evaluate")),
    Flag(name="eval-only", kind=None, default=False, help=mark("evaluate the newest checkpoint and end")),
    Flag(
        name="no-preflight",
        kind=None,
        default=False,
        help=mark("begin at once, without one rehearsed step of every phase first"),
    ),
    Flag(name="quick-test", kind=None, default=False, help=mark("two epochs of a few batches, one of each phase")),
    Flag(name="backbone", metavar="NAME", default="regnet_x_400mf", recorded=True, help=mark("torchvision backbone")),
    Flag(
        name="pretrained",
        metavar="auto|none|PATH",
        default="auto",
        help=mark(
            "weights that fresh backbones start from: ImageNet's (cached, or fetched when reachable), none, or a file"
        ),
    ),
    Flag(
        name="compression-ratio",
        kind=ratio,
        metavar="R",
        default=0.75,
        recorded=True,
        help=mark("channels after the fusion of the streams, as a share of those of one stream"),
    ),
    Flag(
        name="input-size",
        kind=positive,
        metavar="PX",
        default=640,
        recorded=True,
        help=mark("longer side of the input"),
    ),
    Flag(
        name="finest",
        choices=("auto", "4", "8"),
        default="auto",
        recorded=True,
        help=mark("pixels of input per cell of the detector; auto: 4"),
    ),
    Flag(name="lr", kind=rate, metavar="LR", default=1e-3, help=mark("peak learning rate (AdamW)")),
    Flag(
        name="amp",
        choices=("auto", "fp16", "bf16", "off"),
        default="auto",
        help=mark("mixed precision; auto: bf16 or fp16 on a GPU that has it, off on the CPU"),
    ),
    Flag(name="device", metavar="NAME", default="auto", help=mark("cpu, cuda, cuda:1; auto: a GPU when there is one")),
    Flag(
        name="cache",
        choices=("none", "ram", "disk"),
        default="none",
        help=mark("keep decoded frames in memory or in RUN_DIR/cache"),
    ),
    Flag(
        name="cache-gib",
        kind=rate,
        metavar="N",
        help=mark("most that the cache may take (default: half of what is free)"),
    ),
    Flag(name="no-augment", kind=None, default=False, help=mark("train on the frames as they are")),
    Flag(name="mosaic", kind=share, metavar="P", default=0.25, help=mark("how often a sample is made of four frames")),
    Flag(
        name="time-shift",
        kind=share,
        metavar="P",
        default=0.3,
        help=mark("how often dual sees the RGB frame before or after: RGB drifts against the events"),
    ),
    Flag(
        name="modality-dropout",
        kind=share,
        metavar="P",
        default=0.1,
        help=mark("how often dual sees one stream only, so that neither is leant on alone"),
    ),
    Flag(name="workers", kind=natural, metavar="N", default=4, help=mark("data loader processes")),
    Flag(name="seed", kind=natural, metavar="N", default=0, recorded=True, help=mark("of every random choice")),
)
"""In the order of `--help`."""

ALIASES: Final[Mapping[str, str]] = {"--freeze-training": "--freeze-only"}
"""Names that people have in scripts."""

MEANT: Final[Mapping[str, str]] = {
    "--fp16": "--amp fp16",
    "--high-res": "--input-size 1280",
    "--batch-size": "--unfreeze-batch-size (and --freeze-batch-size)",
    "--init-epoch": mark("nothing: a run goes on from its newest checkpoint"),
    "--resume-checkpoint": "--resume PATH",
    "--save-period": "--save-every-epochs",
    "--eval-period": "--eval-every",
    "--num-workers": "--workers",
    "--learning-rate": "--lr",
    "--model-path": "--pretrained PATH",
    "freeze": "--phase freeze",
    "unfreeze": "--phase unfreeze",
}
"""Flags that the old trainer, its scripts and other trainers have → what they are here."""

BY_KEY: Final[Mapping[str, Flag]] = {flag.key: flag for flag in FLAGS}


def normalise(argv: Sequence[str]) -> list[str]:
    """Underscore spellings and aliases to the flags' own names, up to a `--`."""
    result: list[str] = []
    for at, word in enumerate(argv):
        if word == "--":
            return result + list(argv[at:])
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("_", "-")
            word = ALIASES.get(name, name) + equals + value  # noqa: PLW2901 - the word is rewritten
        result.append(word)
    return result


def add_flags(
    parser: "argparse._ArgumentGroup | argparse.ArgumentParser", flags: Iterable[Flag], *, defaults: bool
) -> None:
    """Add `flags` to a parser; without `defaults` a flag that was not given is None."""
    for flag in flags:
        default = flag.default if defaults else None
        told = "" if flag.default is None or flag.default is False else tr(" (default {default})", default=flag.default)
        if flag.kind is None:
            parser.add_argument(f"--{flag.name}", action="store_true", default=default, help=tr(flag.help))
        else:
            kind = flag.kind
            parser.add_argument(
                f"--{flag.name}",
                type=str if flag.choices else kind,
                choices=flag.choices,
                default=default,
                metavar=flag.metavar or ("|".join(flag.choices) if flag.choices else None),
                help=tr(flag.help) + told,
            )


def to_argv(values: Mapping[str, Any]) -> list[str]:
    """The command line words for `values` (by key); None and False are left out."""
    words: list[str] = []
    for flag in FLAGS:
        value = values.get(flag.key)
        if value is None or value is False:
            continue
        words.append(f"--{flag.name}" if flag.kind is None else f"--{flag.name}={value}")
    return words
