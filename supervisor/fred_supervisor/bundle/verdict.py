"""What a replay has shown. Pure: from how it went to a verdict, and the facts of its sentence."""

from enum import StrEnum
from typing import Final

from fred_supervisor.bundle.manifest import Manifest, Place
from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.cause import Cause, Diagnosis, IncidentKind
from fred_supervisor.policy.message import Message, Topic, say

PREFETCHED: Final = 2
"""Batches that a loader worker holds ready: a bad sample of a later step may end an earlier one."""


class Verdict(StrEnum):
    """Whether the failure comes again."""

    AGAIN = "again"
    """The code, the data, or what the checkpoint holds."""
    PASSED = "passed"
    """The machine."""
    UNKNOWN = "unknown"
    """It did not come so far, or failed in another way."""


@record
class ReplayResult:
    """A verdict and its sentence."""

    verdict: Verdict
    message: Message

    @property
    def passed(self) -> bool:
        """It did not fail again."""
        return self.verdict is Verdict.PASSED


def is_past(beat: Beat | None, manifest: Manifest, *, margin: int) -> bool:
    """Whether training is beyond the step that failed, by `margin` steps or into the next epoch."""
    place = manifest.place
    if beat is None:
        return False
    if beat.done:
        return True
    epoch, failed = beat.epoch or 0, place.epoch or 0
    if epoch != failed:
        return epoch > failed
    if place.section == Section.EVAL or beat.section == Section.STARTUP:
        return False
    return (beat.step or 0) >= (place.step or 0) + margin


def margin_of(*, workers: int, accumulate: int) -> int:
    """Steps beyond the failing one at which it is certainly over."""
    return max(1, accumulate) + PREFETCHED * workers


def passed(manifest: Manifest, *, on_gpu: bool) -> ReplayResult:
    """Training went past the step."""
    place = manifest.place
    message = say(Topic.REPLAY_PASSED, epoch=place.epoch, step=place.step, gpu=on_gpu)
    return ReplayResult(verdict=Verdict.PASSED, message=message)


def hung(manifest: Manifest, *, silent_s: float) -> ReplayResult:
    """It made no progress for so long that it was ended."""
    cause = say(Topic.NO_PROGRESS, silent_s=silent_s, place=None, rank=None, stuck=None)
    if manifest.kind == IncidentKind.HANG:
        return ReplayResult(verdict=Verdict.AGAIN, message=say(Topic.REPLAY_AGAIN, cause=cause))
    return ReplayResult(verdict=Verdict.UNKNOWN, message=say(Topic.REPLAY_UNKNOWN, reason=cause))


def ended(manifest: Manifest, found: Diagnosis, at: Place, *, on_gpu: bool) -> ReplayResult:
    """The trainer has ended before it was past the step."""
    if found.cause is Cause.GOAL:
        return passed(manifest, on_gpu=on_gpu)
    same_kind = found.kind == manifest.kind
    same_topic = str(found.message.topic) == manifest.topic
    same_place = (at.epoch, at.step) == (manifest.place.epoch, manifest.place.step)
    detail = found.message.facts.get("detail")
    then, now = manifest.detail.partition(":")[0], str(detail or "").partition(":")[0]
    same_error = not manifest.detail or then == now
    if same_kind and ((same_topic and same_error) or same_place):
        return ReplayResult(verdict=Verdict.AGAIN, message=say(Topic.REPLAY_AGAIN, cause=found.message))
    return ReplayResult(verdict=Verdict.UNKNOWN, message=say(Topic.REPLAY_UNKNOWN, reason=found.message))
