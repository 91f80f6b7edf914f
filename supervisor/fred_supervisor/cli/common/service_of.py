"""Whether a run belongs to a service manager, which is then the one to start it."""

import os
from pathlib import Path
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.store.registry import SYSTEM_STATE
from fred_supervisor.store.run_spec import RunSpec

SYSTEM_CONFIGS: Final = Path("/etc/fred-supervise")
"""Where the configurations of the system's instances lie."""
UNIT: Final = "fred-supervise@.service"


@record
class RunService:
    """An instance of our unit."""

    unit: str
    config: Path
    systemctl: str
    """How its service manager is called."""

    @property
    def start(self) -> str:
        """The command that starts it."""
        sudo = "sudo " if self.systemctl == "systemctl" and os.geteuid() else ""
        return f"{sudo}{self.systemctl} start {self.unit}"


def user_configs() -> Path:
    """Where the configurations of a user's own instances lie."""
    return _xdg_config() / "fred-supervise"


def user_units() -> Path:
    """Where the units of a user lie."""
    return _xdg_config() / "systemd/user"


def _xdg_config() -> Path:
    xdg = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(xdg) if os.path.isabs(xdg) else Path("~/.config").expanduser()


def service_of(spec: RunSpec) -> RunService | None:
    """The instance whose run this is: its run dir is the service's, or its configuration names it."""
    unit = f"fred-supervise@{spec.name}"
    of_system = SYSTEM_CONFIGS / f"{spec.name}.toml"
    if Path(spec.run_dir).is_relative_to(SYSTEM_STATE) and of_system.exists():
        return RunService(unit=unit, config=of_system, systemctl="systemctl")
    of_user = user_configs() / f"{spec.name}.toml"
    if of_user.exists() and (user_units() / UNIT).exists() and _run_dir_in(of_user) == spec.run_dir:
        return RunService(unit=unit, config=of_user, systemctl="systemctl --user")
    return None


def _run_dir_in(config: Path) -> str | None:
    import tomllib  # noqa: PLC0415 - only where there is a service

    try:
        section = tomllib.loads(config.read_text("utf-8")).get("supervisor", {})
    except (OSError, ValueError, RecursionError, AttributeError):  # garbled, or a section that is none
        return None
    if not isinstance(section, dict):
        return None
    found = section.get("run-dir", section.get("run_dir"))
    return os.path.abspath(found) if isinstance(found, str) else None
