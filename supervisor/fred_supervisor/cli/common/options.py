"""The command line of `start`, made of its two tables of flags."""

from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.cli.common.start_flags import FLAGS, Group, StartFlag
from fred_supervisor.contract.builtin.flags import FLAGS as TRAINER_FLAGS
from fred_supervisor.contract.builtin.flags import add_flags

_EPILOG: Final = """\
examples:
  fred-supervise start --modality rgb --data /data/FRED
  fred-supervise start --modality dual --data /data/FRED --epochs 300 --hang-timeout train=600
  fred-supervise start --config run.toml --notify ntfy://ntfy.sh/my-secret-topic
  fred-supervise start --name mine -- python train.py --resume={resume} --batch={unfreeze_batch_size}

Behind `--` stands any program. In its words {run_dir} {modality} {attempt} {resume} {unfreeze_batch_size}
{accumulate} {heartbeat} are replaced; a word whose placeholder is empty is left out.
"""

_ABOUT: Final = {Group.TELL: "Addresses hold passwords: best in --config, or in the environment."}


def parser() -> CommandParser:
    """The whole command line of `start`."""
    new = CommandParser(
        prog="fred-supervise start", description="Start one supervised run, or go on with one.", epilog=_EPILOG
    )
    groups = {group: new.add_argument_group(group, _ABOUT.get(group)) for group in Group}
    for flag in FLAGS:
        groups[flag.group].add_argument(f"--{flag.name}", help=flag.help, **_how(flag))
    own = [flag for flag in TRAINER_FLAGS if not flag.own]
    add_flags(new.add_argument_group("passed on to fred-train"), own, defaults=False)
    return new


def _how(flag: StartFlag) -> dict[str, Any]:
    """How argparse is to read a flag."""
    if flag.kind is None:
        return {"action": "store_true", "default": None if flag.has_key else False}
    repeated = {"action": "append"} if flag.repeatable else {}
    return {"type": flag.kind, "metavar": flag.metavar, "choices": flag.choices, **repeated}
