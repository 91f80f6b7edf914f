"""What was read from an output is kept as one record, whatever its numbers are."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.heartbeat import RECORD_BYTES, Beat, BeatSource, Section
from fred_supervisor.store.heartbeats import newest_beat, write_printed
from fred_supervisor.store.layout import AttemptDir

NUMBER = st.none() | st.integers(0, 10**15 - 1)
FIGURE = st.none() | st.floats(width=32)


@given(st.tuples(*[NUMBER] * 4), st.tuples(*[FIGURE] * 3), st.integers(1, 10**9), st.text(max_size=40))
def test_a_record_is_always_whole(
    tmp_path_factory, numbers: tuple[int | None, ...], figures: tuple[float | None, ...], seq: int, phase: str
):
    folder = AttemptDir(tmp_path_factory.mktemp("attempt"))
    epoch, epochs, step, steps = numbers
    loss, lr, metric = figures
    beat = Beat(
        seq=seq, pid=4_000_000, section=Section.TRAIN, phase=phase or None, epoch=epoch, epochs=epochs, step=step,
        steps=steps, samples=None, loss=loss, done=False, source=BeatSource.GUESS, lr=lr, metric=metric,
    )  # fmt: skip
    write_printed(folder, beat)
    read = newest_beat(folder)
    assert Path(folder.printed).stat().st_size == RECORD_BYTES
    assert read is not None
    assert (read.seq, read.epoch, read.epochs, read.step, read.steps) == (seq, *numbers)


def test_short_numbers_leave_room_for_learning_rate_and_metric(tmp_path: Path):
    folder = AttemptDir(tmp_path)
    beat = Beat(
        seq=1234567, pid=4_000_000, section=Section.TRAIN, phase="unfreeze", epoch=299, epochs=300, step=12345,
        steps=12345, samples=None, loss=0.123456, done=False, source=BeatSource.OUTPUT, lr=1.5e-5, metric=0.75,
    )  # fmt: skip
    write_printed(folder, beat)
    read = newest_beat(folder)
    assert read is not None
    assert (read.lr, read.metric) == (1.5e-5, 0.75)
    write_printed(folder, replace(beat, seq=2, lr=None, metric=None))
    read = newest_beat(folder)
    assert read is not None
    assert (read.seq, read.lr, read.metric) == (2, None, None)
