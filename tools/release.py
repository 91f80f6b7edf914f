"""`make release`: a wheel and a source archive in dist/, tried as a stranger would get them. Publishes nothing.

The wheel is built from the source archive. Its metadata is checked (`twine check --strict`); it is installed into a
clean environment without torch, where a run must outlive a crash, and into one with the extra `train`, where a training
must reach its end. Where a docker engine answers, the image is built and started, too. Exit code 0 when all of it
passes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DIST: Final = ROOT / "dist"
NEEDED: Final = (
    "fred_supervisor/systemd/",
    "fred_supervisor/language/locale/zh_CN/LC_MESSAGES/fred_supervise.mo",
    "fred_trainer/cli/main.py",
)
"""In the wheel, by their beginnings."""
CRASHES_ONCE: Final = """
import os, pathlib, signal
seen = pathlib.Path("seen")
if not seen.exists():
    seen.touch()
    os.kill(os.getpid(), signal.SIGKILL)
print("trained")
"""
TRAINING: Final = ("--freeze-epochs=1", "--epochs=2", "--input-size=64", "--freeze-batch-size=4", "--device=cpu")


class FailedCheckError(Exception):
    """A check that has failed, in words."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-train", action="store_true", help="leave out the environment with torch (5 GB)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fred-release-") as name:
        folder = Path(name)
        try:
            wheel = build(folder)
            without_torch(folder, wheel)
            if given.no_train:
                print("left out: the environment with torch")
            else:
                with_torch(folder, wheel)
            image()
        except FailedCheckError as error:
            print(f"release: {error}", file=sys.stderr)
            return 1
    print(f"fine: {', '.join(sorted(path.name for path in DIST.iterdir()))} in {DIST}; nothing is published")
    return 0


def build(folder: Path) -> Path:
    """The source archive, from it the wheel, and what they must hold."""
    shutil.rmtree(DIST, ignore_errors=True)
    tools = environment(folder / "tools", "build", "twine", "hatchling")
    run([tools / "python", "-m", "build", "--no-isolation", "--outdir", DIST, ROOT], cwd=folder)
    (wheel,), (source,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run([tools / "twine", "check", "--strict", wheel, source], cwd=folder)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in NEEDED:
        if not any(name.startswith(needed) for name in names):
            raise FailedCheckError(f"the wheel has no {needed}")
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("tests/conftest.py", "Makefile", "CHANGELOG.md"):
        if needed not in inside:
            raise FailedCheckError(f"the source archive has no {needed}")
    return wheel


def without_torch(folder: Path, wheel: Path) -> None:
    """A COMMAND that crashes once ends as completed; nothing heavy has come along."""
    programs = environment(folder / "slim", str(wheel))
    heavy = run([programs / "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"], cwd=folder)
    if heavy.strip() != "None":
        raise FailedCheckError("torch was installed with the supervisor alone")
    there = folder / "work"
    there.mkdir()
    environ = {"XDG_STATE_HOME": str(folder / "state")}
    fred = programs / "fred-supervise"
    version = run([fred, "--version"], cwd=there, environ=environ).split()[-1]
    if version != wheel.name.split("-")[1]:
        raise FailedCheckError(f"--version says {version}, the wheel {wheel.name}")
    worker = [str(programs / "python"), "-c", CRASHES_ONCE]
    words = ["start", "--foreground", "--name", "smoke", "--backoff", "0:0", "--", *worker]
    run([fred, *words], cwd=there, environ=environ)
    told = run([fred, "status", "smoke"], cwd=there, environ=environ, codes=(0, 3))
    if "completed" not in told:
        raise FailedCheckError(f"a run that crashed once is not completed, but: {told}")
    if "SIGKILL" not in run([fred, "incidents", "smoke"], cwd=there, environ=environ):
        raise FailedCheckError("its incident does not name the signal")
    print(f"{wheel.name}: without torch a run outlives its crash")


def with_torch(folder: Path, wheel: Path) -> None:
    """A training reaches its end under the supervisor."""
    programs = environment(folder / "train", f"{wheel}[train]")
    there = folder / "training"
    there.mkdir()
    environ = {"XDG_STATE_HOME": str(folder / "state"), "PATH": f"{programs}:{os.environ['PATH']}"}
    run(
        [programs / "fred-train", "data", "synth", "data", "--sequences", "3", "--frames", "8"],
        cwd=there,
        environ=environ,
    )
    words = ["start", "--foreground", "--modality", "rgb", "--data", "data", "--pretrained", "none", *TRAINING]
    run([programs / "fred-supervise", *words], cwd=there, environ=environ)
    if not list(there.rglob("*_final.pth")):
        raise FailedCheckError(f"no final weights among {sorted(path.name for path in there.rglob('*.pth'))}")
    print(f"{wheel.name}: with torch a training reaches its end")


def image() -> None:
    """Built and started where there is an engine."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        print("left out: the image; no docker engine answers")
        return
    run(["docker", "build", "--tag", "fred-supervise:release", ROOT], cwd=ROOT)
    words: list[str | Path] = [
        "docker",
        "run",
        "--rm",
        "fred-supervise:release",
        "start",
        "--foreground",
        "--name",
        "smoke",
        "--",
    ]
    run([*words, "python", "-c", CRASHES_ONCE], cwd=ROOT)
    print("the image: a run outlives its crash as process 1")


def environment(home: Path, *packages: str) -> Path:
    """A clean one; its programs. By uv where there is one: a second copy of torch then costs no space."""
    run([sys.executable, "-m", "venv", home], cwd=home.parent)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    python = home / "bin/python"
    pip: list[str | Path] = (
        [uv, "pip", "install", "--quiet", "--python", python] if uv else [python, "-m", "pip", "install", "--quiet"]
    )
    run([*pip, *packages], cwd=home.parent)
    return home / "bin"


def run(
    words: Sequence[str | Path], *, cwd: Path, environ: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)
) -> str:
    """What it prints. Raises FailedCheckError with its last lines."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode not in codes:
        last = "\n".join(done.stdout.splitlines()[-12:])
        raise FailedCheckError(f"{Path(str(words[0])).name} ended with exit code {done.returncode}:\n{last}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
