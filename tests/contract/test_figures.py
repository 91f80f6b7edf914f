"""What a trainer says of its learning, in its records."""

import pytest

from fred_supervisor.contract.heartbeat import RECORD_BYTES, Beat, Heartbeat, parse


@pytest.fixture
def told(tmp_path):
    path = tmp_path / "heartbeat"
    hb = Heartbeat(environ={"FRED_HEARTBEAT": str(path)}, signals=False)

    def tell(**values) -> Beat:
        hb.beat(**values)
        found = parse(path.read_bytes())
        assert found is not None
        return found

    return tell


def test_each_keeps_its_value_and_a_metric_its_epoch(told):
    beat = told(epoch=3, step=1, lr=0.001, gradient=2.5)
    assert (beat.lr, beat.metric, beat.metric_epoch, beat.gradient, beat.waits) == (0.001, None, None, 2.5, None)
    told(metric=0.41)
    beat = told(epoch=4, step=1, gradient=0.0, waits=0.25)
    assert (beat.lr, beat.metric, beat.metric_epoch, beat.gradient, beat.waits) == (0.001, 0.41, 3, 0.0, 0.25)


def test_they_are_left_out_where_a_record_has_no_room_and_the_position_stays(told):
    usual = told(
        epoch=300, epochs=300, step=12000, steps=12000, samples=12345678, loss=0.123456, phase="unfreeze", batch=16,
        lr=1.2345e-05, metric=0.12345, gradient=1.2345, waits=0.83,
    )  # fmt: skip
    assert usual.metric in {0.1234, 0.1235}
    assert usual.waits == 0.83
    beat = told(samples=12345678901234, step=1234567890, steps=1234567890)
    assert (beat.samples, beat.batch, beat.metric) == (12345678901234, 16, None)


def test_what_is_no_number_costs_the_figures_and_no_beat(told, capsys):
    beat = told(epoch=1, lr="fast")
    assert beat.lr is None
    assert "no number" in capsys.readouterr().err
    assert RECORD_BYTES == 256
