"""Slower than before, with why, and not where training only does something else for a while."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.warnings.simulated import Simulated

from fred_supervisor.contract.decode import decode
from fred_supervisor.policy.history import Overrides, RunHistory
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.warnings.machine import GpuLook, MachineLook, OtherProcess, reasons
from fred_supervisor.policy.warnings.speed import LEAST, Slice, UsualSpeed
from fred_supervisor.words.sentences import sentence


def slows(at_h: float, factor: float, until_h: float = 99.0):
    return lambda now_s: 20.0 * (factor if at_h * 3600 <= now_s < until_h * 3600 else 1.0)


@pytest.mark.parametrize("samples_told", [True, False])
@pytest.mark.parametrize(("steps", "noise"), [(300, 0.1), (40, 0.5), (5000, 0.3)])
def test_half_speed_is_told_after_a_quarter_of_an_hour_and_its_end(samples_told, steps, noise):
    run = Simulated(speed=slows(1, 0.5, 3), steps=steps, noise=noise, samples_told=samples_told).train(3.6)
    assert run.kinds == ["slow", "no longer slow"]
    (begin_s, _, text), (over_s, _, _) = run.told
    share = 0.3 if steps == 40 else 0.7  # of the time is training; evaluations and saves do not count
    assert 3600 + 900 <= begin_s < 3600 + 1300 / share
    assert 3 * 3600 <= over_s < 3 * 3600 + 600 / share
    assert "% of its own median here" in text
    assert ("samples/s" in text) == samples_told
    assert run.state.history.warnings == ()


@pytest.mark.parametrize(
    "change",
    [
        {"speed": slows(1, 0.78)},
        {"speed": slows(1, 0.3, 1.2)},  # twelve minutes
        {"speed": slows(0.6, 1.6, 1.0)},  # a neighbour paused, and came back
        {"eval_s": 2400.0, "steps": 200},
        {"save_s": 300.0, "steps": 200},
        {"steps": 3, "batch": 512, "speed": lambda now_s: 4.0},  # steps of two minutes
        {"noise": 0.8},
        {"speed": lambda now_s: 20.0 if now_s % 60 < 50 else 8.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_slowness(change):
    assert Simulated(**change).train(3).told == []


def test_another_phase_or_batch_has_a_speed_of_its_own():
    run = Simulated().train(1)
    run.phase, run.speed = "unfreeze", lambda now_s: 6.0
    assert run.train(1).told == []
    history = replace(run.state.history, overrides=Overrides(unfreeze_batch=4))
    run.state, run.speed = replace(run.state, history=history), lambda now_s: 3.0
    assert run.train(1.1).told == []
    run.speed = lambda now_s: 1.5  # in the middle of an epoch
    assert run.train(1).kinds == ["slow"]
    assert len(run.state.history.usual_speed) == 3


def test_the_next_attempt_and_supervisor_know_what_is_usual():
    known = decode(RunHistory, {"usual_speed": {"freeze ////0 samples": {"rates": [20.0] * LEAST, "every": 3}}})
    assert Simulated(history=known, speed=lambda now_s: 9.0).train(0.5).kinds == ["slow"]
    assert Simulated(history=known).train(0.5).kinds == []


def test_a_slow_stretch_does_not_become_usual():
    run = Simulated(speed=slows(1, 0.4)).train(4)
    assert run.kinds == ["slow"]


def test_it_ends_with_the_attempt():
    run = Simulated(speed=slows(1, 0.4)).train(2)
    from fred_supervisor.policy.cause import Evidence
    from fred_supervisor.policy.decide import decide
    from fred_supervisor.policy.observation import Observation

    state, _ = decide(Settings(), run.state, Observation(now_s=run.now_s, ended=Evidence(attempt=1, signal=9)))
    assert state.history.warnings == ()


HOT = GpuLook(index=0, throttle=("power cap", "software thermal"), temperature_c=91, power_w=140.0)
ANNA = OtherProcess(pid=7, user="anna", command="python x.py", cores=1.6)


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (MachineLook(gpus=(HOT,)), "GPU 0 is slowed down: software thermal, at 91 °C, 140 W."),
        (MachineLook(gpus=(GpuLook(index=1, others=(ANNA,)),)), "GPU 1 is shared with process 7 of anna (python x.py)."),
        (MachineLook(gpus=(GpuLook(index=1, throttle=("power cap",)),)), "Why, is not seen."),
        (MachineLook(quota_cores=1.5, quota_share=0.8), "Its control group allows 1.5 cores, and held it back in 80% of the time."),
        (MachineLook(core_wait=0.4, others=(ANNA,)), "It was ready to run, and had no core, in 40% of the time. 1.6 of its cores are kept busy by process 7 of anna (python x.py)."),
        (MachineLook(core_wait=0.4), "It was ready to run, and had no core, in 40% of the time."),
        (MachineLook(core_wait=0.02, others=(ANNA,)), "Why, is not seen."),
        (MachineLook(swap_mib_s=40.0), "40.0 MiB/s are read back from swap: memory is short."),
        (MachineLook(io_share=0.6), "Processes of the machine waited for a disk in 60% of the last minute."),
        (None, "Why, is not seen."),
    ],
)  # fmt: skip
def test_it_says_why_where_that_is_seen(machine, words):
    run = Simulated(speed=slows(0.7, 0.4), machine=lambda now_s: machine).train(1.3)
    assert run.told[0][2].endswith(words)


@pytest.mark.parametrize(
    ("machine", "waits", "words"),
    [
        (MachineLook(gpus=(GpuLook(index=0, utilization=90, clock_mhz=345, clock_max_mhz=1980),)), None, ["GPU 0 computes at 345 of 1980 MHz."]),
        (MachineLook(gpus=(GpuLook(index=0, utilization=2, clock_mhz=345, clock_max_mhz=1980),)), None, []),
        (MachineLook(gpus=(GpuLook(index=0, utilization=90, clock_mhz=1500, clock_max_mhz=1980),)), None, []),
        (MachineLook(gpus=(GpuLook(index=0, utilization=90, clock_mhz=345),)), None, []),
        (MachineLook(gpus=(GpuLook(index=0, lanes=4, lanes_max=16),)), None, ["GPU 0 is connected with 4 of 16 PCIe lanes: look at its slot or riser."]),
        (MachineLook(gpus=(GpuLook(index=0, lanes=16, lanes_max=16),)), None, []),
        (MachineLook(gpus=(GpuLook(index=0, lanes=4),)), None, []),
        (None, 0.83, ["It waits for data in 83% of the time."]),
        (MachineLook(data_fs="nfs4 at /data"), 0.83, ["It waits for data in 83% of the time. The data lies on nfs4 at /data."]),
        (MachineLook(data_fs="nfs4 at /data"), 0.1, []),
    ],
)  # fmt: skip
def test_clock_lanes_and_waiting_for_data_are_reasons(machine, waits, words):
    assert [sentence(one) for one in reasons(machine, waits)] == words


def test_what_is_kept_of_a_long_run_is_little_and_even():
    usual = UsualSpeed()
    for n in range(5000):
        usual = usual.add(Slice(at_s=n, rate=float(n)))
    assert 30 <= len(usual.rates) <= 64
    assert usual.rate == pytest.approx(2500, rel=0.1)


@settings(max_examples=5, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.0, 0.6), st.integers(5, 2000), st.floats(0.5, 60.0), st.floats(0.0, 600.0), st.booleans()
)  # fmt: skip
def test_noise_is_no_slowness(seed, noise, steps, speed, eval_s, samples_told):  # noqa: PLR0917
    run = Simulated(
        speed=lambda now_s: speed, noise=noise, steps=steps, eval_s=eval_s, samples_told=samples_told, seed=seed
    )
    assert run.train(1.2).told == []


def by_place(slowest: float, backwards: bool = False):
    """Batches sorted by length: the same in each epoch."""

    def rate(run: Simulated) -> float:
        share = run.step / run.steps
        return 20.0 * (1 - (1 - slowest) * (1 - share if backwards else share) ** 2)

    return rate


def with_places(run: Simulated, rate) -> Simulated:
    run.speed = lambda now_s: rate(run)
    return run


@pytest.mark.parametrize("samples_told", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("steps", [400, 2500])
def test_batches_sorted_by_length_are_no_slowness_but_half_speed_is(steps, backwards, samples_told):
    run = Simulated(steps=steps, samples_told=samples_told)
    rate = by_place(0.25, backwards)
    assert with_places(run, rate).train(3).told == []
    assert with_places(run, lambda run: rate(run) / 2).train(2).kinds == ["slow"]


@pytest.mark.parametrize("seen", [None, MachineLook(quota_cores=1.5, quota_share=0.8)])
def test_pictures_that_grow_with_the_epochs_are_no_slowness_unless_a_reason_is_seen(seen):
    run = Simulated(steps=1500, machine=lambda now_s: seen)
    with_places(run, lambda run: 20.0 * 0.55 ** (run.epoch // 6)).train(4.5)
    assert run.kinds == ([] if seen is None else ["slow"])
    assert run.epoch > 12
    if seen is None:
        now = 0.5 * run.speed(0.0)
        while not 500 < run.step < 1000:
            run.train(0.01)
        run.speed = lambda now_s: now
        assert run.train(2).kinds == ["slow"]


def test_a_slowness_that_comes_in_the_first_epoch_at_once_is_told():
    assert Simulated(speed=slows(1, 0.5), steps=50000).train(2).kinds == ["slow"]


def test_epochs_of_varying_lengths_have_one_speed():
    run = Simulated(speed=slows(1.5, 0.5), steps=200, samples_told=False)
    for n in range(60):
        run.steps = 160 + 13 * n % 97
        run.train(3 / 60)
    assert run.kinds == ["slow"]
    assert len(run.state.history.usual_speed) <= 2
