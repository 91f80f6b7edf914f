"""What people copy: the files of `examples/`, run as the README says, and the README's own copies of them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def test_what_the_readme_shows_is_what_is_tested():
    """A code block that begins with `# examples/NAME` is that file."""
    shown = re.findall(r"```\w+\n# examples/(\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for name, text in shown:
        assert (EXAMPLES / name).read_text().strip().endswith(text.strip()), name


def test_a_bash_loop_survives_a_kill(fred, until):
    fred.environ["EPOCH_SECONDS"] = "0.1"
    words = ["start", "--name", "t", "--backoff", "0:0", "--checkpoints", "epoch-*.txt"]
    assert fred(*words, "--", "bash", str(EXAMPLES / "train.sh"), "{resume}").returncode == 0
    until((fred.run_dir / "epoch-3.txt").exists)
    os.kill(fred.launch(1)["trainer"]["pid"], signal.SIGKILL)
    until(lambda: fred.status()["state"] == "completed")
    assert "epoch 1 of 10" not in fred.output(2)
    assert (fred.run_dir / "epoch-10.txt").read_text() == "10\n"
    assert len(fred.incidents()) == 1


def test_a_plain_pytorch_loop_goes_on_where_it_was(fred):
    fred.environ["OMP_NUM_THREADS"] = "1"
    words = ["start", "--name", "t", "--foreground", "--checkpoints", "epoch-*.pt"]
    command = [sys.executable, str(EXAMPLES / "train.py")]
    assert fred(*words, "--", *command).returncode == 0
    assert fred.status()["detail"] == "The goal is reached and recorded."
    for epoch in (4, 5):
        (fred.run_dir / f"epoch-{epoch}.pt").unlink()
    (fred.run_dir / "supervisor/state.json").unlink()
    assert fred(*words, "--", *command).returncode == 0
    assert fred.launch(2)["resume"] == str(fred.run_dir / "epoch-3.pt")
    assert (fred.run_dir / "epoch-5.pt").exists()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_python(example: Path):
    compile(example.read_text(), example.name, "exec")


@pytest.fixture(scope="module")
def ultralytics(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with Ultralytics in an environment of its own, with the torch of ours; skips where it cannot be had."""
    home = tmp_path_factory.mktemp("ultralytics")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    packages = next((home / "lib").glob("python3*/site-packages"))
    ours = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (packages / "ours.pth").write_text(f"{ours}\n{ROOT / 'supervisor'}\n")
    needs = [
        "ultralytics",
        "ultralytics-thop",
        "pyyaml",
        "requests",
        "charset-normalizer",
        "idna",
        "urllib3",
        "certifi",
    ]
    needs += ["polars", "polars-runtime-32", "matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver"]
    needs += ["pyparsing", "python-dateutil", "six", "packaging"]
    words = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", *needs]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"Ultralytics does not install here: {done.stderr.strip().splitlines()[-1]}")
    return str(home / "bin/python")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ultralytics_survives_a_kill(fred, until, ultralytics: str):
    """The recipe, for real: a tiny YOLO on eight drawn images, killed in its second epoch."""
    images, labels = fred.home / "set/images", fred.home / "set/labels"
    draw = """
import sys, numpy, cv2, pathlib
images, labels = map(pathlib.Path, sys.argv[1:])
for at in range(8):
    picture = numpy.full((64, 64, 3), 90, numpy.uint8)
    picture[20:40, 10 + at : 30 + at] = 220
    images.mkdir(parents=True, exist_ok=True); labels.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(images / f"{at}.png"), picture)
    (labels / f"{at}.txt").write_text(f"0 {(20 + at) / 64} {30 / 64} {20 / 64} {20 / 64}\\n")
"""
    subprocess.run([ultralytics, "-c", draw, str(images), str(labels)], check=True)
    (fred.home / "set.yaml").write_text(f"path: {fred.home / 'set'}\ntrain: images\nval: images\nnames: [drone]\n")
    fred.environ |= {"OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(fred.home), "YOLO_OFFLINE": "true"}
    words = ["start", "--name", "t", "--backoff", "0:0", "--unfreeze-batch-size", "4"]
    words += ["--checkpoints", "train/weights/*.pt", "--", ultralytics, str(EXAMPLES / "ultralytics_train.py")]
    words += ["data=set.yaml", "model=yolo11n.yaml", "epochs=3", "imgsz=64", "device=cpu", "plots=False", "workers=0"]
    assert fred(*words).returncode == 0
    until(lambda: (fred.run_dir / "train/weights/last.pt").exists() and fred.status()["progress"]["epoch"] == 2, 400)
    os.kill(fred.launch(1)["trainer"]["pid"], signal.SIGKILL)
    until(lambda: fred.status()["state"] in ("completed", "failed"), 400)
    assert fred.status()["state"] == "completed", fred.status()["detail"] + fred.output(2)
    (incident,) = fred.incidents()
    assert incident["epoch"] == 2
    assert fred.launch(2)["resume"].startswith(str(fred.run_dir / "train/weights/"))
    assert "recorded" in fred.status()["detail"]
