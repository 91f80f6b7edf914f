"""What others write of their learning is read: TensorBoard event files, and tables like results.csv."""

import math
import os
import struct
import time
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fred_supervisor.monitor.curves.event_reader import EventReader
from fred_supervisor.monitor.curves.learning_files import PATTERNS, LearningFiles
from fred_supervisor.monitor.curves.roles import Role, role_of, values_of
from fred_supervisor.monitor.curves.table_reader import TableReader
from fred_supervisor.monitor.tensorboard import _bytes_field, _record, _varint
from fred_supervisor.output.patterns import OwnPatterns

ULTRALYTICS = "epoch,      time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,lr/pg0\n"  # fmt: skip


def event(step: int, **scalars: float) -> bytes:
    values = b"".join(
        _bytes_field(1, _bytes_field(1, tag.replace("__", "/").encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in scalars.items()
    )
    return _record(b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + _bytes_field(5, values))


def of_tensor(step: int, tag: str, value: float) -> bytes:
    """As TensorFlow 2 writes a scalar."""
    tensor = _bytes_field(8, b"\x08\x01" + _bytes_field(4, struct.pack("<f", value)))
    return _record(b"\x10" + _varint(step) + _bytes_field(5, _bytes_field(1, _bytes_field(1, tag.encode()) + tensor)))


def points(files: LearningFiles) -> list[dict[str, Any]]:
    files.look()
    told = cast("list[dict[str, Any]]", files.document()["points"])
    return [{key: value for key, value in one.items() if value is not None and key != "seq"} for one in told]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train/loss", Role.LOSS), ("loss", Role.LOSS), ("Loss/train", Role.LOSS), ("train_loss_epoch", Role.LOSS), ("train_loss", Role.LOSS), ("train/total_loss", Role.LOSS),
        ("train/box_loss", Role.PART), ("val/box_loss", None), ("val_loss", None), ("Loss/val", None), ("eval/loss", None), ("test_loss", None),
        ("metrics/mAP50(B)", Role.METRIC), ("metrics/mAP_0.5", Role.METRIC), ("metrics/mAP_0.5:0.95", Role.METRIC), ("metrics/precision", None), ("eval/accuracy", Role.METRIC), ("val_acc", Role.METRIC), ("train/accuracy", None), ("Accuracy/test", Role.METRIC), ("bbox_mAP", Role.METRIC), ("val/f1", Role.METRIC),
        ("lr/pg0", Role.LR), ("train/learning_rate", Role.LR), ("lr-AdamW", Role.LR), ("learning rate", Role.LR), ("train/grad_norm", Role.GRADIENT), ("epoch", Role.EPOCH), ("train/epoch", Role.EPOCH),
        ("perplexity", None), ("time", None), ("", None), ("glossary", None), ("train/runtime", None), ("colour", None), ("clr", None),
    ],
)  # fmt: skip
def test_what_a_name_says(name, role):
    assert role_of(name) == role


def test_parts_of_a_loss_count_together_and_of_several_metrics_the_strictest():
    row = [("train/box_loss", 1.0), ("train/cls_loss", 0.5), ("metrics/mAP50(B)", 0.6), ("metrics/mAP50-95(B)", 0.4), ("metrics/recall(B)", 0.9)]  # fmt: skip
    assert values_of(row) == {Role.LOSS: 1.5, Role.METRIC: 0.4}


@pytest.mark.parametrize(
    ("rates", "rate"),
    [((0.0, 0.001), 0.001), ((0.001, 0.0), 0.001), ((0.0, 0.0, 0.0), 0.0), ((math.nan, 0.1, 0.0), 0.1)],
)
def test_of_several_learning_rates_the_largest(rates, rate):
    """A frozen group has none."""
    assert values_of([(f"lr/pg{n}", value) for n, value in enumerate(rates)]) == {Role.LR: rate}


@pytest.mark.parametrize(
    "name",
    [
        "val/error_top1",
        "val/time_map",
        "err_acc",
        "top1_error",
        "val/loss_iou",
        "eval/latency.map",
        "map_std",
        "error/f1",
    ],
)
def test_what_should_fall_is_no_metric(name):
    assert role_of(name) is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("0.0000", None), (" 0.00", None), (".000000", None), ('"0.000"', None), ("0", 0.0), ("0.0", 0.0), ("0.00e+00", 0.0), ("0.0001", 0.0001)],
)  # fmt: skip
def test_a_rate_that_has_been_rounded_away_is_not_known(tmp_path: Path, text: str, rate: float | None):
    (tmp_path / "results.csv").write_text(f"epoch,loss,lr\n1,0.00,{text}\n")
    (point,) = points(LearningFiles(tmp_path, PATTERNS))
    assert point == {"epoch": 1, "loss": 0.0, **({} if rate is None else {"lr": rate})}
    found = OwnPatterns((r"(?P<step>\d+) lr=(?P<lr>\S+)",)).match("7 lr=" + text.strip(' "'))
    assert found is not None
    assert found.lr == rate or (rate is None and math.isnan(found.lr or 0.0))


