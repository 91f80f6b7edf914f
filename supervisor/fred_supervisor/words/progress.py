"""Where training is, and how fast it goes: one wording for status, table, service manager and report."""

from datetime import timedelta

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.words import Facts

_SECTIONS = {Section.EVAL: "evaluating", Section.CHECKPOINT: "saving"}


def position(*, phase: str | None, epoch: int | None, epochs: int | None, step: int | None, steps: int | None) -> str:
    """E.g. "unfreeze phase, epoch 61 of 300, step 120 of 930"; what is not known is left out."""
    parts = (f"{phase} phase" if phase else "", count("epoch", epoch, epochs), count("step", step, steps))
    return ", ".join(part for part in parts if part)


def count(what: str, at: int | None, of: int | None) -> str:
    """E.g. "epoch 61 of 300"; empty when the number is not known."""
    if at is None:
        return ""
    return f"{what} {at} of {of}" if of else f"{what} {at}"


def short_place(facts: Facts) -> str:
    """E.g. "epoch 37 of 300", or "step 229 of 600" of a trainer that names no number of epochs."""
    if facts["epochs"] is None and facts.get("steps") is not None:
        within = count("epoch", facts["epoch"], None)
        return ", ".join(filter(None, (within, count("step", facts["step"], facts["steps"]))))
    return count("epoch", facts["epoch"], facts["epochs"])


def share(epoch: int | None, epochs: int | None, step: int | None, steps: int | None) -> float | None:
    """How much of training is done, 0..1; epochs and steps count from 1, and a step that is named is done.

    None: it is not known where training ends. Steps alone are those of the whole of it.
    """
    within = step / steps if step and steps else 0.0
    if epoch is not None and epochs:
        return min(1.0, max(0.0, (epoch - 1 + within) / epochs))
    return min(1.0, within) if epoch is None and step is not None and steps else None


def doing(section: str | None) -> str:
    """What a trainer does besides training; empty while it trains."""
    return next((word for known, word in _SECTIONS.items() if known == section), "")


def pace(*, loss: float | None, images_per_s: float | None, eta_s: float | None) -> str:
    """E.g. "loss 1.23, 41 images/s, 5:10:00 left"."""
    parts = (
        None if loss is None else f"loss {loss:.4g}",
        None if images_per_s is None else f"{images_per_s:.3g} images/s",
        None if eta_s is None else f"{timedelta(seconds=round(eta_s))} left",
    )
    return ", ".join(part for part in parts if part)
