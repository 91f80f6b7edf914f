"""The command line of `start`: its flags and their converters."""

import re
import shlex
from argparse import ArgumentTypeError
from typing import Final

from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.contract.builtin.drill import parse_drills
from fred_supervisor.contract.builtin.flags import FLAGS, add_flags, natural, positive
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.store.run_spec import wrong_pattern

_EPILOG: Final = """\
examples:
  fred-supervise start --modality rgb --data /data/FRED
  fred-supervise start --modality dual --data /data/FRED --epochs 300 --hang-timeout train=600
  fred-supervise start --config run.toml --notify ntfy://ntfy.sh/my-secret-topic
  fred-supervise start --name mine -- python train.py --resume={resume} --batch={unfreeze_batch_size}

Behind `--` stands any program. In its words {run_dir} {modality} {attempt} {resume} {unfreeze_batch_size}
{accumulate} {heartbeat} are replaced; a word whose placeholder is empty is left out.
"""

_GPU: Final = re.compile(r"\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([MG])(?:iB|B)?", re.IGNORECASE)
_MIB_OF: Final = {"M": 1, "G": 1024}


def hang_timeout(text: str) -> tuple[str, float]:
    """SECTION=SECONDS, or SECONDS for `train`."""
    section, equals, seconds = text.rpartition("=")
    section = section if equals else Section.TRAIN
    if section not in set(Section):
        raise ArgumentTypeError(f"no section {section!r}; there are {', '.join(Section)}")
    try:
        value = float(seconds)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not SECTION=SECONDS, e.g. train=600")
    return section, value


def backoff(text: str) -> tuple[float, float]:
    """FIRST:MAX in seconds."""
    try:
        first, longest = (float(part) for part in text.split(":"))
    except ValueError:
        first = longest = -1.0
    if not 0 <= first <= longest < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not FIRST:MAX in seconds, e.g. 1:300, or 0:0 for none")
    return first, longest


def seconds(text: str) -> float:
    """Seconds from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def pattern(text: str) -> str:
    """A file name pattern relative to the run dir."""
    if (wrong := wrong_pattern(text)) is not None:
        raise ArgumentTypeError(f"{text!r} {wrong}")
    return text


def gpus(text: str) -> str:
    """`auto`, or a list of indices (as `nvidia-smi` counts) and UUIDs."""
    words = text.split(",")
    if text != "auto" and not all(_GPU.fullmatch(word) for word in words):
        raise ArgumentTypeError(f"{text!r} is not auto, nor a list of indices and UUIDs, e.g. 0 or 0,1 or GPU-8f6e")
    if len(set(words)) < len(words):
        raise ArgumentTypeError(f"{text!r} names a GPU twice")
    return text


def memory(text: str) -> int:
    """A size with its unit, in MiB; `auto`, as the trainer measured it, is 0."""
    if text == "auto":
        return 0
    found = _SIZE.fullmatch(text.strip())
    size_mib = 0 if found is None else round(float(found[1]) * _MIB_OF[found[2].upper()])
    if size_mib < 1:
        raise ArgumentTypeError(f"{text!r} is not a size of memory, e.g. 11GiB or 9500MiB")
    return size_mib


def quiet_window(text: str) -> str:
    """Checked here, kept as it was written; `never` takes back what was asked before."""
    from fred_supervisor.monitor.quiet import parse_window  # noqa: PLC0415 - time zones, only where somebody has hours

    try:
        if text != "never":
            parse_window(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def command(text: str) -> list[str]:
    """A COMMAND in one line, quoted as for a shell; no shell ever sees it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from error
    if not words:
        raise ArgumentTypeError("no command stands in it")
    return words


def drills(text: str) -> str:
    """Checked here, carried out by the trainer."""
    try:
        parse_drills(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def parser() -> CommandParser:
    """The whole command line of `start`."""
    new = CommandParser(
        prog="fred-supervise start", description="Start one supervised run, or go on with one.", epilog=_EPILOG
    )
    run = new.add_argument_group("the run")
    run.add_argument("--name", metavar="N", help="of the run (default: the modality)")
    run.add_argument("--run-dir", metavar="D", help="where everything is written (default logs/fred_<name>)")
    run.add_argument("--config", metavar="F", help="TOML file with the sections [supervisor] and [trainer]")
    run.add_argument(
        "--command", type=command, metavar="LINE", help="a COMMAND in one line, for the file; here write it behind `--`"
    )
    run.add_argument("--foreground", action="store_true", help="stay until the end; speaks sd_notify")
    run.add_argument("--resume", metavar="auto|none|PATH", help="for the first attempt (default auto: newest valid)")
    run.add_argument("--phase", choices=("freeze", "unfreeze"), help="start from the newest checkpoint of this phase")
    run.add_argument("--new", action="store_true", help="a fresh run dir beside the one that is there")
    run.add_argument("--accept-changes", action="store_true", help="go on with other model or data flags than recorded")
    watch = new.add_argument_group("watching and answering")
    watch.add_argument(
        "--hang-timeout",
        type=hang_timeout,
        action="append",
        metavar="SECTION=S",
        help="exact limit without progress; a bare number is for train; repeatable",
    )
    watch.add_argument("--backoff", type=backoff, metavar="FIRST:MAX", help="pause before a relaunch (default 1:300)")
    watch.add_argument("--max-restarts", type=natural, metavar="N", help="without new progress (default 10)")
    watch.add_argument("--same-failure", type=positive, metavar="N", help="then it is the code (default 3)")
    watch.add_argument("--stop-timeout", type=seconds, metavar="S", help="from SIGTERM to SIGKILL (default 120)")
    watch.add_argument("--no-halve", action="store_true", default=None, help="never change a batch size")
    watch.add_argument("--done-file", type=pattern, metavar="PATTERN", help="exit 0 counts only with such a new file")
    watch.add_argument("--checkpoints", type=pattern, metavar="PATTERN", help="of a COMMAND, to resume from")
    watch.add_argument("--progress-file", type=pattern, metavar="PATTERN", help="whose change is a sign of life")
    where = new.add_argument_group("where and when")
    where.add_argument(
        "--gpu",
        type=gpus,
        metavar="auto|GPU[,…]",
        help="by index or UUID; auto (the default): the freest that fits, and no other run of yours has",
    )
    where.add_argument(
        "--gpu-memory", type=memory, metavar="SIZE", help="needed before a launch (default: as the trainer measured it)"
    )
    where.add_argument(
        "--quiet",
        type=quiet_window,
        action="append",
        metavar="WINDOW",
        help='pause then, e.g. "mon-fri 08:00-19:00 Europe/Rome"; repeatable',
    )
    run.add_argument(
        "--ranks", type=positive, metavar="N", help="processes that train together under torchrun, on the CPU"
    )
    watch.add_argument("--drill", type=drills, metavar="FAULTS", help="rehearse failures, e.g. sigkill@freeze:2:5")
    tell = new.add_argument_group("telling", "Addresses hold passwords: best in --config, or in the environment.")
    tell.add_argument(
        "--notify",
        action="append",
        metavar="URL",
        help="address of the Apprise library that alerts go to (mail, Slack, ntfy, …); repeatable; none: no longer",
    )
    tell.add_argument(
        "--on-event", metavar="COMMAND", help="run at each alert, without a shell; reads JSON on standard input"
    )
    tell.add_argument("--ping", metavar="URL", help="asked for each minute while the supervisor lives")
    own = [flag for flag in FLAGS if not flag.own]
    add_flags(new.add_argument_group("passed on to fred-train"), own, defaults=False)
    return new
