"""Checkpoints with sidecars, and what damages them: as a disk, another version or a person would."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from fred_supervisor.contract.checkpoint import FORMAT_VERSION, CheckpointMeta, publish, sidecar_path
from fred_supervisor.contract.files import write_json


def change_sidecar(path: Path, **facts: Any) -> None:
    write_json(sidecar_path(path), {**json.loads(sidecar_path(path).read_text()), **facts})


def write(run_dir: Path, name: str, *, content: str = "weights", also: tuple[str, ...] = (), **facts: Any) -> Path:
    """A published checkpoint with a sidecar."""
    written = run_dir / ".writing.tmp"
    torch_zip(written, content)
    given = {"phase": "freeze", "epoch": 1, "step": 1, "samples": 8, "session": 1, **facts}

    def describe(size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(size=size, digest=digest, **given)

    publish(written, [run_dir / n for n in (name, *also)], describe)
    return run_dir / name


def torch_zip(path: Path, content: str = "weights") -> Path:
    """What a file of torch.save looks like from outside."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", "0123456789" * 50)
    return path


DAMAGE = {
    "truncated": lambda p: os.truncate(p, p.stat().st_size - 1),
    "empty": lambda p: os.truncate(p, 0),
    "a bit flipped": lambda p: p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:]),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"x"),
    "another file": lambda p: p.write_bytes(os.urandom(p.stat().st_size)),
    "from the future": lambda p: change_sidecar(p, format_version=FORMAT_VERSION + 1),
    "not finite": lambda p: change_sidecar(p, finite=False),
}