def test_results_csv_is_read_row_by_row(tmp_path: Path):
    table = tmp_path / "train" / "results.csv"
    table.parent.mkdir()
    table.write_text(ULTRALYTICS + "1, 9.1, 1.0, 0.5, 0.5, 0.1, 0.2, 0.3, 0.2, 1.1, 0.01\n2, 18, 0.9,")
    files = LearningFiles(tmp_path, PATTERNS)
    assert points(files) == [{"epoch": 1, "loss": 2.0, "metric": 0.2, "lr": 0.01}]
    with table.open("a") as file:
        file.write(" 0.4, 0.5, 0.1, 0.2, 0.3, nan, 1.1, 0\n")
    assert points(files)[1:] == [{"epoch": 2, "loss": 1.8, "lr": 0.0}]
    assert points(files)[2:] == []
    table.write_text(ULTRALYTICS + "1, 9, 3, 0, 0, 0, 0, 0, 0.1, 1, 0.01\n")
    assert points(files)[2:] == [{"epoch": 1, "loss": 3.0, "metric": 0.1, "lr": 0.01}]


def test_a_sparse_table_as_lightning_writes_it(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss,val_acc\n0,9,0.7,\n0,9,,0.8\n")
    assert points(LearningFiles(tmp_path, PATTERNS)) == [{"epoch": 0, "loss": 0.7}, {"epoch": 0, "metric": 0.8}]


@pytest.mark.parametrize("new", ["epoch,lr,step,train_loss", "epoch;step;train_loss;val_acc", "step,epoch,train_loss"])
def test_a_table_that_is_written_anew_with_other_columns(tmp_path: Path, new: str):
    """Lightning writes the whole table again when a new key comes: then it is longer than before."""
    table = tmp_path / "metrics.csv"
    table.write_text("epoch,train_loss,step\n0,0.75,9\n")
    reader = TableReader(table)
    assert reader.read() == [[("epoch", 0.0), ("train_loss", 0.75), ("step", 9.0)]]
    separator = ";" if ";" in new else ","
    numbers = {"epoch": 1.0, "step": 1338.0, "train_loss": 0.5, "lr": 0.01, "val_acc": 0.25}
    rows = [{**numbers, "step": 1338.0 + n} for n in range(3)]
    names = new.split(separator)
    table.write_text("\n".join([new, *(separator.join(str(row[name]) for name in names) for row in rows), ""]))
    assert [dict(row) for row in reader.read()] == [{name: row[name] for name in names} for row in rows]
    assert reader.read() == []
    table.write_text("")
    assert reader.read() == []


def test_event_files_are_read_on_and_a_torn_end_waits(tmp_path: Path):
    path = tmp_path / "runs" / "a" / "events.out.tfevents.1.host.7.0"
    path.parent.mkdir(parents=True)
    torn = event(3, train__loss=0.5)
    path.write_bytes(
        _record(b"\x1a\x0dbrain.Event:2") + event(1, epoch=4.0) + event(2, train__loss=0.75, lr=0.0) + torn[:9]
    )
    files = LearningFiles(tmp_path, PATTERNS)
    assert points(files) == [{"epoch": 4}, {"epoch": 4, "loss": 0.75, "lr": 0.0}]
    with path.open("ab") as file:
        file.write(torn[9:] + of_tensor(4, "train/loss", 0.25) + event(5, noise=1.0))
    assert points(files)[2:] == [{"epoch": 4, "loss": 0.5}, {"epoch": 4, "loss": 0.25}]


@pytest.mark.parametrize(
    "torn",
    [
        b"\0" * 64, b"\0" * 7, b"x", event(9, train__loss=99.0)[:5], event(9, train__loss=99.0)[:14],
        event(9, train__loss=99.0)[:-4], event(9, train__loss=99.0)[:-7], b"\xff" * 300_000, event(9, noise=1.0)[3:],
        _record(b"\x1a" + b"p" * 50_000)[:30_000],
    ],
    ids=range(10),
)  # fmt: skip
def test_a_torn_record_in_the_middle_costs_that_one_only(tmp_path: Path, torn: bytes):
    """A node that lost its power, or a disk that was full: what is written behind it is read."""
    path = tmp_path / "events.out.tfevents.1.h"
    path.write_bytes(event(1, train__loss=1.0))
    reader = EventReader(path)
    assert reader.read() == [(1, "train/loss", 1.0)]
    with path.open("ab") as file:
        file.write(torn + b"".join(event(n, train__loss=0.5) for n in range(2, 900)))
    told = [scalar for _ in range(5) for scalar in reader.read()]
    assert {value for _, _, value in told} == {0.5}
    steps = [step for step, _, _ in told]
    assert steps == list(range(steps[0], 900))
    assert steps[0] <= 3 or len(torn) > 10_000


def test_who_evaluates_at_each_step_counts_epochs_and_who_does_not_leaves_them_unknown(tmp_path: Path):
    by_epoch, by_step = (tmp_path / name / "events.out.tfevents.1.h" for name in ("e", "s"))
    for path in (by_epoch, by_step):
        path.parent.mkdir()
    by_epoch.write_bytes(b"".join(event(n, Loss__train=1.0 / (n + 1), Accuracy__test=0.5) for n in range(5)))
    by_step.write_bytes(b"".join(event(n, loss=1.0) for n in range(5)))
    told = points(LearningFiles(tmp_path, PATTERNS))
    assert [one["epoch"] for one in told if "metric" in one and "epoch" in one] == [2, 3, 4]
    assert [one for one in told if "metric" not in one] == [{"loss": 1.0}] * 5


def test_the_real_writer_of_torch_is_understood(tmp_path: Path):
    writer_of = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    writer = writer_of(str(tmp_path / "runs"))
    for step in range(4):
        writer.add_scalar("Loss/train", 1.0 + step, step)
        writer.add_scalar("Accuracy/val", 0.25, step)
    writer.add_text("notes", "x" * 100_000)
    writer.add_scalar("train/grad_norm", 0.0, 4)
    writer.close()
    told = points(LearningFiles(tmp_path, PATTERNS))
    assert [one["loss"] for one in told if "loss" in one] == [1.0, 2.0, 3.0, 4.0]
    assert told[-1]["gradient"] == 0.0


def test_files_of_earlier_days_and_ours_tell_nothing(tmp_path: Path):
    old = tmp_path / "results.csv"
    old.write_text("epoch,loss\n1,2\n")
    os.utime(old, (1e9, 1e9))
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "events.out.tfevents.1.h").write_bytes(event(1, train__loss=1.0))
    assert points(LearningFiles(tmp_path, PATTERNS)) == []


