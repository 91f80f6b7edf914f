"""Weights that backbones start from."""

import hashlib
import http.server
import socket
import threading

import pytest
import torch
from tests.helpers import small_backbone
from torchvision.models import get_model

import fred_trainer.model.pretrained
from fred_supervisor.contract import Heartbeat
from fred_trainer.errors import ConfigError
from fred_trainer.model.backbones import BACKBONES
from fred_trainer.model.detector import norms
from fred_trainer.model.pretrained import backbone_weights, fetch
from fred_trainer.train import preflight
from fred_trainer.train.preflight import rehearse
from fred_trainer.train.setup import prepare

CPU = torch.device("cpu")
NAME = small_backbone.NAME


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "imagenet.pth"
    torch.save(get_model(NAME, weights=None).state_dict(), path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def url(monkeypatch):
    """Makes torchvision's URL of the weights another one."""

    def set_to(text):
        weights = type("Weights", (), {"DEFAULT": type("Entry", (), {"url": text})})
        monkeypatch.setattr(fred_trainer.model.pretrained, "get_model_weights", lambda _: weights)

    return set_to


@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("resnet50", "convnext_tiny") else [])
        for name in BACKBONES
    ],
)
def test_every_backbone_goes_through_freeze_and_unfreeze(settings_for, backbone):
    """One step of each phase: frozen, the backbones stay as they are, and learn when thawed."""
    flags = (f"--backbone={backbone}", "--freeze-epochs=1", "--epochs=2")
    settings = settings_for(*flags, "--freeze-batch-size=2", "--unfreeze-batch-size=2")
    training = prepare(settings, CPU)
    first = next(training.model.backbone.backbones.parameters())
    before = first.detach().clone()
    moved = []
    original = preflight.update

    def spy(training, group, rate):
        original(training, group, rate)
        moved.append(not torch.equal(first, before))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "update", spy)
        rehearse(training, Heartbeat(environ={}, signals=False))
    assert moved == [False, False, True, True]
    assert torch.equal(first, before)  # the preflight puts everything back


@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
def test_weights_of_a_file_are_taken_by_both_streams(settings_for, weights_file, tmp_path, wrapped, caplog):
    path = weights_file
    if wrapped:
        path = tmp_path / "wrapped.pth"
        state = {f"module.{key}": value for key, value in torch.load(weights_file).items()}
        torch.save({wrapped: state, "epoch": 3}, path)
    training = prepare(settings_for(f"--pretrained={path}"), CPU)
    theirs = torch.load(weights_file)["stem.0.weight"]
    for backbone in training.model.backbone.backbones:
        assert torch.equal(backbone.state_dict()["stem.0.weight"], theirs)
    rgb, event = (next(iter(norms(backbone))).running_var for backbone in training.model.backbone.backbones)
    assert torch.equal(rgb, torch.ones_like(rgb))  # ImageNet's statistics suit photographs …
    assert not torch.equal(event, torch.ones_like(event))  # … and no event frames
    assert "random weights" not in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not load"),
        (b"nonsense", "does not load"),
        ([1, 2], "holds no weights"),
        ({"conv.weight": torch.zeros(3)}, "does not fit the backbone"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(settings_for, tmp_path, content, says):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=says) as caught:
        prepare(settings_for(f"--pretrained={path}"), CPU)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_freezing_random_backbones_is_warned_of(settings_for, caplog):
    prepare(settings_for("--freeze-epochs=1"), CPU)
    assert "trains little but the head; give ImageNet weights with --pretrained PATH" in caplog.text
    caplog.clear()
    prepare(settings_for("--skip-freeze"), CPU)
    assert "random weights" not in caplog.text


def test_without_a_network_there_is_one_line_and_no_wait(cache, url, caplog):
    url("http://127.0.0.1:1/weights-00000000.pth")
    assert backbone_weights(NAME, "auto") is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert "cannot be fetched" in line
    assert "--pretrained PATH" in line
    assert "\n" not in line
    assert not list(cache.glob("*"))


def test_a_network_that_swallows_everything_is_not_waited_for(cache, url, monkeypatch, caplog):
    monkeypatch.setattr(fred_trainer.model.pretrained, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        url(f"http://127.0.0.1:{silent.getsockname()[1]}/weights-00000000.pth")
        assert backbone_weights(NAME, "auto") is None
    assert "no answer within" in caplog.text


@pytest.fixture
def server(weights_file):
    """Serves the weights under any name."""
    data = weights_file.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", hashlib.sha256(data).hexdigest()
        running.shutdown()
        thread.join()


def test_what_is_reachable_is_fetched_once_and_checked(cache, url, server, weights_file):
    address, digest = server
    url(f"{address}/net-{digest[:8]}.pth")
    fetched = backbone_weights(NAME, "auto")
    assert torch.equal(fetched["stem.0.weight"], torch.load(weights_file)["stem.0.weight"])
    url(f"http://127.0.0.1:1/net-{digest[:8]}.pth")  # gone, but it is in the cache
    assert backbone_weights(NAME, "auto").keys() == fetched.keys()
    with pytest.raises(ValueError, match="another digest"):
        fetch(f"{address}/net-00000000.pth", cache / "net-00000000.pth")
    assert [path.name for path in cache.iterdir()] == [f"net-{digest[:8]}.pth"]


def test_none_asks_nobody(cache, url, caplog):
    url("http://127.0.0.1:1/weights.pth")
    assert backbone_weights(NAME, "none") is None
    assert not caplog.records
