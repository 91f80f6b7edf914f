"""What people read of `fred-train`: a sentence with fields, in English for files and programs, and said in the language
of the reader. Whatever is written into a file, an error file among them, is English.

    raise DataError("{path} holds no images", path=path)   # `str` is English, `said` is for a person
    log.info("resumed from %s, %d samples into it", …)     # lines of the log are said where they are formatted
    print(tr("contact sheet: {path}", path=path))          # what is only printed
"""

import logging
import sys
from typing import Any

from fred_supervisor.language import ENGLISH, preferred, shown_by, speak, tr
from fred_supervisor.language.argparse_words import speak_argparse


class Sentence:
    """One sentence, and what it is of."""

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        self.message, self.facts = message, facts

    def __str__(self) -> str:
        """In English."""
        return self.message.format_map(self.facts) if self.facts else self.message

    def said(self) -> str:
        """In the language of the reader."""
        return tr(self.message, **{name: said(fact) for name, fact in self.facts.items()})


class Listed(tuple[Any, ...]):
    """Sentences and names, one after the other."""

    __slots__ = ()
    between = ", "
    """In the catalogue."""

    def __str__(self) -> str:
        return self.between.join(map(str, self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def said(self) -> str:
        return tr(self.between).join(str(said(one)) for one in self)


class Clauses(Listed):
    """Likewise, of parts that have commas of their own."""

    __slots__ = ()
    between = "; "


class SaidError(Exception):
    """An error whose message is a sentence."""

    sentence = Sentence()

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        self.sentence = Sentence(message, **facts)
        super().__init__(str(self.sentence))

    def __str__(self) -> str:
        return str(self.sentence)

    def said(self) -> str:
        return self.sentence.said()


def said(value: Any) -> Any:
    """A sentence, or an error of ours, in the language of the reader; anything else as it is."""
    return value.said() if isinstance(value, Sentence | Listed | SaidError) else value


class _SaidRecord(logging.LogRecord):
    """A line of the log; those of libraries are in no catalogue, and stay as they are."""

    def getMessage(self) -> str:  # noqa: N802 - its name in logging
        """In the language of the reader."""
        message = tr(str(self.msg))
        args = tuple(map(said, self.args)) if isinstance(self.args, tuple) else self.args
        return message % args if args else message


def speak_as_preferred() -> None:
    """From now on in this process, what is printed and logged is in the language of the environment."""
    wanted = preferred()
    if wanted != ENGLISH and shown_by(wanted, sys.stdout, sys.stderr):
        speak(wanted)
        speak_argparse()
    logging.setLogRecordFactory(_SaidRecord)
