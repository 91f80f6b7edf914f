"""A driver without a GPU: our own NVML library, which says what a test tells it to."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

NATIVE = Path(__file__).with_name("native")
"""Sources in C."""


def build_native(compiler: str, folder: Path) -> None:
    """Build `new/` and `old/libnvidia-ml.so.1`, `wall_clock.so`, `quick_hang.so` in this folder."""
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    hidden = [*flags, "-fvisibility=hidden", "-Wl,-soname,libnvidia-ml.so.1"]
    (folder / "new").mkdir()
    (folder / "old").mkdir()
    builds: list[list[str | Path]] = [
        [compiler, *hidden, "-o", folder / "new/libnvidia-ml.so.1", NATIVE / "fake_nvml.c"],
        [compiler, *hidden, "-DOLD_DRIVER", "-o", folder / "old/libnvidia-ml.so.1", NATIVE / "fake_nvml.c"],
        [compiler, *flags, "-o", folder / "wall_clock.so", NATIVE / "wall_clock.c", "-ldl"],
        [compiler, *flags, "-o", folder / "quick_hang.so", NATIVE / "quick_hang.c", "-ldl"],
    ]
    running = [subprocess.Popen(build) for build in builds]
    assert [process.wait() for process in running] == [0] * len(builds)


@dataclass
class Nvidia:
    """The driver of one test."""

    folder: Path
    native: Path
    age: str = "new"
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FRED_", "CUDA_"))}
        self.environ = {
            **inherited,
            "LD_LIBRARY_PATH": str(self.native / self.age),
            "FRED_FAKE_NVML": str(self.folder / "nvml"),
            "FRED_FAKE_NVML_CLOSED": str(self.folder / "closed"),
        }
        self.say("gpus 1")

    def say(self, *lines: str) -> None:
        """From now on the driver says this."""
        beside = self.folder / "nvml.new"
        beside.write_text("\n".join(lines) + "\n")
        beside.replace(self.folder / "nvml")

    @property
    def closed(self) -> bool:
        """NVML was closed properly."""
        return (self.folder / "closed").exists()

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "fred_supervisor.monitor.nvml_worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=self.environ,
        )
