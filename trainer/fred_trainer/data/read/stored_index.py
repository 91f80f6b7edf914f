"""The index of a data set, made once and kept on disk until the data set changes."""

import contextlib
import gc
import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fred_supervisor.contract.files import write_atomic
from fred_trainer.data.read.fusion_json import ROOT_VARIABLE, index_json, json_files
from fred_trainer.data.read.index import Index, IrregularityLog, Pair, SequenceFacts
from fred_trainer.data.read.sequences import find_sequences, index_sequences
from fred_trainer.data.read.source import File, Member, pack, unpack

log = logging.getLogger("fred_trainer")

NAME: Final = ".fred-index.npz"
"""In the data set's folder, where it can be written."""
_MADE_BY: Final = (
    "annotation_files",
    "annotations",
    "frame_numbers",
    "fusion_json",
    "image",
    "index",
    "published",
    "sequences",
    "source",
    "stored_index",
)
"""Modules that an index follows from: when one of them changes, what is stored is made anew."""


def read_index(root: Path, images: Path | None = None) -> Index:
    """Index the data set at `root`: FRED's folders or zip archives, or the fusion JSON of a lab. Stores nothing.

    `images` says where the paths of a fusion JSON begin. Raises DataError when there is nothing to train on, and
    OSError when a folder cannot be listed.
    """
    return index_json(root, images) if json_files(root) else index_sequences(root)


def open_index(root: Path, images: Path | None = None) -> Index:
    """`read_index`, from disk when the data set looks as it did then; else made and stored.

    It looks as it did when its sequence folders, archives and text files have the names, sizes and times of change
    that they had. Stored in the data set's folder, or, where that is read-only, in `$XDG_CACHE_HOME/fred-supervise`;
    nowhere when both are, which is told. Raises what `read_index` does.
    """
    root = root.absolute()
    key = _look(root, images)
    places = (root / NAME, _cache_home() / f"index-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.npz")
    for place in places:
        stored = _load(place, key, root)
        if stored is not None:
            return stored
    with _without_collection():
        index = replace(read_index(root, images), look=key)
        data = _dump(index, key, root)
    reasons = []
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(place, data, mode=0o644)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror}")
        else:
            return index
    log.warning("the index of the data set is made anew at every start: %s", "; ".join(reasons))
    return index


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fred-supervise"


def _look(root: Path, images: Path | None) -> str:
    """What the data set looks like from outside, and the code that would read it, as 64 hex digits."""
    digest = hashlib.sha256()
    for module in _MADE_BY:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    files = json_files(root)
    if files:
        digest.update(f"{images} {os.environ.get(ROOT_VARIABLE)} ".encode())
        for path in files.values():
            found = path.stat()
            digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    else:
        for number, (folder, subset) in find_sequences(root, IrregularityLog()).items():
            digest.update(f"{number} {subset} {os.path.relpath(str(folder), root)} {folder.state()}\n".encode())
    return digest.hexdigest()


def _dump(index: Index, key: str, root: Path) -> bytes:
    """Flat arrays; no pickle, so that a file of somebody else can do no harm."""
    pairs = index.pairs
    about = {
        "key": key,
        "fingerprint": index.fingerprint,
        "irregularities": dict(index.irregularities),
        "facts": {
            str(sequence): {**asdict(facts), "place": facts.place.replace(f"{root}/", "{root}/")}
            for sequence, facts in index.facts.items()
        },
        "examples": {what: where.replace(f"{root}/", "{root}/") for what, where in index.examples.items()},
    }
    sizes = np.array([(pair.width, pair.height) for pair in pairs], dtype=np.int32)
    subsets = [pair.subset or "" for pair in pairs]
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        numbers=np.array([(pair.sequence, pair.frame) for pair in pairs], dtype=np.int64),
        rgb=np.frombuffer(b"\n".join(_packed(pair.rgb, root) for pair in pairs), dtype=np.uint8),
        event=np.frombuffer(b"\n".join(_packed(pair.event, root) for pair in pairs), dtype=np.uint8),
        subsets=np.array(subsets, dtype=np.str_),
        sizes=sizes,
        counts=np.array([len(pair.boxes) for pair in pairs], dtype=np.int32),
        boxes=np.array([box for pair in pairs for box in pair.boxes], dtype=np.float64).reshape(-1, 4),
    )
    return stream.getvalue()


def _load(path: Path, key: str, root: Path) -> Index | None:
    """None when there is none, it is of another look, or damaged: all three mean to make it anew."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            about: dict[str, Any] = json.loads(arrays["about"].tobytes())
            if about["key"] != key:
                return None
            with _without_collection():
                pairs = tuple(_pairs(arrays, root))
            return Index(
                pairs,
                about["fingerprint"],
                about["irregularities"],
                {what: where.replace("{root}/", f"{root}/") for what, where in about["examples"].items()},
                {
                    int(sequence): SequenceFacts(**{**facts, "place": facts["place"].replace("{root}/", f"{root}/")})
                    for sequence, facts in about["facts"].items()
                },
                key,
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """A million objects are made and none of them is garbage: looking for some would take longer than making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _pairs(arrays: Any, root: Path) -> Iterator[Pair]:
    boxes = list(map(tuple, arrays["boxes"].tolist()))
    begin = 0
    root_bytes = os.fsencode(root)
    for (sequence, frame), rgb, event, subset, (width, height), count in zip(
        arrays["numbers"].tolist(),
        arrays["rgb"].tobytes().split(b"\n"),
        arrays["event"].tobytes().split(b"\n"),
        arrays["subsets"].tolist(),
        arrays["sizes"].tolist(),
        arrays["counts"].tolist(),
        strict=True,
    ):
        of_pair = tuple(boxes[begin : begin + count])
        begin += count
        yield Pair(
            sequence,
            frame,
            _unpacked(rgb, root_bytes),
            _unpacked(event, root_bytes),
            of_pair,
            subset or None,
            width,
            height,
        )


def _packed(file: File | None, root: Path) -> bytes:
    """Relative to `root` where it lies in there, so that a data set may be moved as a whole."""
    if file is None:
        return b""
    with contextlib.suppress(ValueError):
        if isinstance(file, Member):
            file = Member(file.archive.relative_to(root), file.name, file.offset, file.size, file.crc, file.deflated)
        else:
            file = file.relative_to(root)
    return pack(file)


def _unpacked(line: bytes, root: bytes) -> File | None:
    if not line:
        return None
    # As text: joining a million paths takes seconds. What lies outside is stored as an absolute path.
    return unpack(line if line.startswith(b"/") else root + b"/" + line)
