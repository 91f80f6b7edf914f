"""One training of `make bench-learning` in a process of its own: YOLO11n, in an environment that has ultralytics.

It is run, and nothing of it is taken: its licence is AGPL-3.0. Job and result are those of learning_ours.py. Nothing
but the standard library, torch and ultralytics is imported here: our packages are not in that environment.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from ultralytics import YOLO

BATCH: Final = 8


class EnoughError(Exception):
    """The steps that were asked for are made."""


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    marks: list[tuple[int, float]] = []

    def after_step(trainer: Any) -> None:
        images = len(trainer.train_loader.dataset)
        epoch, step = divmod(len(marks), -(-images // BATCH))
        marks.append((epoch * images + min((step + 1) * BATCH, images), time.process_time()))
        if len(marks) == job["steps"]:
            raise EnoughError

    model = YOLO("yolo11n.yaml")
    model.add_callback("on_train_batch_end", after_step)
    out = Path(job["out"])
    with suppress(EnoughError):
        model.train(
            data=job["yaml"],
            epochs=job["epochs"],
            imgsz=job["size_px"],
            batch=BATCH,
            nbs=BATCH,
            close_mosaic=1,
            warmup_epochs=max(0.2, 0.05 * job["epochs"]),
            pretrained=False,
            val=False,
            workers=0,
            device="cpu",
            seed=job["seed"],
            project=str(out.parent),
            name=out.name,
            exist_ok=True,
            plots=False,
            verbose=False,
        )
    result: dict[str, Any] = {"marks": marks, "train_cpu_s": marks[-1][1]}  # without the validation at its end
    if job["steps"] is None:
        trained = YOLO(out / "weights" / "last.pt")
        begun_s = time.process_time()
        answers = trained.predict(
            [path for _, path in job["images"]],
            imgsz=job["size_px"],
            conf=0.001,
            iou=0.7,
            max_det=100,
            batch=16,
            device="cpu",
            verbose=False,
            stream=True,
        )
        found = [
            (name, answer.boxes.xyxy.tolist(), answer.boxes.conf.tolist())
            for (name, _), answer in zip(job["images"], answers, strict=True)
        ]
        parameters = sum(parameter.numel() for parameter in trained.model.parameters())
        result |= {"eval_cpu_s": time.process_time() - begun_s, "parameters": parameters, "found": found}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
