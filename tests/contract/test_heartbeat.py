"""The heartbeat: what is written is what is read, and nothing else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract import Heartbeat, environment
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.error_file import ErrorKind, read_error
from fred_supervisor.contract.heartbeat import RECORD_BYTES, Section, parse
from fred_supervisor.words.status import alarm_sentence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "heartbeat"
    file.touch()
    return file


def client(path: Path, **more: str) -> Heartbeat:
    given = {environment.HEARTBEAT: str(path), environment.ERROR_FILE: str(path.with_name("error.json")), **more}
    return Heartbeat(environ=given, signals=False)


def test_a_record_reads_back(path: Path):
    hb = client(path)
    assert parse(path.read_bytes()).section is Section.STARTUP
    hb.beat(epoch=3, epochs=300, step=7, steps=90, samples=12345, loss=0.25, phase="freeze")
    beat = parse(path.read_bytes())
    assert (beat.epoch, beat.epochs, beat.step, beat.steps, beat.samples) == (3, 300, 7, 90, 12345)
    assert (beat.loss, beat.phase, beat.section, beat.pid, beat.done) == (0.25, "freeze", "train", os.getpid(), False)
    hb.beat(step=8)
    later = parse(path.read_bytes())
    assert (later.epoch, later.step, later.seq) == (3, 8, beat.seq + 1)
    hb.done()
    assert parse(path.read_bytes()).done


def test_what_was_not_said_is_none(path: Path):
    client(path)
    beat = parse(path.read_bytes())
    assert (beat.epoch, beat.step, beat.samples, beat.loss, beat.phase) == (None,) * 5


def test_a_person_can_read_it(path: Path):
    client(path).beat(epoch=2)
    text = path.read_text()
    assert len(text) == RECORD_BYTES
    assert text.endswith("\n")
    assert " epoch=2 " in text


@given(
    epoch=st.integers(0, 10**9),
    samples=st.integers(0, 10**15),
    loss=st.floats(allow_nan=True, allow_infinity=True),
    phase=st.text(max_size=40),
)
def test_every_record_fits_and_reads_back(tmp_path_factory, epoch, samples, loss, phase):
    path = tmp_path_factory.mktemp("hb") / "heartbeat"
    path.touch()
    client(path).beat(epoch=epoch, epochs=epoch, step=epoch, steps=epoch, samples=samples, loss=loss, phase=phase)
    beat = parse(path.read_bytes())
    assert beat is not None
    assert (beat.epoch, beat.samples) == (epoch, samples)


@given(st.binary(max_size=400))
def test_foreign_bytes_are_no_record(data: bytes):
    assert parse(data) is None


@given(st.data())
def test_a_torn_record_is_no_record(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("hb") / "heartbeat"
    path.touch()
    hb = client(path)
    hb.beat(epoch=1, step=111)
    one = path.read_bytes()
    hb.beat(epoch=2, step=22222)
    two = path.read_bytes()
    cut = data.draw(st.integers(1, RECORD_BYTES - 1))
    torn = two[:cut] + one[cut:]
    assert parse(torn) in (None, parse(one), parse(two))
    flipped = bytearray(two)
    at = data.draw(st.integers(0, len(two.rstrip()) - 1))
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    assert parse(bytes(flipped)) in (None, parse(two))  # a change of a hex digit's case is no change


def test_sections_nest_and_an_exception_is_remembered_where_it_happened(path: Path):
    hb = client(path)
    hb.beat(epoch=1)
    with pytest.raises(RuntimeError), hb.section("eval"):  # noqa: PT012 - the nesting is what is tested
        assert parse(path.read_bytes()).section is Section.EVAL
        with hb.section("checkpoint"):
            assert parse(path.read_bytes()).section is Section.CHECKPOINT
        assert parse(path.read_bytes()).section is Section.EVAL
        raise RuntimeError("in evaluation")
    assert parse(path.read_bytes()).section is Section.TRAIN
    hb.error(RuntimeError("in evaluation"))
    assert read_error(path.with_name("error.json")).section == "eval"
    with pytest.raises(ValueError, match="lunch"), hb.section("lunch"):
        pass


def test_the_error_file_says_where_and_what(path: Path):
    hb = client(path, RANK="0")
    hb.beat(epoch=4, step=5, phase="unfreeze")
    try:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")  # noqa: TRY301 - it needs a traceback
    except RuntimeError as error:
        hb.error(error)
    record = read_error(path.with_name("error.json"))
    assert record.kind is ErrorKind.CUDA_OOM
    assert (record.epoch, record.step, record.phase, record.rank) == (4, 5, "unfreeze", 0)
    assert "test_heartbeat.py" in record.traceback


def test_a_value_that_is_no_number_costs_nothing_but_itself(path: Path, capsys):
    hb = client(path)
    hb.beat(epoch=float("nan"))  # type: ignore[arg-type]
    hb.beat(loss="x")  # type: ignore[arg-type]
    assert "no number" in capsys.readouterr().err
    hb.beat(epoch=3, loss=0.5)
    beat = parse(path.read_bytes())
    assert (beat.epoch, beat.loss) == (3, 0.5)


def test_other_ranks_have_files_of_their_own(path: Path):
    hb = client(path, RANK="2")
    hb.beat(step=1)
    hb.error(ValueError("x"))
    assert path.read_bytes() == b""
    assert parse(path.with_name("heartbeat.rank2").read_bytes()).step == 1
    assert read_error(path.with_name("error.json.rank2")).rank == 2


def test_without_the_variable_it_does_nothing(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    hb = Heartbeat(environ={})
    hb.beat(epoch=1)
    with hb.section("eval"):
        hb.done()
    hb.error(ValueError("x"))
    assert not hb.stopping
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_file_that_cannot_be_opened_never_stops_training(tmp_path: Path, capsys):
    hb = Heartbeat(environ={environment.HEARTBEAT: str(tmp_path / "no" / "heartbeat")}, signals=False)
    hb.beat(epoch=1)
    assert "cannot open" in capsys.readouterr().err


def test_a_forked_worker_does_not_beat(path: Path):
    hb = client(path)
    hb.beat(step=1)
    pid = os.fork()
    if pid == 0:
        hb.beat(step=99)
        os._exit(0)
    os.waitpid(pid, 0)
    assert parse(path.read_bytes()).step == 1


SIGNALS = """
import os, signal, sys, threading
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGTERM)
print("stopping", hb.stopping)
"""


def test_signals_are_taken(path: Path):
    environ = {**os.environ, environment.HEARTBEAT: str(path)}
    done = subprocess.run([sys.executable, "-c", SIGNALS], env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout == "stopping True\n"
    assert "most recent call first" in done.stderr


def test_the_client_needs_the_standard_library_only():
    code = "import sys; from fred_supervisor.contract import Heartbeat, find_latest_checkpoint; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {"torch", "numpy", "psutil", "pynvml", "apscheduler", "prometheus_client", "jinja2"}
    assert foreign.isdisjoint({name.partition(".")[0] for name in done.stdout.split()})


def test_an_alarm_stands_until_it_is_over(path: Path):
    hb = client(path)
    hb.alarm(Alarm.DISK_FULL)
    hb.beat(epoch=1, step=2)
    assert parse(path.read_bytes()).alarm == Alarm.DISK_FULL
    assert "the disk is full" in alarm_sentence(parse(path.read_bytes()).alarm)
    hb.alarm(None)
    assert parse(path.read_bytes()).alarm is None
    hb.alarm("no coffee")
    assert alarm_sentence(parse(path.read_bytes()).alarm) == "The trainer says: no_coffee."


def test_every_alarm_has_a_sentence():
    assert all(alarm_sentence(alarm).endswith(".") for alarm in Alarm)
