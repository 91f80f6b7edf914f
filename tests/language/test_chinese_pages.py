"""The Chinese pages say what the English ones say: the same sections, commands, configurations, tables and names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {page: page.replace(".md", ".zh-CN.md") for page in ("README.md", *(f"docs/{name}.md" for name in ("operating", "training", "foreign", "from-the-old-trainer")))}  # fmt: skip
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORTER = {"README.md": ("Beside the alternatives",), "docs/training.md": ("Figures",)}
"""Sections of measured tables, which the Chinese page sums up, with a link."""
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def english(page: str) -> str:
    """The English page, without the sections that Chinese ones sum up."""
    text = (ROOT / page).read_text()
    for section in SHORTER.get(page, ()):
        text = re.sub(rf"(^## {section}\n).*?(?=^## |\Z)", r"\1", text, flags=re.MULTILINE | re.DOTALL)
    return text


def chinese(page: str) -> str:
    return (ROOT / PAGES[page]).read_text()


def words(block: str) -> list[str]:
    """The lines of a block, without comments and the space before them."""
    return [line for raw in block.splitlines() if (line := re.sub(r"\s*(^|\s)#\s.*$", "", raw).rstrip())]


@pytest.mark.parametrize("page", PAGES)
def test_it_says_which_version_it_follows(page: str):
    first = chinese(page).split("\n", 3)[2]
    assert re.search(rf"本页译自 `{page}`，对应提交 [0-9a-f]{{7,}}；", first)


@pytest.mark.parametrize("page", PAGES)
def test_it_has_the_same_sections(page: str):
    levels = [re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE) for text in (english(page), chinese(page))]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("page", PAGES)
def test_it_has_the_same_commands_and_configurations(page: str):
    ours, theirs = ([(kind, words(text)) for kind, text in FENCE.findall(page_text) if kind != "text"] for page_text in (chinese(page), english(page)))  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("page", PAGES)
def test_its_tables_have_the_same_rows(page: str):
    rows = [len(re.findall(r"^\|", FENCE.sub("", text), re.MULTILINE)) for text in (english(page), chinese(page))]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("page", PAGES)
def test_it_names_nothing_that_the_english_page_does_not(page: str):
    text = (ROOT / page).read_text()
    named = {code for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", chinese(page))) if not CHINESE.search(code)}
    unknown = {code for code in named if code.removesuffix(".zh-CN.md") not in text and code not in OWN}
    assert unknown == set()


OWN = {"LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "--language zh_CN|en", "tests/language/test_chinese_pages.py", "incidents/", *PAGES}  # fmt: skip
"""What the Chinese pages say of themselves and of languages."""


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page: str):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", chinese(page))):
        file, _, anchor = target.partition("#")
        if not target.startswith("https://"):
            there = (folder / file).resolve() if file else ROOT / PAGES[page]
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert not anchor or anchor in [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]


@pytest.mark.parametrize("page", PAGES)
def test_it_is_chinese(page: str):
    paragraphs = [text for text in FENCE.sub("", chinese(page)).split("\n\n") if len(text) > 60]
    assert [text for text in paragraphs if not CHINESE.search(text)] == []
