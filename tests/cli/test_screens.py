"""What a person sees: `status`, `--watch` in a real terminal, `incidents`; and what a trainer's words cannot do to it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.helpers.fred import PATIENCE_S
from tests.helpers.history import make_history
from tests.helpers.wait import WAIT_S

from fred_supervisor.cli.common.table import table_lines
from fred_supervisor.cli.common.view import run_lines, sparkline
from fred_supervisor.cli.main import COMMANDS
from fred_supervisor.contract import heartbeat
from fred_supervisor.contract.decode import decode, decode_or
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.pace import MOST, LossHistory, LossRecord
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.store.status import RunStatus, read_status

NASTY = "\x1b[31m<b>\x07\x9b2J\u202e&amp;"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def old(fred, monkeypatch):
    """A run of three incidents whose trainer's words are nasty."""
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    return make_history(fred.home / "logs" / "fred_old", incidents=3, steps=2, nasty=NASTY)


def test_one_screen_tells_it_all_in_80_columns(fred, old):
    done = fred("status", "old")
    assert done.returncode == 93
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 22
    text = "\n".join(lines)
    for words in (
        "old: failed", "epoch 20 of 300", "step 40 of 100", "freeze phase", "loss 0.4123", "█▆▅", "17.2 of 24.0 GiB",
        "11.9 ours", "71 °C", "unfreeze_epoch_300_weights.pth, 3 min old", "5 (1 crash, 3 hang, 1 oom)", "4 × 2 = 8",
        "incident 3", "Killed by SIGKILL", "Relaunched at once", "12 steps lost",
    ):  # fmt: skip
        assert words in " ".join(text.split()), words


def test_a_trainers_words_do_not_drive_the_terminal(fred, old):
    for words in (
        ["status", "old"],
        ["status"],
        ["incidents", "old"],
        ["incidents", "old", "2"],
        ["checkpoints", "old"],
    ):
        done = fred(*words)
        assert done.stdout
        assert not CONTROL.search(done.stdout + done.stderr), words
    for words in (["status", "old", "--json"], ["status", "--json"], ["incidents", "old", "--json"]):
        text = fred(*words).stdout
        json.loads(text)
        assert text.isascii(), "what a terminal might obey is escaped"
    assert printable("a\x1b[1;31mred\x1b[0m\x1b]0;title\x07b\tc") == "aredb\tc"
    assert printable("a\x9b31m\r\x1b") == "a�31m��"


def test_what_a_live_trainer_says_is_cleaned_before_it_is_written(fred):
    program = (
        "import os, sys; print('\\033[31mboom\\033[0m \\007\\033]0;x\\007', flush=True);"
        "from fred_supervisor.contract import Heartbeat; hb = Heartbeat(); hb.beat(epoch=1, step=1);"
        "hb.error(RuntimeError('bad \\033[2J thing')); sys.exit(1)"
    )
    words = ["start", "--name", "t", "--max-restarts", "0", "--foreground", "--", sys.executable, "-c", program]
    assert fred(*words).returncode == 93
    run = fred.run_dir / "supervisor"
    for name in ("journal.jsonl", "state.json", "incidents/0001.json"):
        for line in (run / name).read_text().splitlines():
            assert not CONTROL.search("".join(_strings(json.loads(line)))), name
    beat = read_file_of_beat("phase=\x1b[31m")
    assert beat is not None
    assert beat.phase == "__31m"
    assert "bad  thing" in fred.incidents()[0]["cause"]


def read_file_of_beat(phase: str) -> heartbeat.Beat | None:
    """What is made of a record with a phase of somebody else's."""
    body = f"fred-beat/1 seq=1 pid=1 section=train {phase} epoch=1 epochs=- step=- steps=- samples=- loss=- done=0".encode()
    return heartbeat.parse((b"%b crc=%08x" % (body, zlib.crc32(body))).ljust(heartbeat.RECORD_BYTES))


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    return [text for each in value for text in _strings(each)] if isinstance(value, list) else []


