"""Every flag of `start`, once: for its parser, the configuration file, the environment, `config show`, the service.

The flags of the trainer are a table of their own (`contract/builtin/flags.py`), for the trainer's parser needs it, too.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from fred_supervisor.cli.common import converters
from fred_supervisor.contract.builtin.flags import natural, positive
from fred_supervisor.contract.record import record


class Group(StrEnum):
    """Headings of the help."""

    RUN = "the run"
    WATCH = "watching and answering"
    WHERE = "where and when"
    TELL = "telling"


@record
class StartFlag:
    """One flag of `start`."""

    name: str
    """With dashes."""
    group: Group
    help: str
    kind: Callable[[str], Any] | None = str
    """Converter of one value; None for a switch."""
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    repeatable: bool = False
    between: str | None = None
    """What stands between two values in the environment, where it is repeatable; None: white space."""
    has_key: bool = True
    """It is a key of the configuration file and the environment; False: it says how to start, not how to run."""
    once: bool = False
    """It holds for one start, and is not kept."""
    secret: bool = False
    """Its value is never shown."""
    fields: tuple[str, ...] = ()
    """Fields of the policy's `Settings` that it sets."""
    to_fields: Callable[[Any], tuple[Any, ...]] = lambda value: (value,)
    """From its value to theirs, in order."""
    from_fields: Callable[..., Any] = lambda value: value
    """From their values to its own, as it is shown and written into a file."""

    @property
    def key(self) -> str:
        """As an attribute and in TOML."""
        return self.name.replace("-", "_")


