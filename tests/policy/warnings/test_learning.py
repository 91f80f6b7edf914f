"""What a curve says of the learning: of curves shaped as real ones are, 200 healthy ones raise no alarm."""

import math
import random
from collections.abc import Callable, Iterator
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.scripted import History

from fred_supervisor.policy.actions import Action, Note
from fred_supervisor.policy.message import JournalEvent, Topic
from fred_supervisor.policy.warnings.explosion import explosion
from fred_supervisor.policy.warnings.learning import Ill, LearningHistory, LearningPoint, judge, look
from fred_supervisor.words.sentences import sentence

Curve = Callable[[int], float | None]


def after(
    epochs: int, loss: Curve, metric: Curve = lambda epoch: None, *, looks: int = 4, noise: float = 0.05, seed: int = 0
) -> LearningHistory:
    dice, history, told = random.Random(seed), LearningHistory(), None
    for epoch in range(1, epochs + 1):
        value = loss(epoch)
        for _ in range(looks):
            seen = None if value is None else value * (dice.lognormvariate(0, noise) if noise else 1.0)
            history = look(history, LearningPoint(epoch=epoch, phase="freeze", loss=seen, metric=told))
        told = metric(epoch) if metric(epoch) is not None else told
    return look(history, LearningPoint(epoch=epochs + 1, phase="freeze", loss=loss(epochs + 1), metric=told))


def ills(history: LearningHistory) -> dict[str, int]:
    return {str(one.what): one.epoch for one in judge(history)}


def falls(epoch: int) -> float:
    return 0.6 + 4.0 * epoch**-0.7


def rises(epoch: int) -> float:
    return 0.55 * (1 - math.exp(-epoch / 12))


def rises_until(last: int) -> Curve:
    return lambda epoch: rises(epoch) if epoch < last else 0.9 * rises(last)


@pytest.mark.parametrize(
    ("loss", "metric", "expected"),
    [
        (lambda e: falls(e) if e < 15 else falls(15) * 1.7 ** (e - 14), rises_until(15), {"loss explodes": 16}),
        (lambda e: falls(e) if e < 15 else 900.0, rises_until(15), {"loss explodes": 15}),
        (lambda e: falls(e) if e < 15 else 900.0, rises, {}),  # the metric was never better: some other loss
        (lambda e: 8 * math.exp(-e / 4) + 0.3 * 2.0 ** max(0, e - 20), lambda e: None, {"loss explodes": 22}),
        (lambda e: 8 * math.exp(-e / 4) + 0.3 * 2.0 ** max(0, e - 20), lambda e: 1 + falls(e), {"loss explodes": 22}),
        (lambda e: 1 + 0.8 * math.sin(e / 3), lambda e: None, {}),  # it comes down from there by itself
        (falls, lambda e: rises(e) if e < 12 else 0.02, {"metric collapsed": 12}),
        (falls, lambda e: 0.0, {"metric zero": 1}),
        (falls, lambda e: 0.0 if e < 19 else rises(e), {}),  # as detectors from random weights begin
        (lambda e: falls(min(e, 9)), rises, {}),
        (falls, lambda e: rises(e) if e != 12 else 0.01, {}),  # one bad evaluation
        (falls, lambda e: 0.0 if e < 10 else rises(e), {}),  # as small data sets begin
        (falls, lambda e: rises(e) * {12: 0.05, 13: 0.3}.get(e, 1.0), {}),  # the second is on its way up again
        (falls, lambda e: rises(e) * (1 if e < 12 else 0.02 * (e - 11)), {"metric collapsed": 12}),
        (falls, lambda e: rises(e) * {2: 3.0, 3: 0.6, 4: 0.2}.get(e, 1.0), {}),  # one early one was luck
        (lambda e: 0.1 if e == 1 else 0.0002 if e < 18 else 0.001 + e / 1e5, rises, {}),  # learned by heart
        (lambda e: falls(e) if e % 7 else 30.0, rises, {}),  # a spike in one epoch
        (lambda e: falls(e) if e < 20 else 2.2 * falls(e), rises, {}),  # a heavier augmentation
        (falls, lambda e: 1.2 * math.exp(-e / 3), {}),  # a metric that is better when it is lower
        (lambda e: None, lambda e: None, {}),
        (falls, lambda e: 0.004 * (e % 3), {}),  # never learned: nothing has collapsed
        (falls, lambda e: 0.8 - 0.001 * e if e < 12 else 0.1, {}),  # nearly best at first: an error rate that fell?
        (lambda e: 0.6 if e < 12 else 0.9, lambda e: 0.8 + 0.001 * e if e < 12 else 0.1, {"metric collapsed": 12}),
        (lambda e: 0.6 if e < 12 else 0.9, lambda e: 0.8 / e, {}),
        (lambda e: 4.0 / e - 2 if e < 15 else 200.0, lambda e: None, {"loss explodes": 15}),
        (lambda e: 2 * math.sin(e), lambda e: None, {}),
    ],
)
def test_what_a_curve_says(loss, metric, expected):
    found = ills(after(24, loss, metric))
    assert found.keys() == expected.keys()
    assert all(abs(found[what] - epoch) <= 1 for what, epoch in expected.items())


