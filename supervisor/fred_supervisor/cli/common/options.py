"""The command line of `start`, made of its two tables of flags."""

from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.cli.common.start_flag import Group, StartFlag
from fred_supervisor.cli.common.start_flags import FLAGS
from fred_supervisor.contract.builtin.flags import FLAGS as TRAINER_FLAGS
from fred_supervisor.contract.builtin.flags import MEANT, add_flags
from fred_supervisor.language import mark, tr

_EPILOG: Final = mark(
    "examples:\n"
    "  fred-supervise start rgb                            # goes on with a known run, "
    "from any folder\n"
    "  fred-supervise start --modality rgb --data /data/FRED\n"
    "  fred-supervise start --modality dual --data /data/FRED --epochs 300 --hang-timeout "
    "train=600\n"
    "  fred-supervise start --config run.toml --notify ntfy://ntfy.sh/my-secret-topic\n"
    "  fred-supervise start --name mine -- python train.py --resume={resume} "
    "--batch={unfreeze_batch_size}\n\n"
    "Behind `--` stands any program. In its words {run_dir} {modality} {attempt} {resume} "
    "{unfreeze_batch_size}\n"
    "{accumulate} {heartbeat} are replaced; a word whose placeholder is empty is left out.\n"
)

_ABOUT: Final = {Group.TELL: mark("Addresses hold passwords: best in --config, or in the environment.")}


def parser() -> CommandParser:
    """The whole command line of `start`."""
    new = CommandParser(
        prog="fred-supervise start",
        description=tr("Start one supervised run, or go on with one."),
        epilog=tr(_EPILOG),
        meant=MEANT,
    )
    new.add_argument(
        "known", nargs="?", metavar="NAME", help=tr("of a known run, to go on with from any folder; else --name")
    )
    groups = {group: new.add_argument_group(tr(group), tr(_ABOUT.get(group, "")) or None) for group in Group}
    for flag in FLAGS:
        groups[flag.group].add_argument(f"--{flag.name}", help=tr(flag.help), **_how(flag))
    own = [flag for flag in TRAINER_FLAGS if not flag.own]
    add_flags(new.add_argument_group(tr("passed on to fred-train")), own, defaults=False)
    return new


def _how(flag: StartFlag) -> dict[str, Any]:
    """How argparse is to read a flag."""
    if flag.kind is None:
        return {"action": "store_true", "default": None if flag.has_key else False}
    repeated = {"action": "append"} if flag.repeatable else {}
    return {"type": flag.kind, "metavar": flag.metavar, "choices": flag.choices, **repeated}
