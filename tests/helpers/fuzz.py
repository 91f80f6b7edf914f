"""Every reader of what others write, and ways to garble it: nothing may raise, hang, or take much memory."""

import io
import json
import random
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.helpers.history import make_history

from fred_supervisor.alerts.client import AlertAddresses
from fred_supervisor.attempt import code_state, machine_faults
from fred_supervisor.attempt.evidence import gather
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.output_reader import OutputReader, patterns_of
from fred_supervisor.cli import incidents as incidents_command
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.options import parser
from fred_supervisor.cli.common.settings_layers import layered
from fred_supervisor.cli.common.view import run_lines
from fred_supervisor.contract import Heartbeat, heartbeat
from fred_supervisor.contract.builtin.preflight import read_preflight
from fred_supervisor.contract.checkpoint_content import why_not_whole
from fred_supervisor.contract.error_file import read_error
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.placeholders import wrong_placeholder
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.output.signs import LineSigns
from fred_supervisor.policy.hang import parse_stacks
from fred_supervisor.store.attempt_files import read_exit, read_launch
from fred_supervisor.store.checkpoints import CheckpointPicker, foreign_checkpoints, judged_before
from fred_supervisor.store.heartbeats import newest_beat, rank_beats
from fred_supervisor.store.matching import matching
from fred_supervisor.store.monitor_ring import read_ring, ring_path
from fred_supervisor.store.monitor_sample import gpu_status, newest_sample
from fred_supervisor.store.registry import known_runs, state_dir
from fred_supervisor.store.run_spec import RunSpec, load_run_spec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.store.status import read_status
from fred_supervisor.store.tensorboard.scalars import read_scalars

_SELDOM = 20
"""One case in so many is read as after the end of an attempt, which reads the kernel's log, too."""
EXTREMES: list[Any] = [
    *(None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, -1e308, 0.1, "", "x" * 5000, "\0", "\ud800", "nan", "0001-01-01"),
    *("9999-12-31T23:59:59-14:00", "\x1b[2J", "../../etc", [None], [[]] * 3, {"a": [[]]}, {"": ""}, {}),
]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """One reader: what it is given when all is well, where that lies, and what reads it."""

    whole: bytes
    path: Path
    read: Callable[[], object]


def garbled(whole: bytes, chance: random.Random) -> bytes:
    """Other bytes: a value exchanged where it is JSON; bits, blocks and lines changed, doubled, left out."""
    how = chance.randrange(8)
    if how < 3:
        with suppress(ValueError, IndexError, RecursionError):
            return json.dumps(exchanged(json.loads(whole), chance)).encode("utf-8", "surrogatepass")
    data = bytearray(whole)
    at, length = chance.randrange(len(data) + 1), 1 + int(chance.expovariate(0.05))
    if how == 3:
        del data[at:]
    elif how == 4:
        data[at : at + length] = chance.randbytes(length)
    elif how == 5:
        data[at:at] = chance.choice(
            [b"\0" * 999, b"\r\n", b"9" * 400, b"\xff\xfe", b"[" * 3000, b"{run_dir}", data[:at]]
        )
    elif how == 6 and data:
        data[at % len(data)] ^= 1 << chance.randrange(8)
    else:
        del data[at : at + length]
    return bytes(data)