def test_a_look_is_bounded(tmp_path: Path):
    path = tmp_path / "events.out.tfevents.1.h"
    path.write_bytes(b"".join(event(n, train__loss=float(n)) for n in range(20_000)))
    files = LearningFiles(tmp_path, PATTERNS)
    began = time.thread_time()
    told = points(files)
    assert time.thread_time() - began < 5.0
    assert len(told) <= 64
    for _ in range(10):
        told = points(files)
    assert told[-1] == {"loss": 19_999.0}, "of a long file the end is read"
    table = tmp_path / "results.csv"
    table.write_text("epoch,loss\n" + "".join(f"{n},1.5\n" for n in range(100_000)))
    rows = TableReader(table).read()
    assert len(rows) < 10_000
    assert rows[-1] == [("epoch", 99_999.0), ("loss", 1.5)]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 200))
def test_whatever_is_in_them_nothing_raises(tmp_path_factory, data, cut):
    folder = tmp_path_factory.mktemp("any")
    whole = event(1, train__loss=1.0) + event(2, train__loss=2.0)
    event_file, table = folder / "events.out.tfevents.1", folder / "results.csv"
    event_file.write_bytes(whole[:cut] + data + whole[cut:])
    table.write_bytes(b"epoch,loss\n" + data)
    EventReader(event_file).read()
    TableReader(table).read()
    event_file.write_bytes(_record(data))
    EventReader(event_file).read()
    points(LearningFiles(folder, PATTERNS))


def test_an_event_file_that_is_written_anew_and_is_shorter_is_read_from_its_beginning(tmp_path: Path):
    path = tmp_path / "events.out.tfevents.1.h"
    path.write_bytes(b"".join(event(n, train__loss=1.0) for n in range(9)))
    reader = EventReader(path)
    assert len(reader.read()) == 9
    path.write_bytes(event(0, train__loss=2.0))
    assert reader.read() == [(0, "train/loss", 2.0)]
    assert reader.read() == []
