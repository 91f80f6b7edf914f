"""Where training is, and how fast it goes: one wording for status, table, service manager and report."""

from datetime import timedelta

from fred_supervisor.contract.heartbeat import Section

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


def share(epoch: int, epochs: int, step: int | None, steps: int | None) -> float:
    """How much of training is done, 0..1; epochs and steps count from 1, and a step that is named is done."""
    done = epoch - 1 + (step / steps if step and steps else 0)
    return min(1.0, max(0.0, done / epochs))


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
