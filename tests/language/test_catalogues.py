"""Every sentence is marked, taken into the catalogues, translated with the same fields, and compiled.

`make messages` mends what is stale; what is not translated wants a `msgstr` in the .po.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fred_supervisor.language import LANGUAGES, LOCALE
from fred_trainer.data.errors import UnreadableImageError
from fred_trainer.errors import OutdatedCheckpointError
from fred_trainer.words import SaidError

ROOT = Path(__file__).parents[2]
ROOMS = ("supervisor/fred_supervisor/words", "supervisor/fred_supervisor/cli", "trainer/fred_trainer")
"""Where people are spoken to."""
CATALOGUES = LANGUAGES[1:]


@pytest.fixture(scope="module")
def messages():
    return pytest.importorskip("tools.messages", exc_type=ImportError)


@pytest.fixture(scope="module")
def template(messages):
    return messages.extracted()


@pytest.mark.parametrize("language", CATALOGUES)
def test_nothing_is_stale_untranslated_or_wrongly_formatted(messages, template, language):
    assert list(messages.problems(language, template)) == []


@pytest.mark.parametrize("language", CATALOGUES)
def test_two_runs_write_the_same(messages, template, language):
    catalog = messages.merged(language, template)
    assert messages.po_bytes(catalog) == messages.po_bytes(messages.merged(language, template))
    assert messages.mo_bytes(catalog) == (LOCALE / language / "LC_MESSAGES" / "fred_supervise.mo").read_bytes()


@pytest.mark.parametrize(
    ("message", "string", "fault"),
    [
        ("{a} is {b:.1f}", "{b:.1f}：{a}", None),
        ("{a} is {b}", "{a}", "fields"),
        ("{a}", "{a}{b}", "fields"),
        ("{resume} stays", "留下 {resume}", None),
        ("{resume} stays", "留下", "fields"),
        ("an odd { brace", "单个 {", None),
        ("gone", "", "not translated"),
        (("{n} step", "{n} steps"), ("{n} 步",), None),
        (("{n} step", "{n} steps"), ("步",), "fields"),
        (("{n} step", "{n} steps"), ("",), "not translated"),
    ],
)
def test_a_wrong_translation_is_found(messages, message, string, fault):
    found = messages.wrong(messages.Message(message, string))
    assert found is None if fault is None else fault in found


def test_the_translator_guesses_nothing(messages, template):
    """A sentence that has changed is a new one: no fuzzy entry says something else."""
    assert b"fuzzy" not in b"".join(messages.po_path(language).read_bytes() for language in CATALOGUES)


def unmarked(path: Path) -> Iterator[tuple[int, str]]:
    """Texts that look like words for a person and are neither marked nor the English of a name for programs."""
    tree = ast.parse(path.read_text())
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        text = _text(node, parents)
        if text and re.search(r"[a-z]{2,}[,;:]? [a-z{]|\} [a-z]{2,}", text) and not _not_said(node, parents):
            yield node.lineno, text  # type: ignore[attr-defined]


def _text(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str | None:
    """Of a string, or of an f-string with its fields as {}."""
    if isinstance(parents.get(node), ast.JoinedStr | ast.FormattedValue):
        return None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _not_said(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether it is marked, a docstring, a key, compared, the value of an enum, or for a debugger."""
    parent = parents[node]
    while isinstance(parent, ast.Tuple | ast.List | ast.Set | ast.IfExp | ast.BoolOp):
        node, parent = parent, parents[parent]
    if isinstance(parent, ast.Call):
        name = getattr(parent.func, "id", getattr(parent.func, "attr", ""))
        return node in parent.args and name in NO_WORDS
    if isinstance(parent, ast.Dict):
        return node in parent.keys
    if isinstance(parent, ast.Assign):
        return isinstance(parents[parent], ast.ClassDef)
    if isinstance(parent, ast.keyword):
        return parent.arg in ("prog", "metavar")
    return isinstance(parent, ast.Expr | ast.Compare | ast.Subscript)


NO_WORDS = {
    *("tr", "trn", "mark", "Sentence", "info", "warning", "error"),
    *("compile", "search", "match", "ink", "strftime", "startswith", "endswith", "partition", "TypeVar"),
    *("ValueError", "TypeError", "RuntimeError", "OSError", "TimeoutError"),
    *(error.__name__ for error in (*SaidError.__subclasses__(), UnreadableImageError, OutdatedCheckpointError)),
}
"""Functions whose text is marked, or is not for people: an error of the language itself is a defect of ours."""


NOT_FOR_PEOPLE = {
    "--hang-timeout startup=SECONDS",
    *(
        "time: x1, y1, x2, y2[, id[, class]]",
        "<number>/RGB/*.jpg, <number>/Event/Frames/*.png and <number>/coordinates.txt",
    ),
    *("sequence {}", "sequence {}, image {}", "{}: annotation {}", "{}: image {}", "{} ({}, {} px)", "Betafpv air75"),
    *(
        "loss {task.fields[loss]:.4f}",
        "sequence {}  frame {}",
        "Sampler[list[tuple[int, int]]]",
        "rank {}: %(message)s",
    ),
    *("fred-train {}", "fred-train: {}{}", "fred-train: {}", "fred-train: {}\n", "fred-train samples"),
    *("left out", "as in the file", "environment {}", "command line", "an earlier start"),
    *(
        "Traceback (most recent call last)",
        "  loss {} {}",
        "the doctor asks whether it may",
        "torch {}, CUDA {}",
        "no folder",
    ),
    *(
        "failed line",
        "keeper lost",
        "not done",
        "no answer",
        "alert lost",
        "moves again",
        "img-src data:",
        "data: {}\n\n",
    ),
    *("{} status", "{} curves", "{} incidents", "queue: {} was not started, exit code {}; it has left the queue"),
    "CUDA out of memory. Tried to allocate 1.00 GiB (rehearsed by {})",
}
"""Texts that look like sentences and are not; places in a data set; what is marked elsewhere; what torch says."""
NOT_SAID = {
    "contact_sheet.py": "fonts for pictures have no Chinese characters",
    "draw.py": "likewise",
    "prove.py": "JSON, for the supervisor",
    "rehearsal_trainer.py": "a trainer's output, as any",
    "queue_files.py": "a log, written while nobody looks",
    "unit.py": "a file that is written, not said",
    "man_page.py": "manual pages are English, as those beside them",
}
"""Modules whose texts stay English, and why."""


@pytest.mark.parametrize(
    "path",
    sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.name not in NOT_SAID),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_sentence_is_marked(path):
    found = [
        (line, text) for line, text in unmarked(path) if text not in NOT_FOR_PEOPLE and not STYLE_OR_COMMAND.match(text)
    ]
    assert found == []


STYLE_OR_COMMAND = re.compile(
    r"bold \w+$|(\{\})*\s?(fred-supervise|loginctl|daemon-reload|enable --now)\b|\{\}\{?\}? start "
    r"|Incident \{incident\}|import json, |(#!|<!)|# \{\} in \{\}$|\.TH "
)
"""How something is painted; what a person may copy into a shell, or a file."""


def test_an_unmarked_sentence_is_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        'def f(x):\n    """Some words here."""\n    print(f"no run is {x}")\n    print(tr("no run {x}", x=x))\n'
        '    return "no run" in x, {"a b": "it is so"}\n'
    )
    assert [text for _, text in unmarked(path)] == ["no run is {}", "it is so"]
