"""What looks like a secret is taken out of what is sent to somebody else. A person should look all the same."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from fred_supervisor.contract import environment

HIDDEN: Final = "***"
_NAME: Final = r"[\w.-]*(?:token|secret|passw|api[_-]?key|access[_-]?key|credential|authorization)[\w.-]*"
_ASSIGNED: Final = re.compile(
    rf"(?P<name>{_NAME}[\"']?\s*[=:]\s*(?:bearer\s+|basic\s+)?)(?P<value>[\"'][^\"']*[\"']|\S+)", re.IGNORECASE
)
_IN_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/@]+@", re.IGNORECASE)
_KNOWN: Final = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_[A-Za-z]{20,}|sk-[\w-]{20,}|xox[abpr]-[\w-]{10,}|AKIA[A-Z0-9]{16})\b"
)
"""Tokens of GitHub, Hugging Face, OpenAI, Slack and AWS, as these write them."""
_FLAG: Final = re.compile(rf"--?{_NAME}", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` with `***` where a secret seems to stand."""
    text = _IN_URL.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _KNOWN.sub(HIDDEN, text)
    return _ASSIGNED.sub(rf"\g<name>{HIDDEN}", text)


def document_without_secrets(value: object, name: str = "") -> object:
    """The same for every text in a JSON document; `name` is the key that leads to it."""
    if isinstance(value, str):
        return HIDDEN if re.fullmatch(_NAME, name, re.IGNORECASE) else without_secrets(value)
    if isinstance(value, Mapping):
        return {key: document_without_secrets(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [document_without_secrets(one) for one in value]
    return value


def words_without_secrets(words: Sequence[str]) -> list[str]:
    """A command line; the word after `--token` is a secret, too."""
    found: list[str] = []
    for at, word in enumerate(words):
        follows = at > 0 and _FLAG.fullmatch(words[at - 1]) is not None and not word.startswith("-")
        found.append(HIDDEN if follows else without_secrets(word))
    return found


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What of an environment is told: names of the list, and none that sounds like a secret."""
    return {
        name: without_secrets(value)
        for name, value in sorted(environ.items())
        if name.startswith(environment.OF_COMPUTATION) and not re.fullmatch(_NAME, name, re.IGNORECASE)
    }
