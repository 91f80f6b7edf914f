"""Milliseconds of one core for one training sample at 640 px: decoding, augmentation, letterbox."""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import torch

from fred_trainer.data import Augmentation, Pair, PairDataset, read_index, split, write_sequences

CASES = {
    "decode + letterbox (validation)": None,
    "decode + augment, no mosaic": Augmentation(mosaic=0),
    "decode + augment, default": Augmentation(),
    "decode + augment, every sample a mosaic": Augmentation(mosaic=1),
}


def measure(pairs: Sequence[Pair], augmentation: Augmentation | None, *, input_size: int) -> tuple[float, float]:
    """Mean and median CPU milliseconds a sample."""
    dataset = PairDataset(
        pairs,
        modality="dual",
        input_size=input_size,
        augment=augmentation is not None,
        seed=0,
        augmentation=augmentation or Augmentation(),
    )
    dataset[0, 0]  # opens and allocates what is needed once
    times_ms = []
    for index in range(len(dataset)):
        begun_s = time.process_time()
        dataset[1, index]
        times_ms.append(1e3 * (time.process_time() - begun_s))
    return statistics.mean(times_ms), statistics.median(times_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="data set (default: synthetic 1280 x 720 frames)")
    parser.add_argument("--input-size", type=int, default=640)
    parser.add_argument("--samples", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        root = given.data or Path(folder) / "fred"
        if given.data is None:
            write_sequences(root, sequences=5, frames=max(8, given.samples // 4))
        pairs = split(read_index(root)).train[: given.samples]
        print(f"{'':42} mean ms  median ms   ({len(pairs)} samples, {given.input_size} px, CPU time)")
        for name, augmentation in CASES.items():
            mean_ms, median_ms = measure(pairs, augmentation, input_size=given.input_size)
            print(f"{name:42} {mean_ms:7.1f}  {median_ms:9.1f}")


if __name__ == "__main__":
    main()
