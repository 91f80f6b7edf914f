"""`fred-supervise install-service`."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.service_of import SYSTEM_CONFIGS, UNIT, user_configs, user_units
from fred_supervisor.cli.install_service.unit import (
    UnitFile,
    config_of,
    config_template,
    install,
    installed_program,
    load_unit,
)
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.record import record
from fred_supervisor.language import mark, tr
from fred_supervisor.linux.systemd_scope import lingers
from fred_supervisor.store import lock
from fred_supervisor.store.registry import SYSTEM_STATE, known_runs
from fred_supervisor.store.run_spec import NAME, RunSpec

_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - of ProtectHome= and PrivateTmp=
"""What the hardened unit does not see."""
_EPILOG: Final = mark(
    "examples:\n"
    "  sudo fred-supervise install-service rgb --data /data/FRED\n"
    "  fred-supervise install-service rgb --user\n\n"
    "The configuration takes over what a known run of that name was started with. Files "
    "that are there and were changed\n"
    "by hand are kept, and it is said so; --force replaces them, and keeps the old ones "
    "beside as *.old.\n"
)


@record
class ServicePlace:
    """Where a service manager looks."""

    units: Path
    configs: Path
    systemctl: str
    source: str
    """The unit's place in our `systemd` folder."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise install-service",
        description=tr("Write the systemd unit and the configuration of a run, and say the next command."),
        epilog=tr(_EPILOG),
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=tr("of the run (default: the only one known)"))
    parser.add_argument("--user", action="store_true", help=tr("a service of yours, not of the machine"))
    parser.add_argument("--data", metavar="D", help=tr("the data set, for the configuration"))
    parser.add_argument("--force", action="store_true", help=tr("replace files that were changed by hand, too"))
    given = parser.parse_args(argv)
    runs = list(known_runs())
    name = given.name or (runs[0].name if len(runs) == 1 else str(BY_KEY["modality"].default))
    if not NAME.fullmatch(name):
        raise CommandError(
            CommandExit.USAGE,
            tr("{name!r} is no name of a run: letters, digits, '.', '_' and '-', at most 64", name=name),
        )
    known = _known(name, runs)
    place = _user() if given.user else _system()
    data = None if given.data is None else os.path.abspath(given.data)
    program = installed_program()
    if not given.user:
        _check_seen(program, data, known)
    config = place.configs / f"{name}.toml"
    complete = known is not None or data is not None or config.exists()
    files = [UnitFile(place.units / UNIT, load_unit(place.source, program))]
    if not given.user:
        files.append(
            UnitFile(Path("/etc/sysusers.d/fred-supervise.conf"), load_unit("fred-supervise.sysusers", program))
        )
    if known is not None and known.command is not None and known.cwd != str(SYSTEM_STATE):
        folder = place.units / f"fred-supervise@{name}.service.d"
        files.append(UnitFile(folder / "folder.conf", f"[Service]\nWorkingDirectory={known.cwd.replace('%', '%%')}\n"))
    text = config_template(name, data) if known is None else config_of(known, data, with_run_dir=given.user)
    try:
        for file in files:
            print(install(file, force=given.force))
        print(install(UnitFile(config, text, marked=False), force=given.force))
    except PermissionError as error:
        again = shlex.join([program, "install-service", *argv])
        raise CommandError(
            CommandExit.NO_PERMISSION,
            tr(
                "{filename}: {strerror}; `sudo {again}`, or --user for a service of yours",
                filename=error.filename,
                strerror=error.strerror,
                again=again,
            ),
        ) from error
    _say_next(place, name, config, known, user=given.user, complete=complete)
    return CommandExit.OK


def _known(name: str, runs: list[RunSpec]) -> RunSpec | None:
    """The run of that name that is live, else the one that was made last."""
    fitting = [run for run in runs if run.name == name]
    return max(fitting, key=lambda run: (lock.held(run.dir), run.created), default=None)


def _system() -> ServicePlace:
    return ServicePlace(
        units=Path("/etc/systemd/system"),
        configs=SYSTEM_CONFIGS,
        systemctl="systemctl",
        source=UNIT,
    )


def _user() -> ServicePlace:
    return ServicePlace(
        units=user_units(),
        configs=user_configs(),
        systemctl="systemctl --user",
        source=f"user/{UNIT}",
    )


def _check_seen(program: str, data: str | None, known: RunSpec | None) -> None:
    """Refuse what would fail in the hardened unit only at the first start."""
    needed = {"the program": program, "its Python": sys.base_prefix, "its code": fred_supervisor.__file__}
    if data is not None:
        needed["the data set"] = data
    if known is not None and known.command is not None:
        needed["the working folder of the COMMAND"] = known.cwd
    elif known is not None and data is None:
        needed["the data set"] = str(known.flags.get("data"))
    for what, path in needed.items():
        real = os.path.realpath(path)
        hidden = next((top for top in _HIDDEN if real.startswith(f"{top}/")), None)
        if hidden is not None:
            raise CommandError(
                CommandExit.REFUSED,
                tr(
                    "{what}, {real}, lies below {hidden}, which the hardened service does not see; have it "
                    "elsewhere (e.g. `python3 -m venv /opt/fred-supervise`), or --user for a service of "
                    "yours",
                    what=what,
                    real=real,
                    hidden=hidden,
                ),
            )


def _say_next(
    place: ServicePlace, name: str, config: Path, known: RunSpec | None, *, user: bool, complete: bool
) -> None:
    instance = f"fred-supervise@{name}"
    if not complete:
        print(tr("Set `data` in {config} first.", config=config))
    if known is not None and not user and Path(known.run_dir) != SYSTEM_STATE / "logs" / f"fred_{name}":
        print(
            tr(
                "The service trains in {system_state}/logs/fred_{name}; the run in {run_dir} stays as it is.",
                system_state=SYSTEM_STATE,
                name=name,
                run_dir=known.run_dir,
            )
        )
    words = [
        f"{place.systemctl} daemon-reload",
        f"{place.systemctl} enable --now {instance}",
    ]
    if not user:
        words.insert(0, "systemd-sysusers")
    if user and not lingers():
        print(tr("Lingering is off: without it the service ends with your last logout."))
        words.insert(0, "loginctl enable-linger")
    if user and known is not None and lock.held(known.dir):
        words.insert(0, f"fred-supervise stop {name}")  # it goes on from the checkpoint
    print(tr("Next: {commands}", commands=" && ".join(words)))
