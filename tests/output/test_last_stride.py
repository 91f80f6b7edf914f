"""Whether the next line would have been at the goal, and what a program has survived."""

import pytest

from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.last_stride import is_long_over, last_remark, last_words, time_is_left, within_a_stride
from fred_supervisor.output.patterns import LinePatterns, OwnPatterns
from fred_supervisor.output.position import OutputPosition


def every(stride: int, until: int, line: str) -> list[str]:
    return [line.format(at) for at in range(0, until + 1, stride)]


def near(lines: list[str], patterns: LinePatterns) -> bool:
    position = OutputPosition(patterns)
    for line in lines:
        position.feed(line)
    beat = position.beat(1)
    return beat is not None and within_a_stride("\n".join(lines), patterns, beat)


def bar(at: int, total: int, what: str = "") -> str:
    return f"{what}{100 * at // total:3d}%|███  | {at}/{total} [00:01<00:00,  9.00it/s]"


def epochs(count: int, of: int, *, header: str = "Epoch {}/{}", steps: int = 10) -> list[str]:
    """Each with a header, and a bar of its batches below it."""
    return [
        line
        for epoch in range(1, count + 1)
        for line in (header.format(epoch, of), *(bar(step, steps) for step in range(steps + 1)))
    ]


HUGGING_FACE = [
    line
    for at in range(1, 21)
    for line in (
        bar(at, 30),
        *([f"{{'loss': 0.5, 'epoch': {at / 10}}}"] if at % 5 == 0 else []),
        *([bar(step, 8) for step in range(7)] if at % 10 == 0 else []),
    )
]
KERAS = [
    line
    for epoch in (1, 2, 3)
    for line in (f"Epoch {epoch}/8", *(f"{step}/5 ━━━━━━ 0s 9ms/step - loss: 0.5" for step in range(1, 6)))
]


MNIST = [f"Train Epoch: {e} [{i}/320 ({i * 100 // 320}%)]" for e in (1, 2) for i in range(0, 320, 32)]
TWICE = [f"Epoch: [{e}][{i}/100]" for e in (0, 1) for i in (1, 51)]


@pytest.mark.parametrize(
    ("lines", "at_goal"),
    [
        (every(50, 950, "step {}/1000: loss 0.5"), True),
        (every(50, 900, "step {}/1000: loss 0.5"), False),
        (every(100, 900, "iter {}/1000 | loss 0.5"), True),
        (every(1, 999, "step {}/1000"), True),
        (every(2, 98, "98%|███ | {}/100 [00:01<00:00, 9it/s]"), True),
        (every(2, 50, "50%|███ | {}/100 [00:01<00:00, 9it/s]"), False),
        (every(10, 290, "Epoch {}/300"), True),
        (every(10, 280, "Epoch {}/300"), False),
        (every(1, 299, "Epoch {}/300"), False),
        (every(50, 950, "step {}/1000") + every(1, 3, "Epoch {}/6"), False),
        (every(50, 950, "step {}/1000") + every(50, 500, "step {}/1000"), False),
        (["step 500/1000", "step 950/1000"], False),
        ([], False),
        (epochs(3, 8), False),
        (epochs(3, 8)[:-1], False),
        (epochs(3, 8, header="epoch: {} of {}"), False),
        (MNIST, True),
        (MNIST[:-5], False),
        (TWICE, True),
        (TWICE[:-1], False),
        ([f"Epoch: [{e}][{i - lag}/900]" for e in (0, 1) for i in range(10, 500, 10) for lag in (0, 7)], False),
        (HUGGING_FACE, False),
        (KERAS, False),
        (KERAS[:-1], False),
    ],
)
def test_a_line_further_would_be_the_goal(lines: list[str], at_goal: bool):
    assert near(lines, BuiltInPatterns()) is at_goal


def test_of_a_persons_own_pattern():
    own = OwnPatterns((r"it (?P<step>\d+) of (?P<steps>\d+)",))
    assert near(every(50, 950, "it {} of 1000"), own)
    assert not near(every(50, 800, "it {} of 1000"), own)


OOM = ["Traceback (most recent call last):", '  File "t.py", line 3', "torch.OutOfMemoryError: CUDA out of memory."]


