"""The summary of the day: when, what it says, in both languages, with a picture."""

import base64
import io
import json
import sys
import time

import pytest
from PIL import Image
from tests.alerts.test_alerts import server  # noqa: F401 - a fixture
from tests.helpers.history import make_history

from fred_supervisor.alerts.client import AlertAddresses, AlertClient
from fred_supervisor.alerts.daily import summary
from fred_supervisor.alerts.notification import compose
from fred_supervisor.alerts.picture import draw
from fred_supervisor.contract.files import write_json
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import AlertKind
from fred_supervisor.policy.state import Paused
from fred_supervisor.store.tensorboard.scalars import Point
from fred_supervisor.words.times import next_at


@pytest.fixture
def rome(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Rome")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def local(*clock):
    return time.mktime((*clock, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ((2026, 11, 26, 7, 59), (2026, 11, 26, 8, 0)),
        ((2026, 11, 26, 8, 0), (2026, 11, 27, 8, 0)),
        ((2026, 12, 31, 23, 0), (2027, 1, 1, 8, 0)),
        ((2026, 3, 28, 9, 0), (2026, 3, 29, 8, 0)),  # the night of 23 hours
        ((2026, 10, 24, 8, 30), (2026, 10, 25, 8, 0)),  # of 25
    ],
)
def test_it_comes_at_the_hour_of_the_local_clock(rome, now, expected):
    assert next_at("08:00", local(*now)) == local(*expected)


@pytest.mark.parametrize("garbled", ["", "8", "x:y", "1:2:3", f"{10**30}:00"])
def test_a_garbled_time_is_no_time(garbled):
    assert next_at(garbled, 1e9) is None


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return make_history(tmp_path / "fred_rgb", incidents=3, epochs=40, steps=20, state="running")


def test_it_says_how_far_how_good_and_what_went_wrong(spec):
    first = summary(spec, "en")
    assert "epoch 20 of 300, step 40 of 100" in first.text
    assert "3 incidents: 1 crash, 1 hang, 1 oom" in first.text
    assert first.kind is AlertKind.DAILY
    write_json(spec.dir.daily, {**json.loads(spec.dir.daily.read_bytes()), "epoch": 8, "best_metric": 0.5})
    second = summary(spec, "en")
    assert "+12.0 epochs since " in second.text
    assert "no new incidents" in second.text


def test_people_read_it_in_their_language_and_programs_in_english(spec):
    told = summary(spec, "zh_CN")
    assert "第 20/300 轮" in told.text
    assert "3 次故障：" in told.text
    assert "3 incidents: " in told.document["text"]
    assert told.document["event"] == "daily"
    assert told.document["progress"]["epoch"] == 20


def test_garbled_marks_of_the_day_before_cost_that_line_only(spec):
    for garbled in ({"time": "soon", "epoch": 3}, {"time": "2026-11-26T08:00:00Z", "epoch": "x"}, [], {"time": None}):
        write_json(spec.dir.daily, garbled)
        assert "epochs since" not in summary(spec, "en").text


def test_one_picture_shows_loss_and_map(spec):
    told = summary(spec, "en")
    with Image.open(told.picture) as image:
        assert image.size == (1000, 520)
    assert compose([told]).picture == told.picture
    assert compose([told, told]).picture == told.picture


def test_any_curve_is_drawn_and_without_pillow_none(monkeypatch):
    for values in ([1.0, 1.0], [0.0, 0.0], [1e300, -1e300, 3.0], [5.0, *[0.1] * 200]):
        points = [Point(1e9 + at, value) for at, value in enumerate(values)]
        assert Image.open(io.BytesIO(draw({"loss": points}))).format == "PNG"
    assert draw({}) is None
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert draw({"loss": [Point(1e9, 1.0), Point(1e9 + 1, 2.0)]}) is None


def test_it_arrives_once_with_its_picture(spec, server):  # noqa: F811
    """By the supervisor's own part, with the real sender."""
    AlertAddresses(notify=(f"json://{server.place}",), language="zh_CN").save(spec.dir)
    alerts, state = AlertClient(spec), Paused(history=RunHistory())
    alerts.update(state)
    assert alerts.pids == frozenset(), "not yet"
    assert 0 < alerts.due_s - time.monotonic() <= 25 * 3600
    alerts._daily_s = time.time() - 1
    alerts.update(state)
    alerts.update(state)
    server.wait(lambda: bool(server.told))
    alerts.close()
    (told,) = server.told
    assert told["type"] == "info"
    assert "第 20/300 轮" in told["message"]
    (picture,) = told["attachments"]
    assert Image.open(io.BytesIO(base64.b64decode(picture["base64"]))).format == "PNG"


def test_a_clock_that_is_set_back_brings_it_no_later_than_a_day(spec):
    AlertAddresses(notify=("json://127.0.0.1:9",)).save(spec.dir)
    alerts = AlertClient(spec)
    alerts._daily_s = time.time() + 90 * 86400
    alerts.update(Paused(history=RunHistory()))
    assert alerts._daily_s - time.time() <= 25 * 3600
    assert alerts.pids == frozenset()


@pytest.mark.parametrize(("daily", "addressed"), [(None, True), ("08:00", False), ("noon", True)])
def test_none_where_nobody_wants_it(spec, daily, addressed):
    AlertAddresses(notify=("json://127.0.0.1:9",) if addressed else (), ping="http://127.0.0.1:9", daily=daily).save(spec.dir)  # fmt: skip
    assert AlertClient(spec)._daily_s is None
