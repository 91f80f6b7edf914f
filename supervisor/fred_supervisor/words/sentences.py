"""The sentence of every message, in the reader's language."""

from typing import Any

from fred_supervisor.language import ENGLISH, language, speaking, tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.message import Message, Topic


def sentence(message: Message | str) -> str:
    """The words for a person. A string is what somebody else has said, and stays as it is."""
    if isinstance(message, str):
        return message
    from fred_supervisor.words.tables import SENTENCES  # noqa: PLC0415 - a table of many runs says none of them

    words = SENTENCES[message.topic]
    facts = {key: _said(value) for key, value in message.facts.items()}
    return tr(words, **facts) if isinstance(words, str) else words(facts)


def stored_sentence(message: Message | str) -> str:
    """For a file, a log or a program: in English, whatever the reader speaks."""
    with speaking(ENGLISH):
        return sentence(message)


def said_again(facts: object, text: str | None) -> str | None:
    """What was stored as English `text` with its facts, in the reader's language, as far as the facts are known."""
    message = None if language() == ENGLISH else stored_message(facts)
    return text if message is None else printable(sentence(message))


def stored_message(document: object) -> Message | None:
    """A message out of a JSON file; None when it is none of ours, or lacks facts that its sentence needs."""
    try:
        message = _stored(document)
        sentence(message)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return message if isinstance(message, Message) else None


def _stored(value: Any) -> Any:
    if isinstance(value, dict):
        return Message(Topic(value["topic"]), {key: _stored(fact) for key, fact in value.items() if key != "topic"})
    return tuple(_stored(one) for one in value) if isinstance(value, list) else value


def _said(value: Any) -> Any:
    """A fact, with the messages in it as sentences."""
    if isinstance(value, Message):
        return sentence(value)
    return tuple(_said(one) for one in value) if isinstance(value, tuple) else value
