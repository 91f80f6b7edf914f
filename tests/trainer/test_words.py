"""What people read in their language; what files and programs read in English."""

import json
import logging
import pickle

import pytest

from fred_supervisor.contract.builtin import refusals
from fred_supervisor.contract.error_file import record_error
from fred_supervisor.language import speaking
from fred_trainer.data import DataError
from fred_trainer.data.errors import UnreadableImageError
from fred_trainer.errors import CheckpointError
from fred_trainer.words import Clauses, Listed, Sentence, _SaidRecord, said


def test_an_error_is_said_in_chinese_and_stored_in_english(tmp_path):
    inner = DataError(
        "data set not found: {root} does not exist; check the path, or `fred-train data synth DIR`", root="d"
    )
    error = CheckpointError("{path} does not load: {reason}; name another file", path="a.pth", reason=inner)
    english = (
        "a.pth does not load: data set not found: d does not exist; check the path, or `fred-train data synth DIR`; "
        "name another file"
    )
    with speaking("zh_CN"):
        assert said(error).startswith("a.pth 无法加载：找不到数据集：d 不存在；")
        record_error(tmp_path / "error.json", error)
    assert str(error) == english
    assert json.loads((tmp_path / "error.json").read_bytes())["message"] == f"CheckpointError: {english}"


def test_the_parts_of_a_sentence_are_said_too():
    parts = Clauses([Sentence("its optimiser is another one"), Listed([Sentence("event frames"), "x"])])
    assert f"{parts}" == "its optimiser is another one; event frames, x"
    with speaking("zh_CN"):
        assert said(parts) == "它的优化器是另一种；事件帧、x"
        assert said(5) == 5


@pytest.mark.parametrize(
    "error", [UnreadableImageError("a.png", "{file} is torn", file="a.png"), DataError("no {x}", x=1)]
)
def test_an_error_comes_whole_out_of_a_loader_worker(error):
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert said(again) == said(error)
    assert vars(again).keys() == vars(error).keys()


def test_text_without_fields_may_have_braces():
    assert str(DataError("a { b")) == "a { b"


def test_lines_of_the_log_are_said_and_those_of_libraries_stay():
    def line(message: str, *args: object) -> str:
        return _SaidRecord("fred_trainer", logging.INFO, __file__, 1, message, args, None).getMessage()

    with speaking("zh_CN"):
        assert line("%d of %d frames", 3, 9) == "3/9 帧"
        assert line("%s is passed over: %s", "a.pth", Sentence("random state")) == "跳过 a.pth：随机状态"
        assert line("torch says 100 %") == "torch says 100 %"
        assert line("%(a)s", {"a": 5}) == "5"


def test_what_start_refuses_the_trainer_refuses_in_the_same_words():
    message, facts = refusals.refused_flag({"backbone": "resnet51"})
    assert str(Sentence(message, **facts)).startswith(
        "--backbone resnet51: no such backbone; there are regnet_x_400mf, "
    )
