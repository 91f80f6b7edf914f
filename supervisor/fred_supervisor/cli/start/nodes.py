"""Several machines: what can be known to be wrong with them before anything is started."""

import os
import shutil

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store.run_spec import RunSpec


def check_nodes(spec: RunSpec, *, foreground: bool) -> None:
    """Whether the machines can be had as asked."""
    if spec.under_slurm:
        _check_slurm(spec, foreground=foreground)
    elif spec.nodes is not None:
        _check_rendezvous(spec, int(spec.nodes))
    elif given := [flag for flag in ("node", "rendezvous", "min_nodes") if getattr(spec, flag) is not None]:
        raise CommandError(
            CommandExit.USAGE, tr("--{flag} without --nodes N; leave it out", flag=given[0].replace("_", "-"))
        )


def _check_slurm(spec: RunSpec, *, foreground: bool) -> None:
    if not os.environ.get("SLURM_JOB_ID"):
        raise CommandError(
            CommandExit.USAGE,
            tr("--nodes slurm outside of a Slurm job; `fred-supervise slurm-script` prints the script for sbatch"),
        )
    if shutil.which("srun") is None or shutil.which("scancel") is None:
        raise CommandError(CommandExit.BAD_INPUT, tr("--nodes slurm: srun or scancel is not found on PATH"))
    if not foreground:
        raise CommandError(
            CommandExit.USAGE, tr("--nodes slurm needs --foreground: a job ends with its script, and all in it")
        )
    if spec.gpu is not None:
        raise CommandError(CommandExit.USAGE, tr("--gpu with --nodes slurm: Slurm gives the GPUs (--gpus-per-node)"))
    given = [flag for flag in ("node", "rendezvous", "min_nodes") if getattr(spec, flag) is not None]
    if given:
        raise CommandError(
            CommandExit.USAGE,
            tr("--{flag} is not for --nodes slurm; leave it out", flag=given[0].replace("_", "-")),
        )


def _check_rendezvous(spec: RunSpec, count: int) -> None:
    if spec.node is None or spec.rendezvous is None:
        raise CommandError(
            CommandExit.USAGE,
            tr("--nodes {count} needs --node I and --rendezvous HOST:PORT on each, HOST being machine 0", count=count),
        )
    if spec.node >= count:
        raise CommandError(
            CommandExit.USAGE,
            tr(
                "--node {node}: of {count} machines the last one is {last}",
                node=spec.node,
                count=count,
                last=count - 1,
            ),
        )
    if spec.min_nodes is not None and spec.min_nodes > count:
        raise CommandError(
            CommandExit.USAGE,
            tr("--min-nodes {min_nodes} of {count}: give fewer", min_nodes=spec.min_nodes, count=count),
        )


def follow(own: RunSpec) -> int:
    """Be one of the machines that decide nothing, until the run has ended."""
    from fred_supervisor.run.follower import Follower  # noqa: PLC0415 - only where it runs

    outcome = Follower(own, lambda text: print(printable(text), flush=True)).run()
    if outcome is None:
        raise CommandError(
            CommandExit.REFUSED, tr("machine 0 has launched nothing in {run_dir} for an hour", run_dir=own.run_dir)
        )
    return CommandExit.RUN_FAILED if outcome is RunOutcome.FAILED else CommandExit.OK
