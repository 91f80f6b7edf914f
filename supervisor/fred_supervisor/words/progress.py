"""Where training is, and how fast it goes: one wording for status, table, service manager and report."""

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.language import listed, mark, tr
from fred_supervisor.words import Facts
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import span

_SECTIONS = {Section.EVAL: mark("evaluating"), Section.CHECKPOINT: mark("saving")}


def position(*, phase: str | None, epoch: int | None, epochs: int | None, step: int | None, steps: int | None) -> str:
    """E.g. "unfreeze phase, epoch 61 of 300, step 120 of 930"; what is not known is left out."""
    parts = (
        tr("{phase} phase", phase=term(phase)) if phase else "",
        epoch_of(epoch, epochs),
        step_of(step, steps),
    )
    return listed(part for part in parts if part)


def epoch_of(at: int | None, of: int | None) -> str:
    """E.g. "epoch 61 of 300"; empty when the number is not known."""
    if at is None:
        return ""
    return tr("epoch {at} of {of}", at=at, of=of) if of else tr("epoch {at}", at=at)


def step_of(at: int | None, of: int | None) -> str:
    """E.g. "step 120 of 930"; empty when the number is not known."""
    if at is None:
        return ""
    return tr("step {at} of {of}", at=at, of=of) if of else tr("step {at}", at=at)


def short_place(facts: Facts) -> str:
    """E.g. "epoch 37 of 300", or, where that says too little, "step 229 of 600" with it or alone."""
    last = facts["epochs"] is not None and facts["epoch"] == facts["epochs"]
    if (facts["epochs"] is None or last) and facts.get("steps") is not None:
        return listed(filter(None, (epoch_of(facts["epoch"], facts["epochs"]), step_of(facts["step"], facts["steps"]))))
    if facts["epoch"] is None and facts.get("step") is not None:
        return step_of(facts["step"], None)
    return epoch_of(facts["epoch"], facts["epochs"])


def share(
    epoch: int | None, epochs: int | None, step: int | None, steps: int | None, *, completed: bool = False
) -> float | None:
    """How much of training is done, 0..1; epochs and steps count from 1, and a step that is named is done.

    None: it is not known where training ends. Steps alone are those of the whole of it. `completed`: an epoch that was
    begun has been trained to its end.
    """
    if completed and epoch is not None and epoch == epochs:
        return 1.0
    within = step / steps if step and steps else 0.0
    if epoch is not None and epochs:
        return min(1.0, max(0.0, (epoch - 1 + within) / epochs))
    return min(1.0, within) if epoch is None and step is not None and steps else None


def doing(section: str | None) -> str:
    """What a trainer does besides training; empty while it trains."""
    return next((tr(word) for known, word in _SECTIONS.items() if known == section), "")


def pace(*, loss: float | None, images_per_s: float | None, eta_s: float | None) -> str:
    """E.g. "loss 1.23, 41 images/s, 5 h 10 min left"."""
    parts = (
        None if loss is None else tr("loss {loss:.4g}", loss=loss),
        None if images_per_s is None else tr("{images_per_s:.3g} images/s", images_per_s=images_per_s),
        None if eta_s is None else tr("{time} left", time=span(eta_s)),
    )
    return listed(part for part in parts if part)
