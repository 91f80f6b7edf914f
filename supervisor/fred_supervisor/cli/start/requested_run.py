"""From the flags of `start` to what a run is to be, on top of what it was before."""

import os
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from fred_supervisor.alerts.client import AlertAddresses
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.find_run import answering, find_run
from fred_supervisor.cli.common.settings_layers import Options, from_old_environment
from fred_supervisor.cli.common.start_flags import policy_of
from fred_supervisor.cli.start.checks import check_flags_of
from fred_supervisor.cli.start.command_name import name_of_command
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import ENGLISH, LOCALE_NAMES, language, tr
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec

MODALITIES: Final = BY_KEY["modality"].choices or ()


def requested_run(given: Options, command: list[str] | None) -> tuple[RunSpec, RunSpec | None]:
    """What is asked for, on top of what a run in the same place was asked before."""
    for flag, text in (("--name ", given["name"]), ("", given.get("known"))):
        if text is not None and not NAME.fullmatch(text):
            raise CommandError(
                CommandExit.USAGE,
                tr("{flag}{text!r}: letters, digits, '.', '_' and '-', at most 64", flag=flag, text=text),
            )
    flags = {key: given[key] for key in BY_KEY if given.get(key) is not None and not BY_KEY[key].own}
    for place in (given["run_dir"], flags.get("data")):
        if place is not None:
            answering(os.path.abspath(place), partial(os.path.exists, place))
    name, run_dir = _place(given, flags, command)
    if given["new"]:
        name, run_dir = _fresh(name, run_dir)
    before = load_run_spec(run_dir)
    cwd = _here()
    if command is None and before is not None:
        command = before.command
        cwd = before.cwd if os.path.isdir(before.cwd) else cwd
    if before is None and command is None and name in MODALITIES:
        flags.setdefault("modality", name)
    if command is not None:
        check_flags_of(command, flags)
    else:
        flags |= _of_old_variables(flags, {} if before is None else before.flags, given["sources"])
    if "data" in flags:
        flags["data"] = os.path.abspath(flags["data"])
    resume = given["resume"] or "auto"
    if resume not in ("auto", "none"):
        resume = os.path.abspath(resume)
        if not (os.path.isfile if command is None else os.path.exists)(resume):
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr("--resume {resume}: no such file; give a checkpoint, auto or none", resume=resume),
            )
    kept = asdict(before) if before is not None else {}
    fresh = RunSpec(
        name=name,
        modality=_modality({**kept.get("flags", {}), **flags}, command, before),
        run_dir=str(run_dir),
        command=command,
        cwd=cwd,
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
        prometheus_dir=os.path.abspath(folder) if (folder := given["prometheus_dir"]) else kept.get("prometheus_dir"),
        share={"none": None}.get(share, share) if (share := given["share"]) else kept.get("share"),
        ranks=given["ranks"] or (kept.get("ranks") if given["gpu"] is None else None),
        nodes=given["nodes"] or kept.get("nodes"),
        node=given["node"] if given["node"] is not None else kept.get("node"),
        rendezvous=given["rendezvous"] or kept.get("rendezvous"),
        min_nodes=given["min_nodes"] or kept.get("min_nodes"),
        accepted=bool(given["accept_changes"]) or bool(kept.get("accepted")),
    )
    if before is not None:
        fresh = replace(fresh, run_id=before.run_id, created=before.created)
    return fresh, before


def addresses(given: Options, spec: RunSpec) -> AlertAddresses:
    """Where alerts go: what is given, else what this run was given before; "none" is nowhere."""
    before = AlertAddresses.load(spec.dir)
    keys = ("notify", "on_event", "ping", "daily")
    now = {key: getattr(before, key) if given[key] is None else given[key] for key in keys}
    silent = language() == ENGLISH and not any(map(os.environ.get, LOCALE_NAMES))  # e.g. a service at boot
    return AlertAddresses(
        notify=tuple(url for url in now["notify"] if url != "none"),
        on_event=None if now["on_event"] == "none" else now["on_event"],
        ping=None if now["ping"] == "none" else now["ping"],
        daily=None if now["daily"] == "none" else now["daily"],
        language=before.language if silent else language(),
    )


def _of_old_variables(flags: Options, recorded: Mapping[str, object], sources: dict[str, str]) -> Options:
    """What the variables of the old trainer's scripts say, as it is kept."""
    found: Options = {}
    for key, (name, text) in from_old_environment(flags, recorded).items():
        kind = BY_KEY[key].kind or str
        try:
            found[key] = kind(text)
        except ArgumentTypeError as error:
            raise CommandError(
                CommandExit.BAD_INPUT, tr("the environment variable {name}: {error}", name=name, error=error)
            ) from error
        sources[key] = f"environment {name}"
    return found


def _place(given: Options, flags: Options, command: list[str] | None) -> tuple[str, Path]:
    """Name and run dir. A name that a person has given is that of a known run, wherever it lies, if there is one."""
    known, named = given.get("known"), given["name"]
    if known is not None and named is not None and known != named:
        raise CommandError(
            CommandExit.USAGE, tr("{known!r} and --name {named!r} are two names; give one", known=known, named=named)
        )
    name = known or named
    if given["run_dir"] is not None:
        run_dir = Path(os.path.abspath(given["run_dir"]))
        there = load_run_spec(run_dir)
        if known is not None and there is not None and there.name != known:
            raise CommandError(
                CommandExit.USAGE,
                tr(
                    "{run_dir} is the run {other!r}, not {known!r}",
                    run_dir=run_dir,
                    other=there.name,
                    known=known,
                ),
            )
        return (name or (_name(flags, command) if there is None else there.name)), run_dir
    if name is None:
        name = _name(flags, command)
        return name, Path(_here(), f"logs/fred_{name}")
    local = Path(_here(), f"logs/fred_{name}")
    if load_run_spec(local) is not None:
        return name, local
    elsewhere = [run for run in known_runs() if run.name == name]
    by_name = known is not None and given["config"] is None  # else a service's, which names it in its configuration
    if elsewhere and (by_name if given["foreground"] else known is not None or command is None):
        return name, Path(find_run(name, None).run_dir)
    if elsewhere and not given["foreground"]:
        raise CommandError(
            CommandExit.REFUSED,
            tr(
                "a run {name!r} is known in {run_dir}; `fred-supervise start {name}` goes on with it, "
                "another --name or a --run-dir begins another one",
                name=name,
                run_dir=elsewhere[0].run_dir,
            ),
        )
    if known is not None and command is None and not flags and given["config"] is None and known not in MODALITIES:
        find_run(known, None)  # says that there is none, and which ones there are
    return name, local


def _unless_none(given: list[str]) -> list[str]:
    return [] if given == ["none"] else given


def _recurrences(given: list[tuple[str, float]]) -> dict[str, float]:
    found = dict(given)
    if len(found) < len(given) or ("none" in found and len(found) > 1):
        wrong = tr("none stands alone") if "none" in found else tr("has one pattern twice")
        raise CommandError(CommandExit.USAGE, tr("--must-recur {wrong}; leave one of them out", wrong=wrong))
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
        raise CommandError(
            CommandExit.BAD_INPUT, tr("the current folder no longer exists; cd to one that does")
        ) from error


def _fresh(name: str, run_dir: Path) -> tuple[str, Path]:
    """The first free name and run dir beside a given one."""
    if not run_dir.exists():
        return name, run_dir
    number = 2
    while run_dir.with_name(f"{run_dir.name}-{number}").exists():
        number += 1
    return f"{name}-{number}", run_dir.with_name(f"{run_dir.name}-{number}")
