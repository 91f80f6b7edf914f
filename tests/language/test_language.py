"""Which language is spoken, and what a sentence is made of."""

import subprocess
import sys

import pytest

from fred_supervisor.language import known, language, listed, preferred, speak, speaking, tr, trn


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh_CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, "zh_CN"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh_CN"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en:zh_CN"}, "en"),
        ({"LANGUAGE": "zh_CN"}, "zh_CN"),
        ({"LANGUAGE": "zh_CN", "LC_ALL": "C"}, "en"),
        ({"LANGUAGE": "zh_CN", "LANG": "C.UTF-8"}, "zh_CN"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "it:"}, "zh_CN"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "", "LC_ALL": "", "LANGUAGE": ""}, "en"),
    ],
)
def test_the_environment_chooses(environ, expected):
    assert preferred(environ) == expected


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("zh_CN", "zh_CN"),
        ("zh-cn", "zh_CN"),
        ("zh", "zh_CN"),
        ("zh_Hans_CN", "zh_CN"),
        ("zh_SG.UTF-8", "zh_CN"),
        ("zh_TW", None),
        ("en_GB.UTF-8", "en"),
        ("C.UTF-8", "en"),
        ("it_IT@euro", None),
        ("", None),
    ],
)
def test_spellings(spelling, expected):
    assert known(spelling) == expected


def test_english_is_as_it_stands():
    assert language() == "en"
    assert tr("{a!r} is {b:.1f}", a="x", b=2) == "'x' is 2.0"
    assert tr("{resume} stays") == "{resume} stays"
    assert tr("") == ""
    assert [trn("{n} step lost.", "{n} steps lost.", n) for n in (0, 1, 2)] == [
        "0 steps lost.",
        "1 step lost.",
        "2 steps lost.",
    ]
    assert listed(["a", "b"]) == "a, b"


def test_a_language_is_spoken_for_a_while():
    with speaking("zh_CN"):
        assert language() == "zh_CN"
        assert tr("") == ""
        assert listed(["a", "b"]) == "a、b"
        with speaking("en"):
            assert listed(["a", "b"]) == "a, b"
        assert listed(["a", "b"]) == "a、b"
    assert language() == "en"


def test_one_without_a_catalogue_is_english():
    try:
        speak("tlh")
        assert language() == "en"
        assert tr("untranslated, {a}", a=1) == "untranslated, 1"
    finally:
        speak("en")


def test_english_loads_nothing():
    program = (
        "import sys; from fred_supervisor.language import tr, preferred, speak; speak(preferred({})); tr('a {b}', b=1);"
        "print('gettext' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_who_watches_in_the_foreground_reads_their_language(fred):
    """What is stored stays English."""
    fred.environ["LANGUAGE"] = "zh_CN"
    words = ("--name", "t", "--foreground", "--max-restarts", "0", "--", "bash", "-c", "exit 3")
    said = fred("start", *words).stdout
    assert "退出码 3" in said
    assert "Attempt" not in said
    assert next(iter(fred.journal()))["text"].startswith("Attempt 1 runs")
