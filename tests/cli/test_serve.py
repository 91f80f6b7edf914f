"""The page: a real server, asked over the network by whom it does not know, by a reader, and by a real browser."""

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from tests.helpers.fred import PATIENCE_S, Fred, one_line
from tests.helpers.history import make_history

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
TRAINER = """
import sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
step = 0
while not hb.stopping:
    step += 1
    hb.beat(epoch=3, epochs=10, step=step, steps=1000000, samples=step, loss=0.5, phase="freeze")
    print("<b>step</b>", step, flush=True)
    time.sleep(0.05)
sys.exit(75)
"""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Reader:
    """Who has the address that `serve` printed."""

    def __init__(self, address: str) -> None:
        parts = urllib.parse.urlsplit(address)
        self.address, self.token = f"{parts.scheme}://{parts.netloc}", urllib.parse.parse_qs(parts.query)["token"][0]
        self.port = parts.port

    def ask(self, path: str, *, method: str = "GET", token: str | None = None, cookie: str = "") -> tuple[int, str]:
        """Code and text of the answer; by the address with its token unless one is given."""
        query = f"?token={self.token if token is None else token}" if token != "" else ""
        request = urllib.request.Request(f"{self.address}{path}{query}", method=method, headers={"Cookie": cookie})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def follow(self, path: str) -> Iterator[dict[str, str]]:
        """What changes, as the browser is told."""
        with urllib.request.urlopen(f"{self.address}{path}?token={self.token}", timeout=PATIENCE_S) as events:
            for line in events:
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])


@pytest.fixture
def serve(fred: Fred) -> Iterator[Callable[..., Reader]]:
    """Starts it, on any free port."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> Reader:
        started.append(fred.popen("serve", "--port", "0", *words))
        assert started[-1].stdout is not None
        return Reader(started[-1].stdout.readline().strip())

    yield start
    for one in started:
        one.terminate()
        assert one.wait(PATIENCE_S) in (0, -15)
        assert "Traceback" not in one.communicate()[1]


def test_without_the_token_nothing_is_shown(fred, serve):
    reader = serve()
    for path in ("/", "/events", "/style.css", "/run/t", "/no such page"):
        for token in ("", "wrong", reader.token[:-1]):
            code, text = reader.ask(urllib.parse.quote(path), token=token)
            assert code == 403
            assert text.startswith("Open the address that `fred-supervise serve` has printed")
    assert reader.ask("/run/t/stop", method="POST", token="")[0] == 403
    assert reader.ask("/", token="", cookie=f"other={reader.token}")[0] == 403
    kept = f"fred-supervise-{reader.port}={reader.token}"
    assert reader.ask("/", token="", cookie=kept) == reader.ask("/")
    one_line(fred("serve", "--port", str(reader.port)), 1, f"port {reader.port}", "--port")


def test_a_run_is_shown_followed_and_only_changed_where_that_is_allowed(fred, serve, until):
    (fred.home / "train.py").write_text(TRAINER)
    assert fred("start", "--name", "t", "--", sys.executable, str(fred.home / "train.py")).returncode == 0
    until(lambda: fred.status()["progress"]["step"])
    reader = serve()
    code, page = reader.ask("/run/t")
    assert code == 200
    assert "epoch 3 of 10" in reader.ask("/")[1]
    assert "<b>step</b>" not in page
    assert "&lt;b&gt;step&lt;/b&gt;" in page
    assert "Pause" not in page
    code, stacks = reader.ask("/run/t/stacks", method="POST")
    assert code == 200, stacks
    assert "train.py" in stacks
    for verb in ("pause", "resume", "restart", "stop"):
        code, text = reader.ask(f"/run/t/{verb}", method="POST")
        assert code == 403
        assert "--allow-control" in text
    assert fred.status()["state"] == "running"
    assert reader.ask("/run/nobody")[0] == 404
    assert reader.ask("/run/t/incident/7")[0] == 404

    bold = serve("--allow-control")
    assert "Pause" in bold.ask("/run/t")[1]
    changes = reader.follow("/run/t/events")
    assert set(next(changes)) == {"head", "gpus", "curves", "incidents", "log"}
    code, text = bold.ask("/run/t/stop", method="POST")
    assert code == 200, text
    assert "stopped" in text
    assert any("chip stopped" in news.get("head", "") for news in changes)
    assert reader.ask("/run/t/stacks", method="POST")[0] == 409
    assert fred.status()["state"] == "stopped"


@pytest.fixture
def history(fred, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    return make_history(fred.home / "logs" / "fred_rgb", steps=20, nasty=NASTY)


def test_nothing_that_a_trainer_wrote_is_markup(serve, history):
    reader = serve()
    for path in ("/", "/run/rgb", "/run/rgb/incident/7"):
        code, page = reader.ask(path)
        assert code == 200
        assert "<script>alert" not in page
        assert "<img" not in page
        assert re.findall(r"<script[^>]*>", page) == ['<script src="/live.js" defer>']
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page), "nothing is loaded from elsewhere"
    assert "Incident 7" in page
    answer = urllib.request.urlopen(f"{reader.address}/?token={reader.token}", timeout=PATIENCE_S)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt install chromium")
def test_a_phone_shows_it(fred, serve, history, tmp_path: Path):
    reader = serve()
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=500,1500"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'shot.png'}", "--timeout=20000"]
    address = f"{reader.address}/run/rgb?token={reader.token}"
    shown = subprocess.run([*words, address], capture_output=True, timeout=PATIENCE_S, env=fred.environ)
    image = cv2.imread(str(tmp_path / "shot.png"))
    assert image is not None, shown.stderr.decode()[-2000:]
    colours = {tuple(int(part) // 32 for part in pixel) for pixel in image[::2, ::2].reshape(-1, 3)}
    assert len(colours) > 25, "bars, curves, and the colours of incidents"
    right = image[:, -6:].reshape(-1, 3).astype(int)
    assert (abs(right - right[0]).sum(1) < 30).all(), "nothing sticks out to the right"
