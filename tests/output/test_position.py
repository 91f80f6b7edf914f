"""From lines to a position: what is believed, and what confuses nobody."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.heartbeat import Beat, BeatSource
from fred_supervisor.linux.text_io import printable
from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.patterns import OwnPatterns
from fred_supervisor.output.position import OutputPosition

RECORDED = Path(__file__).with_name("recorded")
"""Outputs of real programs: a tiny training each; bars and tables shortened."""


def read(*lines: str, known: tuple[str, ...] = ()) -> OutputPosition:
    position = OutputPosition(BuiltInPatterns(), known)
    for line in lines:
        position.feed(line)
    return position


def place(position: OutputPosition) -> tuple[int | None, int | None, int | None, int | None] | None:
    beat = position.beat(1)
    return None if beat is None else (beat.epoch, beat.epochs, beat.step, beat.steps)


def bar(step: int, steps: int, label: str = "") -> str:
    return f"{label}{100 * step // steps:3}%|███       | {step}/{steps} [00:10<00:15, 11.9it/s]"


def recorded(name: str) -> list[Beat]:
    """The beats that come of a recorded output, one for each new position."""
    position = OutputPosition(BuiltInPatterns())
    found: list[Beat] = []
    for line in re.split(rb"[\r\n]+", (RECORDED / name).read_bytes()):
        position.feed(printable(line.decode()))
        beat = position.beat(1)
        if beat is not None and (not found or beat.position != found[-1].position):
            found.append(beat)
    return found


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("hugging_face.log", (None, None, 120, 120)),
        ("hugging_face_early.log", (None, None, 60, 120)),
        ("lightning.log", (6, None, 20, 20)),
        ("lightning_early.log", (3, None, 20, 20)),
        ("ultralytics.log", (4, 4, 2, 2)),
        ("ultralytics_early.log", (3, 30, 2, 2)),
    ],
)
def test_the_position_of_real_trainers_rises_to_where_they_ended(name: str, last: tuple[int | None, ...]):
    beats = recorded(name)
    places = [(beat.epoch or 0, beat.step or 0) for beat in beats]
    assert places == sorted(places), "validation and bars in bars change nothing"
    assert len(places) >= 3
    assert (beats[-1].epoch, beats[-1].epochs, beats[-1].step, beats[-1].steps) == last
    assert beats[-1].source is BeatSource.GUESS


def test_a_number_is_believed_when_it_has_risen_twice():
    assert place(read("Epoch 1/300", "Epoch 1/300")) is None
    assert place(read("Epoch 1/300", "Epoch 2/300")) is None
    position = read("Epoch 1/300", "Epoch 2/300", "Epoch 3/300")
    assert place(position) == (3, 300, None, None)
    assert position.line == "Epoch 3/300"


def test_what_an_earlier_attempt_has_believed_is_believed_at_once():
    names = read("Epoch 1/300", "Epoch 2/300", "Epoch 3/300").names
    assert place(read("Epoch 7/300", known=names)) == (7, 300, None, None)
    assert place(read("Epoch 7/12", known=names)) is None, "that is another number"


@pytest.mark.parametrize(
    ("steps", "began"),
    [
        ((0, 9, 12), 9),  # as the Hugging Face Trainer goes on from checkpoint-8
        ((0, 4, 9), 0),
        ((0, 9), None),
        ((0, 0, 9, 9), None),
        ((9, 12), 9),
        ((0, 500, 501, 502), 500),
    ],
)
def test_a_bar_that_is_drawn_at_0_may_go_on_further_along(steps: tuple[int, ...], began: int | None):
    names = read(*(bar(step, 800) for step in (1, 2, 3))).names
    beat = read(*(bar(step, 800) for step in steps), known=names).beat(1)
    assert beat is not None
    assert beat.began_step == began


def test_a_line_with_an_old_number_changes_nothing():
    position = read(*(f"Epoch {n}/9" for n in (1, 2, 3, 4)), "Best was epoch 2/9", "Epoch 5/9")
    assert place(position) == (5, 9, None, None)


def test_a_bar_for_each_epoch_says_the_step_within_it():
    lines = [line for n in (1, 2) for line in (f"Epoch {n}/8", *(bar(step, 30) for step in (0, 10, 20, 30)))]
    assert place(read(*lines)) == (2, 8, 30, 30)
    assert place(read(*lines, bar(0, 5), bar(1, 5), bar(5, 5))) == (2, 8, 30, 30), "a bar of the validation"
    assert place(read(*lines, "Epoch 3/8", bar(0, 30))) == (3, 8, 0, 30)


def test_a_bar_that_begins_again_and_again_says_no_position_but_life():
    rounds = [bar(step, 30) for _ in range(3) for step in (0, 10, 20, 30)]
    position = read(*rounds[:4])
    assert place(position) == (None, None, 30, 30)
    position = read(*rounds)
    assert place(position) == (None, None, None, None)
    seq = position.seq
    position.feed(bar(1, 30))
    assert position.seq == seq + 1


def test_the_bar_of_rich_names_the_last_index():
    lines = [f"Epoch {n}/29 ━━━━━━━━━━ {step}/100 0:00:01 • 0:00:02 90.0it/s" for n in range(29) for step in (50, 100)]
    assert place(read(*lines)) == (29, 30, 100, 100)
    assert place(read(*lines, "Epoch 29/29 ━━━━━━━━━━ 100/100 0:00:01 • 0:00:00")) == (30, 30, 100, 100)


def test_who_counts_what_remains_does_not_say_where_it_began():
    names = read(*(f"Epoch {n}/8" for n in range(1, 6))).names
    rest = read("Epoch 1/3", "Epoch 2/3", "Epoch 3/3", known=names).beat(1)
    assert rest is not None
    assert rest.began_epoch is None
    again = read("Epoch 1/8", known=names).beat(1)
    assert again is not None
    assert again.began_epoch == 1


def test_a_bar_that_counts_what_remains_does_not_say_where_it_began():
    names = read(*(bar(n, 20, "Training:") for n in range(4))).names
    rest = read(*(bar(n, 17, "Training:") for n in range(4)), known=names).beat(1)
    assert rest is not None
    assert rest.began_step is None


def test_the_bar_of_an_epoch_does_not_say_where_training_began():
    nested = [
        line for n in (0, 1, 2, 3) for line in (bar(n, 12, "epochs:"), *(bar(s, 20, "train:") for s in (0, 9, 20)))
    ]
    names = read(*nested).names
    first = read(bar(0, 8, "epochs:"), *(bar(s, 20, "train:") for s in (0, 9, 20)), known=names).beat(1)
    assert first is not None
    assert (first.step, first.began_step) == (20, None)


def test_a_bar_within_a_bar():
    lines = [line for n in (0, 1, 2) for line in (bar(n, 8), *(bar(step, 30) for step in (0, 10, 20, 30)))]
    assert place(read(*lines, bar(3, 8))) == (None, None, 3, 8)
    lines = [line for n in (0, 1, 2) for line in (bar(n, 8, "Epochs:"), *(bar(step, 30) for step in (0, 10, 20, 30)))]
    assert place(read(*lines, bar(3, 8, "Epochs:"), bar(10, 30))) == (3, 8, 10, 30)


def test_a_bar_of_preparation_is_followed_by_that_of_training():
    before = [bar(step, 5000) for step in (0, 2500, 4000, 5000)]
    assert place(read(*before, *(bar(step, 600) for step in (0, 1, 2)))) == (None, None, 2, 600)
    labelled = [bar(step, 5000, "Map: ") for step in (0, 2500, 4000, 5000)]
    assert place(read(*labelled)) is None
    assert read(*labelled).seq == 0, "no sign of life either: nothing may be expected after it"


def test_bars_of_several_ranks_do_not_look_like_new_beginnings():
    lines = [bar(step - lag, 600) for step in range(10, 60, 2) for lag in (0, 5, 1)]
    assert place(read(*lines)) == (None, None, 58, 600)


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        ([f"Epoch {n}/24" for n in range(25)], (25, 25, None, None)),
        ([f"Epoch {n}/25" for n in range(25)], (25, 25, None, None)),
        ([f"Epoch {n}/25" for n in range(12)], (12, 25, None, None)),
        ([f"  {n}/299     3.5G    0.1    0.2   640" for n in range(300)], (300, 300, None, None)),
        ([f"  {n}/299     3.5G    0.1    0.2   640" for n in range(299)], (299, 300, None, None)),
    ],
)
def test_those_that_count_from_0(lines: list[str], last: tuple[int | None, ...]):
    assert place(read(*lines)) == last


def test_counting_from_0_is_remembered():
    names = read(*(f"Epoch {n}/25" for n in range(4))).names
    assert place(read("Epoch 4/25", known=names)) == (5, 25, None, None)


def test_folds_that_count_anew_say_no_position():
    folds = [f"Epoch {n}/8" for _ in range(2) for n in range(1, 9)]
    assert place(read(*folds)) == (None, None, None, None)


def test_the_loss_may_stand_on_another_line():
    position = read(*(bar(n, 600) for n in (0, 1, 2)), "{'loss': '0.5', 'epoch': '0.01'}")
    assert position.beat(1).loss == 0.5


@pytest.mark.parametrize(
    "line", ["Test: [ 65/195]  Time: 0.1  Loss: 1.2 (1.3)", bar(3, 9, "Validating ") + " loss=1.2", "验证 损失: 1.2"]
)
def test_the_loss_of_a_test_is_another(line: str):
    """As timm prints it behind each epoch."""
    position = read(*(f"Train: {e} [{i}/90 ( 5%)] Loss: 0.5" for e in (0, 1) for i in (0, 40, 80)), line)
    assert position.beat(1).loss == 0.5


def test_a_pattern_of_a_person():
    own = OwnPatterns((r"done (?P<step>[\d,]+) out of (?P<steps>[\d,]+) in (?P<phase>\w+), L=(?P<loss>\S+)",))
    position = OutputPosition(own)
    for step in ("1,000", "2,000", "3,000"):
        position.feed(f"done {step} out of 9,000 in warmup, L=0.5")
        position.feed("Epoch 1/2")
    beat = position.beat(7)
    assert (beat.pid, beat.step, beat.steps, beat.phase, beat.loss) == (7, 3000, 9000, "warmup", 0.5)
    assert beat.source is BeatSource.OUTPUT


def ended(*lines: str, known: tuple[str, ...] = ()) -> tuple[int | None, int | None, int | None, int | None] | None:
    position = read(*lines, known=known)
    position.end()
    return place(position)


def loop(until: int, total: int, text: str = "Epoch {}/{}", *, first: int = 1) -> list[str]:
    return [text.format(n, total) for n in range(first, until + 1)]


FREEZE = loop(3, 3, "[freeze] epoch {}/{}")
FOLDS = loop(4, 4) + loop(4, 4)
TRAIN_EPOCHS = [f"Train Epoch: {e} [{i}/320 ({i * 100 // 320}%)]" for e in (1, 2) for i in range(0, 320, 64)]


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        ([*FREEZE, "[finetune] epoch 1/12"], (1, 12, None, None)),
        ([*FREEZE, *loop(2, 12)], (2, 12, None, None)),
        ([*FREEZE, *loop(12, 12)], (12, 12, None, None)),
        ([*FREEZE, *loop(12, 12), "[swa] epoch 1/2"], (1, 2, None, None)),
        ([*loop(4, 4), "fold 2", "Epoch 1/4"], (1, 4, None, None)),
        ([*loop(4, 4), *loop(2, 4)], (2, 4, None, None)),
        ([*loop(4, 4), *loop(4, 4)], (4, 4, None, None)),
        ([*FOLDS, *loop(3, 4)], (3, 4, None, None)),
        ([*FOLDS, *loop(4, 4)], (4, 4, None, None)),
        ([*loop(3, 4, first=0), *loop(1, 4, first=0)], (2, 4, None, None)),
        ([*loop(3, 4, first=0), *loop(3, 4, first=0)], (4, 4, None, None)),
        ([f"Epoch {n}/100" for n in (*range(10, 101, 10), 10, 20)], (20, 100, None, None)),
        ([bar(n, 4, "Epochs:") for n in (0, 1, 2, 3, 4, 0, 1)], (1, 4, None, None)),
        ([f"[{e}/4][{i}/9]" for _ in range(2) for e in (1, 2, 3, 4) for i in (3, 6, 9)][:-7], (2, 4, 6, 9)),
    ],
)
def test_at_the_end_the_last_loop_counts(lines: list[str], last: tuple[int | None, ...]):
    assert ended(*lines) == last


@pytest.mark.parametrize(
    "behind",
    [
        ["Best was epoch 4/10", "Restoring epoch 2/10"],
        ["weights of epoch 4/10 taken"],
        loop(2, 10, "Test epoch {}/{}"),
        loop(2, 5, "Set {}/{}"),
        [bar(n, 40, "Testing ") for n in range(9)],
        [bar(n, 40) for n in range(3)],
        ["Epoch 9/10", "Epoch 10/10", "Epoch 9/10"],
        ["step 5/7 of the export"],
    ],
    ids=[
        "best",
        "an old number",
        "a loop of a test",
        "other words",
        "a bar",
        "a bar without a word",
        "ranks",
        "export",
    ],
)
def test_what_comes_behind_the_end_of_training_is_no_other_loop(behind: list[str]):
    place_ = ended(*loop(10, 10), *behind)
    assert place_ is not None
    assert place_[:2] == (10, 10)


def test_the_end_of_one_loop_is_its_last_line():
    assert ended(*loop(7, 10)) == (7, 10, None, None)
    assert ended(*loop(7, 10), "Epoch 1/10") == (7, 10, None, None)
    assert ended("nothing") is None
    assert ended("Epoch 1/10") is None


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        ([bar(n, 30) for _ in range(2) for n in range(31)] + [bar(n, 30) for n in range(9)], (None, None, 8, 30)),
        ([bar(n, 30) for _ in range(3) for n in range(31)], (None, None, None, None)),
        ([bar(n, 30) for _ in range(3) for n in range(20)], (None, None, None, None)),
        ([f"[{n}/40] loss=0.5" for _ in range(2) for n in range(1, 41)][:-9], (None, None, 31, 40)),
        ([f"({n} of 40)" for _ in range(2) for n in range(1, 41)][:-9], None),
    ],
    ids=["in the middle", "to the end", "each as far as the one before", "a list", "of nobody"],
)
def test_a_bar_that_begins_again_has_stopped_short(lines: list[str], last: tuple[int | None, ...] | None):
    assert ended(*lines) == last


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["Epoch {}/9", "iter {}", " 9%|x| {}/9 [", "[{}/9][1/2]"])))
)
def test_whatever_comes_the_position_is_one_that_was_printed(lines: list[tuple[int, str]]):
    position = read(*(line.format(n) for n, line in lines))
    beat = position.beat(1)
    if beat is not None:
        assert beat.epoch is None or 0 <= beat.epoch <= 10
        assert beat.step is None or 0 <= beat.step <= 9
        assert position.line


# -- a loss that is lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        (["epoch 1 loss 0.5", "epoch 2 loss nan", "epoch 3 loss inf", "epoch 4 loss -inf"], "epoch 4 loss -inf"),
        (["{'loss': 0.5}", "{'loss': 'nan'}", "{'loss': nan, 'lr': 1e-3}", "{'loss': nan}"], "{'loss': nan}"),
        (["iter 1: loss nan", "iter 2: loss nan", "iter 3: loss 2.0", "iter 4: loss nan"], ""),
        (["iter 0: loss 1.0", *["iter 1: loss nan"] * 4], ""),
        (["loss: 2", "epoch 1", "loss: nan", "epoch 2", "loss: nan", "epoch 3", "loss: nan"], "loss: nan"),
        (["step 1 val_loss nan", "step 2 val_loss nan", "step 3 val_loss nan"], ""),
        ([bar(n, 9, "Validating ") + " loss=nan" for n in range(1, 9)], ""),
        (["loss of nannies: 3", "infant loss", "loss info", "the loss is nancy"], ""),
    ],
    ids=[
        "epochs",
        "dicts",
        "it comes back",
        "one record",
        "lines apart",
        "of validation",
        "a bar of validation",
        "words",
    ],
)
def test_a_loss_that_is_not_finite_three_records_in_a_row(lines: list[str], lost: str):
    assert read(*lines).not_finite == lost


@pytest.mark.parametrize(("losses", "lost"), [("nan nan nan", True), ("nan nan", False), ("nan nan nan 2.0", False)])
def test_who_ends_without_a_finite_loss_was_in_no_warm_up(losses: str, lost: bool):
    position = read(*(f"epoch {n} loss {loss}" for n, loss in enumerate(losses.split())))
    assert not position.not_finite
    position.end()
    assert bool(position.not_finite) == lost


@given(st.lists(st.sampled_from(["nan", "inf", "-inf", "0.5", "1e-3"]), max_size=12))
def test_three_in_a_row_and_no_fewer(losses: list[str]):
    position = OutputPosition(OwnPatterns((r"it (?P<step>\d+) .*=(?P<loss>\S+)",)))
    for step, loss in enumerate(losses):
        position.feed(f"it {step} l={loss}")
    marks = "".join("." if loss in ("0.5", "1e-3") else "x" for loss in losses)
    assert bool(position.not_finite) == ("xxx" in marks.lstrip("x"))


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        ([f"step {n}: loss inf" for n in range(49)], ""),
        ([f"step {n}: loss inf" for n in range(60)], "step 49: loss inf"),
        ([*(f"step {n}: loss inf" for n in range(40)), "step 40: loss 9.5", "step 41: loss nan", "step 42: loss nan"], ""),
        ([f"epoch {e} step {n}/9: loss nan" for e in (1, 2, 3, 4) for n in range(9)], ""),
        ([f"epoch {e}/9: loss nan" for e in range(1, 9)], "epoch 5/9: loss nan"),
        (["loss inf"] * 49, ""),
    ],
    ids=["warm-up", "for good", "it becomes finite", "four epochs", "five epochs", "no position"],
)  # fmt: skip
def test_a_loss_that_was_never_finite_is_waited_for(lines: list[str], lost: str):
    assert read(*lines).not_finite == lost


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([f"pretrain Epoch {n}/8" for n in range(1, 9)], [f"finetune Epoch {n}/6" for n in (1, 2, 3)]),
        (
            [line for n in range(1, 7) for line in (f"Epoch {n}/6", *(f"{s}/5 ━━ 0s 9ms/step" for s in range(1, 6)))],
            [line for n in (1, 2) for line in (f"Epoch {n}/3", *(f"{s}/5 ━━ 0s 9ms/step" for s in range(1, 6)))],
        ),
    ],
    ids=["two loops", "two fits of Keras"],
)
def test_a_second_loop_is_the_position_once_the_first_one_is_over(first: list[str], then: list[str]):
    position = OutputPosition(BuiltInPatterns())
    for line in first:
        position.feed(line)
    before = position.beat(1)
    assert before is not None
    assert before.epoch == before.epochs
    for line in then:
        position.feed(line)
    now = position.beat(1)
    assert now is not None
    assert (now.epoch, now.epochs) in ((3, 6), (2, 3))
