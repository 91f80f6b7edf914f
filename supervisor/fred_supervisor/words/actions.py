"""What is done about a failure, and how a run ended."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.progress import short_place


def lost_sentence(steps: int | None) -> str:
    """What a failure has cost: steps to be trained again, None when that is not known."""
    if steps is None:
        return "What was lost is not known."
    return "Nothing was lost." if steps == 0 else f"{steps} step{'s' if steps != 1 else ''} lost."


def goes_on_sentence(checkpoint: str | None, *, takes_resume: bool) -> str:
    """Where the next attempt starts: the path of a checkpoint, or None.

    `takes_resume`: the trainer is told of it in a way that it can be seen to listen to.
    """
    name = checkpoint.rpartition("/")[2] if checkpoint else None
    if takes_resume:
        return f"It goes on from {name}." if name else "It begins from the beginning."
    if name is None:
        return "No checkpoint is known; where it begins is up to the trainer."
    return (
        f"The newest checkpoint is {name}; whether it goes on from there is not known: the command has no {{resume}} in"
        " its words, and no script among them reads FRED_RESUME."
    )


def _half_unfreeze_batch(facts: Facts) -> str:
    assumed = f" ({facts['before']} is assumed; --unfreeze-batch-size says it)" if facts["assumed"] else ""
    return (
        f"Relaunched with half the unfreeze batch, {facts['before']} → {facts['after']}{assumed}, and"
        f" {facts['accumulate']} batches per optimiser step: the same effective batch.{_untold(facts)}"
    )


def _untold(facts: Facts) -> str:
    """A hint for a command that may never take the batch that it is offered."""
    if facts["takes_batch"]:
        return ""
    return (
        " The command has no {unfreeze_batch_size} in its words, so it takes this batch only if it reads"
        " FRED_UNFREEZE_BATCH_SIZE."
    )


def _relaunched_after(facts: Facts) -> str:
    return f"Relaunched after a back-off of {facts['wait_s']:g} s." if facts["wait_s"] else "Relaunched at once."


def _given_up(facts: Facts) -> str:
    times = f" It happened {facts['times']} times in the same way." if facts["times"] > 1 else ""
    return f"Given up.{times}"


def _given_up_smallest(facts: Facts) -> str:
    return f"Given up: it does not fit even with the smallest batch.{_untold(facts)}"


def _given_up_budget(facts: Facts) -> str:
    count = facts["relaunches"]
    return f"Given up: {'1 relaunch' if count == 1 else f'{count} relaunches'} without new progress."


def _twice(first: str, again: str) -> str:
    return f"twice at {first}" if first == again else f"at {first}, and again at {again}, without new progress"


def _stopped_by_others(facts: Facts) -> str:
    left = "" if facts["survivor"] is None else f" Process {facts['survivor']} does not end on SIGKILL."
    return f"Stopped by request; its supervisor was dead or hung.{left}"


_VERIFIES: Final = "--done-file, or the client's done(), verifies it"

ACTIONS: Final[Mapping[Topic, Words]] = {
    Topic.RELAUNCHED_AT_ONCE: "Relaunched at once.",
    Topic.RELAUNCHED_AFTER: _relaunched_after,
    Topic.HELD_UNTIL_CLEAR: "Held until it clears.",
    Topic.EXPANDABLE_SEGMENTS: "Relaunched with the same batch and expandable segments.",
    Topic.HALF_UNFREEZE_BATCH: _half_unfreeze_batch,
    Topic.HALF_FREEZE_BATCH: "Relaunched with half the freeze batch, {before} → {after}.",
    Topic.HALF_EVAL_BATCH: "Relaunched with half the evaluation batch, {before} → {after}.",
    Topic.NO_EVALUATION: "Relaunched without evaluation.",
    Topic.ONE_OLDER: "Blamed {name} and relaunched from one older.",
    Topic.NEWEST_AGAIN: "Relaunched from the newest checkpoint once more.",
    Topic.FEWER_WORKERS: "Relaunched with half the loader workers, {before} → {after}.",
    Topic.MORE_OPEN_FILES: "Relaunched with the hard limit of open files.",
    Topic.TAKEN_BACK: "It ended earlier with what was tried last ({remedy}), so that is taken back. {then}",
    Topic.FULL_PRECISION: "Relaunched from the newest checkpoint in fp32.",
    Topic.OWN_PRECISION: "Relaunched from the newest checkpoint; its precision is its own.",
    Topic.LONGER_LIMIT: "Relaunched with twice the limit for {section}.",
    Topic.LIMIT_STAYS: "Relaunched at once; the limit was set by hand and stays.",
    Topic.GIVEN_UP: _given_up,
    Topic.GIVEN_UP_SMALLEST: _given_up_smallest,
    Topic.GIVEN_UP_TRIED: "Given up: everything that helps against this was tried, without new progress.",
    Topic.GIVEN_UP_BUDGET: _given_up_budget,
    Topic.GIVEN_UP_USELESS: (
        "Given up: of the last {hours:.1f} h only {share:.0%} brought training further, over {relaunches} relaunches."
    ),
    Topic.FAILED: "{cause} {action}",
    Topic.COMPLETED: "The goal is reached and recorded.",
    Topic.COMPLETED_BEFORE_CRASH: (
        "The goal is reached and recorded; the trainer crashed afterwards, which cost nothing."
    ),
    Topic.COMPLETED_DONE_FILE: "The trainer left with exit code 0 and its done file is there.",
    Topic.COMPLETED_UNVERIFIED: f"The trainer left with exit code 0 (unverified: it records no goal; {_VERIFIES}).",
    Topic.COMPLETED_EARLY: lambda facts: (
        f"The trainer left with exit code 0 and spoke of early stopping (unverified: it ended at {short_place(facts)},"
        f" and did not train on when it was launched again; {_VERIFIES}). {facts['detail']}"
    ),
    Topic.COMPLETED_TWICE: lambda facts: (
        f"The trainer left with exit code 0 (unverified: it ended {_twice(*facts['places'])}; {_VERIFIES})."
    ),
    Topic.STOPPED: "Stopped by request.",
    Topic.STOPPED_BEFORE_LAUNCH: "Stopped before the launch.",
    Topic.STOPPED_BACKING_OFF: "Stopped while waiting for a relaunch.",
    Topic.STOPPED_HOLDING: "Stopped while holding.",
    Topic.STOPPED_PAUSED: "Stopped while paused.",
    Topic.STOPPED_BY_OTHERS: _stopped_by_others,
    Topic.STOPPED_UNKILLABLE: "Stopped. {condition}",
    Topic.HELD_TOO_LONG: "Held for {hours:.0f} h: {condition}",
}
