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
from fred_trainer.data.read.flights_file import FLIGHTS_FILE, read_conditions
from fred_trainer.data.read.fusion_json import ROOT_VARIABLE, index_json
from fred_trainer.data.read.fusion_records import json_files
from fred_trainer.data.read.index import Index, IrregularityLog, SequenceFacts
from fred_trainer.data.read.pair_columns import COLUMNS, PairColumns
from fred_trainer.data.read.sequences import find_sequences, index_sequences

log = logging.getLogger("fred_trainer")

NAME: Final = ".fred-index.npz"
"""In the data set's folder, where it can be written."""
_MADE_BY: Final = (
    "annotation_files",
    "annotations",
    "frame_numbers",
    "flights_file",
    "fusion_json",
    "fusion_records",
    "image",
    "index",
    "pair",
    "pair_columns",
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
    index = index_json(root, images) if json_files(root) else index_sequences(root)
    return replace(index, conditions=read_conditions(root))


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
        stored = load(place, key, root)
        if stored is not None:
            return stored
    with _without_collection():
        index = replace(read_index(root, images), look=key)
        data = dump(index, key, root)
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
    if (root / FLIGHTS_FILE).is_file():
        found = (root / FLIGHTS_FILE).stat()
        digest.update(f"{FLIGHTS_FILE} {found.st_size} {found.st_mtime_ns}\n".encode())
    if files:
        digest.update(f"{images} {os.environ.get(ROOT_VARIABLE)} ".encode())
        for path in files.values():
            found = path.stat()
            digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    else:
        for number, (folder, subset) in find_sequences(root, IrregularityLog()).items():
            digest.update(f"{number} {subset} {os.path.relpath(str(folder), root)} {folder.state()}\n".encode())
    return digest.hexdigest()


def dump(index: Index, key: str, root: Path) -> bytes:
    """Flat arrays; no pickle, so that a file of somebody else can do no harm. Not compressed, to be read fast."""
    about = {
        "key": key,
        "fingerprint": index.fingerprint,
        "irregularities": dict(index.irregularities),
        "conditions": {str(sequence): values for sequence, values in index.conditions.items()},
        "facts": {
            str(sequence): {**asdict(facts), "place": facts.place.replace(f"{root}/", "{root}/")}
            for sequence, facts in index.facts.items()
        },
        "examples": {what: where.replace(f"{root}/", "{root}/") for what, where in index.examples.items()},
    }
    columns = PairColumns.of(tuple(index.pairs), root).columns
    stream = io.BytesIO()
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **columns}
    np.savez(stream, **arrays)
    return stream.getvalue()


def load(path: Path, key: str, root: Path) -> Index | None:
    """None when there is none, it is of another look, or damaged: all three mean to make it anew."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            about: dict[str, Any] = json.loads(arrays["about"].tobytes())
            if about["key"] != key:
                return None
            columns = {name: arrays[name] for name in COLUMNS}
            return Index(
                PairColumns(columns, root, np.arange(len(columns["frame"]), dtype=np.int64)),
                about["fingerprint"],
                about["irregularities"],
                {what: where.replace("{root}/", f"{root}/") for what, where in about["examples"].items()},
                {
                    int(sequence): SequenceFacts(**{**facts, "place": facts["place"].replace("{root}/", f"{root}/")})
                    for sequence, facts in about["facts"].items()
                },
                {int(sequence): values for sequence, values in about["conditions"].items()},
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