FLAGS: Final[tuple[StartFlag, ...]] = (
    StartFlag(
        name="name",
        group=Group.RUN,
        metavar="N",
        help="of the run (default: the modality, or the program of a COMMAND)",
    ),
    StartFlag(
        name="run-dir", group=Group.RUN, metavar="D", help="where everything is written (default logs/fred_<name>)"
    ),
    StartFlag(
        name="config",
        group=Group.RUN,
        metavar="F",
        has_key=False,
        help="TOML file with the sections [supervisor] and [trainer]",
    ),
    StartFlag(
        name="command",
        group=Group.RUN,
        kind=converters.command,
        metavar="LINE",
        help="a COMMAND in one line, for the file; here write it behind `--`",
    ),
    StartFlag(
        name="foreground", group=Group.RUN, kind=None, has_key=False, help="stay until the end; speaks sd_notify"
    ),
    StartFlag(
        name="resume",
        group=Group.RUN,
        metavar="auto|none|PATH",
        once=True,
        help="for the first attempt (default auto: newest valid)",
    ),
    StartFlag(
        name="phase",
        group=Group.RUN,
        choices=("freeze", "unfreeze"),
        once=True,
        help="start from the newest checkpoint of this phase",
    ),
    StartFlag(
        name="new", group=Group.RUN, kind=None, has_key=False, help="a fresh run dir beside the one that is there"
    ),
    StartFlag(
        name="accept-changes",
        group=Group.RUN,
        kind=None,
        has_key=False,
        help="go on with other model or data flags than recorded",
    ),
    StartFlag(
        name="hang-timeout",
        group=Group.WATCH,
        kind=converters.hang_timeout,
        metavar="SECTION=S",
        repeatable=True,
        between=",",
        fields=("hang_timeout_s",),
        to_fields=lambda pairs: (dict(pairs),),
        help="exact limit without progress; a bare number is for train; repeatable",
    ),
    StartFlag(
        name="backoff",
        group=Group.WATCH,
        kind=converters.backoff,
        metavar="FIRST:MAX",
        fields=("backoff_first_s", "backoff_max_s"),
        to_fields=tuple,
        from_fields=lambda first_s, max_s: f"{first_s:g}:{max_s:g}",
        help="pause before a relaunch (default 1:300)",
    ),
    StartFlag(
        name="max-restarts",
        group=Group.WATCH,
        kind=natural,
        metavar="N",
        fields=("max_restarts",),
        help="without new progress (default 10)",
    ),
    StartFlag(
        name="same-failure",
        group=Group.WATCH,
        kind=positive,
        metavar="N",
        fields=("same_failure",),
        help="then it is the code (default 3)",
    ),
    StartFlag(
        name="stop-timeout",
        group=Group.WATCH,
        kind=converters.seconds,
        metavar="S",
        fields=("stop_timeout_s",),
        help="from SIGTERM to SIGKILL (default 120)",
    ),
    StartFlag(
        name="no-halve",
        group=Group.WATCH,
        kind=None,
        fields=("halve",),
        to_fields=lambda off: (not off,),
        from_fields=lambda halve: not halve,
        help="never change a batch size",
    ),
    StartFlag(
        name="done-file",
        group=Group.WATCH,
        kind=converters.pattern,
        metavar="PATTERN",
        help="exit 0 counts only with such a new file",
    ),
    StartFlag(
        name="checkpoints",
        group=Group.WATCH,
        kind=converters.pattern,
        metavar="PATTERN",
        help="of a COMMAND, to resume from",
    ),
    StartFlag(
        name="progress-file",
        group=Group.WATCH,
        kind=converters.pattern,
        metavar="PATTERN",
        help="whose change is a sign of life",
    ),
    StartFlag(
        name="progress-output",
        group=Group.WATCH,
        kind=converters.output_pattern,
        metavar="REGEX|auto|none",
        repeatable=True,
        between="\n",
        help="where a COMMAND is, by its output; groups epoch epochs step steps loss lr metric phase; repeatable",
    ),
    StartFlag(
        name="fail-output",
        group=Group.WATCH,
        kind=converters.fail_pattern,
        metavar="REGEX|none",
        repeatable=True,
        between="\n",
        help="a line of the output that fits it means that the attempt has failed, though it goes on; repeatable",
    ),
    StartFlag(
        name="must-recur",
        group=Group.WATCH,
        kind=converters.recurrence,
        metavar="REGEX=S|none",
        repeatable=True,
        between="\n",
        help="a line of the output that fits it must come again within so many seconds, or it hangs; repeatable",
    ),
    StartFlag(
        name="drill",
        group=Group.WATCH,
        kind=converters.drills,
        metavar="FAULTS",
        once=True,
        help="rehearse failures, e.g. sigkill@freeze:2:5",
    ),
    StartFlag(
        name="gpu",
        group=Group.WHERE,
        kind=converters.gpus,
        metavar="auto|GPU[,…]",
        help="by index or UUID; auto (the default): the freest that fits, and no other run of yours has",
    ),
    StartFlag(
        name="gpu-memory",
        group=Group.WHERE,
        kind=converters.memory,
        metavar="SIZE",
        help="needed before a launch (default: as the trainer measured it)",
    ),
    StartFlag(
        name="quiet",
        group=Group.WHERE,
        kind=converters.quiet_window,
        metavar="WINDOW",
        repeatable=True,
        between=";",
        help='pause then, e.g. "mon-fri 08:00-19:00 Europe/Rome"; repeatable',
    ),
    StartFlag(
        name="ranks",
        group=Group.RUN,
        kind=positive,
        metavar="N",
        help="processes that train together under torchrun, on the CPU",
    ),
    StartFlag(
        name="notify",
        group=Group.TELL,
        metavar="URL",
        repeatable=True,
        secret=True,
        help="address of the Apprise library that alerts go to (mail, Slack, ntfy, …); repeatable; none: no longer",
    ),
    StartFlag(
        name="on-event",
        group=Group.TELL,
        metavar="COMMAND",
        secret=True,
        help="run at each alert, without a shell; reads JSON on standard input",
    ),
    StartFlag(
        name="ping",
        group=Group.TELL,
        metavar="URL",
        secret=True,
        help="asked for each minute while the supervisor lives",
    ),
)

BY_KEY: Final[Mapping[str, StartFlag]] = {flag.key: flag for flag in FLAGS}
OF_POLICY: Final[tuple[StartFlag, ...]] = tuple(flag for flag in FLAGS if flag.fields)
"""Those that set fields of the policy."""


def policy_of(given: Mapping[str, Any]) -> dict[str, object]:
    """Fields of the policy that flags have set, from their values as parsed."""
    found: dict[str, object] = {}
    for flag in OF_POLICY:
        value = given[flag.key]
        if value is not None and value != []:
            found |= zip(flag.fields, flag.to_fields(value), strict=True)
    return found


def flags_of(policy: Mapping[str, Any]) -> dict[str, object]:
    """The other way round: key → the value that sets what is set of the policy; other fields as they are."""
    by_flag = {field for flag in OF_POLICY for field in flag.fields}
    found = {key: value for key, value in policy.items() if key not in by_flag}
    for flag in OF_POLICY:
        if all(field in policy for field in flag.fields):
            found[flag.key] = flag.from_fields(*(policy[field] for field in flag.fields))
    return found
