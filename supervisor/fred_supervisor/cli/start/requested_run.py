"""From the flags of `start` to what a run is to be, on top of what it was before."""

import os
from dataclasses import asdict, replace
from pathlib import Path

from fred_supervisor.alerts.client import AlertAddresses
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.settings_layers import Options
from fred_supervisor.cli.common.start_flags import policy_of
from fred_supervisor.cli.start.checks import check_flags_of
from fred_supervisor.cli.start.command_name import name_of_command
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec


def requested_run(given: Options, command: list[str] | None) -> tuple[RunSpec, RunSpec | None]:
    """What is asked for, on top of what a run in the same place was asked before."""
    if given["name"] is not None and not NAME.fullmatch(given["name"]):
        raise CommandError(
            CommandExit.USAGE, f"--name {given['name']!r}: letters, digits, '.', '_' and '-', at most 64"
        )
    flags = {key: given[key] for key in BY_KEY if given.get(key) is not None and not BY_KEY[key].own}
    name = given["name"] or _name(flags, command)
    run_dir = Path(_here(), given["run_dir"] or f"logs/fred_{name}")
    run_dir = Path(os.path.normpath(run_dir))
    if given["run_dir"] is not None and given["name"] is None and (there := load_run_spec(run_dir)) is not None:
        name = there.name
    if given["new"]:
        name, run_dir = _fresh(name, run_dir)
    before = load_run_spec(run_dir)
    if command is None and before is not None:
        command = before.command
    if command is not None:
        check_flags_of(command, flags)
    if "data" in flags:
        flags["data"] = os.path.abspath(flags["data"])
    resume = given["resume"] or "auto"
    if resume not in ("auto", "none"):
        resume = os.path.abspath(resume)
        if not (os.path.isfile if command is None else os.path.exists)(resume):
            raise CommandError(
                CommandExit.BAD_INPUT, f"--resume {resume}: no such file; give a checkpoint, auto or none"
            )
    kept = asdict(before) if before is not None else {}
    fresh = RunSpec(
        name=name,
        modality=_modality({**kept.get("flags", {}), **flags}, command, before),
        run_dir=str(run_dir),
        command=command,
        cwd=_here(),
        flags={**kept.get("flags", {}), **flags},
        policy={**kept.get("policy", {}), **given["policy"], **policy_of(given)},
        by_hand=[key for key, value in flags.items() if value != kept["flags"].get(key)] if kept else [],
        sources={**kept.get("sources", {}), **given["sources"]},
        drill=given["drill"] or "",
        resume=resume,
        phase=given["phase"],
        done_file=given["done_file"] or kept.get("done_file"),
        checkpoints=given["checkpoints"] or kept.get("checkpoints"),
        progress_file=given["progress_file"] or kept.get("progress_file"),
        progress_output=given["progress_output"] or kept.get("progress_output") or [],
        fail_output=_unless_none(given["fail_output"] or kept.get("fail_output") or []),
        must_recur=_recurrences(given["must_recur"]) if given["must_recur"] else kept.get("must_recur", {}),
        gpu=given["gpu"] or kept.get("gpu"),
        gpu_memory_mib=(given["gpu_memory"] if given["gpu_memory"] is not None else kept.get("gpu_memory_mib")) or None,
        quiet=[window for window in given["quiet"] or kept.get("quiet") or () if window != "never"],
        ranks=given["ranks"] or (kept.get("ranks") if given["gpu"] is None else None),
        accepted=bool(given["accept_changes"]) or bool(kept.get("accepted")),
    )
    if before is not None:
        fresh = replace(fresh, run_id=before.run_id, created=before.created)
    return fresh, before


def addresses(given: Options, spec: RunSpec) -> AlertAddresses:
    """Where alerts go: what is given, else what this run was given before; "none" is nowhere."""
    before = asdict(AlertAddresses.load(spec.dir))
    now = {key: before[key] if given[key] is None else given[key] for key in before}
    return AlertAddresses(
        notify=tuple(url for url in now["notify"] if url != "none"),
        on_event=None if now["on_event"] == "none" else now["on_event"],
        ping=None if now["ping"] == "none" else now["ping"],
    )


def _unless_none(given: list[str]) -> list[str]:
    return [] if given == ["none"] else given


def _recurrences(given: list[tuple[str, float]]) -> dict[str, float]:
    found = dict(given)
    if len(found) < len(given) or ("none" in found and len(found) > 1):
        wrong = "none stands alone" if "none" in found else "has one pattern twice"
        raise CommandError(CommandExit.USAGE, f"--must-recur {wrong}; leave one of them out")
    return {} if "none" in found else found


def _name(flags: Options, command: list[str] | None) -> str:
    """Of a run that was given none."""
    if command is not None:
        return name_of_command(command)
    return str(flags.get("modality") or BY_KEY["modality"].default)


def _modality(flags: Options, command: list[str] | None, before: RunSpec | None) -> str | None:
    """Of a COMMAND only what was said."""
    said: str | None = flags.get("modality")
    if said is not None or command is not None:
        return said
    return (None if before is None else before.modality) or str(BY_KEY["modality"].default)


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise CommandError(CommandExit.BAD_INPUT, "the current folder no longer exists; cd to one that does") from error


def _fresh(name: str, run_dir: Path) -> tuple[str, Path]:
    """The first free name and run dir beside a given one."""
    if not run_dir.exists():
        return name, run_dir
    number = 2
    while run_dir.with_name(f"{run_dir.name}-{number}").exists():
        number += 1
    return f"{name}-{number}", run_dir.with_name(f"{run_dir.name}-{number}")