def test_one_incident_reads_like_a_story(fred, old):
    text = fred("incidents", "old", "2").stdout
    assert max(map(len, text.splitlines()[:12])) <= 80
    for words in (
        "Incident 2 of old: hang, past that point again after 42 s", "when", "ago", "where", "unfreeze phase, epoch 150",
        "why", "no progress for 61 s", "done", "Relaunched at once", "12 steps lost", "goes on from unfreeze_epoch_2_weights",
        "signal 9 (SIGKILL)", "23.3 of 24.0 GiB in use", "8.8 of 62.5 GiB free", "traceback", "stacks", "last lines of output",
    ):  # fmt: skip
        assert words in text, words
    listed = fred("incidents", "old").stdout
    assert " ".join(listed.split()).count("Past that point again after 42 s.") == 3


def test_right_after_start_it_says_what_happens(fred, until):
    program = "import time; print('loading the index of 48 sequences', flush=True); time.sleep(600)"
    assert fred("start", "--name", "t", "--", sys.executable, "-c", program).returncode == 0
    until(lambda: "loading" in fred.output(1))
    text = fred("status", "t").stdout
    assert "it says     loading the index of 48 sequences" in text
    assert "no beat yet" in text
    assert " 0 " not in text.replace("up 0 s", "")


def test_the_table_fits_and_colours_stay_where_they_belong(fred, old):
    rows = [read_status(load_run_spec(Path(old.run_dir)))] * 2
    assert all(len(line) <= 80 for line in table_lines(rows, width=80))
    assert fred("status", "old").stdout.count("\x1b") == 0, "no colours into a pipe"
    assert fred("status").returncode == 0


def test_the_history_of_the_loss_is_bounded():
    trail = LossHistory()
    for second in range(100_000):
        trail.add(float(second), 1000.0 / (second + 1))
    assert MOST / 2 <= len(trail.means) <= MOST
    assert trail.means == sorted(trail.means, reverse=True)
    again = LossHistory.of(decode_or(LossRecord, json.loads(json.dumps(asdict(trail.record())))))
    assert again.record() == trail.record()
    assert LossHistory.of(LossRecord()).means == []
    trail.add(1e5, float("nan"))
    assert all(mean < 1001 for mean in trail.means)
    assert sparkline([3, 2, 1], 80) == "█▅▁"
    assert len(sparkline(range(64), 20)) <= 20
    assert sparkline([1, 1, 1], 9) == "▁▁▁"
    assert sparkline([], 9) == sparkline([1], 9) == ""


def test_a_live_run_shows_its_loss(fred, until):
    assert fred(*fred.words(2, 400, {"*": ["slow", 1, 300]})).returncode == 0
    shown = until(lambda: (status := fred.status())["progress"]["loss"] is not None and status)
    lines = run_lines(decode(RunStatus, shown), width=80)
    assert any(line.startswith(f"  loss {shown['progress']['loss']:.4g}") for line in lines)


