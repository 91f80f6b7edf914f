"""What the supervisor writes to the monitor's standard input: the configuration, then commands, each a JSON line."""

import json
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.record import record
from fred_supervisor.monitor.quiet import QuietWindow, parse_window
from fred_supervisor.store.layout import RunDir

_LEAST_PERIOD_S: Final = 0.1


@record
class MonitorConfig:
    """The first line: what to watch."""

    dir: RunDir
    run_id: str
    name: str
    period_s: float = 10.0
    """Between two samples while nothing happens."""
    quiet: tuple[QuietWindow, ...] = ()
    cuda_visible_devices: str | None = None
    """What the trainer is given; None: not set."""
    pci_order: bool = False
    """CUDA_DEVICE_ORDER=PCI_BUS_ID holds for the trainer."""
    checkpoint_bytes: int | None = None
    """Size of the next checkpoint; None: that of the newest one in the run dir."""
    kernel_log: Path = Path("/dev/kmsg")
    prometheus_dir: Path | None = None
    """A collector's folder; None: the metrics stay with the run."""
    data: str | None = None
    """The trainer's data set; None: not known."""
    curves: tuple[str, ...] = ()
    """Patterns of files in which the trainer tells of its learning; none: they are not read."""


def parse_config(line: bytes) -> MonitorConfig:
    """Raises ValueError, which says what is wrong with the line."""
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("the first line is no JSON object")  # noqa: TRY004 - one kind of error for one kind of reader
    missing = [key for key in ("run_dir", "run_id", "name") if not isinstance(document.get(key), str)]
    if missing:
        raise ValueError(f"the first line lacks {', '.join(missing)}")
    period_s = document.get("period_s", 10.0)
    if not isinstance(period_s, int | float) or not period_s >= _LEAST_PERIOD_S:
        raise ValueError(f"period_s is {period_s!r}, at least {_LEAST_PERIOD_S} s make sense")
    devices, size = document.get("cuda_visible_devices"), document.get("checkpoint_bytes")
    folder, curves = document.get("prometheus_dir"), document.get("curves")
    return MonitorConfig(
        dir=RunDir(Path(document["run_dir"])),
        run_id=document["run_id"],
        name=document["name"],
        period_s=float(period_s),
        quiet=tuple(parse_window(text) for text in document.get("quiet") or ()),
        cuda_visible_devices=devices if isinstance(devices, str) else None,
        pci_order=document.get("cuda_device_order") == "PCI_BUS_ID",
        checkpoint_bytes=size if isinstance(size, int) else None,
        kernel_log=Path(document.get("kernel_log") or "/dev/kmsg"),
        prometheus_dir=Path(folder) if isinstance(folder, str) else None,
        data=data if isinstance(data := document.get("data"), str) else None,
        curves=tuple(filter(_is_text, curves)) if isinstance(curves, list) else (),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class LineBuffer:
    """Puts lines together from the pieces that a pipe delivers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return [line for line in whole if line.strip()]


def parse_command(line: bytes) -> dict[str, Any]:
    """One command; empty for a garbled line, because the monitor must survive it."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
