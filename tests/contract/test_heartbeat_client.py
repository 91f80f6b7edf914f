"""The client, field by field: what is said last stands, and what it cannot do costs no training."""

import faulthandler
import os
import signal
import threading
import zlib
from pathlib import Path
from typing import Any, cast

import pytest

from fred_supervisor.contract import Heartbeat, environment
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.error_file import read_error
from fred_supervisor.contract.heartbeat import RECORD_BYTES, Beat, Section, parse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "heartbeat"
    file.touch()
    return file


def client(path: Path, **more: str) -> Heartbeat:
    given = {environment.HEARTBEAT: str(path), environment.ERROR_FILE: str(path.with_name("error.json")), **more}
    return Heartbeat(environ=given, signals=False)


def read(path: Path) -> Beat:
    found = parse(path.read_bytes())
    assert found is not None
    return found


FIELDS: dict[str, Any] = {
    "epoch": 3,
    "epochs": 300,
    "step": 7,
    "steps": 90,
    "samples": 12345,
    "loss": 0.25,
    "phase": "freeze",
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_value_stands_until_it_is_said_anew(path: Path, name: str):
    hb = client(path)
    hb.beat(**{name: FIELDS[name]})
    assert getattr(read(path), name) == FIELDS[name]
    others = {other: value for other, value in FIELDS.items() if other != name}
    assert all(getattr(read(path), other) is None for other in others)
    hb.beat(**others)
    assert {every: getattr(read(path), every) for every in FIELDS} == FIELDS
    hb.beat(**cast("dict[str, Any]", {name: "x" if name == "phase" else 0}))
    assert getattr(read(path), name) == ("x" if name == "phase" else 0)


@pytest.mark.parametrize(
    ("before", "after", "progress"),
    [
        ({"epoch": 1}, {"epoch": 2}, True),
        ({"step": 1}, {"step": 2}, True),
        ({"samples": 8}, {"samples": 16}, True),
        ({"phase": "freeze"}, {"phase": "unfreeze"}, True),
        ({"loss": 1.0}, {"loss": 2.0}, False),
        ({"epochs": 9}, {"epochs": 10}, False),
        ({"steps": 9}, {"steps": 10}, False),
        ({}, {}, False),
    ],
)
def test_what_has_to_change_for_progress(path: Path, before: dict, after: dict, progress: bool):
    """A trainer that counts samples only, or epochs only, is not hung."""
    hb = client(path)
    hb.beat(**before)
    one = read(path)
    hb.beat(**after)
    two = read(path)
    assert two.seq == one.seq + 1
    assert (one.position != two.position) == progress


def test_a_change_of_section_is_progress(path: Path):
    hb = client(path)
    hb.beat(epoch=1)
    one = read(path)
    with hb.section("eval"):
        assert read(path).position != one.position
    assert read(path).position == one.position


def test_the_first_beat_ends_the_start_and_no_other_section(path: Path):
    hb = client(path)
    assert read(path).section is Section.STARTUP
    hb.beat()
    assert read(path).section is Section.TRAIN
    with hb.section("eval"):
        hb.beat()
        assert read(path).section is Section.EVAL


def test_every_call_is_counted(path: Path):
    hb = client(path)
    counts = [read(path).seq]
    for call in (hb.beat, hb.done, lambda: hb.alarm("x"), lambda: hb.alarm(None)):
        call()
        counts.append(read(path).seq)
    assert counts == [1, 2, 3, 4, 5]


def test_a_section_that_was_left_by_an_exception_is_forgotten_at_the_next_beat(path: Path):
    hb = client(path)
    hb.beat(epoch=1)
    with pytest.raises(RuntimeError), hb.section("eval"):
        raise RuntimeError("x")
    hb.beat(step=1)
    hb.error(ValueError("later"))
    assert read_error(path.with_name("error.json")).section == "train"


def test_the_inner_section_of_an_exception_is_not_outlived_by_the_outer(path: Path):
    hb = client(path)
    hb.beat(epoch=1)
    with pytest.raises(RuntimeError), hb.section("checkpoint"):
        raise RuntimeError("x")
    hb.error(RuntimeError("x"))
    assert read_error(path.with_name("error.json")).section == "checkpoint"


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("warm up", "warm_up"),
        ("a=b", "a_b"),
        ("é", "_"),
        ("0123456789abcdefX", "0123456789abcdef"),
        ("a-b_c.d", "a-b_c.d"),
    ],
)
def test_a_phase_is_one_short_word(path: Path, said: str, written: str):
    client(path).beat(phase=said)
    assert read(path).phase == written


def record(magic: str = "fred-beat/1", **changes: str) -> bytes:
    words = {
        "seq": "5", "pid": "7", "section": "train", "phase": "-", "epoch": "-", "epochs": "-", "step": "-", "steps": "-",
        "samples": "-", "loss": "-", "done": "0", **changes,
    }  # fmt: skip
    body = (f"{magic} " + " ".join(f"{key}={value}" for key, value in words.items() if value)).encode()
    return (body + b" crc=%08x" % zlib.crc32(body)).ljust(RECORD_BYTES - 1) + b"\n"


