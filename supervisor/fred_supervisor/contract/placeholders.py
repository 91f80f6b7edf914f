"""The words of somebody else's COMMAND: what stands in braces is replaced at each launch.

A word whose placeholder is empty is left out. In a word with blanks, the script of a shell, it becomes nothing, and
what is filled in is quoted. `{resume?WORD}` is WORD where there is a checkpoint, else empty; `{resume?A:B}` is A or B.
All other braces stay as they are.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from fred_supervisor.contract import environment
from fred_supervisor.contract.files import open_file
from fred_supervisor.language import tr

NAMES: Final = (
    "run_dir",
    "modality",
    "attempt",
    "resume",
    "resume_dir",
    "resume_name",
    "unfreeze_batch_size",
    "accumulate",
    "heartbeat",
    "nodes",
    "node",
    "master_addr",
    "master_port",
)
OF_ONE_MACHINE: Final = {"nodes": "1", "node": "0", "master_addr": "127.0.0.1", "master_port": ""}
DEFERRED: Final = {"node": "{node}", "master_addr": "{master_addr}"}
"""Under Slurm each task fills these by itself."""
_PLACEHOLDER: Final = re.compile(rf"\{{(?:({'|'.join(NAMES)})|resume\?([^{{}}:]*)(?::([^{{}}]*))?)\}}")
_BRACES: Final = re.compile(r"\{([A-Za-z][\w-]*)(\?[^{}]*)?(?:\}|$)")
"""Something in braces that may be meant as a placeholder."""
_ALIKE: Final = 0.8
"""From this share of equal letters on, a name is taken for a slip of the pen."""
_MEANT: Final = {
    **dict.fromkeys(("checkpoint", "ckpt", "weights"), "resume"),
    **dict.fromkeys(("batch", "batch_size"), "unfreeze_batch_size"),
    **dict.fromkeys(("out", "out_dir", "output_dir", "save_dir"), "run_dir"),
}
"""What is written for them where it is all of a value."""
_RESUME: Final = re.compile(r"\{resume(?:_dir|_name|\?[^{}]*)?\}")
_SCRIPT_BYTES: Final = 1 << 20
_OF_RESUME: Final = (environment.RESUME.encode(), b"find_latest_checkpoint")
_OF_BATCH: Final = (environment.UNFREEZE_BATCH_SIZE.encode(),)
_OF_HEARTBEAT: Final = (environment.HEARTBEAT.encode(), b"Heartbeat")


def of_checkpoint(path: str | None) -> dict[str, str]:
    """The values that a checkpoint gives; None: there is none."""
    folder, name = ("", "") if path is None else os.path.split(path)
    return {"resume": path or "", "resume_dir": folder, "resume_name": name}


def fill(command: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """The words of a command with their placeholders replaced; `values` has all of `NAMES`."""

    def value(found: re.Match[str]) -> str:
        if found[1] is not None:
            return values[found[1]]
        return (found[2] if values["resume"] else found[3]) or ""

    def quoted(found: re.Match[str]) -> str:
        before = found.string[found.start() - 1 : found.start()]
        bare = found[1] is not None and value(found) and before not in ("'", '"')
        return shlex.quote(value(found)) if bare else value(found)

    return [
        _PLACEHOLDER.sub(quoted if is_script(word) else value, word)
        for word in command
        if is_script(word) or all(value(found) for found in _PLACEHOLDER.finditer(word))
    ]


def is_script(word: str) -> bool:
    """Whether a word holds several: a line for a shell."""
    return any(map(str.isspace, word))


def left_alone(command: Sequence[str]) -> bool:
    """Whether a flag stands before a word of a checkpoint, and so stays alone where there is none."""
    return any(
        flag.startswith("-") and "=" not in flag and _RESUME.fullmatch(word) is not None and "?" not in word
        for flag, word in pairwise(command)
    )


def wrong_placeholder(command: Iterable[str]) -> str | None:
    """Why a placeholder can never be meant; None where all can be."""
    for word in command:
        for found in _PLACEHOLDER.finditer(word):
            if found[1] is None and not found[2] and not found[3]:
                return tr(
                    "{found} in {word!r} names no word; write {{resume?--resume}} or {{resume?resume:scratch}}",
                    found=found[0],
                    word=word,
                )
        if (nested := re.search(r"\{resume\?[^{}]*\{", word)) is not None:
            return tr(
                "{nested}…}} in {word!r} holds another placeholder; write two words, each with its own",
                nested=nested[0],
                word=word,
            )
        if (slip := _slip(word)) is not None:
            written, meant = slip
            return tr(
                "{written} in {word!r} is no placeholder and would stay as it is; {meant} is one",
                written=written,
                word=word,
                meant=meant,
            )
    return None


def _slip(word: str) -> tuple[str, str] | None:
    """What was written and what was meant, of a word that nearly holds a placeholder; a line of a script is no word."""
    if is_script(word):
        return None
    for found in _BRACES.finditer(_PLACEHOLDER.sub("", word)):
        name, conditional = found[1].lower(), found[2] is not None
        import difflib  # noqa: PLC0415 - only for who mistypes

        alike = difflib.get_close_matches(name, NAMES, n=1, cutoff=_ALIKE)
        if name in _MEANT and word in (found[0], f"{word.partition('=')[0]}={found[0]}"):
            return found[0], f"{{{_MEANT[name]}}}"
        if name in _MEANT and word in (found[0], f"{word.partition('=')[0]}={found[0]}"):
            return found[0], f"{{{_MEANT[name]}}}"
        if alike or name.startswith("resume"):
            return found[0], "{resume?--resume}" if conditional else f"{{{(alike or ['resume'])[0]}}}"
    return None


def takes_resume(command: Sequence[str], cwd: str) -> bool:
    """Whether a command can know its checkpoint: by its words, or because a script among them reads of it."""
    by_words = any(_RESUME.search(word) is not None or environment.RESUME in word for word in command)
    return by_words or any(_reads(os.path.join(cwd, word), _OF_RESUME) for word in command)


def takes_batch(command: Sequence[str], cwd: str) -> bool:
    """Whether a command can know the batch that it is given: likewise."""
    by_words = any("{unfreeze_batch_size}" in word or environment.UNFREEZE_BATCH_SIZE in word for word in command)
    return by_words or any(_reads(os.path.join(cwd, word), _OF_BATCH) for word in command)


def takes_heartbeat(command: Sequence[str], cwd: str) -> bool:
    """Whether a command can be seen to know its heartbeat: by its words, or because a script among them names it."""
    by_words = any("{heartbeat}" in word or environment.HEARTBEAT in word for word in command)
    return by_words or any(_reads(os.path.join(cwd, word), _OF_HEARTBEAT) for word in command)


def _reads(path: str, signs: tuple[bytes, ...]) -> bool:
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _SCRIPT_BYTES:
            return False
        with open(open_file(path), "rb") as file:
            text = file.read()
    except (OSError, ValueError):
        return False
    return any(sign in text for sign in signs)
