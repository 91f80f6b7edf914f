"""A bundle is somebody else's file: whatever it holds, it costs one line."""

import hashlib
import json
import os
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fred_supervisor.bundle import archive, manifest
from fred_supervisor.bundle.archive import BundleError
from fred_supervisor.bundle.manifest import Manifest, Weights, checked_flags, flags_of, repeated_drills
from fred_supervisor.bundle.secrets import document_without_secrets, variables, without_secrets, words_without_secrets
from fred_supervisor.cli import replay as cli_replay
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.contract.exit_codes import CommandExit

WEIGHTS = b"x" * 3000


def whole(tmp_path: Path, **changes) -> Path:
    """A bundle with a checkpoint."""
    digest = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
    made = Manifest(
        format=manifest.FORMAT, name="rgb", attempt=1, incident=1,
        weights=Weights(name="a.pth", size=len(WEIGHTS), digest=digest, held=True),
    )  # fmt: skip
    (tmp_path / "a.pth").write_bytes(WEIGHTS)
    path = tmp_path / "b.zip"
    archive.write(path, {archive.MANIFEST: json.dumps(asdict(replace(made, **changes)))}, tmp_path / "a.pth")
    return path


def test_what_was_written_is_read(tmp_path: Path):
    path = whole(tmp_path)
    found = archive.read_manifest(path)
    assert found.name == "rgb"
    archive.take_weights(path, found.weights, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == WEIGHTS


def taken(path: Path, tmp_path: Path) -> None:
    found = archive.read_manifest(path)
    target = tmp_path / "out"
    target.unlink(missing_ok=True)
    archive.take_weights(path, found.weights, target)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_one_costs_one_line(tmp_path: Path, data):
    """Cut anywhere, or one byte changed: refused in one line, or, where the byte means nothing, read as it was."""
    content = bytearray(whole(tmp_path).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    refusal = "whole"
    try:
        taken(path, tmp_path)
    except BundleError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) == 1
    assert refusal != "whole" or (tmp_path / "out").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("member", "text", "word"),
    [
        ("bundle.json", "{", "garbled"),
        ("bundle.json", "[]", "makes no sense"),
        ("bundle.json", '{"format": 1}', "makes no sense"),
        ("bundle.json", '{"format": 99, "name": "x", "attempt": 1, "incident": 1}', "update"),
        ("bundle.json", "[" * 100000, "garbled"),
        ("../../etc/passwd", "x", "has no bundle.json"),
    ],
)
def test_a_forged_one_costs_one_line(tmp_path: Path, member: str, text: str, word: str):
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(member, text)
    with pytest.raises(BundleError, match=word):
        archive.read_manifest(path)


@pytest.mark.parametrize("name", ["epoch", "step", "steps", "samples"])
def test_a_place_before_the_beginning_makes_no_sense(tmp_path: Path, name: str):
    with pytest.raises(BundleError, match="makes no sense"):
        archive.read_manifest(whole(tmp_path, place={name: -5}))
    assert getattr(archive.read_manifest(whole(tmp_path, place={name: 0})).place, name) == 0


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path):
    """Nobody writes to the FIFO: who opens it waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(BundleError, match="no regular file"):
            archive.read_manifest(path)
    with pytest.raises(BundleError, match="cannot be read"):
        archive.read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, ["--data", "{nowhere}"]),
        ({}, ["--data", "{nowhere}/b.zip"]),
        ({"data": "/no/such/data"}, []),
        ({"data": "relative"}, []),
        ({}, ["--weights", "{nowhere}"]),
    ],
)
def test_what_is_not_there_is_refused_before_anything_runs(tmp_path: Path, flags, words, monkeypatch):
    """Else the trainer would fail for that, which says nothing of the failure."""
    monkeypatch.setattr("fred_supervisor.bundle.replay.replay", lambda *_: pytest.fail("it was replayed"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    given = [word.format(nowhere=tmp_path / "nowhere") for word in words]
    with pytest.raises(CommandError) as refused:
        cli_replay.main([str(whole(tmp_path, flags=flags)), *given])
    assert refused.value.code == CommandExit.BAD_INPUT
    assert len(str(refused.value).splitlines()) == 1


def test_a_checkpoint_that_is_longer_than_it_says(tmp_path: Path):
    """A bomb: what is unpacked is bounded by what is said, and that by the room that there is."""
    path = tmp_path / "b.zip"
    said = Weights(name="a.pth", size=10, digest="sha256:0", held=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(archive.WEIGHTS, b"0" * 50_000_000)
    with pytest.raises(BundleError, match="damaged or forged"):
        archive.take_weights(path, said, tmp_path / "out")
    assert (tmp_path / "out").stat().st_size <= 10
    for size in (0, -1, 1 << 62):
        with pytest.raises(BundleError):
            archive.take_weights(path, replace(said, size=size), tmp_path / "other")


@pytest.mark.parametrize(
    "flags",
    [
        {"run_dir": "/etc"}, {"resume": "/etc/x"}, {"no_such": 1}, {"epochs": "-1"}, {"epochs": [1]}, {"amp": "fp99"},
        {"drill": "sigkill@startup"}, {"cache": "disk"},
    ],
)  # fmt: skip
def test_flags_of_somebody_else_are_checked(flags):
    with pytest.raises(ValueError, match=r"flag|--"):
        checked_flags(flags)


def test_the_flags_of_a_command_line_come_back():
    words = [
        "python",
        "-m",
        "fred_trainer",
        "--modality=rgb",
        "--epochs=3",
        "--run-dir=/r",
        "--no-augment",
        "--drill=x",
    ]
    assert checked_flags(flags_of(words)) == {"modality": "rgb", "epochs": 3, "no_augment": True}
    assert flags_of(["python", "train.py", "--epochs=3"]) == {}


def test_a_fault_that_was_rehearsed_once_is_not_rehearsed_again():
    assert repeated_drills("nan@freeze:1:2,exception@freeze:1:3!,oom@batch>4") == "exception@freeze:1:3!,oom@batch>4"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("--api-key=abc", "--api-key=***"),
        ("https://anna:pw@host/x", "https://***@host/x"),
        ("WANDB_API_KEY: abc rest", "WANDB_API_KEY: *** rest"),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("hf_" + "a" * 30, "***"),
        ("epoch 3 loss 0.5", "epoch 3 loss 0.5"),
        ("tokenizer.json", "tokenizer.json"),
    ],
)
def test_secrets_stay_at_home(text: str, kept: str):
    assert without_secrets(text) == kept


def test_the_word_after_a_secret_flag_and_variables_of_the_list():
    assert words_without_secrets(["x", "--token", "abc", "--epochs", "3"]) == ["x", "--token", "***", "--epochs", "3"]
    assert variables({"OMP_NUM_THREADS": "2", "HOME": "/root", "NCCL_SECRET": "x", "AWS_KEY": "y"}) == {
        "OMP_NUM_THREADS": "2"
    }


def test_a_document_stays_one():
    """Texts lose their secrets, whatever their key says, and the document is still JSON."""
    document = {"a": ["--api-key=abc", 1, None], "API_TOKEN": "abc", "b": {"c": "print('PASSWORD=x')\nTrue"}}
    found = json.loads(json.dumps(document_without_secrets(document)))
    assert found == {"a": ["--api-key=***", 1, None], "API_TOKEN": "***", "b": {"c": "print('PASSWORD=***\nTrue"}}