def test_a_record_written_by_hand():
    assert parse(record()) == Beat(
        seq=5, pid=7, section=Section.TRAIN, phase=None, epoch=None, epochs=None, step=None, steps=None, samples=None,
        loss=None, done=False, alarm=None,
    )  # fmt: skip
    full = {
        "phase": "x",
        "epoch": "1",
        "epochs": "2",
        "step": "3",
        "steps": "4",
        "samples": "5",
        "loss": "6.5",
        "done": "1",
    }
    assert parse(record(**full, alarm="disk-full")) == Beat(
        seq=5, pid=7, section=Section.TRAIN, phase="x", epoch=1, epochs=2, step=3, steps=4, samples=5, loss=6.5,
        done=True, alarm=Alarm.DISK_FULL,
    )  # fmt: skip


def test_a_word_may_hold_the_sign_between_key_and_value():
    assert read_record(record(alarm="a=b")).alarm == "a=b"


def read_record(data: bytes) -> Beat:
    found = parse(data)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "garbled",
    [
        b"",
        record()[:-1],
        record() + b"\n",
        record().replace(b"seq=5", b"seq=6"),
        record().replace(b"fred-beat/1", b"fred-beat/2"),
        record("fred-beat/2"),
        record("x"),
        record(seq="five"),
        record(section="lunch"),
        record(epoch=""),
        record(epoch="1.5"),
        record(loss="much"),
        record(done="2").replace(b"crc=", b"crc=z"),
    ],
)
def test_what_is_no_record_is_none(garbled: bytes):
    assert parse(garbled) is None


def test_the_file_is_made_for_its_owner_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        client(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("given", "rank"), [("0", 0), ("3", 3), ("", 0), ("-1", 0), ("x", 0)])
def test_the_rank_is_that_of_torchrun(tmp_path: Path, given: str, rank: int):
    assert client(tmp_path / "heartbeat", RANK=given).rank == rank


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({"LOCAL_RANK": "1"}, 1),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 1),
        ({"LOCAL_RANK": "1", "NODE_RANK": "1"}, 0),
        ({"LOCAL_RANK": "1", "RANK": "3"}, 3),
        ({"LOCAL_RANK": "1", "RANK": "0"}, 0),
    ],
)
def test_the_ranks_that_lightning_starts_know_their_place_on_the_machine_alone(
    tmp_path: Path, environ: dict[str, str], rank: int
):
    assert client(tmp_path / "heartbeat", **environ).rank == rank


def test_an_error_file_that_cannot_be_written_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    nowhere = {environment.ERROR_FILE: str(tmp_path / "no" / "error.json")}
    Heartbeat(environ=nowhere, signals=False).error(ValueError("x"))
    assert "cannot write" in capsys.readouterr().err


def test_without_an_error_file_an_error_is_nobodys_news(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Heartbeat(environ={}, signals=False).error(ValueError("x"))
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_costs_a_beat_and_no_training(path: Path, monkeypatch: pytest.MonkeyPatch):
    hb = client(path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        hb.beat(step=1)
    assert path.read_bytes() == before
    hb.beat(step=2)
    assert read(path).step == 2


def test_a_value_that_is_no_number_takes_the_others_with_it_once(path: Path, capsys: pytest.CaptureFixture[str]):
    hb = client(path)
    hb.beat(epoch=3, step=4, samples=5, loss=float("inf"))
    assert read(path).loss == float("inf")
    hb.beat(step=float("nan"))  # type: ignore[arg-type]
    assert "no number" in capsys.readouterr().err
    assert read(path).position == (Section.TRAIN, None, None, None, None)
    assert read(path).loss is None


@pytest.fixture
def handlers():
    """The handlers of this process, as they were."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)
    faulthandler.unregister(signal.SIGUSR1)


@pytest.mark.parametrize(
    ("supervised", "signals", "taken"),
    [
        (True, None, True),
        (True, False, False),
        (True, True, True),
        (False, None, False),
        (False, True, True),
        (False, False, False),
    ],
)
def test_whose_signals_are_taken(path: Path, handlers, supervised: bool, signals: bool | None, taken: bool):
    hb = Heartbeat(environ={environment.HEARTBEAT: str(path)} if supervised else {}, signals=signals)
    assert (signal.getsignal(signal.SIGTERM) is not handlers) == taken
    if taken:
        assert not hb.stopping
        os.kill(os.getpid(), signal.SIGTERM)
        assert hb.stopping


def test_outside_the_main_thread_the_trainer_keeps_its_own_ways(path: Path, handlers):
    thread = threading.Thread(target=lambda: Heartbeat(environ={environment.HEARTBEAT: str(path)}).beat(step=1))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is handlers
    assert read(path).step == 1
