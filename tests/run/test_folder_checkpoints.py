"""A trainer whose checkpoints are folders goes on from the newest one that is whole."""

import sys

SAVES = """
import os, pathlib, sys
out = pathlib.Path(os.environ["FRED_RUN_DIR"], "out")
print("from", *sys.argv[1:], flush=True)
if os.environ["FRED_ATTEMPT"] == "1":
    for step, whole in ((60, True), (500, True), (1000, False)):
        (out / f"checkpoint-{step}").mkdir(parents=True)
        (out / f"checkpoint-{step}" / "rng_state.pth").write_text("x")
        if whole:
            (out / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    sys.exit(3)
"""


def test_the_newest_whole_folder_is_resumed_and_all_are_told_apart(fred, tmp_path):
    (tmp_path / "train.py").write_text(SAVES)
    command = (sys.executable, str(tmp_path / "train.py"), "{resume}")
    flags = ("--backoff", "0:0", "--checkpoints", "out/checkpoint-*")
    assert fred("start", "--name", "t", "--foreground", *flags, "--", *command).returncode == 0
    assert fred.output(2).splitlines()[0] == f"from {fred.run_dir}/out/checkpoint-500"
    assert "It goes on from checkpoint-500." in fred("incidents", "t", "1").stdout
    lines = fred("checkpoints", "t").stdout.splitlines()[1:]
    assert [line.removeprefix(">").split()[0] for line in lines] == [
        "out/checkpoint-1000",
        "out/checkpoint-500",
        "out/checkpoint-60",
    ]
    assert "not finished" in lines[0]
    assert lines[1].startswith(">")
    assert fred.status()["checkpoint"]["path"].endswith("checkpoint-500")


def test_a_folder_may_be_named_to_resume_from(fred, tmp_path):
    (tmp_path / "before").mkdir()
    words = ("--foreground", "--resume", "before", "--", sys.executable, "-c", "import sys; print(sys.argv[1:])")
    assert fred("start", "--name", "t", *words, "{resume}").returncode == 0
    assert str(tmp_path / "before") in fred.output(1)


SETTLES = """
import os, pathlib, sys, time
out = pathlib.Path(os.environ["FRED_RUN_DIR"], "out")
print("from", *sys.argv[1:], flush=True)
if os.environ["FRED_ATTEMPT"] == "1":
    for name, age_s in (("ckpt-1", 90), ("ckpt-2", 60), ("ckpt-3", 0)):
        (out / name).mkdir(parents=True)
        (out / name / "weights.bin").write_text("x")
        for path in (out / name / "weights.bin", out / name):
            os.utime(path, (time.time() - age_s,) * 2)
    pathlib.Path(os.environ["FRED_HEARTBEAT"]).write_text("alive")
    os.kill(os.getpid(), 9)
"""


def test_a_folder_without_a_marker_is_whole_when_the_trainer_went_on_for_a_while_since(fred, tmp_path):
    """The one that it was killed over is not."""
    (tmp_path / "train.py").write_text(SETTLES)
    command = (sys.executable, str(tmp_path / "train.py"), "{resume}")
    flags = ("--foreground", "--backoff", "0:0", "--checkpoints", "out/ckpt-*")
    assert fred("start", "--name", "t", *flags, "--", *command).returncode == 0
    assert fred.output(2).splitlines()[0] == f"from {fred.run_dir}/out/ckpt-2"
