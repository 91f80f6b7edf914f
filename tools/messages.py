"""The catalogues of sentences: taken from the code and the templates, compiled, and held against each other.

    python -m tools.messages          # new sentences into each .po, gone ones out of it, then the .mo
    python -m tools.messages --check  # says what is stale, untranslated or wrongly formatted, and writes nothing

A translator fills the empty `msgstr` in `language/locale/*/LC_MESSAGES/*.po` of the supervisor. Entries stand in the
order of their English, without line numbers, so that two people seldom write into the same place.
"""

import argparse
import ast
import io
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from string import Formatter
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from fred_supervisor.language import CHINESE, DOMAIN, LANGUAGES, LOCALE

ROOT: Final = Path(__file__).parents[1]
_SOURCES: Final = ("supervisor/fred_supervisor", "trainer/fred_trainer")
_DEMO: Final = ROOT / "tools/demo.py"
_KEYWORDS: Final = {"tr": (0,), "trn": (0, 1), "mark": (0,)}
"""Functions, and which of their arguments are a sentence."""
_ERRORS: Final = [
    name
    for module in ("errors.py", "data/errors.py")
    for name in re.findall(r"^class (\w+)\(", (ROOT / "trainer/fred_trainer" / module).read_text(), re.MULTILINE)
]
_OF_TRAINER: Final = {
    **dict.fromkeys(("Sentence", "info", "warning", "error"), (0,)),
    **{name: (1,) if name == "UnreadableImageError" else (0,) for name in _ERRORS},
}
"""Errors and lines of the log, whose message is said where a person reads it."""


def extracted() -> Catalog:
    """Every sentence of the code."""
    found = Catalog(charset="utf-8")
    for message in sentences(_DEMO.read_text(), _KEYWORDS):
        found.add(message, locations=[(str(_DEMO.relative_to(ROOT)), 0)])
    for source in _SOURCES:
        keywords = _KEYWORDS | (_OF_TRAINER if source.startswith("trainer") else {})
        for path in sorted((ROOT / source).rglob("*.py")):
            for message in sentences(path.read_text(), keywords):
                found.add(message, locations=[(str(path.relative_to(ROOT)), 0)])
        for file, _, message, _, _ in extract_from_dir(
            ROOT / source, [("**/templates/**.html", "jinja2")], keywords={"tr": None, "trn": (1, 2)}
        ):
            found.add(message, locations=[(f"{source}/{file}", 0)])
    return found


def sentences(code: str, keywords: Mapping[str, tuple[int, ...]]) -> Iterator[str | tuple[str, ...]]:
    """Every text that such a function is called with, inside of other calls, too, which Babel passes over."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        places = keywords.get(getattr(node.func, "id", getattr(node.func, "attr", "")), ())
        given = [texts for at in places if at < len(node.args) and (texts := list(_texts(node.args[at])))]
        if len(given) > 1:
            yield tuple(texts[0] for texts in given)
        elif given:
            yield from given[0]


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def po_path(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def read(language: str) -> Catalog:
    """A catalogue as its translator left it."""
    path = po_path(language)
    if not path.exists():
        return Catalog(language, domain=DOMAIN)
    with path.open("rb") as file:
        return read_po(file, language, DOMAIN)


def merged(language: str, template: Catalog) -> Catalog:
    """The template with the translations that there are; nothing is guessed."""
    old, new = read(language), Catalog(language, domain=DOMAIN, header_comment=_HEADER, fuzzy=False)
    for message in template:
        if message.id:
            before = old.get(message.id if isinstance(message.id, str) else message.id[0])
            string = before.string if before is not None and before.pluralizable == message.pluralizable else None
            new.add(
                message.id,
                string or (("",) if message.pluralizable else ""),
                [(file, None) for file in sorted({file for file, _ in message.locations})],  # type: ignore[misc]
                auto_comments=message.auto_comments,
            )
    return new


_NEVER: Final = datetime(2026, 1, 1, tzinfo=UTC)
_HEADER: Final = "# Written by `make messages` from the code; translations are filled in by hand."


def po_bytes(catalog: Catalog) -> bytes:
    """The same for the same sentences: without times, line numbers and names of people."""
    out = io.BytesIO()
    write_po(out, catalog, width=110, sort_output=True, omit_header=True)
    plural = f'"Language: {catalog.locale}\\n"\n"Plural-Forms: {catalog.plural_forms}\\n"\n'
    head = f'{_HEADER}\nmsgid ""\nmsgstr ""\n"MIME-Version: 1.0\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n'
    return f"{head}{plural}\n".encode() + out.getvalue()


def mo_bytes(catalog: Catalog) -> bytes:
    """What `gettext` reads: what is translated, without times."""
    plain = Catalog(catalog.locale, domain=DOMAIN, charset="utf-8", creation_date=_NEVER, revision_date=_NEVER)
    for message in catalog:
        if message.id and complete(message):
            plain.add(message.id, message.string)
    out = io.BytesIO()
    write_mo(out, plain)
    return out.getvalue()


def complete(message: Message) -> bool:
    """Whether it is translated, in each of its forms."""
    return all(message.string) if isinstance(message.string, (tuple, list)) else bool(message.string)


def wrong(message: Message) -> str | None:
    """None, or what is wrong with a translation."""
    if not complete(message):
        return "not translated"
    if message.fuzzy:
        return "fuzzy"
    strings = message.string if isinstance(message.string, (tuple, list)) else (message.string or "",)
    wanted = message.id[-1] if isinstance(message.id, (tuple, list)) else message.id
    for string in strings:
        if fields(string) != fields(wanted):
            return f"fields {fields(string)} instead of {fields(wanted)}: {string!r}"
    return None


_PRINTF: Final = re.compile(r"%%|%(?:\(\w+\))?[-+#0]*\d*(?:\.\d+)?[srdfeg]\b")


def fields(text: str) -> set[str]:
    """The names of its fields; of text that is not formatted, the braces that it has."""
    try:
        named = {name.partition(".")[0].partition("[")[0] for _, name, _, _ in Formatter().parse(text) if name}
        of_time = re.search(r"%[HbM]|%m-", text)
        printf = [] if of_time else [field for field in _PRINTF.findall(text) if field != "%%"]  # of argparse, of logs
        return named | {field for field in printf if "(" in field} | {" ".join(f for f in printf if "(" not in f)}
    except ValueError:
        return {"{" * text.count("{"), "}" * text.count("}")}


def problems(language: str, template: Catalog) -> Iterator[str]:
    """One line for each thing that is not as it should be."""
    catalog = merged(language, template)
    if po_path(language).read_bytes() != po_bytes(catalog):
        yield f"{po_path(language).name} is stale: run `make messages`"
    elif po_path(language).with_suffix(".mo").read_bytes() != mo_bytes(catalog):
        yield f"{po_path(language).with_suffix('.mo').name} is stale: run `make messages`"
    for message in catalog:
        if message.id and (fault := wrong(message)) is not None:
            yield f"{message.id!r}: {fault}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Takes the sentences from the code and compiles the catalogues.")
    parser.add_argument("--check", action="store_true", help="say what is wrong; write nothing")
    check = parser.parse_args().check
    template, found = extracted(), 0
    for language in LANGUAGES[1:]:
        path = po_path(language)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            catalog = merged(language, template)
            path.write_bytes(po_bytes(catalog))
            path.with_suffix(".mo").write_bytes(mo_bytes(catalog))
        for line in problems(language, template):
            found += 1
            print(f"{language}: {line}")
    print(f"{len(template)} sentences, {CHINESE}: {found} to be done")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