@pytest.mark.parametrize(
    ("lines", "survived"),
    [
        (["Epoch 1/9", "Epoch 2/9", *OOM], False),
        (["Epoch 1/9", "Epoch 2/9", *OOM, "Epoch 3/9"], False),  # of another rank
        (["Epoch 1/9", "Epoch 2/9", *OOM, "Epoch 3/9", "Epoch 4/9", "Epoch 5/9"], True),
        (["Epoch 1/9", "Epoch 2/9", *OOM, "Epoch 3/9", "Epoch 4/9", "Epoch 5/9", *OOM], False),
        ([bar(3, 90), bar(4, 90), *OOM, bar(4, 90), bar(4, 90), bar(4, 90)], False),  # drawn once more
        ([bar(3, 90), bar(4, 90), *OOM, bar(5, 90), bar(6, 90), bar(7, 90), "KeyError: 'x'"], True),
        ([*OOM, "Epoch 1/9", "Epoch 2/9", "Epoch 3/9", "Epoch 4/9"], True),
    ],
)
def test_what_was_said_before_training_went_on_was_survived(lines: list[str], survived: bool):
    assert ("CUDA out of memory" not in last_words("\n".join(lines), BuiltInPatterns())) is survived


@pytest.mark.parametrize(
    ("lines", "remark"),
    [
        ([bar(3, 90), bar(4, 90)], None),
        (["loading", bar(3, 90), bar(4, 90), ""], None),  # training has survived that
        ([bar(3, 90), bar(4, 90), "quota exceeded", bar(4, 90)], "quota exceeded"),
        ([bar(3, 90), bar(4, 90), "one", "two", "  "], "two"),
        (["Epoch 1/9", "Epoch 2/9", "bye"], "bye"),
        (["no such option"], "no such option"),
        ([bar(3, 90), bar(4, 90), "ValueError: bad label", bar(5, 90)], "ValueError: bad label"),
        ([bar(3, 90), bar(4, 90), "saved last.pt", bar(5, 90)], None),
        (["ValueError: tried again", bar(3, 90), bar(4, 90), bar(5, 90), bar(6, 90)], None),
        ([], None),
    ],
)
def test_a_bar_is_no_reason_for_an_end(lines: list[str], remark: str | None):
    assert last_remark("\r".join(lines), BuiltInPatterns()) == remark


DETECTRON = [
    f"[12:00:00 d2.utils.events]:  eta: 0:00:{(199 - n) // 4:02}  iter: {n}  total_loss: 1.2"
    for n in range(19, 200, 20)
]


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (DETECTRON, False),
        (DETECTRON[:-1], False),  # the next line would have been the last
        (DETECTRON[:-3], True),
        ([*DETECTRON[:-3], "saving", "bye"], True),
        (DETECTRON[:2], False),
        ([f"iter: {n} ETA: 1 day, {23 - n}:00:00" for n in range(5)], True),
        ([f"iter: {n} eta: 9 days, 0:00:00" for n in range(5)], True),
        ([f"iter {n}/90 eta: 0:09:00" for n in range(5)], False),  # it names its total
        ([f"downloading: eta: 0:{9 - n:02}:00" for n in range(5)], False),
        ([f"Val iter: {n} eta: 0:00:{9 - n:02}" for n in range(5)], False),
        ([], False),
    ],
)
def test_the_time_that_is_left_by_the_last_line(lines: list[str], left: bool):
    assert time_is_left("\n".join(lines), BuiltInPatterns()) is left


HASHED = [f"step {n}/7: hashed" for n in range(1, 6)]
TRAINED = [f"tour {n} sur 8 -> perte 0.{n}" for n in range(1, 9)]


@pytest.mark.parametrize(
    ("lines", "over"),
    [
        ([*HASHED, *TRAINED], True),
        ([*HASHED, *TRAINED[:5]], False),
        ([*HASHED, *["a warning in line 3"] * 2, *(f"remark {'x' * n} 1" for n in range(9))], False),
        ([*HASHED, *["bye"] * 9], False),
        ([*TRAINED, *HASHED], False),
        ([*HASHED, "step 7/7: hashed", *TRAINED], False),  # it is at its goal
        ([*(f"step {n}/90: loss 0.5" for n in range(60)), *TRAINED], False),
        ([*HASHED, *TRAINED, *(f"Epoch {n}/9" for n in range(4))], False),
    ],
)
def test_steps_that_were_over_long_before_the_end(lines: list[str], over: bool):
    position = OutputPosition(BuiltInPatterns())
    for line in lines:
        position.feed(line)
    beat = position.beat(1)
    assert beat is not None
    assert is_long_over("\n".join(lines), BuiltInPatterns(), beat) is over


def test_a_person_who_names_the_steps_is_believed():
    own = OwnPatterns((r"step (?P<step>\d+)/(?P<steps>\d+)",))
    position = OutputPosition(own)
    for line in HASHED:
        position.feed(line)
    beat = position.beat(1)
    assert beat is not None
    assert not is_long_over("\n".join([*HASHED, *TRAINED]), own, beat)
