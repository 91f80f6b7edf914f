"""ImageNet weights of a backbone: from a file, from the local cache, or from where torchvision keeps them."""

import contextlib
import hashlib
import http.client
import logging
import os
import pickle
import re
import threading
import urllib.request
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from fred_trainer.errors import ConfigError

log = logging.getLogger("fred_trainer")

ANSWER_S: Final = 5.0
"""For the first byte: a firewall that swallows packets, or a name server that is silent, must not cost more."""
SILENCE_S: Final = 20.0
"""Between two pieces of the file."""
_CHUNK_BYTES: Final = 1 << 20
_WRAPPERS: Final = ("model", "state_dict", "ema")
"""Keys under which training scripts keep the weights in their checkpoints."""


def backbone_weights(name: str, source: Path | Literal["auto", "none"]) -> dict[str, Tensor] | None:
    """Weights of torchvision's classifier `name`, by parameter; None when there are to be none, or none can be had.

    `auto` asks the network only for what is not in torch's cache, briefly, and says in one line that it was in vain.
    Raises ConfigError when `source` is a file and no such weights.
    """
    if source == "none":
        return None
    if isinstance(source, Path):
        return read_weights(source)
    url = get_model_weights(name).DEFAULT.url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not cached.is_file():
        try:
            fetch(url, cached)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning(
                "ImageNet weights of %s are not in %s and cannot be fetched (%s): the backbones start from random"
                " weights; --pretrained PATH takes a file, --pretrained none does not ask",
                name,
                cached.parent,
                getattr(error, "reason", error) or type(error).__name__,
            )
            return None
    return read_weights(cached)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in `path`, a state dict or a checkpoint that holds one. Raises ConfigError."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            "--pretrained {path} does not load ({reason}): give a state dict of torchvision", path=path, reason=reason
        ) from None
    while isinstance(found, dict) and (inner := next((found[key] for key in _WRAPPERS if key in found), None)):
        found = inner
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError("--pretrained {path} holds no weights: give a state dict of torchvision", path=path)
    return {key.removeprefix("module."): value for key, value in found.items()}


def load_backbones(backbones: nn.ModuleList, weights: dict[str, Tensor], *, source: str) -> None:
    """Put `weights` into every one of `backbones`, which need not use all of them. Raises ConfigError."""
    for backbone in backbones:
        wanted = backbone.state_dict()
        lacking = [
            key
            for key, value in wanted.items()
            if not key.endswith("num_batches_tracked") and (key not in weights or weights[key].shape != value.shape)
        ]
        if lacking:
            raise ConfigError(
                "--pretrained {source} does not fit the backbone: {lost} of its {wanted} weights "
                "are not there or of another shape, {lacking} first; is it of another --backbone?",
                source=source,
                lost=len(lacking),
                wanted=len(wanted),
                lacking=lacking[0],
            )
        backbone.load_state_dict({key: weights.get(key, value) for key, value in wanted.items()})


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path`, whole or not at all. Raises OSError, HTTPException or ValueError.

    torchvision's names end in the first digits of their SHA-256, which is checked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    response = _answer(url)
    try:
        with response, beside.open("wb") as file:
            while piece := response.read(_CHUNK_BYTES):
                digest.update(piece)
                file.write(piece)
        expected = re.search(r"-([0-9a-f]{8,})\.", path.name)
        if expected is not None and not digest.hexdigest().startswith(expected[1]):
            raise ValueError(f"{url} came with another digest than its name says")
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _answer(url: str) -> Any:
    """The response to a request for `url`. Raises OSError; never waits longer than `ANSWER_S`.

    A thread, for looking up a name knows no time limit.
    """
    outcome: list[Any] = []

    def ask() -> None:
        try:
            outcome.append(urllib.request.urlopen(url, timeout=SILENCE_S))  # noqa: S310 - torchvision's own https URLs
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            outcome.append(error)

    thread = threading.Thread(target=ask, name="weights", daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if not outcome:
        raise TimeoutError(f"no answer within {ANSWER_S:.0f} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]
