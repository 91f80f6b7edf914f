"""The report: read from real event files, bounded in time and size, and rendered by a real browser."""

import html.parser
import os
import re
import resource
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import pytest
from tests.helpers.fred import PATIENCE_S
from tests.helpers.history import make_history

from fred_supervisor.cli.report.chart import BOTTOM, HEIGHT, TOP, Axis, Series, chart
from fred_supervisor.cli.report.page import MARK
from fred_supervisor.cli.report.stretches import read_stretches
from fred_supervisor.contract.files import append_json
from fred_supervisor.monitor.tensorboard import ScalarWriter
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.tensorboard.scalars import Point, read_scalars
from fred_supervisor.words.sentences import sentence

NASTY = "\x1b[31m<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """300 epochs and 50 incidents, and a state directory that knows them."""
    home = tmp_path_factory.mktemp("long")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        return make_history(home / "logs" / "fred_rgb", steps=60, nasty=NASTY)


class Page(html.parser.HTMLParser):
    """What is in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def count(self, tag: str, name: str = "", value: str = "") -> int:
        return sum(found == tag and value in str(attrs.get(name, "")) for found, attrs in self.tags)


def test_a_long_run_in_three_megabytes(fred, long):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = fred("report", "--run-dir", long.run_dir)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime - before.ru_utime < 60, "2 s on a quiet machine; a minute would not be linear"
    path = Path(long.run_dir) / "report.html"
    assert done.stdout.startswith(str(path))
    assert path.stat().st_size < 3_000_000
    assert path.stat().st_mode & 0o777 == 0o600
    page = Page(path.read_text("utf-8"))
    assert page.count("svg") == 10, "timeline, loss, mAP, images/s, GPU memory; each for a page and for a phone"
    assert page.count("rect", "class", "bar") == 2 * 51
    assert page.count("div", "id", "incident-") == 50
    assert page.count("a", "href", "#incident-7") >= 5, "marked in every chart"
    assert page.count("details") == 50
    assert page.count("tr") == 31
    text = path.read_text("utf-8")
    assert "Killed by SIGKILL" in text
    assert "next start" in text
    assert "best mAP50" in text


def test_nothing_that_a_trainer_wrote_is_markup_and_nothing_is_loaded(fred, long):
    done = fred("report", "--run-dir", long.run_dir, "-o", "-")
    page = Page(done.stdout)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "video"}
    assert not any(name.startswith("on") or name == "src" for _, attrs in page.tags for name in attrs)
    assert all(str(attrs["href"]).startswith("#") for _, attrs in page.tags if "href" in attrs)
    assert "url(" not in done.stdout
    assert "&lt;script&gt;" in done.stdout
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", done.stdout)
    assert page.count("meta", "content", "default-src 'none'") == 1
    assert done.stdout.startswith(MARK)


def test_a_file_that_is_no_report_is_not_replaced(fred, long, tmp_path: Path):
    (tmp_path / "thesis.html").write_text("years of work")
    done = fred("report", "--run-dir", long.run_dir, "-o", "thesis.html")
    assert done.returncode == 1
    assert (tmp_path / "thesis.html").read_text() == "years of work"
    assert fred("report", "--run-dir", long.run_dir, "-o", "no/such/r.html").returncode == 78
    for _ in range(2):
        assert fred("report", "--run-dir", long.run_dir, "-o", "r.html", "--json").returncode == 0


def test_the_stretches_of_warnings_are_marked(tmp_path: Path, fred):
    run = make_history(tmp_path / "fred_warned", epochs=3, steps=60, incidents=1)
    start = datetime.now(UTC) - timedelta(hours=9)
    journal = Journal(run.dir)

    def told(event: JournalEvent, message: Message, hours: int) -> None:
        when = (start + timedelta(hours=hours)).isoformat()
        append_json(
            run.dir.journal, {"time": when, "event": event, "text": sentence(message), "facts": message.document()}
        )

    slow, full = say(Topic.DISK_FORECAST, left_h=1.5), say(Topic.DISK_NO_ROOM)
    told(JournalEvent.WARNING, say(Topic.WARNING, kind="slow", about="", since=start.isoformat(), says=slow), 1)
    told(JournalEvent.WARNING_OVER, say(Topic.WARNING_OVER, kind="slow", about="", since=None), 3)
    told(JournalEvent.DISK, say(Topic.WARNING, kind="disk", about="", since=None, says=full), 5)
    journal.append(JournalEvent.WARNING, text="garbled", facts={"kind": [], "topic": "warning"})
    with run.dir.journal.open("ab") as file:
        file.write(b'{"event": "warning", torn')
    found = read_stretches(run.dir)
    assert [(one.kind, one.end_s is None) for one in found] == [("slow", False), ("disk", True)]
    assert found[0].end_s - found[0].start_s == pytest.approx(3 * 3600, abs=1)
    page = Page(text := fred("report", "--run-dir", run.run_dir, "-o", "-").stdout)
    assert page.count("rect", "class", "stretch") == 2 * 3, "both in the timeline, the slow one in the throughput, too"
    assert "The disk will be full in 1.5 h." in text
    assert "not over" in text


