"""`make demo`: one small run on the CPU, in which three failures are rehearsed and survived.

Exit code 0 only if the final epoch is recorded, all three incidents were seen and survived, and the detector finds
drones in flights that it was not trained on.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path("demo")
DATA: Final = HERE / "flights"
UNSEEN: Final = HERE / "unseen"
"""One more flight, to look at."""
PICTURES: Final = HERE / "pictures"
RUN: Final = HERE / "run"
BIN: Final = Path(os.path.relpath(Path(sys.executable).parent))

EPOCHS: Final = 10
MAP50_MIN: Final = 0.6
"""Of a detector that has learnt; two seeds of these settings gave 0.993 and 0.999."""
TRAIN: Final = {
    "--modality": "dual",
    "--input-size": "160",
    "--freeze-epochs": "1",
    "--epochs": str(EPOCHS),
    "--freeze-batch-size": "8",
    "--unfreeze-batch-size": "8",
    "--lr": "3e-3",
    "--workers": "2",
    "--eval-every": "5",
    "--save-every-epochs": "2",
    "--save-every-seconds": "4",
    "--device": "cpu",
    "--pretrained": "none",
}
SYNTH: Final = ("--sequences=40", "--frames=9", "--size=512x288", "--drone-px=48-144")
"""At the detector's input drones are 6 to 18 px, as most of FRED's at 640 px."""
REHEARSED: Final = {
    "sigkill@freeze:1:30": ("crash", "the trainer killed with SIGKILL in the freeze phase"),
    "oom@batch>4": ("oom", "an out-of-memory that only a smaller batch cures"),
    "hang@unfreeze:4:12": ("hang", "a hang in the unfreeze phase"),
}
"""Drill → kind of the incident, and what it is."""
WATCH: Final = {"--hang-timeout": "train=20", "--drill": ",".join(REHEARSED)}


def main() -> int:
    began = time.monotonic()
    if not DATA.exists():
        step("Writing a small FRED-layout data set: synthetic sky and drones, RGB and event frames")
        subprocess.run(
            [BIN.absolute() / "fred-train", "data", "synth", DATA, *SYNTH],
            check=True,
        )
    if RUN.exists():  # of an earlier demo
        fred("stop", "--run-dir", str(RUN), quiet=True)
        shutil.rmtree(RUN)
    step("Starting one supervised run, in which this will be rehearsed:")
    for drill, (_, text) in REHEARSED.items():
        print(f"    {drill:20} {text}")
    words = [f"{key}={value}" for key, value in (TRAIN | WATCH).items()]
    if fred("start", "--name", "demo", "--run-dir", str(RUN), "--data", str(DATA), *words) != 0:
        return 1
    try:
        fred("status", "--run-dir", str(RUN), "--watch")
    except KeyboardInterrupt:
        fred("stop", "--run-dir", str(RUN))
        return 130
    return summary(time.monotonic() - began)


def step(text: str) -> None:
    print(f"\n{text}", flush=True)


def fred(*words: str, quiet: bool = False) -> int:
    """Run `fred-supervise` as a person would."""
    hidden = subprocess.DEVNULL if quiet else None
    # One thread: on busy cores, threads that wait for each other make small steps ten times slower.
    environ = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.run(
        [BIN.absolute() / "fred-supervise", *words], check=False, env=environ, stdout=hidden, stderr=hidden
    ).returncode


def ask(verb: str) -> Any:
    done = subprocess.run(
        [BIN.absolute() / "fred-supervise", verb, "--run-dir", RUN, "--json"], check=False, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def summary(took_s: float) -> int:
    """What came of it; 0 if everything did that should."""
    status, incidents = ask("status"), ask("incidents")
    progress, batch = status["progress"], status["batch"]
    final = final_checkpoint()
    reached = status["state"] == "completed" and final.get("epoch") == EPOCHS
    print(f"\n  {status['state'].upper()}   epoch {progress['epoch']} of {progress['epochs']}   {score(final)}", end="")
    print(f"   {took_s:.0f} s in all, {len(incidents) + 1} attempts")
    for incident in incidents:
        back, lost = incident["recovered_after_s"], incident["lost_steps"]
        again = "never reached that point again" if back is None else f"past that point again after {back:.0f} s"
        print()
        paragraph(f"  {incident['id']}  {incident['kind']:6}", incident["cause"])
        paragraph("", incident["action"])
        paragraph("", f"Lost: {'not known' if lost is None else f'{lost} step' + 's' * (lost != 1)}; {again}.")
    print(
        f"\n  unfreeze batch: began with {batch['initial']}, ended with {batch['unfreeze']}"
        f" × {batch['accumulate']} accumulated = {batch['effective']} per optimiser step"
    )
    survived = {i["kind"] for i in incidents if i["recovered_after_s"] is not None}
    learnt = (final.get("map50") or 0.0) >= MAP50_MIN
    missing = [text for kind, text in REHEARSED.values() if kind not in survived]
    strangers = [i["id"] for i in incidents if i["kind"] not in {kind for kind, _ in REHEARSED.values()}]
    if not reached:
        print(f"\n  NOT as it should be: the final epoch, {EPOCHS}, is not recorded")
    if not learnt:
        print(f"\n  NOT as it should be: {score(final)} on flights that were not trained on, {MAP50_MIN} is the least")
    for text in missing:
        print(f"\n  NOT as it should be: {text} was not seen and survived")
    if strangers:
        print(f"\n  NOT as it should be: incident {strangers} was not rehearsed")
    picture = draw_one() if final else None
    if picture is not None:
        print(f"\n  open this picture: {picture}   a flight that was never seen, in amber what is found in it")
    print(f"\n  look around: {BIN}/fred-supervise incidents demo 1\n               {BIN}/tensorboard --logdir {RUN}\n")
    return 0 if reached and learnt and not missing and not strangers else 1


def draw_one() -> Path | None:
    """A picture of a flight that was never seen: RGB, events and what the detector finds in them. None: it failed."""
    trainer = BIN.absolute() / "fred-train"
    words = ["--sequences=1", "--frames=5", "--seed=7", "--sceneries=day", *SYNTH[2:]]
    weights = str(RUN / "fred_fusion_final.pth")
    for folder in (UNSEEN, PICTURES):
        shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run([trainer, "data", "synth", UNSEEN, *words], check=False, stdout=subprocess.DEVNULL)
    if made.returncode != 0:
        return None
    source = next((UNSEEN / "train").iterdir())
    drawn = subprocess.run(
        [trainer, "predict", "--weights", weights, "--source", source, "--out", PICTURES, "--device=cpu"],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    return max(PICTURES.glob("*.png")) if drawn.returncode == 0 else None


def paragraph(label: str, text: str) -> None:
    """`text` in a column of its own, 80 wide."""
    print(textwrap.fill(text, width=80, initial_indent=f"{label:13}", subsequent_indent=" " * 13))


def final_checkpoint() -> dict[str, Any]:
    """The sidecar of what the run was for."""
    try:
        found: dict[str, Any] = json.loads((RUN / "fred_fusion_final.pth.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def score(final: dict[str, Any]) -> str:
    return "no mAP" if final.get("map50") is None else f"mAP50 {final['map50']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
