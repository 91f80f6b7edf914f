"""What the system says of a call that fails is in the reader's language; what a library says is quoted."""

import errno
import os
import re
from pathlib import Path

import pytest
from tests.helpers.fred import Fred

from fred_supervisor.language import CHINESE, speaking, tr
from fred_supervisor.language.system_errors import SYSTEM_ERRORS

ROOT = Path(__file__).parents[2]
SOURCES = "".join(path.read_text() for room in ("supervisor", "trainer") for path in (ROOT / room).rglob("*.py"))
NAMED = sorted({name for name in re.findall(r"errno\.(E[A-Z]\w+)", SOURCES) if hasattr(errno, name)})
MET = [
    "EPERM",
    "EACCES",
    "ENOENT",
    "ENOTDIR",
    "EISDIR",
    "EEXIST",
    "ENOSPC",
    "EDQUOT",
    "EROFS",
    "EIO",
    "ESTALE",
    "ENOMEM",
    "EMFILE",
    "ENFILE",
    "EBUSY",
    "ELOOP",
]
CALLS = [
    "ENAMETOOLONG",
    "ENOEXEC",
    "E2BIG",
    "EINVAL",
    "EPIPE",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "EADDRINUSE",
    "EHOSTUNREACH",
]
CHINESE_CHARACTER = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("name", sorted({*NAMED, *MET, *CALLS}))
def test_every_error_that_the_code_knows_or_meets_is_translated(name: str):
    assert os.strerror(getattr(errno, name)) in SYSTEM_ERRORS


def test_wherever_it_stands():
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/me")
    with speaking(CHINESE):
        assert tr("{path} cannot be read: {strerror}", path="/x", strerror=denied.strerror).endswith("权限不够")
        assert "[Errno 13] 权限不够: '/data/me'" in tr("{path}: {error}", path="/x", error=denied)
        assert "原文“Expecting value”" in tr("{path}: {error}", path="/x", error=ValueError("Expecting value"))
        assert tr("{path}: {error}", path="/x", error=ValueError("不是数")).count("不是数") == 1
    assert tr("{path}: {error}", path="/x", error=denied) == f"/x: {denied}"


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("start", "--config", "nowhere.toml"), "没有那个文件或目录"),
        (("start", "--config", "."), "是一个目录"),
        (("start", "--run-dir", "file/below", "--", "true"), "是文件"),
        (("completion", "man", "file/below"), "不是目录"),
        (("report", "--run-dir", "x" * 300), ""),
    ],
)
def test_a_command_says_it(fred: Fred, words: tuple[str, ...], end: str):
    (fred.home / "file").write_text("")
    fred.environ |= {"LC_ALL": "zh_CN.UTF-8", "PYTHONUTF8": "1"}
    said = fred(*words).stderr
    assert end in said
    assert CHINESE_CHARACTER.search(said)
    assert not any(text in said for text in SYSTEM_ERRORS)