@given(st.lists(st.floats(0.01, 1e3), min_size=8, max_size=60))
def test_whatever_the_curve_since_lies_behind_its_least_and_all_is_high_from_there(means):
    begun = None
    for end in range(8, len(means) + 1):
        found, before = explosion(list(enumerate(means[:end]))), begun
        begun = found
        if found is None:
            continue
        if before is not None:
            assert (found.since, found.before, found.well_epoch) == (before.since, before.before, before.well_epoch)
            continue
        assert min(range(end), key=means.__getitem__) <= found.well_epoch < found.since
        assert all(mean >= 3 * found.before for mean in means[found.since : end])


@given(st.integers(9, 60), st.floats(2, 12), st.floats(1, 20), st.integers(0, 99))
def test_since_when_a_loss_explodes_that_fell_far_before(bad_from, speed, height, seed):
    dice = random.Random(seed)
    floor = height * math.exp(-bad_from / speed) + 0.3
    means = [
        (height * math.exp(-e / speed) + 0.3 if e < bad_from else floor * 2.0 ** (e - bad_from + 1))
        * dice.lognormvariate(0, 0.03)
        for e in range(bad_from + 8)
    ]
    found = explosion(list(enumerate(means)))
    assert found is not None
    assert bad_from <= found.since <= bad_from + 2


def test_a_plateau_that_falls_for_a_few_epochs_has_not_recovered():
    curve = [*(1 / n + 0.6 for n in range(1, 15)), *(2.85 + 0.25 * abs(math.sin(n)) for n in range(30))]
    found = [explosion(list(enumerate(curve[:end]))) for end in range(len(curve) + 1)]
    assert [one is None for one in found].index(False) == 16
    assert all(one is not None and one.since == 14 for one in found[16:])
    down = [*curve, 1.6, 1.2, 1.1]
    assert explosion(list(enumerate(down[:-2]))) is not None
    assert explosion(list(enumerate([*down, 0.9]))) is not None, "over 1.5 times what it was"
    assert explosion(list(enumerate([*down, 0.9, 0.9]))) is None


def test_a_loss_that_repeats_to_the_last_digit_and_no_noise():
    assert ills(after(12, lambda e: falls(min(e, 6)), rises, noise=0.0)) == {"loss still": 6}
    assert ills(after(12, lambda e: falls(min(e, 6)), rises, noise=0.0, looks=1)) == {"loss still": 6}


def test_a_loss_that_is_told_with_few_digits_may_repeat():
    assert ills(after(12, lambda e: 0.0002, rises, noise=0.0)) == {}
    assert ills(after(12, lambda e: 0.693, rises, noise=0.0)) == {}
    assert ills(after(12, lambda e: 0.6931, rises, noise=0.0)) == {"loss still": 1}


def test_the_first_epoch_of_a_long_run_is_still_known():
    history = after(300, lambda e: 1.0 if e == 1 else 0.001 if e < 280 else 0.02)
    assert (history.epochs[0].epoch, len(history.epochs)) == (1, 128)
    assert ills(history) == {}


def test_a_learning_rate_of_zero_but_not_a_warm_up():
    history = LearningHistory()
    for n in range(300):
        history = look(history, LearningPoint(epoch=1, phase=None, loss=1.0, lr=0.0 if n < 40 else 0.01))
        assert judge(history) == ()
    for _ in range(100):
        history = look(history, LearningPoint(epoch=2, phase=None, loss=1.0, lr=0.0))
    assert [one.what for one in judge(history)] == [Ill.LR_ZERO]
    seldom = [LearningPoint(epoch=epoch, loss=1.0 / epoch, lr=0.0) for epoch in range(1, 7)]
    assert not any(judge(reduce(look, seldom[:5], LearningHistory())))
    assert ills(reduce(look, seldom, LearningHistory())) == {"lr zero": 1}
    later = [LearningPoint(epoch=epoch, loss=1.0 / epoch, lr=0.0) for epoch in range(7, 40)]
    assert ills(reduce(look, later, reduce(look, seldom, LearningHistory()))) == {"lr zero": 1}
    assert judge(look(history, LearningPoint(epoch=2, phase=None, loss=1.0, lr=0.001))) == ()