class Terminal:
    """A real one, of 80 × 24, with a command of ours in it."""

    def __init__(self, fred, *words: str, **environ: str) -> None:
        self.child, self.fd = pty.fork()
        if self.child == 0:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # a suite in the background ignores them
                signal.signal(number, signal.SIG_DFL)
            os.chdir(fred.home)
            os.environ.clear()
            os.environ.update(fred.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | environ)
            os.execv(sys.executable, [sys.executable, "-m", "fred_supervisor.cli.main", *words])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""

    def until(self, word: str, timeout_s: float = WAIT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while word not in self.text:
            assert time.monotonic() < end_s, self.text
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # it has left
                    assert word in self.text, self.text
                    return

    def close(self) -> int:
        """Read to its end."""
        with contextlib.suppress(OSError):
            while part := os.read(self.fd, 65536):
                self.text += part.decode(errors="replace")
        _, status = os.waitpid(self.child, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_watch_draws_in_place_and_leaves_the_screen_as_it_was(fred, until):
    assert fred(*fred.words(2, 3, {"*": ["wait", 2, 1]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    began_s = time.monotonic()
    screen = Terminal(fred, "status", "t", "--watch")
    screen.until("epoch 1 of 2")
    (fred.run_dir / "go").touch()
    screen.until("\x1b[?1049l")
    assert screen.close() == 3
    took_s = time.monotonic() - began_s
    assert screen.text.startswith("\x1b[?1049h\x1b[?25l"), "a screen of its own, without a cursor"
    drawn, _, left = screen.text.partition("\x1b[?1049l")
    frames = drawn.split("\x1b[?2026h")[1:]
    assert 2 <= len(frames) <= 2 + took_s / 0.2, "not as fast as it can"
    assert all(frame.startswith("\x1b[H") for frame in frames), "from the top left corner"
    assert "\x1b[2J" not in drawn, "never erased as a whole: that flickers"
    assert "completed" in left
    assert "\x1b[?25h" in drawn


@pytest.mark.parametrize(
    ("named", "shown"), [(["t"], "watched for its exit"), ([], "running")], ids=["one run", "every run"]
)
def test_ctrl_c_leaves_watch_and_not_the_run(fred, named, shown):
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    screen = Terminal(fred, "status", *named, "--watch", NO_COLOR="1")
    screen.until(shown)
    os.write(screen.fd, b"\x03")
    screen.until("\x1b[?1049l")
    assert screen.close() == 0
    assert "\x1b[1m" not in screen.text, "NO_COLOR is honoured"
    assert fred.status()["state"] == "running"


def test_ctrl_c_in_the_foreground_saves(fred, until):
    screen = Terminal(fred, *fred.words(2, 1000000, {}, "--foreground"))
    screen.until("runs as pid")
    until(lambda: fred.status()["progress"]["step"])
    os.write(screen.fd, b"\x03")
    screen.until("Stopped by request")
    assert screen.close() == 0
    assert fred.status()["state"] == "stopped"
    assert fred.status()["checkpoint"]["valid"], "the trainer has saved before it left"
    assert fred.incidents() == []
    assert fred.left() == []


def test_ctrl_c_twice_ends_at_once_what_does_not_leave(fred, until):
    screen = Terminal(fred, *fred.words(2, 40, {"*": ["deaf", 2, 2]}, "--foreground", "--stop-timeout", "600"))
    screen.until("runs as pid")
    until(lambda: fred.status()["progress"]["epoch"] == 2)
    os.write(screen.fd, b"\x03")
    until(lambda: fred.status()["state"] == "stopping")
    os.write(screen.fd, b"\x03")
    screen.until("Stopped by request")
    assert screen.close() == 0
    assert fred.status()["state"] == "stopped"
    assert fred.left() == []


def test_logs_follow_over_relaunches_to_the_end(fred, until):
    assert fred(*fred.words(3, 4, {"1": ["raise", 2, 2], "2": ["wait", 3, 2]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    following = fred.popen("logs", "t", "-f")
    until(lambda: select.select([following.stdout], [], [], 0)[0])
    (fred.run_dir / "go").touch()
    text, errors = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0, errors
    assert "attempt 2 from epoch 2" in text
    one = fred("logs", "t", "--attempt", "1").stdout
    assert "the same old bug" in one
    assert fred("logs", "t", "--attempt", "9").returncode == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(fred, command: str):
    done = fred(command, "--help")
    assert done.returncode == 0
    assert "example" in done.stdout
    assert f"fred-supervise {command}" in done.stdout.partition("example")[2]


def test_status_is_small(fred, old):
    """How fast it is, `make bench-supervisor` says."""
    # In a process of its own: the maximum over our children is that of the largest.
    program = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'fred_supervisor.cli.main', 'status', 'old'],"
        "stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=fred.environ, cwd=fred.home, capture_output=True, text=True
    )
    assert int(done.stdout) < 20 * 1024
