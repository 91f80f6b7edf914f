"""Every message long and accented: what stays plain was not marked, and what is wider than the screen breaks a table."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers.history import make_history

from fred_supervisor import language
from fred_supervisor.cli.common.table import table_lines
from fred_supervisor.cli.common.view import run_lines
from fred_supervisor.language.width import columns_of
from fred_supervisor.policy.message import AlertKind
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.status import read_status
from fred_supervisor.words import terms
from fred_supervisor.words.times import span

ACCENTED = str.maketrans("aeiouyAEIOU", "áéíóúýÁÉÍÓÚ")


def accented(message: str) -> str:
    """As a third longer language would say it; fields stay."""
    parts = re.split(r"(\{[^{}]*\}|%[A-Za-z])", message)
    text = "".join(part if at % 2 else part.translate(ACCENTED) for at, part in enumerate(parts))
    return text + "ø" * (len(message) // 3)


@pytest.fixture
def pseudo(monkeypatch) -> None:
    monkeypatch.setattr(language._Spoken, "language", "pseudo")
    monkeypatch.setattr(language._Spoken, "gettext", staticmethod(accented))
    monkeypatch.setattr(
        language._Spoken, "ngettext", staticmethod(lambda one, many, n: accented(one if n == 1 else many))
    )


@pytest.fixture
def spec(tmp_path: Path, monkeypatch) -> RunSpec:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return make_history(tmp_path / "fred_rgb", epochs=20, steps=4, incidents=3, state="failed")


def test_a_run_fits_the_screen_and_every_word_of_ours_is_said(pseudo, spec):
    lines = run_lines(replace(read_status(spec), run_dir="/r"), width=80)
    assert [line for line in lines if columns_of(line) > 80] == []
    stored = r"Given up: the same failure again\.|Killed by SIGKILL.*?kill\.|Relaunched at once\.|[\w.]+\.pth"
    own = re.sub(stored, "", " ".join(" ".join(lines).split()))
    plain = {word for word in re.findall(r"[A-Za-z]{3,}", own) if re.search("[aeiou]", word)}
    assert plain <= {"rgb", "loss", "GPU", "GiB", "pid", "mAP", "fred", "metric"}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_table_drops_columns_and_stays_straight(pseudo, spec, width: int):
    lines = table_lines([read_status(spec)] * 3, width=width)
    assert len(lines) == 4
    assert len({columns_of(line.rstrip()) for line in lines[1:]}) == 1
    assert all(columns_of(line) <= width for line in lines)


def test_no_word_that_programs_share_is_left_plain(pseudo):
    words = {*map(str, AlertKind), "running", "crash", "freeze"} & terms._TERMS
    assert all(terms.term(word) != word for word in words)
    assert all(span(seconds) != str(seconds) for seconds in (5, 500, 50_000, 500_000))
