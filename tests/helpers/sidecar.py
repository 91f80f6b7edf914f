"""Sidecars of checkpoints, changed as another version or a person would."""

import json
from pathlib import Path
from typing import Any

from fred_supervisor.contract.checkpoint import sidecar_path
from fred_supervisor.contract.files import write_json


def change_sidecar(path: Path, **facts: Any) -> None:
    write_json(sidecar_path(path), {**json.loads(sidecar_path(path).read_text()), **facts})
