"""Drills, flags, errors and files: the words that both sides use."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.builtin.drill import DrillFault, parse_drills
from fred_supervisor.contract.builtin.flags import BY_KEY, FLAGS, add_flags, normalise, to_argv
from fred_supervisor.contract.error_file import ErrorKind, classify, classify_text, read_error
from fred_supervisor.contract.files import read_json, write_atomic, write_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigkill@freeze:2:5", (DrillFault.SIGKILL, "freeze", 2, 5, None, 0.0, False)),
        ("hang@unfreeze:51:1!", (DrillFault.HANG, "unfreeze", 51, 1, None, 0.0, True)),
        ("oom@batch>4", (DrillFault.OOM, "batch", None, None, 4, 0.0, True)),
        ("slow=2.5@eval:3", (DrillFault.SLOW, "eval", 3, None, None, 2.5, False)),
        ("exit0@startup", (DrillFault.EXIT0, "startup", None, None, None, 0.0, False)),
        ("exception@checkpoint:1", (DrillFault.EXCEPTION, "checkpoint", 1, None, None, 0.0, False)),
    ],
)
def test_a_drill(text: str, expected: tuple[object, ...]):
    (drill,) = parse_drills(text)
    assert (
        drill.fault, drill.where, drill.epoch, drill.step, drill.batch_above, drill.seconds, drill.always,
    ) == expected  # fmt: skip


def test_several_drills():
    assert [d.fault for d in parse_drills("nan@freeze:1:1, gil@unfreeze:2:2")] == [DrillFault.NAN, DrillFault.GIL]
    assert parse_drills("") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boom@freeze:1:1", "no such kind"),
        ("oom", "KIND@WHERE"),
        ("oom@freeze:1", "KIND@WHERE"),
        ("oom@freeze:0:1", "count from 1"),
        ("slow@freeze:1:1", "seconds"),
        ("oom=3@freeze:1:1", "seconds"),
    ],
)
def test_a_drill_that_is_none(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        parse_drills(text)


@given(st.text(max_size=30))
def test_any_text_is_drills_or_a_value_error(text: str):
    with contextlib.suppress(ValueError):
        assert all(drill.text in text for drill in parse_drills(text))


def test_markers_are_file_names():
    for drill in parse_drills("oom@batch>4,slow=2.5@eval:3,sigkill@freeze:2:5"):
        assert os.path.basename(drill.marker) == drill.marker


def test_underscores_and_old_names():
    words = ["--skip_freeze", "--compression_ratio=0.5", "--freeze_training", "a_b", "--", "--my_flag"]
    assert normalise(words) == ["--skip-freeze", "--compression-ratio=0.5", "--freeze-only", "a_b", "--", "--my_flag"]


def parsed(*words: str, defaults: bool = True) -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, FLAGS, defaults=defaults)
    return vars(parser.parse_args(normalise(words)))


def test_defaults_are_those_of_the_contract():
    expected = {
        "freeze_epochs": 50, "epochs": 300, "freeze_batch_size": 8, "unfreeze_batch_size": 8, "accumulate": 1,
        "save_every_epochs": 10, "save_every_seconds": "auto", "eval_every": 5, "compression_ratio": 0.75,
        "input_size": 640, "amp": "auto", "device": "auto", "seed": 0, "resume": "auto", "phase": "auto",
    }  # fmt: skip
    given = parsed()
    assert {key: given[key] for key in expected} == expected


def test_what_is_given_survives_the_way_through_a_command_line():
    given = {
        k: v
        for k, v in parsed("--epochs=7", "--no_eval_map", "--save-every-seconds", "2.5", defaults=False).items()
        if v
    }
    assert {k: v for k, v in parsed(*to_argv(given), defaults=False).items() if v} == given
    assert given == {"epochs": 7, "no_eval_map": True, "save_every_seconds": 2.5}


@pytest.mark.parametrize("words", [["--epochs=0"], ["--epochs=x"], ["--compression-ratio=0"], ["--modality=lidar"]])
def test_values_are_checked(words: list[str]):
    with pytest.raises(argparse.ArgumentError):
        parsed(*words)


def test_every_flag_has_a_key_of_its_own():
    assert len(BY_KEY) == len(FLAGS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA out of memory. Tried"), ErrorKind.CUDA_OOM),
        (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling"), ErrorKind.CUDA_OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), ErrorKind.HOST_OOM),
        (MemoryError(), ErrorKind.HOST_OOM),
        (RuntimeError("NCCL error in: x"), ErrorKind.NCCL),
        (ValueError("x"), ErrorKind.EXCEPTION),
    ],
)
def test_the_kind_of_an_exception(error: BaseException, kind: ErrorKind):
    assert classify(error) is kind


def test_an_exception_may_bring_its_own_kind():
    class OddError(Exception):
        fred_kind = "data"

    assert classify(OddError()) is ErrorKind.DATA
    assert classify_text("all is well") is None


@given(st.binary(max_size=200))
def test_noise_is_no_error_file(tmp_path_factory, data: bytes):
    path = tmp_path_factory.mktemp("e") / "error.json"
    path.write_bytes(data)
    assert read_error(path) is None


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch):
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"other")
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_json_has_no_nan(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", {"loss": float("nan")})


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100000])
def test_what_is_no_json_object_is_none(tmp_path: Path, data: bytes):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert read_json(path) is None
    assert read_json(tmp_path / "absent") is None


def test_nobody_leads_a_write_elsewhere_by_a_link(tmp_path: Path):
    """In a folder that others may write to, the temporary name can be guessed."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".report.html.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_atomic(tmp_path / "report.html", b"new")
    assert victim.read_text() == "precious"