def test_gradients_of_zero_but_not_a_batch_without_anything_to_learn():
    history = LearningHistory()
    for n in range(300):
        history = look(history, LearningPoint(epoch=1, loss=1.0 + n / 1000, gradient=0.0 if n % 50 else 2.5))
        assert judge(history) == ()
    for _ in range(100):
        history = look(history, LearningPoint(epoch=2, loss=1.0, gradient=0.0))
    assert [one.what for one in judge(history)] == [Ill.GRADIENT_ZERO]


def test_an_evaluation_that_is_told_again_and_again_is_one():
    history = LearningHistory()
    for epoch in range(1, 31):
        metric = None if epoch == 1 else 0.0 if epoch < 15 else 0.6
        point = LearningPoint(epoch=epoch, loss=falls(epoch), metric=metric, metric_epoch=epoch // 15 * 15 or 1)
        history = look(history, point)
    assert [(one.epoch, one.value) for one in history.evaluations] == [(1, 0.0), (15, 0.6), (30, 0.6)]
    history = look(history, LearningPoint(epoch=31, metric=0.01, metric_epoch=31))
    for epoch in range(32, 40):
        history = look(history, LearningPoint(epoch=epoch, metric=0.01, metric_epoch=31))
    assert judge(history) == (), "one bad evaluation"


def evaluated(values: list[float], looks: int) -> LearningHistory:
    """An epoch with these evaluations, so many looks at the loss before each."""
    history = LearningHistory()
    for value in values:
        for n in range(looks):
            history = look(history, LearningPoint(epoch=1, loss=1.0 + n / 100))
        for _ in range(3):  # it is told again and again
            history = look(history, LearningPoint(epoch=1, metric=value))
    return history


def test_evaluations_within_one_epoch_are_several_but_what_changes_at_every_look_is_none():
    assert ills(evaluated([0.2, 0.5, 0.6, 0.62, 0.1, 0.05], looks=20)) == {"metric collapsed": 1}
    assert ills(evaluated([0.2, 0.5, 0.6, 0.62, 0.1], looks=20)) == {}
    running = evaluated([0.2, 0.5, 0.6, 0.62, 0.1, 0.05] * 9, looks=1)
    assert len(running.evaluations) == 1
    assert judge(running) == ()


def short(loss: Callable[[float], float], seed: int = 0, noise: float = 0.1) -> set[str]:
    """What is said in the course of two epochs of 150 looks each; `loss` of the share of both."""
    dice, history, found = random.Random(seed), LearningHistory(), set[str]()
    for n in range(300):
        point = LearningPoint(epoch=1 + n // 150, loss=loss(n / 300) * dice.lognormvariate(0, noise))
        after = look(history, point)
        found |= set() if after.judged == history.judged else set(ills(after))
        history = after
    return found


def test_an_explosion_in_a_run_of_two_epochs_is_told():
    for seed in range(20):

        def curve(part: float, at: float = 0.3 + seed / 50) -> float:
            return 2 - part if part < at else 9.0

        assert short(curve, seed) == {"loss explodes"}


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_no_healthy_run_of_two_epochs_is_told(noise):
    """By the order of its data its loss rises in each of them."""
    for seed in range(20):
        speed, order = random.Random(seed).uniform(0.2, 1.0), seed % 5

        def curve(part: float, speed: float = speed, order: int = order) -> float:
            return float((1 + 40 * part) ** -speed * (1 + order * (2 * part % 1)))

        assert short(curve, seed, noise) == set()


@pytest.mark.parametrize("noise", [0.3, 0.4, 0.5])
def test_much_noise_in_the_loss_of_whole_epochs_is_no_divergence(noise):
    for seed in range(8):
        dice = random.Random(seed)
        curve = [(epoch, falls(epoch) * dice.lognormvariate(0, noise)) for epoch in range(1, 70)]
        assert not any(explosion(curve[:end]) for end in range(8, 70)), seed


def test_a_high_plateau_holds_however_long_and_ends():
    def loss(epoch: int) -> float:
        return falls(epoch) if epoch < 20 else 9 + math.sin(epoch) if epoch < 200 else 0.8

    history, found = LearningHistory(), dict[int, dict[str, int]]()
    for epoch in range(1, 240):
        history = look(history, LearningPoint(epoch=epoch, loss=loss(epoch)))
        if epoch % 6 == 0:
            found[epoch] = ills(history)
    assert all(found[epoch] == {"loss explodes": 20} for epoch in range(24, 200, 6))
    assert not any(found[epoch] for epoch in (6, 12, 18, *range(210, 240, 6)))


def test_a_metric_that_falls_when_the_backbones_thaw_has_not_collapsed():
    history = LearningHistory()
    for epoch in range(1, 11):
        phase = "freeze" if epoch < 8 else "unfreeze"
        metric = epoch / 10 if epoch < 8 else 0.1
        history = look(
            history, LearningPoint(epoch=epoch, phase=phase, loss=1.0 / epoch, metric=metric, metric_epoch=epoch)
        )
    assert judge(history) == ()


def healthy(seed: int) -> LearningHistory:
    """A curve as detectors, classifiers and language models draw them: warm-up, noise, spikes, drops of the rate.

    Drawn, not recorded: up to 12 % of noise in each look, spikes of up to six times in single epochs.
    """
    dice = random.Random(seed)
    floor, height, speed = dice.uniform(0.05, 3), dice.uniform(0.5, 8), dice.uniform(0.2, 1.3)
    drop, warm = dice.randint(10, 60), dice.choice([0, 0, 3])
    wild = dice.uniform(0.0, 0.12)
    spikes = {dice.randint(2, 80): dice.uniform(1.2, 6) for _ in range(dice.randint(0, 3))}
    top, slow = dice.uniform(0.02, 0.95), dice.uniform(2, 30)
    every = dice.choice([1, 1, 2, 5])
    jitter = {epoch: dice.gauss(0, 0.03 * top) for epoch in range(100)}

    def loss(epoch: int) -> float:
        value = floor + height * (epoch + 1) ** -speed * (0.6 if epoch > drop else 1.0)
        value *= 1 + 0.8 * (warm and epoch <= warm) + 0.15 * max(0, epoch - 60) / 40  # some overfit
        return value * spikes.get(epoch, 1.0)

    def metric(epoch: int) -> float | None:
        return max(0.0, top * (1 - math.exp(-epoch / slow)) + jitter[epoch]) if epoch % every == 0 else None

    return after(dice.randint(5, 80), loss, metric, noise=wild, seed=seed)


def test_two_hundred_healthy_curves_raise_no_alarm():
    assert [seed for seed in range(200) if ills(healthy(seed))] == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32) | st.none(), max_size=60), st.booleans())
