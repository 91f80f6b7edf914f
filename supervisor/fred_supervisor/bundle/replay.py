"""The same steps again, alone: from the checkpoint of a failed attempt to the step that failed."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fred_supervisor.attempt import evidence, launch
from fred_supervisor.bundle import verdict
from fred_supervisor.bundle.manifest import Manifest, Place, checked_flags, repeated_drills
from fred_supervisor.bundle.verdict import ReplayResult
from fred_supervisor.contract import environment
from fred_supervisor.contract.files import write_json
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.policy.cause import diagnose
from fred_supervisor.store.heartbeats import newest_beat
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.place import place_of
from fred_supervisor.store.run_spec import RunSpec

_PR_SET_PDEATHSIG: Final = 1
_LOOK_S: Final = 0.1
_TELL_S: Final = 30.0
_SILENT_S: Final = 900.0
"""Without progress it is called a hang, unless the failure itself took longer to be called one."""
_NEVER_S: Final = 86400 * 365
"""Between two saves: a replay keeps nothing."""


@record
class ReplayOptions:
    """What a person may say about a replay."""

    data: str | None = None
    """The data set lies elsewhere here."""
    device: str | None = None
    cwd: str | None = None
    """Where the trainer runs, for relative paths among its flags; None: in the folder of the replay."""
    limit_s: float | None = None
    """Without progress, until it is called a hang."""


def replay(
    manifest: Manifest, weights: Path | None, folder: Path, options: ReplayOptions, tell: Callable[[str], None]
) -> ReplayResult:
    """Run to the failing step in `folder`, which is empty, and say what came of it. Raises OSError, ValueError.

    Ends the trainer, whatever happens. `tell` gets a line now and then.
    """
    spec = _spec(manifest, folder, options)
    attempt = launch.prepare(spec, 1)
    spec.save()
    overrides = manifest.overrides
    words = launch.command(spec, 1, overrides, weights)
    environ = launch.trainer_environment(spec, 1, overrides, weights)
    oom_kills = evidence.oom_kills()
    with attempt.output.open("ab") as output:
        trainer = subprocess.Popen(
            words, cwd=options.cwd or folder, env=environ,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=_die_with_us,  # noqa: PLW1509 - no thread of ours runs
        )  # fmt: skip
    try:
        _write_launch(spec, attempt, trainer.pid, environ, weights)
        result = _watch(manifest, spec, attempt, trainer, options=options, tell=tell)
        if result is not None:
            return result
        _write_exit(attempt, trainer.wait())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trainer.pid, signal.SIGKILL)
        trainer.wait()
    ended = evidence.gather(spec, 1, oom_kills_before=oom_kills, lookout=Lookout(spec.run_dir))
    beat = ended.beat
    at = Place() if beat is None else Place(epoch=beat.epoch, step=beat.step)
    return verdict.ended(manifest, diagnose(ended), at, on_gpu=_on_gpu(spec))


def _die_with_us() -> None:
    """Runs in the child: whoever ends us by SIGKILL ends it, too. Loader workers do the same for themselves."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _spec(manifest: Manifest, folder: Path, options: ReplayOptions) -> RunSpec:
    """A run of its own. Raises ValueError for flags that make no sense."""
    flags: dict[str, object] = {**checked_flags(manifest.flags), "no_preflight": True}
    flags.pop("modality", None)
    if manifest.place.section != "checkpoint":  # what failed was a save: then there must be saves
        flags |= {"save_every_seconds": _NEVER_S}
    if options.data is not None:
        flags["data"] = os.path.abspath(options.data)
    if options.device is not None:
        flags["device"] = options.device
    return RunSpec(
        name="replay",
        modality=manifest.modality,
        run_dir=str(folder / "run"),
        cwd=str(folder),
        flags=flags,
        drill=repeated_drills(manifest.drill),
    )


def _watch(
    manifest: Manifest,
    spec: RunSpec,
    attempt: AttemptDir,
    trainer: "subprocess.Popen[Any]",
    *,
    options: ReplayOptions,
    tell: Callable[[str], None],
) -> ReplayResult | None:
    """Until it is past the step, or hangs; None when it has ended by itself."""
    limit_s = options.limit_s or max(_SILENT_S, 2 * (manifest.silent_s or 0.0))
    accumulate = manifest.overrides.accumulate or spec.flag("accumulate")
    workers = manifest.overrides.workers if manifest.overrides.workers is not None else spec.flag("workers")
    margin = verdict.margin_of(workers=workers, accumulate=accumulate)
    seen, since_s = _position(None), time.monotonic()
    told_s = 0.0
    while True:
        running = trainer.poll() is None
        beat, now_s = newest_beat(attempt), time.monotonic()
        if verdict.is_past(beat, manifest, margin=margin):
            return verdict.passed(manifest, on_gpu=_on_gpu(spec))
        if not running:
            return None
        if (place := _position(beat)) != seen:
            seen, since_s = place, now_s
        if now_s - since_s > limit_s:
            return verdict.hung(manifest, silent_s=now_s - since_s)
        if now_s - told_s > _TELL_S:
            told_s = now_s
            tell(_where(beat, manifest))
        time.sleep(_LOOK_S)


def _position(beat: Beat | None) -> tuple[object, ...]:
    return () if beat is None else (beat.section, beat.epoch, beat.step, beat.samples, beat.seq)


def _where(beat: Beat | None, manifest: Manifest) -> str:
    goal = f"epoch {manifest.place.epoch}, step {manifest.place.step}" if manifest.place.epoch else "its start"
    at = "starts" if beat is None or beat.epoch is None else f"epoch {beat.epoch}, step {beat.step}"
    return f"{at}; it failed after {goal}"


def _on_gpu(spec: RunSpec) -> bool:
    return spec.flag("device") != "cpu" and os.path.exists("/dev/nvidiactl")


def _write_launch(
    spec: RunSpec, attempt: AttemptDir, pid: int, environ: Mapping[str, str], weights: Path | None
) -> None:
    who = proc.identify(pid)
    document: dict[str, object] = {
        "attempt": 1,
        "place": place_of(spec.run_dir),
        "resume": None if weights is None else str(weights),
        "environment": {name: environ[name] for name in environment.OF_CONTRACT if name in environ},
    }
    write_json(attempt.launch, document | ({} if who is None else {"trainer": who.document()}), durable=False)


def _write_exit(attempt: AttemptDir, status: int) -> None:
    signal_number = -status if status < 0 else None
    write_json(attempt.exit, {"exit_code": None if status < 0 else status, "signal": signal_number}, durable=False)
