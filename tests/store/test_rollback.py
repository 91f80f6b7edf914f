"""Which checkpoints are of a stretch of training that is left: by their epoch, or by when they were saved."""

import json
import os
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from fred_supervisor.cli.checkpoints import checkpoint_rows
from fred_supervisor.policy.history import Overrides, RunHistory
from fred_supervisor.policy.warnings.learning import BadStretch
from fred_supervisor.store.checkpoint_order import saved_in
from fred_supervisor.store.checkpoints import CheckpointPicker
from fred_supervisor.store.run_spec import RunSpec

HOUR_S = datetime.fromisoformat("2026-11-27T02:00:00Z").timestamp()
BAD = BadStretch(well_epoch=2, since="2026-11-27T02:02:00Z", until="2026-11-27T02:05:00Z")
NOBODY = lambda _: None  # noqa: E731


@pytest.fixture(params=["ours", "another's"])
def spec(request, tmp_path: Path) -> RunSpec:
    """A checkpoint a minute: epoch 1 at 02:01, and so on."""
    ours = request.param == "ours"
    for epoch in range(1, 6):
        save(tmp_path / f"freeze_epoch_{epoch}_weights.pth", epoch)
    (tmp_path / "supervisor").mkdir()
    return RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", checkpoints=None if ours else "*.pth", command=None if ours else ["true"])  # fmt: skip


def save(path: Path, minute: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", f"{path.name} {minute}")
    os.utime(path, (HOUR_S + 60 * minute, HOUR_S + 60 * minute))


def newest(spec: RunSpec, stretch: BadStretch) -> str:
    found = CheckpointPicker(spec=spec).newest(overrides=Overrides(stretch=stretch), tell=NOBODY)
    assert found is not None
    return found.path.name


def test_the_newest_from_before_comes_first(spec):
    expected = 2 if spec.checkpoints is None else 1  # a time says less than an epoch: the one before, to be sure
    assert newest(spec, BAD) == f"freeze_epoch_{expected}_weights.pth"


def test_what_is_saved_after_it_is_good_even_under_the_same_name(spec):
    path = Path(spec.run_dir, "freeze_epoch_3_weights.pth")
    save(path, 7)
    for epoch in (4, 5):
        Path(spec.run_dir, f"freeze_epoch_{epoch}_weights.pth").unlink()
    assert newest(spec, BAD) == path.name


def test_where_all_of_them_are_of_the_stretch_there_is_none_from_before(spec):
    picker = CheckpointPicker(spec=spec)
    assert picker.any_before(BAD)
    assert not picker.any_before(replace(BAD, well_epoch=0, since="2026-11-27T02:00:30Z"))
    assert newest(spec, replace(BAD, well_epoch=0, since="2026-11-27T02:00:30Z")) == "freeze_epoch_5_weights.pth"


def test_a_damaged_one_from_before_does_not_count(spec):
    for epoch in (1, 2):
        path = Path(spec.run_dir, f"freeze_epoch_{epoch}_weights.pth")
        path.write_bytes(b"")
        os.utime(path, (HOUR_S + 60 * epoch, HOUR_S + 60 * epoch))
    assert not CheckpointPicker(spec=spec).any_before(BAD)


@pytest.mark.parametrize("stretch", [replace(BAD, since="soon"), replace(BAD, until="later"), replace(BAD, since=None)])
def test_a_time_that_makes_no_sense_takes_no_checkpoint_for_a_good_one(tmp_path, stretch):
    save(tmp_path / "last.pt", 3)
    (found,) = CheckpointPicker(spec=RunSpec(name="t", modality=None, run_dir=str(tmp_path), cwd="/", command=["true"], checkpoints="*.pt"))._candidates(None)  # fmt: skip
    assert saved_in(stretch, found)


def test_people_see_which_are_left(spec):
    history = RunHistory(overrides=Overrides(stretch=BAD))
    from dataclasses import asdict

    spec.dir.state.write_text(json.dumps({"format": 1, "state": "running", "history": asdict(history)}))
    rows = {
        row.epoch or int(Path(row.path).name.split("_")[2]): row
        for row in checkpoint_rows(spec, phase=None, verify=False)
    }
    blamed = {3, 4, 5} if spec.checkpoints is None else {2, 3, 4, 5}
    assert {epoch for epoch, row in rows.items() if row.blamed} == blamed
    assert [epoch for epoch, row in rows.items() if row.chosen] == [min(blamed) - 1]
