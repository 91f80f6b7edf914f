"""The machine and the software that a failure happened on, without secrets."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fred_supervisor.attempt.code_state import folder_of
from fred_supervisor.bundle.secrets import variables, without_secrets
from fred_supervisor.contract.files import read_json
from fred_supervisor.store.attempt_files import LaunchRecord
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec

_GIT_S: Final = 30.0
_MOST_DIFF: Final = 1 << 20
"""Bytes of a diff; beyond that it is cut."""


def machine_document(spec: RunSpec, launch: LaunchRecord) -> dict[str, object]:
    """Versions, GPUs, driver, memory, and the variables that change how training computes. What is not known is None.

    Versions are those of our own interpreter: a COMMAND may use another one.
    """
    sample = newest_sample(spec.dir)
    gpus = [] if sample is None else [{"name": gpu.name, "total_mib": gpu.total_mib} for gpu in sample.gpus]
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "distribution": _first("/etc/os-release", "PRETTY_NAME="),
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _first("/proc/meminfo", "MemTotal:"),
        "gpus": gpus,
        "driver": _first("/proc/driver/nvidia/version", "NVRM version:"),
        "packages": _packages(),
        "variables": variables(launch.environment),
    }


def _first(path: str, start: str) -> str | None:
    """What follows `start` in the first line of a file that begins with it."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(errors="replace").splitlines():
            if line.startswith(start):
                return line.removeprefix(start).strip(' \t:"')
    return None


def _packages() -> dict[str, str]:
    return {
        name: each.version for each in importlib.metadata.distributions() if (name := each.metadata["Name"]) is not None
    }


def code_document(spec: RunSpec, attempt: AttemptDir) -> dict[str, object]:
    """The commit and the changed files at the launch, and whether they are still the same now."""
    from fred_supervisor.attempt.code_state import changes, state  # noqa: PLC0415 - starts git

    then = read_json(attempt.code)
    now = state(code_folder(spec))
    return {"at_launch": then, "now": now, "changed_since": changes(then, now)}


def code_folder(spec: RunSpec) -> Path:
    """Where the code of the trainer lies."""
    return folder_of(spec.command, spec.cwd, Path(__file__).parents[2])


def diff(spec: RunSpec) -> str:
    """What the code differs from its commit by, now; empty without git."""
    environ: Mapping[str, str] = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    words = ["git", "-C", str(code_folder(spec)), "diff", "HEAD", "--no-color", "--no-ext-diff", "--", "."]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_GIT_S, check=False, env=environ)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = done.stdout[:_MOST_DIFF].decode(errors="replace") if done.returncode == 0 else ""
    return without_secrets(text) + ("\n(cut here)\n" if len(done.stdout) > _MOST_DIFF else "")
