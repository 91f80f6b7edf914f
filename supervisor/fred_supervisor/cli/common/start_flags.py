"""Every flag of `start`, once: for its parser, the configuration file, the environment, `config show`, the service.

The flags of the trainer are a table of their own (`contract/builtin/flags.py`), for the trainer's parser needs it, too.
"""

from collections.abc import Mapping
from typing import Any, Final

from fred_supervisor.cli.common import converters
from fred_supervisor.cli.common.start_flag import Group, StartFlag
from fred_supervisor.contract.builtin.flags import natural, positive
from fred_supervisor.language import mark
from fred_supervisor.policy.settings import OnDivergence
from fred_supervisor.store.sharing.readers import SHARES

FLAGS: Final[tuple[StartFlag, ...]] = (
    StartFlag(
        name="name",
        group=Group.RUN,
        metavar="N",
        help=mark("of the run (default: the modality, or the program of a COMMAND)"),
    ),
    StartFlag(
        name="run-dir",
        group=Group.RUN,
        metavar="D",
        help=mark("where everything is written (default logs/fred_<name>)"),
    ),
    StartFlag(
        name="config",
        group=Group.RUN,
        metavar="F",
        has_key=False,
        help=mark("TOML file with the sections [supervisor] and [trainer]"),
    ),
    StartFlag(
        name="command",
        group=Group.RUN,
        kind=converters.command,
        metavar="LINE",
        help=mark("a COMMAND in one line, for the file; here write it behind `--`"),
    ),
    StartFlag(
        name="foreground", group=Group.RUN, kind=None, has_key=False, help=mark("stay until the end; speaks sd_notify")
    ),
    StartFlag(
        name="resume",
        group=Group.RUN,
        metavar="auto|none|PATH",
        once=True,
        help=mark("for the first attempt (default auto: newest valid)"),
    ),
    StartFlag(
        name="phase",
        group=Group.RUN,
        choices=("freeze", "unfreeze"),
        once=True,
        help=mark("start from the newest checkpoint of this phase"),
    ),
    StartFlag(
        name="after",
        group=Group.WHERE,
        metavar="RUN[:completed]",
        has_key=False,
        help=mark("put it into the queue: it is started when that run has ended, or has been completed"),
    ),
    StartFlag(
        name="new", group=Group.RUN, kind=None, has_key=False, help=mark("a fresh run dir beside the one that is there")
    ),
    StartFlag(
        name="accept-changes",
        group=Group.RUN,
        kind=None,
        has_key=False,
        help=mark("go on with other model or data flags than recorded"),
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
        help=mark("exact limit without progress; a bare number is for train; repeatable"),
    ),
    StartFlag(
        name="backoff",
        group=Group.WATCH,
        kind=converters.backoff,
        metavar="FIRST:MAX",
        fields=("backoff_first_s", "backoff_max_s"),
        to_fields=tuple,
        from_fields=lambda first_s, max_s: f"{first_s:g}:{max_s:g}",
        help=mark("pause before a relaunch (default 1:300)"),
    ),
    StartFlag(
        name="max-restarts",
        group=Group.WATCH,
        kind=natural,
        metavar="N",
        fields=("max_restarts",),
        help=mark("without new progress (default 10)"),
    ),
    StartFlag(
        name="same-failure",
        group=Group.WATCH,
        kind=positive,
        metavar="N",
        fields=("same_failure",),
        help=mark("then it is the code (default 3)"),
    ),
    StartFlag(
        name="stop-timeout",
        group=Group.WATCH,
        kind=converters.seconds,
        metavar="S",
        fields=("stop_timeout_s",),
        help=mark("from SIGTERM to SIGKILL (default 120)"),
    ),
    StartFlag(
        name="diagnose",
        group=Group.WATCH,
        kind=None,
        fields=("diagnose",),
        help=mark("replay a failure that came again and again, before it gives up"),
    ),
    StartFlag(
        name="no-halve",
        group=Group.WATCH,
        kind=None,
        fields=("halve",),
        to_fields=lambda off: (not off,),
        from_fields=lambda halve: not halve,
        help=mark("never change a batch size"),
    ),
    StartFlag(
        name="done-file",
        group=Group.WATCH,
        kind=converters.done_pattern,
        metavar="PATTERN",
        help=mark("exit 0 counts only with such a new file"),
    ),
    StartFlag(
        name="checkpoints",
        group=Group.WATCH,
        kind=converters.pattern,
        metavar="PATTERN",
        help=mark("of a COMMAND, to resume from"),
    ),
    StartFlag(
        name="progress-file",
        group=Group.WATCH,
        kind=converters.pattern,
        metavar="PATTERN",
        help=mark("whose change is a sign of life"),
    ),
    StartFlag(
        name="progress-output",
        group=Group.WATCH,
        kind=converters.output_pattern,
        metavar="REGEX|auto|none",
        repeatable=True,
        between="\n",
        help=mark("where a COMMAND is, by its output; groups epoch epochs step steps loss lr metric phase; repeatable"),
    ),
    StartFlag(
        name="fail-output",
        group=Group.WATCH,
        kind=converters.fail_pattern,
        metavar="REGEX|none",
        repeatable=True,
        between="\n",
        help=mark("a line of the output that fits it means that the attempt has failed, though it goes on; repeatable"),
    ),
    StartFlag(
        name="must-recur",
        group=Group.WATCH,
        kind=converters.recurrence,
        metavar="REGEX=S|none",
        repeatable=True,
        between="\n",
        help=mark("a line of the output that fits it must come again within so many seconds, or it hangs; repeatable"),
    ),
    StartFlag(
        name="leak-restart",
        group=Group.WATCH,
        kind=None,
        fields=("leak_restart",),
        help=mark(
            "save and relaunch at an epoch's end before memory that grows reaches its limit (fred-train does anyway)"
        ),
    ),
    StartFlag(
        name="on-divergence",
        group=Group.WATCH,
        choices=tuple(OnDivergence),
        fields=("on_divergence",),
        help=mark("when the loss explodes or the metric collapses: say so, pause, or go back once (default warn)"),
    ),
    StartFlag(
        name="drill",
        group=Group.WATCH,
        kind=converters.drills,
        metavar="FAULTS",
        once=True,
        help=mark("rehearse failures, e.g. sigkill@freeze:2:5"),
    ),
    StartFlag(
        name="gpu",
        group=Group.WHERE,
        kind=converters.gpus,
        metavar="auto|GPU[,…]",
        help=mark("by index or UUID; auto (the default): the freest that fits, and no other run of yours has"),
    ),
    StartFlag(
        name="gpu-memory",
        group=Group.WHERE,
        kind=converters.memory,
        metavar="SIZE",
        help=mark("needed before a launch (default: as the trainer measured it)"),
    ),
    StartFlag(
        name="quiet",
        group=Group.WHERE,
        kind=converters.quiet_window,
        metavar="WINDOW",
        repeatable=True,
        between=";",
        help=mark('pause then, e.g. "mon-fri 08:00-19:00 Europe/Rome"; repeatable'),
    ),
    StartFlag(
        name="ranks",
        group=Group.RUN,
        kind=positive,
        metavar="N",
        help=mark("processes that train together under torchrun, on the CPU"),
    ),
    StartFlag(
        name="nodes",
        group=Group.RUN,
        kind=converters.nodes,
        metavar="slurm|N",
        help=mark("several machines: those of the Slurm job that we are in, or N that each start this command"),
    ),
    StartFlag(
        name="node",
        group=Group.RUN,
        kind=natural,
        metavar="I",
        help=mark("with --nodes N: which this one is; 0 decides"),
    ),
    StartFlag(
        name="rendezvous",
        group=Group.RUN,
        kind=converters.host_port,
        metavar="HOST:PORT",
        help=mark("with --nodes N: of machine 0, where the ranks meet"),
    ),
    StartFlag(
        name="min-nodes",
        group=Group.RUN,
        kind=positive,
        metavar="M",
        help=mark("with --nodes N: go on with as few, where the others do not come"),
    ),
    StartFlag(
        name="notify",
        group=Group.TELL,
        metavar="URL",
        repeatable=True,
        secret=True,
        help=mark(
            "address of the Apprise library that alerts go to (mail, Slack, ntfy, …); repeatable; none: no longer"
        ),
    ),
    StartFlag(
        name="on-event",
        group=Group.TELL,
        metavar="COMMAND",
        secret=True,
        help=mark("run at each alert, without a shell; reads JSON on standard input"),
    ),
    StartFlag(
        name="ping",
        group=Group.TELL,
        metavar="URL",
        secret=True,
        help=mark("asked for each minute while the supervisor lives"),
    ),
    StartFlag(
        name="daily",
        group=Group.TELL,
        kind=converters.clock,
        metavar="HH:MM|none",
        help=mark("when the addresses are sent the summary of the day, by the local clock (default 08:00)"),
    ),
    StartFlag(
        name="share",
        group=Group.TELL,
        choices=("none", *SHARES),
        help=mark("who else may read state, curves and incidents: the run dir's group, or all (default none)"),
    ),
    StartFlag(
        name="prometheus-dir",
        group=Group.TELL,
        metavar="D",
        help=mark("folder of node_exporter's textfile collector: a file a run, which everybody may read"),
    ),
)

BY_KEY: Final[Mapping[str, StartFlag]] = {flag.key: flag for flag in FLAGS}
OF_POLICY: Final[tuple[StartFlag, ...]] = tuple(flag for flag in FLAGS if flag.fields)


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
