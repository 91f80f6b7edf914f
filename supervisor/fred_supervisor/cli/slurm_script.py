"""`fred-supervise slurm-script [--nodes N] [--ranks G] [--time T] [flags of start] [-- COMMAND]`."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.options import parser as start_parser
from fred_supervisor.contract.builtin.flags import normalise, positive
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.language import mark, tr
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.state_file import read_state

_UNKNOWN_S: Final = 600
"""Before the time limit, where no save of the run was measured."""
_MOST_PARTS: Final = 3
_SLACK_S: Final = 60
"""Slurm's signal may come so much later than asked."""
_EPILOG: Final = mark(
    "examples:\n"
    "  fred-supervise slurm-script --nodes 2 --ranks 4 --gpus 4 --time 24:00:00 \\\n"
    "      --name dual --run-dir /shared/dual --modality dual --data /shared/FRED > "
    "dual.sh\n"
    "  fred-supervise slurm-script --nodes 2 --run-dir /shared/mine -- python train.py "
    "--resume={resume} > mine.sh\n\n"
    "Then `sbatch dual.sh`. Partition, account and the like are flags of sbatch, or "
    "further #SBATCH lines.\n"
)
_SCRIPT: Final = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={ranks}
{resources}#SBATCH --output={name}-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{lead_s}

again=
trap 'again=yes; kill -TERM $supervisor' USR1  # {lead_s} s before the time limit
trap 'kill -TERM $supervisor' TERM             # pre-empted, requeued or cancelled: save, and leave it to Slurm
while :; do
    {start} &
    supervisor=$!
    while kill -0 $supervisor 2>/dev/null; do wait $supervisor; done
    wait $supervisor
    code=$?
    case $code in 70|134|137|139) sleep 1 ;; *) break ;; esac  # it was killed: the next one takes over the trainer
done
if [ $code = 75 ] && [ $again ]; then scontrol requeue $SLURM_JOB_ID; fi
exit $code  # 0: complete or stopped; 75: saved, run me again; 78, 93: never again
"""


def main(argv: Sequence[str]) -> int:
    """Print the script; nothing is started, and nothing is written."""
    words, command = list(argv), []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at:]
    parser = CommandParser(
        prog="fred-supervise slurm-script",
        description=tr("Print a batch script for sbatch: one supervisor, which starts every attempt as one step."),
        epilog=tr(_EPILOG),
    )
    parser.add_argument("--nodes", type=positive, default=1, metavar="N", help=tr("machines (default 1)"))
    parser.add_argument("--ranks", type=positive, default=1, metavar="G", help=tr("of each machine (default 1)"))
    parser.add_argument("--gpus", type=positive, metavar="G", help=tr("of each machine"))
    parser.add_argument("--time", metavar="T", help=tr("limit, as sbatch takes it: minutes, H:M:S, D-H"))
    own, rest = parser.parse_known_args(words)
    given = vars(start_parser().parse_args(normalise(rest)))
    if given["run_dir"] is None:
        raise CommandError(
            CommandExit.USAGE, tr("--run-dir is missing: a folder that every machine sees, e.g. /shared/runs/dual")
        )
    name = given["name"] or (given["modality"] or "fred" if not command else "fred")
    resources = [f"--gpus-per-node={own.gpus}"] if own.gpus else []
    resources += [f"--time={own.time}"] if own.time else []
    program = shutil.which("fred-supervise") or f"{sys.executable} -m fred_supervisor.cli.main"
    start = f"{program} start --foreground --nodes slurm {shlex.join([*rest, *command])}"
    script = _SCRIPT.format(
        name=name,
        nodes=own.nodes,
        ranks=own.ranks,
        resources="".join(f"#SBATCH {line}\n" for line in resources),
        lead_s=_lead_s(given["run_dir"], own.time),
        start=start.strip(),
    )
    print(script, end="")
    return CommandExit.OK


def _lead_s(run_dir: str, limit: str | None) -> int:
    """How long before the time limit to ask: twice the longest save of the run, and what Slurm is late by.

    At most a quarter of the limit: else a short job would do little but save.
    """
    known = next((run for run in known_runs() if run.run_dir == run_dir), None)
    gaps_s = {} if known is None else read_state(known.dir).history.learned.gaps_s
    save_s = gaps_s.get(Section.CHECKPOINT)
    lead_s = _UNKNOWN_S if save_s is None else int(2 * save_s) + _SLACK_S
    return lead_s if limit is None else min(lead_s, _seconds(limit) // 4)


def _seconds(limit: str) -> int:
    """Of a time limit as sbatch takes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Raises CommandError."""
    days, dash, rest = limit.rpartition("-")
    parts = rest.split(":")
    if len(parts) > _MOST_PARTS or not all(part.isdecimal() for part in (*parts, days or "0")):
        raise CommandError(
            CommandExit.USAGE, tr("--time {limit}: as sbatch takes it, e.g. 90, 24:00:00 or 2-12", limit=limit)
        )
    units = (3600, 60, 1) if dash or len(parts) == _MOST_PARTS else (60, 1)
    return int(days or 0) * 86400 + sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
