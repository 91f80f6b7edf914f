"""One thing has one word in Chinese, in the catalogue and on the pages, whoever has translated it."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from tools.messages import read

from fred_supervisor.language import CHINESE

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.zh-CN.md", *ROOT.glob("docs/*.zh-CN.md")])
GLOSSARY = {
    r"(?:a|the|this|that|no|every|each|another|live|known) runs?(?! dir)\b": ("任务", ()),
    r"run dirs?": ("运行目录", ("任务目录", "运行文件夹")),
    r"checkpoints?": ("检查点", ("存档点", "快照文件")),
    r"incidents?": ("故障", ("事故",)),
    r"relaunch(?:es|ed)?": ("重启", ("重新启动", "重新拉起")),
    r"hangs?(?! up)": ("卡死", ("卡住", "挂死", "挂住")),
    r"supervisors?": ("监督进程", ("监督程序", "监督器", "看护进程", "监控进程")),
    r"trainers?": ("训练", ("训练器", "训练脚本程序")),
    r"epochs?": ("轮", ("时期", "纪元")),
    r"attempts?": ("尝试", ()),
    r"drills?": ("演练", ("演习",)),
    r"stacks?": ("栈", ("堆栈",)),
    r"back-offs?": ("退避", ("后退时间",)),
    r"heartbeats?|beats?": ("心跳", ()),
    r"alerts?": ("告警", ("警示",)),
    r"sections?(?! \[)": ("环节", ()),
    r"images/s|images per second": ("张/秒", ("图/秒",)),
}
"""English noun → its one Chinese word, and the words that it had, or might have."""
CODE = re.compile(
    r"`[^`]*`|\{[^}]*\}|“[^”]*”|--[\w-]+(?: [A-Z]\w*(?:-\w+)*)?|\[\w+\]|\S*[=/_.]\S*\w|^ *fred-supervise .*$|^queue .*$",
    re.MULTILINE,
)
"""What is typed, or stands for something else, is in no language."""
OTHERWISE = (
    *("drill {word!r} is not KIND@WHERE", "{name} is a run of {user}, who lets you look", "{n} lines more: incidents"),
    *("says no position; it needs a group", "where a COMMAND is, by its output"),
    *("--config {path}: no section [", "--config {path}: {section} is a section", "TOML file with the sections"),
)
"""Beginnings of those in which the word is one of a program, or means something else."""
MESSAGES = [message for message in read(CHINESE) if message.id]


def _english(message: Message) -> str:
    return message.id if isinstance(message.id, str) else message.id[0]


def _chinese(message: Message) -> str:
    return message.string if isinstance(message.string, str) else "".join(message.string or ())


@pytest.mark.parametrize("noun", GLOSSARY)
def test_the_catalogue_has_the_word(noun: str):
    word, _ = GLOSSARY[noun]
    wanted = re.compile(rf"(?<![\w-])(?:{noun})(?![\w-])")
    without = [
        (_english(one), _chinese(one))
        for one in MESSAGES
        if wanted.search(CODE.sub(" ", _english(one)))
        and word not in _chinese(one)
        and not _english(one).startswith(OTHERWISE)
    ]
    assert without == []


@pytest.mark.parametrize("noun", GLOSSARY)
def test_nobody_has_another_word(noun: str):
    others = GLOSSARY[noun][1]
    texts = {_english(one): _chinese(one) for one in MESSAGES} | {page.name: page.read_text() for page in PAGES}
    assert [(at, other) for at, text in texts.items() for other in others if other in text] == []


def test_code_is_in_no_language():
    assert CODE.sub("", "`queue run` of {run} --run-dir DIR").split() == ["of"]
    assert "the run" in CODE.sub("", "the run goes on")
