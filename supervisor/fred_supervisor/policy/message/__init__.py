"""What a person is to be told, as facts: a topic of a closed set, and its values. `words` makes the sentence.

Nothing here, and nothing else in the policy, speaks a language: so a message can be stored, compared, and said in
another language later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fred_supervisor.policy.message.journal_event import AlertKind, JournalEvent
from fred_supervisor.policy.message.topic import Topic

__all__ = ["AlertKind", "JournalEvent", "Message", "Topic", "say"]


@dataclass(frozen=True)
class Message:
    """One thing that is said."""

    topic: Topic
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Strings, numbers, None, further messages, or tuples of these."""

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"topic": str(self.topic), **{key: _plain(value) for key, value in self.facts.items()}}


def say(topic: Topic, **facts: Any) -> Message:
    """A message of these facts."""
    return Message(topic, facts)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.document()
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
