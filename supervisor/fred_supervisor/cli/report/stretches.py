"""The stretches of a run in which a warning held, from its journal."""

from typing import Any, Final

from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import JournalEvent, Topic
from fred_supervisor.store.journal import Incident, JournalLine, JournalReader
from fred_supervisor.store.layout import RunDir
from fred_supervisor.words.sentences import said_again

MOST: Final = 200
"""Stretches in one page; older ones are left out."""


@record
class Stretch:
    """From where a warning began to where it ended. Wall clock."""

    kind: str
    text: str
    start_s: float
    end_s: float | None
    """None: it still holds, or how it ended is not known."""


def read_stretches(run: RunDir) -> list[Stretch]:
    """Oldest first."""
    open_at: dict[tuple[Any, Any], int] = {}
    found: list[Stretch] = []
    for document in JournalReader(run).new(b'"warning'):
        line = decode_or(JournalLine, document)
        topic, at_s = line.facts.get("topic"), Incident(id=0, at=line.time).at_s
        key = (line.facts.get("kind"), line.facts.get("about"))
        if at_s is None or not isinstance(key[0], str) or not isinstance(key[1], str):
            continue
        if topic == Topic.WARNING:
            open_at[key] = len(found)
            found.append(
                Stretch(
                    kind=key[0], text=said_again(line.facts, line.text) or "", start_s=_since_s(line, at_s), end_s=None
                )
            )
        elif topic == Topic.WARNING_OVER and line.event == JournalEvent.WARNING_OVER and key in open_at:
            number = open_at.pop(key)
            begun = found[number]
            end_s = max(at_s, begun.start_s)
            found[number] = Stretch(kind=begun.kind, text=begun.text, start_s=begun.start_s, end_s=end_s)
    return found[-MOST:]


def _since_s(line: JournalLine, at_s: float) -> float:
    """A warning may say that it has been so for a while."""
    since = line.facts.get("since")
    since_s = Incident(id=0, at=since).at_s if isinstance(since, str) else None
    return at_s if since_s is None else min(at_s, since_s)