def exchanged(document: Any, chance: random.Random) -> Any:
    """One value anywhere in it by an extreme one, by another of its own, or gone."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(document)
    node, key = chance.choice(places)
    if chance.random() < 0.2 and isinstance(node, dict):
        del node[key]
        return document
    other, its = chance.choice(places)
    fits = its in other if isinstance(other, dict) else its < len(other)
    node[key] = json.loads(json.dumps(other[its])) if fits and chance.random() < 0.2 else chance.choice(EXTREMES)
    return document


def cases(reader: Reader, count: int, seed: int) -> Iterator[tuple[bytes, float]]:
    """Have it read `count` garbled files; each with the seconds of CPU that it took. Raises what the reader raises."""
    chance = random.Random(seed)
    before = reader.path.read_bytes() if reader.path.is_file() else None
    reader.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for _ in range(count):
            data = garbled(reader.whole, chance)
            if chance.random() < 0.3:
                data = garbled(data, chance)
            reader.path.write_bytes(data)
            began_s = time.process_time()
            try:
                reader.read()
            except Exception as error:
                error.add_note(f"with {data[:2000]!r}")
                raise
            yield data, time.process_time() - began_s
    finally:
        reader.path.unlink() if before is None else reader.path.write_bytes(before)


def readers(folder: Path) -> dict[str, Reader]:
    """Those of the supervisor; `folder` is empty, and its `state` is `$XDG_STATE_HOME`."""
    run_dir = folder / "fred_t"
    spec = make_history(run_dir, epochs=30, steps=1, incidents=2)
    run, attempt = spec.dir, spec.dir.attempt(1)
    foreign = RunSpec(**{**asdict(spec), "command": ["x"], "checkpoints": "c*", "progress_file": "p*"})
    lookout = Lookout(spec.run_dir)

    def status() -> None:
        found = load_run_spec(run_dir)
        if found is not None:
            seen = read_status(found)
            json.dumps(seen.document(), allow_nan=False)
            "\n".join(run_lines(seen))
            found.settings()

    turn = count()

    def evidence() -> None:
        if next(turn) % _SELDOM == 0:
            gather(spec, 1, oom_kills_before=None, lookout=lookout)
        read_launch(attempt), read_exit(attempt), newest_beat(attempt), rank_beats(attempt.heartbeat)

    def incidents() -> None:
        with redirect_stdout(io.StringIO()), suppress(CommandError):
            incidents_command.main(["--run-dir", str(run_dir)])
            incidents_command.main(["--run-dir", str(run_dir), "--json"])
            incidents_command.main(["--run-dir", str(run_dir), "1"])

    def output() -> None:
        signs = LineSigns(("fatal .*",), ("saved .*",))
        reader = OutputReader(attempt.output, patterns_of(["auto"]), (), signs)
        reader.look(1.0)
        reader.look(100.0, final=True)
        reader.beat(1), reader.failed_line(), reader.news()
        text = attempt.output.read_bytes()[-8192:].decode(errors="replace")
        parse_stacks(text)
        machine_faults.of_trainer(foreign, {}, None, text, shell_failed=True)
        wrong_placeholder([text])

    def words() -> str:
        return (folder / "words").read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")[:300]

    def patterns() -> None:
        matching(run_dir, words())
        foreign_checkpoints(run_dir, words())
        with suppress(CommandError, SystemExit), redirect_stdout(io.StringIO()):
            layered(vars(parser().parse_args(["--checkpoints", words()])), parser())

    def config() -> None:
        with suppress(CommandError):
            layered(vars(parser().parse_args(["--config", str(folder / "c.toml")])), parser())

    def checkpoint(name: str) -> Callable[[], object]:
        return lambda: (why_not_whole(run_dir / name), why_not_whole(run_dir / name, quick=True))

    def own_checkpoints() -> None:
        CheckpointPicker(spec).newest(tell=lambda _: None)

    def progress() -> None:
        LiveAttempt(spec=foreign, number=1, keeper=None, lookout=lookout).look(1.0)

    def gpus() -> None:
        newest_sample(run), gpu_status(run), read_ring(ring_path(run.monitor))

    def text(path: Path) -> bytes:
        return path.read_bytes()

    sidecar = next(iter(sorted(run_dir.glob("*weights.pth.json"))))
    events = next(run_dir.glob("loss_*/events*"))
    launch = {"attempt": 1, "place": "1.2", "keeper": {"pid": 2, "start_ticks": 3, "boot": "b"}, "trainer": {"pid": 2, "start_ticks": 3, "boot": "b"},
              "session": 4, "cgroup": "/sys/fs/cgroup/fred-x", "resume": "/x/a.pth", "paths": {"/x": 1}, "environment": {"A": "b"}}  # fmt: skip
    gpu = {"uuid": "GPU-1", "index": 0, "name": "card", "mig": None, "parent": None, "chosen": True, "used_mib": 5, "free_mib": 5,
           "total_mib": 10, "trainer_mib": 3, "temperature_c": 50, "health": "ok", "hold": False, "command": None,
           "processes": [{"pid": 5, "user": "u", "command": "c", "mib": 5, "ours": True}]}  # fmt: skip
    sample = {"boot": proc.boot_id(), "mono_s": time.monotonic() + 1e6, "period_s": 5.0, "sample_mono_s": 1.0,
              "nvml": {"state": "ok", "text": ""}, "gpus": [gpu], "host": {"disk_free_mib": 3}}  # fmt: skip
    error = {"kind": "cuda_oom", "message": "CUDA out of memory", "traceback": "x", "section": "train", "phase": "p", "epoch": 1, "step": 2,
             "rank": 0, "time": 1.5}  # fmt: skip
    record = {
        "mono_s": 1.0,
        "boot": proc.boot_id(),
        "time": "2026-11-26T02:10:00Z",
        "nvml": "ok",
        "gpus": {"GPU-1": [1, 2, 3, 4, 5, 6]},
        "host": {},
    }
    lines = b"Epoch 1/3\nEpoch 2/3: 50%|###  | 5/10 [00:01<00:02, 3.1it/s, loss=0.5]\r{'loss': 0.4, 'epoch': 2.5}\nstep 5/9 loss nan\n"
    lines += b"OSError: [Errno 28] No space left on device: '/x/a'\n  File \"a.py\", line 3 in f\nThread 0x1 (most recent call first):\n"
    return {
        "run.json": Reader(text(run.run), run.run, status),
        "state.json": Reader(text(run.state), run.state, lambda: (read_state(run), status())),
        "launch.json": Reader(json.dumps(launch).encode(), attempt.launch, lambda: (evidence(), status())),
        "exit.json": Reader(b'{"exit_code":1,"signal":9,"exec_error":"x","exec_errno":2,"exec_path":"/x","survivors":[{"pid":1,"wchan":"x"}]}', attempt.exit, evidence),
        "error.json": Reader(json.dumps(error).encode(), attempt.error, lambda: (read_error(attempt.error), evidence())),
        "heartbeat": Reader(beat(), attempt.heartbeat, lambda: (heartbeat.parse(attempt.heartbeat.read_bytes()), evidence())),
        "code.json": Reader(b'{"commit":"a","dirty":true,"files":{"a.py":"1"}}', attempt.code, lambda: code_state.changes(read_json(attempt.code), {"files": {"a.py": "2"}})),
        "incident": Reader(text(run.incident(1)), run.incident(1), incidents),
        "output": Reader(lines, attempt.output, output),
        "monitor.json": Reader(json.dumps(sample).encode(), run.monitor, gpus),
        "monitor ring": Reader(json.dumps(record).encode() + b"\n" + json.dumps(record).encode() + b"\n", ring_path(run.monitor), gpus),
        "verified.json": Reader(b'{"[\\"/x\\", 1, 2, 0]": null, "[\\"/y\\", 1, 2, 3]": "damaged"}', run.verified, lambda: judged_before(run.verified)),
        "alerts.json": Reader(b'{"notify":["json://x"],"on_event":"x","ping":"http://x"}', run.alerts, lambda: AlertAddresses.load(run)),
        "registry": Reader(text(next((state_dir() / "runs").iterdir())), state_dir() / "runs" / "fuzzed.json", lambda: list(known_runs())),
        "preflight.json": Reader(b'{"fingerprint":"a","phases":{"freeze":{"batch":8,"gpu_peak_bytes":1,"host_peak_bytes":2}},"seconds":1.5}', run.preflight, lambda: read_preflight(run.preflight)),
        "sidecar": Reader(text(sidecar), sidecar, own_checkpoints),
        "checkpoint": Reader(text(sidecar.with_suffix("")), sidecar.with_suffix(""), own_checkpoints),
        "zip": Reader(zipped(), run_dir / "c.pt", checkpoint("c.pt")),
        "safetensors": Reader(tensors(), run_dir / "c.safetensors", checkpoint("c.safetensors")),
        "checkpoint as JSON": Reader(b'{"best": 1, "log_history": [{"loss": 0.5}]}', run_dir / "c" / "trainer_state.json", checkpoint("c")),
        "events": Reader(text(events), events, lambda: read_scalars([events], ["train/loss", "val/map50"])),
        "progress file": Reader(b"17", run_dir / "p.txt", progress),
        "pattern": Reader(b"check*/**/[a-c]?.pt", folder / "words", patterns),
        "configuration": Reader(b'[supervisor]\nname = "t"\nmax_restarts = 3\nbackoff = "1:2"\n[supervisor.hang_timeout]\ntrain = 5\n[trainer]\nepochs = 7\n', folder / "c.toml", config),
    }  # fmt: skip


def of_the_trainer(folder: Path) -> dict[str, Reader]:
    """Annotations, and names of images. These import torch."""
    from fred_trainer.data.read.annotations import line_time_s, parse_line, parse_track, parse_yolo
    from fred_trainer.data.read.frame_numbers import event_frame, event_time_us, number_events, number_rgb

    def annotations() -> None:
        for line in (folder / "coordinates.txt").read_text(errors="replace").splitlines():
            parse_line(line), parse_track(line), parse_yolo(line, 1280, 720), line_time_s(line)

    def names() -> None:
        found = (folder / "names").read_text(errors="replace").split("\n")
        for name in found:
            time_us = event_time_us(name)
            if time_us is not None:
                event_frame(time_us)
        number_events(found, 2)
        number_rgb(found, [1, 2, 3], aligned_start=True)

    lines = b"1.033332: 10.0, 20.0, 30.5, 40.5, drone\n2.1: 1, 2, 3, 4\n0 0.5 0.5 0.1 0.1\n1,3,10,20,30,40,0.9,0\n"
    return {
        "annotations": Reader(lines, folder / "coordinates.txt", annotations),
        "names of images": Reader(
            b"Video_0_16_03_03.363444.jpg\nVideo_0_16_03_03.396777.jpg\nVideo_0_frame_33333.png\n",
            folder / "names",
            names,
        ),
    }


def beat() -> bytes:
    """One record of the client."""
    with tempfile.NamedTemporaryFile() as file:
        hb = Heartbeat(environ={"FRED_HEARTBEAT": file.name}, signals=False)
        hb.beat(epoch=1, epochs=3, step=2, steps=9, samples=16, loss=0.5, phase="freeze")
        return file.read()


def zipped() -> bytes:
    """As torch writes a checkpoint."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", bytes(512))
        archive.writestr("archive/version", b"3\n")
    return stream.getvalue()


def tensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)
