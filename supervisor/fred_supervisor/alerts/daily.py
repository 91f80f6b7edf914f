"""The daily summary of a run, read from its files by the process that sends it."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import takewhile
from typing import Final

from fred_supervisor.alerts.notification import AlertEvent, event_document
from fred_supervisor.alerts.picture import draw
from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import now_text, read_json, write_atomic, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.language import ENGLISH, listed, speaking, tr, trn
from fred_supervisor.linux.text_io import printable_lines
from fred_supervisor.policy.message import AlertKind
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.status import RunStatus, read_status
from fred_supervisor.store.tensorboard.scalars import read_curve
from fred_supervisor.words.alerts import alert_title
from fred_supervisor.words.progress import position, share
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import age_s, local_time, span, until

_POINTS: Final = 400
"""Of a curve in the picture."""
_SOON_H: Final = 72.0
"""A disk that is full sooner is worth a word."""


@record
class DayMark:
    """Where training was at a summary; the next one says how far it came since. What is not known is None."""

    time: str | None = None
    """RFC 3339, UTC."""
    epoch: int | None = None
    step: int | None = None
    steps: int | None = None
    best_metric: float | None = None


def summary(spec: RunSpec, language: str) -> AlertEvent:
    """The summary since the last one, or since the beginning; people are told in `language`, programs in English."""
    before = decode_or(DayMark, read_json(spec.dir.daily))
    with speaking(language):
        status = read_status(spec)
        title, text = _title(spec, status), _text(spec, status, before)
    with speaking(ENGLISH):
        english = read_status(spec)
        document = _document(spec, english, _title(spec, english), _text(spec, english, before))
    progress = status.progress
    mark = DayMark(
        time=now_text(),
        epoch=progress.epoch,
        step=progress.step,
        steps=progress.steps,
        best_metric=progress.best_metric,
    )
    with contextlib.suppress(OSError):  # then the next summary reaches further back
        write_json(spec.dir.daily, asdict(mark))
    return AlertEvent(kind=AlertKind.DAILY, title=title, text=text, document=document, picture=_picture(spec))


def _title(spec: RunSpec, status: RunStatus) -> str:
    """E.g. "rgb on node7: 20 %, running"."""
    progress = status.progress
    done = share(progress.epoch, progress.epochs, progress.step, progress.steps)
    subject = listed(filter(None, ("" if done is None else f"{done:.0%}", term(status.state))))
    return alert_title(run=spec.name, host=os.uname().nodename, subject=subject, drill=bool(spec.drill))


def _text(spec: RunSpec, status: RunStatus, before: DayMark) -> str:
    return printable_lines("\n".join(_lines(spec, status, before)))


def _lines(spec: RunSpec, status: RunStatus, before: DayMark) -> Iterator[str]:
    progress = status.progress
    where = position(
        phase=progress.phase, epoch=progress.epoch, epochs=progress.epochs, step=progress.step, steps=progress.steps
    )
    further = _further(status, before)
    yield listed(filter(None, (where or tr("where training is, is not known"), further)))
    if status.state != "running":
        yield status.detail
    if progress.eta_s is not None:
        yield tr("{span} to go, until {time}", span=span(progress.eta_s), time=until(progress.eta_s))
    if progress.best_metric is not None:
        was = before.best_metric
        yield tr("best mAP50 {best:.3f}", best=progress.best_metric) + (
            "" if was is None else tr(" ({was:.3f} before)", was=was)
        )
    yield _incidents(spec, before)
    for warning in status.warnings:
        yield f"{term(warning.kind).replace('_', ' ')}: {warning.text}"
    yield from _disk(spec)


def _further(status: RunStatus, before: DayMark) -> str:
    """How far training has come since the last summary; empty where that cannot be told."""
    now = status.progress
    if age_s(before.time) is None:
        return ""
    when = local_time(before.time)
    if now.epoch is not None and before.epoch is not None:
        epochs = _epochs(now.epoch, now.step, now.steps) - _epochs(before.epoch, before.step, before.steps)
        return tr("{epochs:+.1f} epochs since {when}", epochs=epochs, when=when)
    if now.step is not None and before.step is not None and now.epoch is None:
        return tr("{steps:+,} steps since {when}", steps=now.step - before.step, when=when)
    return ""


def _epochs(epoch: int, step: int | None, steps: int | None) -> float:
    """Epochs done, and the share of the one under way."""
    return epoch - 1 + (min(1.0, step / steps) if step and steps else 0.0)


def _incidents(spec: RunSpec, before: DayMark) -> str:
    ago_s = age_s(before.time)
    since_s = 0.0 if ago_s is None else time.time() - ago_s

    def fresh(incident: Incident) -> bool:
        return incident.at_s is None or incident.at_s > since_s

    kinds = Counter(str(incident.kind) for incident in takewhile(fresh, Incidents(spec.dir).newest_first()))
    if not kinds:
        return tr("no incidents") if ago_s is None else tr("no new incidents")
    told = listed(f"{count} {term(kind).replace('_', ' ')}" for kind, count in kinds.most_common())
    return trn("{n} incident: {kinds}", "{n} incidents: {kinds}", kinds.total(), kinds=told)


def _disk(spec: RunSpec) -> Iterator[str]:
    sample = newest_sample(spec.dir)
    free_mib = None if sample is None else sample.host.disk_free_mib
    if sample is None or free_mib is None:
        return
    full_h = sample.host.disk_forecast_h
    full = "" if full_h is None or full_h > _SOON_H else tr(", full in {span}", span=span(full_h * 3600))
    yield tr("disk: {free:.0f} GiB free", free=free_mib / 1024) + full


def _picture(spec: RunSpec) -> str | None:
    """Path of the picture of loss and mAP50; None where there is no curve, or nothing that draws."""
    curves = {label: read_curve(spec.dir, name, _POINTS) for label, name in (("loss", "loss"), ("mAP50", "map50"))}
    drawn = draw({label: points for label, points in curves.items() if len(points) > 1})
    if drawn is None:
        return None
    try:
        write_atomic(spec.dir.daily_picture, drawn, durable=False)
    except OSError:
        return None
    return str(spec.dir.daily_picture)


def _document(spec: RunSpec, status: RunStatus, title: str, text: str) -> dict[str, object]:
    """For a program."""
    host = os.uname().nodename
    event = event_document(spec, AlertKind.DAILY, time=now_text(), host=host, title=title, text=text, incident=None)
    return {**event, "state": status.state, "progress": asdict(status.progress)}
