"""One training of `make bench-learning` in a process of its own: our detector, or torchvision's FCOS in its place.

The job is a JSON file named on the command line, the result a JSON document on the last line of standard output.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_trainer.cli.parser import train_parser
from fred_trainer.cli.train import run
from fred_trainer.data import EpochBatches, EpochOrder, Pair, PairDataset, boxes_to_source, collate, read_index
from fred_trainer.data import split as split_index
from fred_trainer.evaluate.test_set import detect_frames
from fred_trainer.evaluate.trained import load_detector
from fred_trainer.train.schedule import learning_rate
from fred_trainer.train.settings import settings_from

CPU: Final = torch.device("cpu")
BATCH: Final = 8
LR: Final = 2e-3
FCOS_LR: Final = 1e-3
"""At 2e-3 a side of its boxes dies in half of the seeds."""
PYRAMID_CHANNELS: Final = 64
GRADIENT_NORM_MAX: Final = 10.0

Found = list[tuple[str, list[list[float]], list[float]]]
"""Of every frame its id, boxes xyxy in px of the source frame, and their scores."""


class StepClock(Heartbeat):
    """A heartbeat that notes samples and CPU time after every step, and asks for a stop after `steps` of them."""

    def __init__(self, steps: int | None) -> None:
        super().__init__(environ={}, signals=False)
        self._steps_wanted = steps
        self.marks: list[tuple[int, float]] = []
        """(samples so far, CPU s of the process so far)."""

    def beat(self, **said: Any) -> None:
        super().beat(**said)
        if "loss" in said:
            self.marks.append((said["samples"], time.process_time()))
        self.stopping = len(self.marks) == self._steps_wanted


def train_ours(job: dict[str, Any], out: Path) -> tuple[list[tuple[int, float]], Path]:
    words = [
        f"--data={job['data']}",
        f"--run-dir={out}",
        f"--modality={job['modality']}",
        f"--epochs={job['epochs']}",
        f"--input-size={job['size_px']}",
        f"--seed={job['seed']}",
        f"--unfreeze-batch-size={BATCH}",
        f"--lr={LR}",
        *("--train-on=all", "--skip-freeze", "--no-eval-map", "--no-preflight", "--pretrained=none", "--resume=none"),
        *("--device=cpu", "--workers=0", "--save-every-seconds=300", "--save-every-epochs=1000"),
    ]
    clock = StepClock(job["steps"])
    run(settings_from(train_parser().parse_args(words), {}), clock)
    return clock.marks, out / FINAL


def find_ours(weights: Path, pairs: Sequence[Pair]) -> tuple[Found, int]:
    trained = load_detector(weights, CPU)
    frames, unreadable = detect_frames(trained, pairs, device=CPU, batch_size=16, workers=0)
    assert not unreadable
    found = [(frame.pair.id, frame.boxes.tolist(), frame.scores.tolist()) for frame in frames]
    return found, parameters_of(trained.detector)


class _Pyramid(nn.Module):
    """The backbone and the pyramid that our detector has: strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        nodes = {f"trunk_output.block{n}": str(n) for n in (1, 2, 3)}
        self.backbone = create_feature_extractor(get_model("regnet_x_400mf", weights=None), return_nodes=nodes)
        with torch.no_grad():
            channels = [level.shape[1] for level in self.backbone(torch.zeros(2, 3, 64, 64)).values()]
        self.pyramid = FeaturePyramidNetwork(channels, PYRAMID_CHANNELS)
        self.out_channels = PYRAMID_CHANNELS

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels: dict[str, Tensor] = self.pyramid(self.backbone(images))
        return levels


class _AsItIs(nn.Module):
    """In the place of torchvision's resizing: our images have the size of the canvas already."""

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        whole = torch.stack(images)
        mean, std = (torch.tensor(three).view(3, 1, 1) for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return ImageList((whole - mean) / std, [tuple(whole.shape[-2:])] * len(images)), targets

    def postprocess(self, found: Any, *_: Any) -> Any:
        return found


def make_fcos() -> FCOS:
    """The detector of torchvision, as narrow as ours: its head, its assignment of boxes to cells, its losses."""
    pyramid = _Pyramid()
    head = FCOSHead(pyramid.out_channels, num_anchors=1, num_classes=1, num_convs=2)
    cells = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
    model = FCOS(pyramid, 1, anchor_generator=cells, head=head, score_thresh=0.02, topk_candidates=300)
    model.transform = _AsItIs()
    return model


def train_fcos(job: dict[str, Any], out: Path) -> tuple[list[tuple[int, float]], Path]:
    """On the samples that our detector of RGB images sees."""
    torch.manual_seed(job["seed"])
    pairs = split_index(read_index(Path(job["data"])), modality="rgb", train_on="all").train
    dataset = PairDataset(pairs, modality="rgb", input_size=job["size_px"], augment=True, seed=job["seed"])
    model = make_fcos().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=FCOS_LR, weight_decay=0.01, fused=True)
    marks: list[tuple[int, float]] = []
    samples = 0
    for epoch in range(1, job["epochs"] + 1):
        for keys in EpochBatches(EpochOrder(len(dataset), job["seed"]), epoch=epoch, batch_size=BATCH):
            batch = collate([dataset[key] for key in keys])
            truth = [{"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)} for boxes in batch.boxes]
            loss = sum(model(list(batch.images.float() / 255), truth).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM_MAX)
            rate = learning_rate(samples, total=job["epochs"] * len(dataset), peak=FCOS_LR)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            samples += len(keys)
            marks.append((samples, time.process_time()))
            if len(marks) == job["steps"]:
                return marks, out
    torch.save(model.state_dict(), out / "fcos.pth")
    return marks, out / "fcos.pth"


@torch.no_grad()
def find_fcos(weights: Path, pairs: Sequence[Pair], size_px: int) -> tuple[Found, int]:
    model = make_fcos().eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    dataset = PairDataset(pairs, modality="rgb", input_size=size_px, augment=False, seed=0)
    found: Found = []
    for first in range(0, len(pairs), 16):
        some = range(first, min(first + 16, len(pairs)))
        outputs = model(list(collate([dataset[(0, at)] for at in some]).images.float() / 255))
        for at, one in zip(some, outputs, strict=True):
            pair = pairs[at]
            boxes = boxes_to_source(one["boxes"], input_size=size_px, width=pair.width, height=pair.height)
            found.append((pair.id, boxes.tolist(), one["scores"].tolist()))
    return found, parameters_of(model)


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    out = Path(job["out"])
    out.mkdir(parents=True)
    marks, weights = (train_fcos if job["detector"] == "fcos" else train_ours)(job, out)
    result: dict[str, Any] = {"marks": marks, "train_cpu_s": time.process_time()}
    if job["steps"] is None:
        pairs = list(read_index(Path(job["held"])).pairs)
        begun_s = time.process_time()
        found, parameters = (
            find_fcos(weights, pairs, job["size_px"]) if job["detector"] == "fcos" else find_ours(weights, pairs)
        )
        result |= {"eval_cpu_s": time.process_time() - begun_s, "parameters": parameters, "found": found}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
