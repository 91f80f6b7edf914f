"""What people read, in their language: English stands in the code, other languages in catalogues (gettext).

A sentence is one message, whole, with named fields; it is put together where it is shown, and never stored:

    tr("{name} has no incident {number}; without a number all are listed", name=name, number=number)
    trn("{n} step lost.", "{n} steps lost.", steps)

Text without fields is taken as it is, so that braces need no doubling there. What stands in a table, outside of any
function, is `mark`ed there, for those who translate, and said by `tr` when it is shown.

English is what everything says until `speak` has chosen otherwise, and only the commands of a person do that: a
supervisor, its monitor and every file of a run stay English. Nothing is loaded for English.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Final, TextIO

ENGLISH: Final = "en"
CHINESE: Final = "zh_CN"
LANGUAGES: Final = (ENGLISH, CHINESE)
DOMAIN: Final = "fred_supervise"
"""Name of the catalogues."""
LOCALE: Final = Path(__file__).with_name("locale")
"""Where they lie: `<language>/LC_MESSAGES/<domain>.mo`, compiled from the `.po` beside it."""

LOCALE_NAMES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""What names a language in the environment, the strongest first."""

_SPELLINGS: Final[Mapping[str, str]] = {
    "en": ENGLISH,
    "c": ENGLISH,
    "posix": ENGLISH,
    "zh": CHINESE,
    "zh_cn": CHINESE,
    "zh_sg": CHINESE,
    "zh_hans": CHINESE,
}
"""As environments spell them, in lower case; regions that are not listed fall back on their language, but for Chinese,
which Taiwan and Hong Kong write with other characters."""


class _Spoken:
    """The language of this process, and its catalogue where it has one."""

    language = ENGLISH
    gettext: Callable[[str], str] | None = None
    ngettext: Callable[[str, str, int], str] | None = None


def tr(message: str, /, **facts: Any) -> str:
    """`message` in the reader's language, with its fields filled in."""
    if _Spoken.gettext is None or not message:
        return message.format_map(facts) if facts else message
    text = _Spoken.gettext(message)
    return text.format_map(_understood(facts)) if facts else text


def _understood(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what the system says in the reader's language."""
    from fred_supervisor.language.system_errors import understood  # noqa: PLC0415 - English needs none

    return {name: understood(fact) for name, fact in facts.items()}


def trn(one: str, many: str, n: int, /, **facts: Any) -> str:
    """Like `tr`, of a number: `n` is a field, too."""
    text = (one if n == 1 else many) if _Spoken.ngettext is None else _Spoken.ngettext(one, many, n)
    return text.format_map({"n": n, **facts})


def mark(message: str) -> str:
    """Says that `message` is for people, where it stands in a table; `tr` says it."""
    return message


def shown_by(wanted: str, *streams: TextIO | None) -> bool:
    """Whether these streams have the characters of a language."""
    try:
        for stream in filter(None, streams if wanted != ENGLISH else ()):
            "中文".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def listed(parts: Iterable[str]) -> str:
    """E.g. "a, b, c"."""
    return tr(", ").join(parts)


def clauses(parts: Iterable[str]) -> str:
    """E.g. "this is so; that is not"."""
    return tr("; ").join(parts)


def together(sentences: Iterable[str]) -> str:
    """One after the other, with a space between them where the first does not end as a Chinese one does."""
    said = filter(None, sentences)
    return reduce(lambda first, second: f"{first}{'' if first.endswith(_ENDS) else ' '}{second}", said, next(said, ""))


_ENDS: Final = ("。", "！", "？", "；", "：")


def language() -> str:
    """What is spoken."""
    return _Spoken.language


def speak(wanted: str) -> None:
    """From now on, in this process. One without a catalogue is English."""
    _Spoken.language, _Spoken.gettext, _Spoken.ngettext = ENGLISH, None, None
    if wanted == ENGLISH:
        return
    import gettext  # noqa: PLC0415 - English needs none

    found = gettext.translation(DOMAIN, LOCALE, [wanted], fallback=True)
    if isinstance(found, gettext.GNUTranslations):
        _Spoken.language, _Spoken.gettext, _Spoken.ngettext = wanted, found.gettext, found.ngettext


@contextmanager
def speaking(wanted: str) -> Iterator[None]:
    """For a while: English for what is stored, a reader's language for one page of several."""
    before = _Spoken.language, _Spoken.gettext, _Spoken.ngettext
    speak(wanted)
    try:
        yield
    finally:
        _Spoken.language, _Spoken.gettext, _Spoken.ngettext = before


def known(spelling: str) -> str | None:
    """The language that "zh_CN.UTF-8" and the like mean; None for one that has no catalogue."""
    name = spelling.partition(".")[0].partition("@")[0].replace("-", "_").lower()
    first, _, region = name.partition("_")
    if first == "zh" and region.startswith("hans"):
        return CHINESE
    return _SPELLINGS.get(name) or (None if first == "zh" else _SPELLINGS.get(first))


def preferred(environ: Mapping[str, str] = os.environ) -> str:
    """The reader's language, as GNU gettext finds it: LANGUAGE, a list, outranks LC_ALL, LC_MESSAGES and LANG; the
    locale C outranks LANGUAGE.
    """
    locale = next((environ[name] for name in LOCALE_NAMES[1:] if environ.get(name)), "")
    if locale in ("C", "POSIX"):
        return ENGLISH
    wanted = [*environ.get("LANGUAGE", "").split(":"), locale]
    return next((found for word in wanted if (found := known(word)) is not None), ENGLISH)
