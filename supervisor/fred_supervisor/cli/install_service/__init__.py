"""`fred-supervise install-service`."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.install_service.unit import UnitFile, config_of, config_template, install, load_unit
from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.record import record
from fred_supervisor.linux.systemd_scope import lingers
from fred_supervisor.store import lock
from fred_supervisor.store.registry import SYSTEM_STATE, known_runs
from fred_supervisor.store.run_spec import NAME, RunSpec

UNIT: Final = "fred-supervise@.service"
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - of ProtectHome= and PrivateTmp=
"""What the hardened unit does not see."""
_EPILOG: Final = """\
examples:
  sudo fred-supervise install-service rgb --data /data/FRED
  fred-supervise install-service rgb --user

The configuration takes over what a known run of that name was started with. Files that are there and were changed
by hand are kept, and it is said so; --force replaces them, and keeps the old ones beside as *.old.
"""


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
        description="Write the systemd unit and the configuration of a run, and say the next command.",
        epilog=_EPILOG,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the run (default: the only one known)")
    parser.add_argument("--user", action="store_true", help="a service of yours, not of the machine")
    parser.add_argument("--data", metavar="D", help="the data set, for the configuration")
    parser.add_argument("--force", action="store_true", help="replace files that were changed by hand, too")
    given = parser.parse_args(argv)
    runs = list(known_runs())
    name = given.name or (runs[0].name if len(runs) == 1 else str(BY_KEY["modality"].default))
    if not NAME.fullmatch(name):
        raise CommandError(
            CommandExit.USAGE, f"{name!r} is no name of a run: letters, digits, '.', '_' and '-', at most 64"
        )
    known = _known(name, runs)
    place = _user() if given.user else _system()
    data = None if given.data is None else os.path.abspath(given.data)
    program = _program()
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
            f"{error.filename}: {error.strerror}; `sudo {again}`, or --user for a service of yours",
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
        configs=Path("/etc/fred-supervise"),
        systemctl="systemctl",
        source=UNIT,
    )


def _user() -> ServicePlace:
    xdg = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(xdg) if os.path.isabs(xdg) else Path("~/.config").expanduser()
    return ServicePlace(
        units=home / "systemd/user",
        configs=home / "fred-supervise",
        systemctl="systemctl --user",
        source=f"user/{UNIT}",
    )


def _program() -> str:
    """The command that a service manager can start: the one of this environment."""
    beside = os.path.join(os.path.dirname(sys.executable), "fred-supervise")
    found = beside if os.access(beside, os.X_OK) else shutil.which("fred-supervise")
    if found is None:
        raise CommandError(
            CommandExit.REFUSED, "no fred-supervise command is installed; `pip install fred-supervise` first"
        )
    return os.path.abspath(found)


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
                f"{what}, {real}, lies below {hidden}, which the hardened service does not see; have it elsewhere"
                " (e.g. `python3 -m venv /opt/fred-supervise`), or --user for a service of yours",
            )


def _say_next(
    place: ServicePlace, name: str, config: Path, known: RunSpec | None, *, user: bool, complete: bool
) -> None:
    instance = f"fred-supervise@{name}"
    if not complete:
        print(f"Set `data` in {config} first.")
    if known is not None and not user and Path(known.run_dir) != SYSTEM_STATE / "logs" / f"fred_{name}":
        print(f"The service trains in {SYSTEM_STATE}/logs/fred_{name}; the run in {known.run_dir} stays as it is.")
    words = [f"{place.systemctl} daemon-reload", f"{place.systemctl} enable --now {instance}"]
    if not user:
        words.insert(0, "systemd-sysusers")
    if user and not lingers():
        print("Lingering is off: without it the service ends with your last logout.")
        words.insert(0, "loginctl enable-linger")
    if user and known is not None and lock.held(known.dir):
        words.insert(0, f"fred-supervise stop {name}")  # it goes on from the checkpoint
    print(f"Next: {' && '.join(words)}")
