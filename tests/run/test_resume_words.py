"""Trainers that want a word, and not only a path, when they go on; and those that are told nothing."""

import sys

from tests.helpers.fred import Fred, one_line

SCRIPT = """
import os, pathlib, sys
print("words", *sys.argv[1:], flush=True)
pathlib.Path(os.environ["FRED_RUN_DIR"], "ckpt.txt").write_text("1")
if os.environ["FRED_ATTEMPT"] == "1":
    os.kill(os.getpid(), 9)
"""


def run(fred: Fred, *words: str) -> None:
    path = fred.home / "train.py"
    path.write_text(SCRIPT)
    flags = ("start", "--name", "t", "--foreground", "--backoff", "0:0", "--checkpoints", "*.txt")
    done = fred(*flags, "--", sys.executable, str(path), *words)
    assert done.returncode == 0, done.stderr


def test_a_word_when_it_goes_on_and_another_when_it_begins(fred):
    """As nanoGPT has it."""
    run(fred, "--out={run_dir}", "--init={resume?resume:scratch}", "{resume?--go-on}", "{resume_name}")
    assert fred.output(1) == f"words --out={fred.run_dir} --init=scratch\n"
    assert fred.output(2) == f"words --out={fred.run_dir} --init=resume --go-on ckpt.txt\n"
    assert "goes on from ckpt.txt" in fred("incidents", "t", "1").stdout
    launched = [line["text"] for line in fred.journal() if line["event"] == "launched"]
    assert launched[1].endswith("from ckpt.txt.")


def test_who_is_told_nothing_is_not_said_to_go_on(fred):
    run(fred)
    told = " ".join(fred("incidents", "t", "1").stdout.split())
    assert "whether it goes on from there is not known" in told
    assert "goes on from ckpt" not in told
    assert "takes_resume" not in told
    assert not [line for line in fred.journal() if line["event"] == "launched" and "ckpt" in line["text"]]
    assert fred.incidents()[0]["checkpoint"].endswith("ckpt.txt"), "for programs: the newest there is"


def test_a_placeholder_that_can_never_be_meant(fred):
    one_line(fred("start", "--", "true", "{resume?}"), 2, "{resume?}", "names no word")
    one_line(fred("start", "--", "true", "{resume?--resume={resume}}"), 2, "two words")
    assert not (fred.home / "logs").exists()


ALWAYS_FROM_ZERO = """
import os, pathlib, time
heartbeat = pathlib.Path(os.environ["FRED_HEARTBEAT"])
for step in range(5):
    heartbeat.write_text(str(time.time_ns()))
    pathlib.Path(os.environ["FRED_RUN_DIR"], "last.pt").write_text(f"{time.time_ns()}")
    time.sleep(0.05)
os.kill(os.getpid(), 9)
"""


def test_who_begins_at_zero_each_time_and_rewrites_its_file_ends_by_its_budget(fred):
    (fred.home / "train.py").write_text(ALWAYS_FROM_ZERO)
    flags = ("--foreground", "--backoff", "0:0", "--max-restarts", "3", "--checkpoints", "last.pt")
    done = fred("start", "--name", "t", *flags, "--", sys.executable, str(fred.home / "train.py"))
    assert done.returncode == 93
    assert len(fred.incidents()) == 4


def test_who_saves_and_leaves_each_time_is_never_given_up(fred):
    """One epoch a launch, as where a job may last so long only: its checkpoint is new when it has left."""
    (fred.home / "t.py").write_text(
        "import re, sys\n"
        "done = int(re.search(r'epoch-(\\d+)', sys.argv[1])[1]) if len(sys.argv) > 1 else 0\n"
        "open(f'logs/fred_t/epoch-{done + 1}.txt', 'w').write('weights')\n"
        "sys.exit(0 if done == 4 else 75)\n"
    )
    words = ("--backoff", "0:0", "--max-restarts", "2", "--checkpoints", "epoch-*.txt")
    done = fred("start", "--name", "t", "--foreground", *words, "--", sys.executable, "t.py", "{resume}")
    assert done.returncode == 0, done.stderr
    assert fred.status()["state"] == "completed"
    assert sorted(path.name for path in fred.run_dir.glob("epoch-*.txt")) == [f"epoch-{n}.txt" for n in range(1, 6)]
