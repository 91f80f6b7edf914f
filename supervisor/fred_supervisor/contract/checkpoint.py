"""Checkpoints of any trainer, without torch: the sidecar, publishing a whole file, whether a file is whole."""

import os
from collections.abc import Callable
from dataclasses import asdict, field
from pathlib import Path
from typing import Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import json_bytes, read_file, read_json, sync_folder, write_atomic
from fred_supervisor.contract.record import record
from fred_supervisor.language import tr

_MOST_UNPACKED: Final = 100
"""Times its own size: a zip file that would unpack to more holds no weights."""
FORMAT_VERSION: Final = 1
"""Of the checkpoints that this version writes; a checkpoint with a higher one is from the future."""


@record
class CheckpointMeta:
    """`<checkpoint>.json`: what is known of a checkpoint without loading it. What is not known is None."""

    size: int
    """Bytes."""
    digest: str
    """`sha256:<hex>` of the whole file."""
    phase: str | None
    epoch: int | None
    """The run's epoch that the state lies in, from 1."""
    step: int | None
    """Steps done in that epoch."""
    samples: int | None
    """Samples seen since the beginning of the run."""
    format_version: int = FORMAT_VERSION
    fingerprint: dict[str, object] = field(default_factory=dict)
    """Of code, data index and configuration, by name."""
    session: int = 0
    """Number of the trainer process in this run dir; a later process's checkpoint is newer, wherever it resumed."""
    finite: bool | None = None
    """Whether every weight was finite when it was saved."""
    epoch_complete: bool = False
    """The epoch was finished, so training goes on with the next one."""
    loss: float | None = None
    map50: float | None = None
    """mAP at IoU 0.5, of the last evaluation before."""
    batch: int | None = None
    """Micro-batch at the time."""
    accumulate: int | None = None
    saved_at: str = ""
    """RFC 3339, UTC."""
    inode: int | None = None
    """Inode of the file: tells it from the file that had this name before, which may have the same size."""
    replaces: dict[str, object] | None = None
    """The sidecar of the file that had this name before: valid until the rename has happened."""


@record
class CheckpointFile:
    """A checkpoint file and what is known of it."""

    path: Path
    sidecar: CheckpointMeta | None
    """None: another tool's, or its sidecar is lost."""
    phase: str | None
    epoch: int | None
    order: tuple[int, int, int, int, int]
    """Newer is greater."""


def sidecar_path(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".json")


def digest_of(path: Path) -> str:
    """`sha256:<hex>` of a file. Raises OSError."""
    import hashlib  # noqa: PLC0415 - 4 MB of OpenSSL, only where a digest is computed

    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _meta_from(document: object) -> CheckpointMeta | None:
    """None where size, digest, version or place are garbled: the file speaks for itself then. The rest may be."""
    found = decode(CheckpointMeta, document)
    if found is None or not isinstance(document, dict):
        return None
    told = (document.get("format_version", FORMAT_VERSION), document.get("session", 0))
    return found if told == (found.format_version, found.session) else None


def read_sidecar(checkpoint: Path) -> CheckpointMeta | None:
    """The sidecar of `checkpoint` that fits the file; None when there is none, or it is garbled."""
    document = read_json(sidecar_path(checkpoint))
    sidecar = _meta_from(document)
    if sidecar is None:
        return None
    before = _meta_from(sidecar.replaces)
    if before is None:
        return sidecar
    try:
        now = checkpoint.stat()
    except OSError:
        return sidecar
    is_before = (now.st_size, now.st_ino) == (before.size, before.inode) and now.st_ino != sidecar.inode
    return before if is_before or now.st_size == before.size != sidecar.size else sidecar


def publish(
    written: Path, names: list[Path], describe: Callable[[int, str], CheckpointMeta], *, digest: str | None = None
) -> CheckpointMeta:
    """Makes a completely written file appear under `names` (in one folder), each with its sidecar, durably.

    `describe(size, digest)` gives the sidecar; `digest` is that of what was written, where the writer has taken it.
    At every instant each name is absent, the old file or the new one, and its sidecar fits. The names after the first
    are hard links, or copies where the file system has none. Raises OSError.
    """
    fd = os.open(written, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sidecar = describe(written.stat().st_size, digest or digest_of(written))
    for name in names[1:]:
        link = name.with_name(f".{name.name}.tmp")
        link.unlink(missing_ok=True)
        try:
            os.link(written, link)
        except OSError:  # FAT, some network file systems
            import shutil  # noqa: PLC0415 - rare, and slow to import

            shutil.copy2(written, link)
        _replace(link, name, sidecar)
    _replace(written, names[0], sidecar)
    sync_folder(names[0].parent)
    return sidecar


def _replace(written: Path, name: Path, sidecar: CheckpointMeta) -> None:
    before = read_sidecar(name) if name.exists() else None
    document = asdict(sidecar)
    document["inode"] = written.stat().st_ino
    document["replaces"] = None if before is None else {**asdict(before), "replaces": None}
    write_atomic(
        sidecar_path(name), json_bytes(document), mode=written.stat().st_mode & 0o666
    )  # who reads one, reads both
    os.replace(written, name)


def why_invalid(found: CheckpointFile, *, quick: bool = False) -> str | None:
    """None when the checkpoint is whole, else the reason in words. Reads the file once; never loads it.

    `quick` leaves out what needs the whole file: digest, and the members' CRCs.
    """
    path, sidecar = found.path, found.sidecar
    try:
        size = path.stat().st_size
        if size == 0:
            return "empty"
        if sidecar is None:
            return None if read_file(path, len(_BEFORE_ZIP))[0] == _BEFORE_ZIP else why_no_zip(path, quick=quick)
        if sidecar.format_version > FORMAT_VERSION:
            return tr(
                "of format {found}, newer than {known}",
                found=sidecar.format_version,
                known=FORMAT_VERSION,
            )
        if size != sidecar.size:
            return tr("{size} bytes, its sidecar says {said}", size=size, said=sidecar.size)
        if sidecar.finite is False:
            return tr("has weights that are not finite")
        if not quick and digest_of(path) != sidecar.digest:
            before = _meta_from(sidecar.replaces)
            if before is None or before.size != size or digest_of(path) != before.digest:
                return tr("does not match the digest of its sidecar")
    except OSError as error:
        return tr("cannot be read: {strerror}", strerror=error.strerror)
    return None


_BEFORE_ZIP: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch's files before 1.6 begin with, still to be had; whether one is whole cannot be told without loading it."""


def why_no_zip(path: Path, *, quick: bool = False, of_torch: bool = True) -> str | None:
    """None when a file is a whole zip archive, of torch or of any other tool, else the reason. Raises OSError."""
    import zipfile  # noqa: PLC0415 - 10 ms that only foreign checkpoints need

    try:
        with zipfile.ZipFile(path) as archive:
            if of_torch and not any(name.endswith("data.pkl") for name in archive.namelist()):
                return tr("a zip file, but not one of torch")
            size = 0 if quick else sum(member.file_size for member in archive.infolist())
            if size > _MOST_UNPACKED * max(path.stat().st_size, 1 << 20):
                return tr("would unpack to {size:.1f} GiB", size=size / 2**30)
            broken = None if quick else archive.testzip()
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return tr("not a whole {kind} file: {error}", kind="torch" if of_torch else "zip", error=error)
    return None if broken is None else tr("damaged at {broken}", broken=broken)