def test_whatever_is_told_is_judged(values, of_metric):
    history = LearningHistory()
    for n, value in enumerate(values):
        known = {"metric": value} if of_metric else {}
        history = look(history, LearningPoint(epoch=n // 3, phase=None, loss=value, lr=value, **known))
        judge(history)
    assert len(history.epochs) <= 128


def epochs_again(run: History, first: int, last: int, loss: Curve) -> Iterator[None]:
    for epoch in range(first, last + 1):
        for step in range(1, 4):
            run.train(epoch, step, loss=loss(epoch) + step / 1000)
        yield


def test_a_loss_that_explodes_is_told_with_the_best_and_is_over_when_it_recovers():
    run = History()
    for _ in epochs_again(run, 1, 14, falls):
        pass
    for _ in epochs_again(run, 15, 18, lambda epoch: falls(14) * 2.0 ** (epoch - 14)):
        pass
    told = [a.message for a in run.actions if isinstance(a, Note) and a.message.topic is Topic.WARNING]
    assert [(one.facts["kind"], one.facts["about"]) for one in told] == [("diverging", "loss")]
    assert sentence(told[0]).startswith("The loss explodes: ")
    run.end(signal=9)
    assert [one.kind for one in run.state.history.warnings] == ["diverging"]  # a relaunch alone mends nothing
    run.see(after_s=400.0)
    for _ in epochs_again(run, 12, 24, falls):  # from a checkpoint before it
        pass
    assert run.state.history.warnings == ()
    (over,) = [
        one.message for one in map(note, run.actions) if one is not None and one.event is JournalEvent.WARNING_OVER
    ]
    assert sentence(over) == "The warning is over, not what it was about: training goes on from before it."


def note(action: Action) -> Note | None:
    return action if isinstance(action, Note) else None
