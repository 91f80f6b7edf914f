"""The files of a long run, without the days that it takes: what `status`, `incidents` and `report` read."""

import json
import os
import random
import time
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fred_supervisor.contract.builtin.trainer_files import epoch_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, digest_of, sidecar_path
from fred_supervisor.contract.files import write_json
from fred_supervisor.linux import proc
from fred_supervisor.policy.history import Overrides, Restarts, RunHistory
from fred_supervisor.store.registry import remember
from fred_supervisor.store.run_spec import RunSpec

SPAN_S = 60 * 3600.0
"""How long the run took."""
_KINDS = (
    ("crash", "Killed by SIGKILL, without a sign of an out-of-memory kill.", "Relaunched at once."),
    ("oom", "The GPU's memory did not suffice in the unfreeze phase.", "Relaunched with half the unfreeze batch, 8 → 4."),
    ("hang", "The trainer made no progress for 61 s.", "Relaunched at once."),
)  # fmt: skip


def rfc(wall_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_s)) + f".{int(wall_s % 1 * 1000):03d}Z"


def make_history(
    run_dir: Path, *, epochs: int = 300, steps: int = 100, incidents: int = 50, nasty: str = "", state: str = "failed"
) -> RunSpec:
    """`nasty` is put wherever a trainer's own words go. The run is in epoch `epochs`, and ended just now."""
    start_s = time.time() - SPAN_S
    spec = RunSpec(
        name=run_dir.name.removeprefix("fred_"), modality="rgb", run_dir=str(run_dir), cwd="/", command=None,
        flags={"data": "/data/FRED", "epochs": epochs}, created=rfc(start_s),
    )  # fmt: skip
    for folder in (spec.dir.attempts, spec.dir.incidents):
        folder.mkdir(parents=True, mode=0o700)
    spec.save()
    remember(spec)
    beginnings = [start_s + SPAN_S * n / (incidents + 1) for n in range(incidents + 2)]
    for number in range(1, incidents + 2):
        _attempt(spec, number, beginnings[number - 1], beginnings[number] - 20, nasty)
    found = [
        _incident(spec, number, beginnings[number] - 15, epochs * number // (incidents + 1), nasty)
        for number in range(1, incidents + 1)
    ]
    _state(spec, state, found, epochs, nasty)
    _checkpoints(run_dir, epochs)
    _curves(spec, start_s, epochs, steps)
    return spec


def _attempt(spec: RunSpec, number: int, start_s: float, end_s: float, nasty: str) -> None:
    folder = spec.dir.attempt(number)
    folder.path.mkdir()
    write_json(folder.launch, {"attempt": number, "time": rfc(start_s), "resume": None, "command": ["fred-train"]})
    write_json(folder.exit, {"exit_code": None, "signal": 9, "time": rfc(end_s), "uptime_s": end_s - start_s})
    folder.output.write_text(f"loading data {nasty}\nepoch 1/300  freeze\n")
    epoch = number * 5
    folder.heartbeat.write_bytes(_beat(epoch))


def _beat(epoch: int) -> bytes:
    import zlib

    body = (
        f"fred-beat/1 seq=9 pid=1 section=train phase={'freeze' if epoch <= 50 else 'unfreeze'} epoch={epoch} epochs=300"
        f" step=40 steps=100 samples={epoch * 800} loss=0.4123 done=0"
    ).encode()
    return (b"%b crc=%08x" % (body, zlib.crc32(body))).ljust(255) + b"\n"


def _incident(spec: RunSpec, number: int, at_s: float, epoch: int, nasty: str) -> dict[str, Any]:
    kind, cause, action = _KINDS[number % 3]
    document = {
        "id": number, "kind": kind, "cause": f"{cause}{nasty}", "at": rfc(at_s), "attempt": number, "exit_code": None,
        "signal": 9, "section": "train", "phase": "unfreeze", "epoch": epoch, "step": 41,
        "lost_steps": 12, "checkpoint": f"{spec.run_dir}/unfreeze_epoch_{number}_weights.pth", "action": action,
        "recovered_after_s": 41.5,
        "evidence": {
            "exit_code": None, "signal": 9, "exception": f"RuntimeError: {nasty}",
            "traceback": f'Traceback (most recent call last):\n  File "train.py", line 3\nRuntimeError: {nasty}\n' * 20,
            "output": [f"epoch {number}  loss 0.4{n}  {nasty}" for n in range(50)],
            "stacks": 'Thread 0x1 (most recent call first):\n  File "loop.py", line 7 in step\n' * 40,
            "memory": {
                "time": rfc(at_s - 3), "host": {"memory_available_mib": 9000, "memory_total_mib": 64000},
                "gpus": [{"uuid": "GPU-1", "used_mib": 23900, "total_mib": 24576, "trainer_mib": 18000}],
            },
            "last_heartbeat": {"pid": 1, "section": "train", "phase": "unfreeze", "epoch": 7, "step": 41, "samples": 9},
        },
    }  # fmt: skip
    write_json(spec.dir.incident(number), document)
    return document


def _state(spec: RunSpec, state: str, incidents: list[dict[str, Any]], epochs: int, nasty: str) -> None:
    restarts = Restarts(crash=sum(i["kind"] == "crash" for i in incidents), hang=3, oom=1)
    losses = [2.0 / (n + 1) ** 0.5 for n in range(50)]
    write_json(
        spec.dir.state,
        {
            "format": 1, "time": rfc(time.time()), "state": state, "detail": f"Given up: the same failure again.{nasty}",
            "history": asdict(RunHistory(attempt=len(incidents) + 1, restarts=restarts, overrides=Overrides(unfreeze_batch=4, accumulate=2))),
            "supervisor": {"pid": 1, "version": "0.1"}, "incidents": len(incidents), "max_restarts": 10,
            "pace": {"images_per_s": 38.2, "eta_s": 100800.0, "loss": 0.41, "losses": {"span_s": 60.0, "means": losses}},
        },
    )  # fmt: skip
    write_json(
        spec.dir.monitor,
        {
            "boot": proc.boot_id(), "mono_s": time.monotonic() + 3600, "period_s": 10.0, "time": rfc(time.time()),
            "gpus": [
                {"uuid": "GPU-1", "index": 0, "name": "NVIDIA GeForce RTX 3090", "used_mib": 17600, "total_mib": 24576,
                 "trainer_mib": 12200, "temperature_c": 71, "health": "ok"}
            ],
        },
    )  # fmt: skip


def _checkpoints(run_dir: Path, epochs: int) -> None:
    for epoch in range(10, epochs + 1, 10):
        phase = "freeze" if epoch <= 50 else "unfreeze"
        path = run_dir / epoch_name(phase, epoch)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", json.dumps({"epoch": epoch}))
        sidecar = CheckpointMeta(
            size=path.stat().st_size, digest=digest_of(path), phase=phase, epoch=epoch, step=100, samples=epoch * 800,
            session=epoch, finite=True, loss=2 / epoch, map50=epoch / 400,
        )  # fmt: skip
        write_json(sidecar_path(path), asdict(sidecar), durable=False)
        then_s = time.time() - SPAN_S * (1 - epoch / epochs) - 180
        os.utime(path, (then_s, then_s))


def _curves(spec: RunSpec, start_s: float, epochs: int, steps: int) -> None:
    """By TensorBoard's own writer."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    def event(wall_s: float, step: int, **scalars: float) -> bytes:
        values = [Summary.Value(tag=tag.replace("__", "/"), simple_value=value) for tag, value in scalars.items()]
        return Event(wall_time=wall_s, step=step, summary=Summary(value=values)).SerializeToString()

    noise = random.Random(1)
    folder = Path(spec.run_dir) / "loss_2026"
    folder.mkdir()
    with (folder / "events.out.tfevents.1.host.1").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=start_s, file_version="brain.Event:2").SerializeToString())
        for n in range(epochs * steps):
            wall_s, done = start_s + SPAN_S * n / (epochs * steps), n / (epochs * steps)
            loss = 2.4 / (1 + 12 * done) + noise.uniform(-0.1, 0.1) + 0.1
            writer.write(event(wall_s, n * 8, train__loss=loss, train__lr=1e-3))
            if n % (steps * 5) == steps * 5 - 1:
                writer.write(event(wall_s, n * 8, val__map50=0.55 * done**0.4, val__map50_95=0.3 * done**0.5))
            if n % 20 == 0:
                writer.write(event(wall_s, n * 8, train__images_per_s=38 + noise.uniform(-3, 3)))
        writer.flush()
    with (spec.dir.supervisor / "events.out.tfevents.1.host.2.supervisor").open("wb") as file:
        writer = RecordWriter(file)
        for n in range(0, int(SPAN_S), 30):
            used = 6.4 if n < SPAN_S / 6 else 11.9 + noise.uniform(0, 0.2)
            scalars = {"used": used + 1.1, "trainer": used, "total": 24.0, "free": 24 - used - 1.1}
            writer.write(
                event(start_s + n, n, **{f"supervisor__gpu0_memory_{key}_gib": gib for key, gib in scalars.items()})
            )
        writer.flush()
