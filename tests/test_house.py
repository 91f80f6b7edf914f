"""What keeps the house easy to walk through: the size of a module and of a room, one name for one thing."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("supervisor/**/*.py"), *ROOT.glob("trainer/**/*.py")])
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
OLD_NAMES = (
    "Asked Seen Look Book Orders Found Around Sidecar Shelf Rewind Fault custody upkeep inquest errand beside outlook "
    "sight trail asked conceal"
)
"""Participles and moods that modules, types and functions once had; the field has nouns for what they were."""


def test_the_modules_are_found():
    assert len(MODULES) > 200


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_is_neither_too_long_nor_too_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 350
    upgrade = path.parts[-2:] == ("run", "keeper.py")
    assert lines >= 25 or path.name.startswith("__") or path.parent.name == "cli" or upgrade


def test_no_room_has_more_than_twenty_modules():
    rooms = Counter(path.parent for path in MODULES)
    assert {room: count for room, count in rooms.items() if count > 20} == {}


def test_untyped_dicts_are_few():
    assert sum(path.read_text().count("dict[str, Any]") for path in MODULES) <= 40


def test_one_name_means_one_thing():
    classes = [
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name for name, count in Counter(classes).items() if count > 1] == []


@pytest.mark.parametrize("name", OLD_NAMES.split())
def test_no_participle_is_a_name(name):
    defined = re.compile(rf"^\s*(?:class|def) _?{name}\b", re.MULTILINE)
    assert [str(path) for path in MODULES if path.stem == name or defined.search(path.read_text())] == []
