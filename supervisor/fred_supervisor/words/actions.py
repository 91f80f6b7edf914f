"""What is done about a failure, and how a run ended."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.language import listed, mark, together, tr, trn
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.progress import short_place
from fred_supervisor.words.terms import term


def lost_sentence(steps: int | None, *, from_the_beginning: bool | None = None, printed: bool = False) -> str:
    """What a failure has cost: steps to be trained again, None when that is not known.

    `printed`: it was read from lines, which need not show each step, so it may have been further.
    """
    if from_the_beginning and steps is None:
        return tr("The next attempt began from the beginning: what was trained so far is lost.")
    if from_the_beginning and printed and steps:
        return trn(
            "The next attempt began from the beginning: at least {n} step is lost.",
            "The next attempt began from the beginning: at least {n} steps are lost.",
            steps,
        )
    if from_the_beginning:
        return trn(
            "The next attempt began from the beginning: {n} step is lost.",
            "The next attempt began from the beginning: {n} steps are lost.",
            steps or 0,
        )
    if steps is None:
        return tr("What was lost is not known.")
    if printed:
        at_least = trn("At least {n} step lost.", "At least {n} steps lost.", steps)
        return at_least if steps else tr("Nothing that it had printed is lost.")
    return trn("{n} step lost.", "{n} steps lost.", steps) if steps else tr("Nothing was lost.")


def goes_on_sentence(checkpoint: str | None, *, takes_resume: bool) -> str:
    """Where the next attempt starts: the path of a checkpoint, or None.

    `takes_resume`: the trainer is told of it in a way that it can be seen to listen to.
    """
    name = checkpoint.rpartition("/")[2] if checkpoint else None
    if takes_resume:
        return tr("It goes on from {name}.", name=name) if name else tr("It begins from the beginning.")
    if name is None:
        return tr("No checkpoint is known; where it begins is up to the trainer.")
    return tr(
        "The newest checkpoint is {name}; whether it goes on from there is not known: the "
        "command has no {{resume}} in its words, and no script among them reads FRED_RESUME.",
        name=name,
    )


def _half_unfreeze_batch(facts: Facts) -> str:
    assumed = (
        tr(" ({before} is assumed; --unfreeze-batch-size says it)", before=facts["before"]) if facts["assumed"] else ""
    )
    sizes = {"before": facts["before"], "after": facts["after"], "assumed": assumed, "accumulate": facts["accumulate"]}
    if not facts["takes_batch"]:
        return tr(
            "Relaunched; a batch of {after} instead of {before}{assumed} is offered, and {accumulate} of them per "
            "optimiser step.{untold}",
            untold=_untold(),
            **sizes,
        )
    return tr(
        "Relaunched with half the unfreeze batch, {before} → {after}{assumed}, and "
        "{accumulate} batches per optimiser step: the same effective batch.",
        **sizes,
    )


def _untold() -> str:
    """A hint for a command that may never take the batch that it is offered."""
    return tr(
        " The command has no {unfreeze_batch_size} in its words, so it takes a batch only "
        "if it reads FRED_UNFREEZE_BATCH_SIZE."
    )


def _relaunched_after(facts: Facts) -> str:
    return (
        tr("Relaunched after a back-off of {wait_s:g} s.", wait_s=facts["wait_s"])
        if facts["wait_s"]
        else tr("Relaunched at once.")
    )


def _rolled_back(facts: Facts) -> str:
    said = tr(
        "Rolled back, once in this run: relaunched from the last checkpoint of epoch {well_epoch} or before; what was"
        " saved after it stays, and comes last.",
        well_epoch=facts["well_epoch"],
    )
    if not facts["foreign"]:
        return said
    return together((said, tr("Which samples it trained on meanwhile, only the command knows.")))


def _given_up(facts: Facts) -> str:
    times = tr(" It happened {times} times in the same way.", times=facts["times"]) if facts["times"] > 1 else ""
    return tr("Given up.{times}", times=times)


def _given_up_smallest(facts: Facts) -> str:
    if not facts["takes_batch"]:
        return tr("Given up: it does not fit, whatever batch is offered.{untold}", untold=_untold())
    return tr("Given up: it does not fit even with the smallest batch.")


def _given_up_budget(facts: Facts) -> str:
    count = facts["relaunches"]
    return trn("Given up: {n} relaunch without new progress.", "Given up: {n} relaunches without new progress.", count)


def _twice(facts: Facts) -> str:
    first, again = facts["places"][:2]
    if len(facts["places"]) > 2:
        return tr("at {places}, and no relaunch brought it further than one epoch", places=listed(facts["places"]))
    if first == again:
        return tr("twice at {first}", first=first)
    if facts.get("progressed"):
        return tr("at {first}, and again at {again}, and spoke of early stopping both times", first=first, again=again)
    return tr("at {first}, and again at {again}, without new progress", first=first, again=again)


def _left_for_engine(facts: Facts) -> str:
    if facts["saved"] is None:
        return tr("Left, as the engine asked: it is to run this again. No trainer ran.")
    if facts["saved"]:
        return tr("Left, as the engine asked: it is to run this again. The state is saved.")
    return tr("Left, as the engine asked: it is to run this again. The trainer had no time to save its state.")


def _stopped_by_others(facts: Facts) -> str:
    left = (
        ""
        if facts["survivor"] is None
        else tr(" Process {survivor} does not end on SIGKILL.", survivor=facts["survivor"])
    )
    return tr("Stopped by request; its supervisor was dead or hung.{left}", left=left)


ACTIONS: Final[Mapping[Topic, Words]] = {
    Topic.RELAUNCHED_AT_ONCE: mark("Relaunched at once."),
    Topic.RELAUNCHED_AFTER: _relaunched_after,
    Topic.HELD_UNTIL_CLEAR: mark("Held until it clears."),
    Topic.EXPANDABLE_SEGMENTS: mark("Relaunched with the same batch and expandable segments."),
    Topic.HALF_UNFREEZE_BATCH: _half_unfreeze_batch,
    Topic.HALF_FREEZE_BATCH: mark("Relaunched with half the freeze batch, {before} → {after}."),
    Topic.HALF_EVAL_BATCH: mark("Relaunched with half the evaluation batch, {before} → {after}."),
    Topic.NO_EVALUATION: mark("Relaunched without evaluation."),
    Topic.ONE_OLDER: mark("Blamed {name}; relaunched from one older, if there is one."),
    Topic.NEWEST_AGAIN: mark("Relaunched from the newest checkpoint once more."),
    Topic.FEWER_WORKERS: mark("Relaunched with half the loader workers, {before} → {after}."),
    Topic.MORE_OPEN_FILES: mark("Relaunched with the hard limit of open files."),
    Topic.TAKEN_BACK: mark("It ended earlier with what was tried last ({remedy}), so that is taken back. {then}"),
    Topic.FULL_PRECISION: mark("Relaunched from the newest checkpoint in fp32."),
    Topic.ROLLED_BACK: _rolled_back,
    Topic.PAUSED_DIVERGED: mark(
        "Paused for a person: `fred-supervise resume` goes on from the newest checkpoint; `checkpoints` shows what else"
        " there is, and `start --resume PATH`, after a `stop`, goes on from any of them."
    ),
    Topic.OWN_PRECISION: lambda facts: (
        tr("Relaunched from the newest checkpoint that may be from before; its precision is its own.")
        if facts.get("before")
        else tr("Relaunched from the newest checkpoint; its precision is its own.")
    ),
    Topic.LONGER_LIMIT: lambda facts: tr(
        "Relaunched with twice the limit for {section}.", section=term(facts["section"])
    ),
    Topic.LIMIT_STAYS: mark("Relaunched at once; the limit was set by hand and stays."),
    Topic.GIVEN_UP: _given_up,
    Topic.GIVEN_UP_SMALLEST: _given_up_smallest,
    Topic.GIVEN_UP_TRIED: mark("Given up: everything that helps against this was tried, without new progress."),
    Topic.GIVEN_UP_BUDGET: _given_up_budget,
    Topic.GIVEN_UP_USELESS: (
        mark(
            "Given up: of the last {hours:.1f} h only {share:.0%} brought training further, over "
            "{relaunches} relaunches."
        )
    ),
    Topic.FAILED: lambda facts: together((facts["cause"], facts["action"])),
    Topic.COMPLETED: mark("The goal is reached and recorded."),
    Topic.COMPLETED_BEFORE_CRASH: (
        mark("The goal is reached and recorded; the trainer crashed afterwards, which cost nothing.")
    ),
    Topic.COMPLETED_DONE_FILE: mark("The trainer left with exit code 0 and its done file is there."),
    Topic.COMPLETED_AT_LAST: lambda facts: (
        tr("The trainer left with exit code 0, and printed {place}.", place=short_place(facts))
        if facts["printed"]
        else tr("The trainer left with exit code 0, and its last record says {place}.", place=short_place(facts))
    ),
    Topic.COMPLETED_UNVERIFIED: mark(
        "The trainer left with exit code 0 (unverified: it records no goal; --done-file, or the client's done(), "
        "verifies it)."
    ),
    Topic.COMPLETED_EARLY: lambda facts: tr(
        "The trainer left with exit code 0 and spoke of early stopping (unverified: it ended "
        "at {place}, and did not train on when it was launched again; --done-file, or the client's done(), "
        "verifies it). {detail}",
        place=short_place(facts),
        detail=facts["detail"],
    ),
    Topic.COMPLETED_SAYS_EARLY: lambda facts: tr(
        'The trainer left with exit code 0 at {place}, and said that it stopped early: "{line}".',
        place=short_place(facts),
        line=facts["line"],
    ),
    Topic.COMPLETED_TWICE: lambda facts: tr(
        "The trainer left with exit code 0 (unverified: it ended {twice}; --done-file, or the client's done(), "
        "verifies it).",
        twice=_twice(facts),
    ),
    Topic.STOPPED: mark("Stopped by request."),
    Topic.LEFT_FOR_ENGINE: _left_for_engine,
    Topic.STOPPED_BEFORE_LAUNCH: mark("Stopped before the launch."),
    Topic.STOPPED_BACKING_OFF: mark("Stopped while waiting for a relaunch."),
    Topic.STOPPED_HOLDING: mark("Stopped while holding."),
    Topic.STOPPED_PAUSED: mark("Stopped while paused."),
    Topic.STOPPED_BY_OTHERS: _stopped_by_others,
    Topic.STOPPED_UNKILLABLE: mark("Stopped. {condition}"),
    Topic.HELD_TOO_LONG: mark("Held for {hours:.0f} h: {condition}"),
}
