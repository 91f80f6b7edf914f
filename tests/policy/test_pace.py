"""Images per second, the time that is left, the course of the loss; and which GPUs CUDA_VISIBLE_DEVICES means."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import BeatSource, Section
from fred_supervisor.policy.cuda_visible import Device, resolve
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.pace import MOST, LossHistory, LossRecord, Pace, PaceRecord, time_left_s

# -- the course of the loss -----------------------------------------------------------------------------------------------


def losses(*values: tuple[float, float], **start: Any) -> LossHistory:
    """(seconds, loss) of each look."""
    made = LossHistory(**start)
    for now_s, value in values:
        made.add(now_s, value)
    return made


def test_a_mean_is_weighted_by_the_time_that_a_value_held():
    assert losses((0.0, 8.0), (0.25, 4.0)).means == [4.0], "the first one's time is not known"
    assert losses((0.0, 8.0), (0.2, 4.0), (0.8, 2.0)).means == [pytest.approx(2.5)]
    assert losses((0.0, 8.0), (0.0, 4.0)).means == [8.0], "no time, no weight"


def test_a_new_mean_begins_when_the_span_is_full():
    made = losses((0.0, 8.0), (0.5, 4.0), (1.0, 2.0), (1.5, 1.0))
    assert made.means == [pytest.approx(3.0), 1.0]
    assert losses((0.0, 8.0), (0.9, 4.0), (1.5, 2.0)).means[0] == pytest.approx((4.0 * 0.9 + 2.0 * 0.6) / 1.5)


def test_what_is_no_number_is_left_out_but_its_time_has_passed():
    made = losses((0.0, 8.0), (0.5, float("nan")), (0.6, 4.0))
    assert made.means == [4.0]
    assert losses((0.0, float("inf"))).means == []
    weighted = losses((0.0, 8.0), (0.4, 8.0), (0.5, float("nan")), (0.6, 4.0))
    assert weighted.means == [pytest.approx((0.4 * 8 + 0.1 * 4) / 0.5)]


def test_a_pause_counts_half_a_minute_at_most_and_a_clock_never_runs_back():
    made = losses((0.0, 8.0), (30.0, 4.0), (1000.0, 2.0), span_s=100.0)
    assert made.means == [pytest.approx(3.0)]
    assert losses((10.0, 8.0), (5.0, 4.0), span_s=100.0).means == [8.0]
    assert losses((10.0, 8.0), (5.0, 4.0), (6.0, 2.0), span_s=100.0).means == [2.0]


def test_a_full_history_is_halved_and_its_means_are_twice_as_long():
    made = LossHistory()
    for n in range(MOST):
        made.means.append(float(n))
    made._filled_s = 1.0
    made.add(0.0, 100.0)
    assert made.span_s == 2.0
    assert made.means == [*(2 * n + 0.5 for n in range(MOST // 2)), 100.0]
    assert made._filled_s == 0.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e6, 1e6)), max_size=300))
def test_there_are_never_too_many_and_none_is_beyond_what_was_seen(steps: list[tuple[float, float]]):
    made, now_s = LossHistory(), 0.0
    for after_s, value in steps:
        now_s += after_s
        made.add(now_s, value)
    assert len(made.means) <= MOST
    seen = [value for _, value in steps]
    assert all(min(seen) - 1e-6 <= mean <= max(seen) + 1e-6 for mean in made.means)


def test_it_goes_on_with_what_an_earlier_process_recorded():
    made = LossHistory.of(LossRecord(span_s=4.0, means=(3.0, 2.0)))
    made.add(0.0, 1.0)
    assert (made.span_s, made.means) == (4.0, [3.0, 2.0, 1.0])
    long = LossHistory.of(LossRecord(span_s=1.0, means=tuple(map(float, range(MOST + 5)))))
    assert long.means == [float(n) for n in range(5, MOST + 5)]
    for span_s in (0.0, -1.0, float("nan")):
        assert LossHistory.of(LossRecord(span_s=span_s, means=(1.0,))) == LossHistory()


def test_five_digits_are_stored():
    assert losses((0.0, 0.123456789)).record() == LossRecord(span_s=1.0, means=(0.12346,))
    largest = 1.7976931348623157e308
    assert losses((0.0, largest)).record().means == (largest,)


# -- images per second ----------------------------------------------------------------------------------------------------


def pace(*looks: tuple[float, dict[str, Any]]) -> Pace:
    """(seconds, changes of the record) of each look."""
    made = Pace()
    for now_s, changes in looks:
        made.see(beat(**changes), now_s)
    return made


def test_the_rate_is_that_of_the_samples():
    assert pace((0.0, {"samples": 0})).images_per_s is None
    assert pace((0.0, {"samples": 0}), (2.0, {"samples": 100})).images_per_s == 50.0
    assert pace((0.0, {"samples": 0}), (0.5, {"samples": 100})).images_per_s == 200.0


@pytest.mark.parametrize(
    ("first", "second", "rate"),
    [
        ({"epoch": None, "step": 100}, {"epoch": None, "step": 140}, 4.0),
        ({"epoch": 2, "step": 90, "steps": 100}, {"epoch": 3, "step": 10, "steps": 100}, 2.0),
        ({"epoch": 2, "step": 90, "steps": None}, {"epoch": 3, "step": 10, "steps": None}, None),
        ({"epoch": 2, "step": None}, {"epoch": 3, "step": None}, None),
        ({"epoch": None, "step": 140}, {"epoch": None, "step": 100}, 0.0),
    ],
)
def test_without_images_the_rate_is_that_of_the_steps(
    first: dict[str, Any], second: dict[str, Any], rate: float | None
):
    made = pace((0.0, {"samples": None, **first}), (10.0, {"samples": None, **second}))
    assert (made.images_per_s, made.steps_per_s, made.record().steps_per_s) == (None, rate, rate)
    assert pace((0.0, {"samples": 0, **first}), (10.0, {"samples": 100, **second})).steps_per_s is None


def test_later_rates_weigh_by_their_time():
    made = pace((0.0, {"samples": 0}), (10.0, {"samples": 100}), (25.0, {"samples": 550}))
    weight = 1 - math.exp(-0.5)
    assert made.images_per_s == pytest.approx(10.0 + weight * (30.0 - 10.0))


@pytest.mark.parametrize(
    ("second", "rate"),
    [
        ({"samples": None}, None),
        ({"samples": 100, "section": Section.EVAL}, None),
        ({"samples": 100, "pid": 8}, None),
        ({"samples": 0}, 0.0),
        ({"samples": 100}, 10.0),
    ],
)
def test_what_has_no_rate(second: dict[str, Any], rate: float | None):
    assert pace((0.0, {"samples": 50 if second == {"samples": 0} else 0}), (10.0, second)).images_per_s == rate
    assert pace((0.0, {"samples": None}), (10.0, {"samples": 100})).images_per_s is None
    assert pace((0.0, {"samples": 0, "section": Section.EVAL}), (10.0, {"samples": 100})).images_per_s is None
    assert pace((5.0, {"samples": 0}), (5.0, {"samples": 100})).images_per_s is None


def test_another_process_begins_anew():
    made = pace(
        (0.0, {"samples": 0, "step": 1}), (10.0, {"samples": 100, "step": 5}), (20.0, {"samples": 200, "pid": 8})
    )
    assert (made.images_per_s, made.record().eta_s) == (None, None)


# -- the time that is left ------------------------------------------------------------------------------------------------


def test_the_time_that_is_left_is_that_of_the_rest_at_this_pace():
    """Epoch 3 of 9, step 4 of 10 at 100 s; step 9 at 110 s: half an epoch in 10 s, 6.1 are left."""
    made = pace((100.0, {"step": 4}), (110.0, {"step": 9}))
    assert made.record().eta_s == pytest.approx(122.0)
    made.see(beat(step=9), 112.0)
    assert made.record().eta_s == pytest.approx(6.1 * 12 / 0.5)


def test_a_minute_in_which_everything_was_stopped_tells_no_speed():
    made = pace((100.0, {"step": 4}), (105.0, {"step": 5}), (110.0, {"step": 6}))
    before = made.record()
    made.see(beat(step=6), 170.0)  # nobody has looked meanwhile, nor trained
    assert made.record().eta_s == before.eta_s
    assert made.record().images_per_s == before.images_per_s
    made.see(beat(step=7), 175.0)
    assert made.record().eta_s == pytest.approx(before.eta_s - 5.0)


def test_the_time_that_is_left_by_steps_alone():
    steps = {"epoch": None, "epochs": None, "samples": None, "source": BeatSource.GUESS}
    made = pace((0.0, {**steps, "step": 100, "steps": 600}), (10.0, {**steps, "step": 200, "steps": 600}))
    assert made.record().eta_s == pytest.approx(40.0)
    made.see(beat(**steps, step=300, steps=1000), 20.0)
    assert made.record().eta_s is None, "another bar is another way"


NOWHERE = {"epoch": None, "epochs": None, "samples": None}


@pytest.mark.parametrize(
    "looks",
    [
        [(0.0, {"step": 4})],
        [(0.0, {"step": 4}), (10.0, {"step": 4})],
        [(0.0, {"step": 4}), (10.0, {"step": 3})],
        [(0.0, {"step": 4, "epochs": None}), (10.0, {"step": 5, "epochs": None})],
        [(0.0, {"epoch": None}), (10.0, {"epoch": None, "step": 6})],
        [(0.0, {"epoch": 3, "epochs": None}), (10.0, {"epoch": 3, "epochs": None, "step": 6})],
        [(0.0, {"step": 4, "section": Section.EVAL}), (10.0, {"step": 5})],
        [(0.0, {**NOWHERE, "step": 4, "steps": None}), (10.0, {**NOWHERE, "step": 5, "steps": None})],
        [(0.0, {**NOWHERE, "step": None, "steps": 9}), (10.0, {**NOWHERE, "step": None, "steps": 9})],
        [(0.0, {"step": 4}), (10.0, {"step": 5, "epochs": 10**18})],
    ],
)
def test_what_has_no_end_in_sight(looks: list[tuple[float, dict[str, Any]]]):
    assert pace(*looks).record().eta_s is None


def test_an_evaluation_counts_as_time_and_does_not_begin_it():
    made = pace(
        (0.0, {"step": 4, "section": Section.STARTUP}),
        (10.0, {"step": 4}),
        (20.0, {"step": 9, "section": Section.EVAL}),
    )
    assert made.record().eta_s == pytest.approx(6.1 * 10 / 0.5)


@pytest.mark.parametrize(
    ("eta_s", "left_s"),
    [
        (None, None),
        (5.0, 5.0),
        (-5.0, 0.0),
        (10 * 365 * 86400.0, 10 * 365 * 86400.0),
        (10 * 365 * 86400.0 + 1, None),
        (float("nan"), None),
    ],
)
def test_a_time_that_nobody_can_mean_is_not_known(eta_s: float | None, left_s: float | None):
    assert time_left_s(eta_s) == left_s


def test_what_is_stored_and_shown():
    assert Pace().record() == PaceRecord(images_per_s=None, eta_s=None, loss=None, losses=LossRecord(span_s=1.0))
    made = pace((0.0, {"samples": 0, "step": 4, "loss": 2.0}), (3.0, {"samples": 100, "step": 9, "loss": 1.0}))
    assert (made.record().images_per_s, made.record().loss) == (33.33, 1.0)
    assert made.record().eta_s == round(6.1 * 3 / 0.5, 1)
    assert made.record().losses.means == (1.0,)
    made.see(beat(loss=float("nan")), 4.0)
    assert made.record().loss is None
    made.see(beat(loss=None), 5.0)
    assert made.record().loss is None
    made.see(None, 6.0)
    assert made.record().images_per_s is not None


def test_only_the_losses_of_training_are_kept():
    made = pace((0.0, {"loss": 5.0, "section": Section.EVAL}), (1.0, {"loss": None}), (2.0, {"loss": 3.0}))
    assert made.losses.means == [3.0]
    assert pace((0.0, {"loss": 3.0}), (0.5, {"loss": 9.0, "section": Section.EVAL})).losses.means == [3.0]


# -- CUDA_VISIBLE_DEVICES -------------------------------------------------------------------------------------------------

A, B, PART = "GPU-aaaa", "GPU-bbbb", "MIG-cccc"
SAME = [Device(uuid=A, name="x"), Device(uuid=B, name="x"), Device(uuid=PART, name="x 1g", parent=B)]
MIXED = [Device(uuid=A, name="x"), Device(uuid=B, name="y")]


@pytest.mark.parametrize(
    ("value", "topic", "uuids"),
    [
        (None, Topic.CUDA_UNSET, (A, B)),
        ("0,0", Topic.CUDA_NAMED_TWICE, ()),
        (f"0,{A}", Topic.CUDA_NAMED_TWICE, ()),
        ("7", Topic.CUDA_NO_SUCH_GPU, None),
        ("2", Topic.CUDA_NO_SUCH_GPU, None),
        ("-1", Topic.CUDA_MEANS, ()),
        ("-1,0", Topic.CUDA_MEANS, ()),
        (" ", Topic.CUDA_MEANS, ()),
        ("1,0", Topic.CUDA_MEANS, (B, A)),
        ("MIG-", Topic.CUDA_NO_SUCH_GPU, None),
        ("GPU-a", Topic.CUDA_MEANS, (A,)),
        ("MIG-c", Topic.CUDA_MEANS, (PART,)),
    ],
)
def test_which_devices_a_value_means(value: str | None, topic: Topic, uuids: tuple[str, ...] | None):
    found = resolve(value, SAME, pci_order=True)
    assert (found.uuids, found.message.topic) == (uuids, topic)


@pytest.mark.parametrize(("value", "ended"), [("0,7,1", "7"), ("0,-1", None), ("0", None), ("0,x", "x")])
def test_the_word_at_which_cuda_stops_is_told(value: str, ended: str | None):
    assert resolve(value, SAME, pci_order=True).message.facts["ended"] == ended


@pytest.mark.parametrize(
    ("value", "devices", "pci_order", "unsure"),
    [
        ("0", MIXED, False, True),
        ("0", MIXED, True, False),
        ("0", SAME, False, False),
        (A, MIXED, False, False),
        (f"{A},7", MIXED, False, False),
        (f"{A},1", MIXED, False, True),
    ],
)
def test_indices_of_different_gpus_are_unsure(value: str, devices: list[Device], pci_order: bool, unsure: bool):
    assert resolve(value, devices, pci_order=pci_order).message.facts["order_unsure"] is unsure


def test_a_uuid_that_is_the_beginning_of_another_is_itself():
    devices = [Device(uuid="GPU-ab", name="x"), Device(uuid="GPU-abc", name="x")]
    assert resolve("GPU-ab", devices, pci_order=True).uuids == ("GPU-ab",)
    assert resolve("GPU-a", devices, pci_order=True).uuids is None