def test_a_run_without_anything_has_a_report_too(fred):
    assert fred("start", "--name", "t", "--foreground", "--", "true").returncode == 0
    text = fred("report", "t", "-o", "-").stdout
    assert "completed" in text
    assert "There are none." in text
    assert "No curves were written yet" in text


def test_event_files_read_back_as_tensorboard_reads_them(tmp_path: Path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    path = tmp_path / "events.out.tfevents.1"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for n in range(500):
            values = [
                Summary.Value(tag="train/loss", simple_value=n / 7),
                Summary.Value(tag="train/lr", simple_value=n),
            ]
            writer.write(Event(wall_time=1e9 + n, step=n, summary=Summary(value=values)).SerializeToString())
        writer.write(Event(wall_time=2e9, summary=Summary(value=[Summary.Value(tag="val/map50", simple_value=0.5)])).SerializeToString())  # fmt: skip
        writer.flush()
    found = read_scalars([path], ["train/loss", "val/map50", "no/such"], most=10_000)
    expected = [Point(1e9 + n, struct.unpack("<f", struct.pack("<f", n / 7))[0]) for n in range(500)]
    assert found == {"train/loss": expected, "val/map50": [Point(2e9, 0.5)]}
    few = read_scalars([path], ["train/loss", "val/map50"], most=50)
    assert 40 <= len(few["train/loss"]) <= 120
    assert set(few["train/loss"]) <= set(expected)
    assert few["val/map50"] == [Point(2e9, 0.5)], "a rare one is found all the same"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 11] + b"\x0a\x0atrain/loss\x15")
    torn = read_scalars([path], ["train/loss"], most=10_000)["train/loss"]
    assert torn == expected[: len(torn)]
    assert 240 <= len(torn) <= 260


def test_our_own_event_files_are_read_too(tmp_path: Path):
    curves = ScalarWriter(tmp_path, wall_s=1e9, mono_s=5.0)
    for n in range(10):
        curves.add(1e9 + n, 5.0 + n, {"supervisor/gpu0_memory_used_gib": n / 2, "supervisor/loss": float("nan")})
    curves.flush(1e9)
    found = read_scalars(tmp_path.iterdir(), ["supervisor/gpu0_memory_used_gib", "supervisor/loss"])
    assert found == {"supervisor/gpu0_memory_used_gib": [Point(1e9 + n, n / 2) for n in range(10)]}
    assert read_scalars([tmp_path / "gone"], ["x"]) == {}


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [-3.0, 5.0], [1e-9, 2e-9], [1e9, 1.0]])
def test_charts_of_any_values(values: list[float]):
    axis = Axis(1e9, 1e9 + 100)
    points = [Point(1e9 + 50 * n, value) for n, value in enumerate(values)]
    drawn = chart(axis, [Series(points=points, style="s1")], [], title="a")
    assert drawn is not None
    assert len(drawn.grid) >= 2
    assert all(TOP <= y <= HEIGHT - BOTTOM for y, _ in drawn.grid)
    assert "nan" not in "".join(line.path for line in drawn.lines)
    assert sum(line.path.count("L") + 1 for line in drawn.lines) == len(values)
    assert chart(axis, [Series(points=[], style="s1")], [], title="none") is None


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt install chromium")
@pytest.mark.parametrize(("mode", "dark"), [("light", False), ("dark", True)])
def test_a_browser_shows_it(fred, long, tmp_path: Path, mode: str, dark: bool):
    assert fred("report", "--run-dir", long.run_dir, "-o", "r.html").returncode == 0
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1500"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'shot.png'}"]
    if dark:
        words += ["--blink-settings=preferredColorScheme=0"]
    shown = subprocess.run(
        [*words, f"file://{tmp_path}/r.html"], capture_output=True, timeout=PATIENCE_S, env=fred.environ
    )
    image = cv2.imread(str(tmp_path / "shot.png"))
    assert image is not None, shown.stderr.decode()[-2000:]
    assert image.shape == (1500, 1100, 3)
    corner = int(image[5, 5].astype(int).sum())
    assert corner < 150 if dark else corner > 650
    # The curves are where they belong: blue, green, and the colours of incidents, over the middle of the page.
    colours = {tuple(int(part) // 32 for part in pixel) for pixel in image[350:1400:2, 100:1000:2].reshape(-1, 3)}
    assert len(colours) > 25


def test_only_a_file_is_written_over(fred, long, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for there in (tmp_path, tmp_path / "pipe"):
        done = fred("report", "--run-dir", long.run_dir, "-o", str(there))
        assert done.returncode == 1
        assert "choose another file with -o" in done.stderr
    done = fred("report", "--run-dir", long.run_dir, "-o", str(tmp_path / "new.html"))
    assert done.stdout.endswith(" kB)\n")
