"""The words of a COMMAND at each launch, and whether they tell it its checkpoint."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.placeholders import NAMES, fill, of_checkpoint, takes_resume, wrong_placeholder

NOTHING = dict.fromkeys(NAMES, "") | {"run_dir": "/r", "attempt": "2"}
THERE = NOTHING | of_checkpoint("/r/out/ckpt-7.pt")


@pytest.mark.parametrize(
    ("word", "there", "nothing"),
    [
        ("{run_dir}/x", ["/r/x"], ["/r/x"]),
        ("--resume={resume}", ["--resume=/r/out/ckpt-7.pt"], []),
        ("{resume_dir}", ["/r/out"], []),
        ("{resume_dir}/state.json", ["/r/out/state.json"], []),
        ("--name={resume_name}", ["--name=ckpt-7.pt"], []),
        ("{resume?--resume}", ["--resume"], []),
        ("--init_from={resume?resume:scratch}", ["--init_from=resume"], ["--init_from=scratch"]),
        ("{resume?:--from-scratch}", [], ["--from-scratch"]),
        ("{resume?a:b:c}", ["a"], ["b:c"]),
        ("{resume?--go-on}{attempt}", ["--go-on2"], []),
        ("{unfreeze_batch_size}", [], []),
        ("{epoch:02d}-{val_loss:.2f}", ["{epoch:02d}-{val_loss:.2f}"], ["{epoch:02d}-{val_loss:.2f}"]),
        ("{{resume}}", ["{/r/out/ckpt-7.pt}"], []),
        ("{resume", ["{resume"], ["{resume"]),
        ("python t.py {resume} | tee log", ["python t.py /r/out/ckpt-7.pt | tee log"], ["python t.py  | tee log"]),
        ("python t.py {resume?--resume} {run_dir}", ["python t.py --resume /r"], ["python t.py  /r"]),
        ("", [""], [""]),
    ],
)
def test_words(word: str, there: list[str], nothing: list[str]):
    assert fill([word], THERE) == there
    assert fill([word], NOTHING) == nothing


@given(st.lists(st.text(max_size=20)))
def test_words_without_braces_stay(words: list[str]):
    plain = [word.replace("{", "") for word in words]
    assert fill(plain, THERE) == plain
    assert wrong_placeholder(plain) is None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("{resume?}", "names no word"),
        ("--x={resume?:}", "names no word"),
        ("{resume?--resume={resume}}", "two words"),
        ("{resume?a:b}", None),
        ("{resume?a:}", None),
        ("{anything}", None),
    ],
)
def test_what_can_never_be_meant(word: str, said: str | None):
    wrong = wrong_placeholder(["python", word])
    assert wrong is None if said is None else wrong is not None and said in wrong


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("resume")])
def test_other_placeholders_tell_no_checkpoint(name: str):
    assert not takes_resume([f"{{{name}}}"], "/")


@pytest.mark.parametrize(
    "word", ["{resume}", "-r={resume_dir}", "{resume_name}", "{resume?a:b}", 'train "$FRED_RESUME"']
)
def test_words_that_tell_it(word: str):
    assert takes_resume(["python", word], "/")


def test_a_script_that_reads_it(tmp_path: Path):
    (tmp_path / "told.py").write_text("import os\nos.environ['FRED_RESUME']\n")
    (tmp_path / "asks.py").write_text("from fred_supervisor.contract import find_latest_checkpoint\n")
    (tmp_path / "deaf.py").write_text("train()\n")
    (tmp_path / "large.py").write_bytes(b"#" * (1 << 20) + b"FRED_RESUME")
    for word, takes in (
        ("told.py", True),
        ("asks.py", True),
        ("deaf.py", False),
        ("large.py", False),
        ("gone.py", False),
    ):
        assert takes_resume(["python", word], str(tmp_path)) is takes
        assert takes_resume(["python", str(tmp_path / word)], "/") is takes
    assert not takes_resume(["python", "a\0b", "."], str(tmp_path))


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--from={resumee}", "{resume}"),
        ("{resume-dir}/x", "{resume_dir}"),
        ("{Resume}", "{resume}"),
        ("{resume_folder}", "{resume}"),
        ("{resume?--resume", "{resume?--resume}"),
        ("{resume_dir?--r}", "{resume?--resume}"),
        ("out={rundir}", "{run_dir}"),
        ("{run-dir}", "{run_dir}"),
        ("b={unfreeze_batchsize}", "{unfreeze_batch_size}"),
        ("{heart_beat}", "{heartbeat}"),
        ("{resume}{acumulate}", "{accumulate}"),
        ("{checkpoint}", "{resume}"),
        ("--batch={batch_size}", "{unfreeze_batch_size}"),
    ],
)
def test_a_slip_of_the_pen(word: str, meant: str):
    wrong = wrong_placeholder(["python", "t.py", word])
    assert wrong is not None
    assert word in wrong
    assert wrong.endswith(f"; {meant} is one")


@pytest.mark.parametrize(
    "word",
    [
        "{epoch}-{step}.pt",
        "{val_loss:.2f}",
        "{}",
        "${HOME}",
        "{a,b}",
        "{model}",
        "w-{batch}.pt",
        "--name={epoch}-{out}",
        "echo {resumed} {runs_dir}",
        "{n",
    ],
)
def test_braces_of_others(word: str):
    assert wrong_placeholder(["python", word]) is None


@pytest.mark.parametrize("name", NAMES)
def test_no_placeholder_is_a_slip(name: str):
    assert wrong_placeholder([f"{{{name}}}", f"--x={{{name}}}/y"]) is None


def test_what_is_filled_into_a_script_is_one_word():
    values = THERE | of_checkpoint("/r/my runs/it's.pt")
    assert fill(["cat '{resume_dir}' x"], values) == ["cat '/r/my runs' x"], "quoted already"
    assert fill(["cat {resume} {resume_dir}/x", "{resume}"], values) == [
        """cat '/r/my runs/it'"'"'s.pt' '/r/my runs'/x""",
        "/r/my runs/it's.pt",
    ]
