"""Which checkpoint a relaunch uses, when a second process has proved some, and disproved one."""

import json
import zipfile
from pathlib import Path

import pytest

from fred_supervisor.attempt import proof_job
from fred_supervisor.cli.checkpoints import checkpoint_rows
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.checkpoints import CheckpointPicker, proofs
from fred_supervisor.store.run_spec import RunSpec

NAMES = ("freeze_epoch_1_weights.pth", "freeze_epoch_2_weights.pth", "freeze_epoch_3_weights.pth")


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    for name in NAMES:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("archive/data.pkl", name)
    (tmp_path / "supervisor").mkdir()
    return RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/")


def judged(spec: RunSpec, *verdicts: bool | None) -> None:
    """What a second process has found in each, the oldest first; None: nobody has looked."""
    document = {}
    for name, proved in zip(NAMES, verdicts, strict=True):
        path = Path(spec.run_dir, name)
        if proved is not None:
            key = (str(path), path.stat().st_size, path.stat().st_mtime_ns, 0)
            document[json.dumps(key)] = [proved, None if proved else "it is another"]
    spec.dir.proofs.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("verdicts", "blamed", "chosen"),
    [
        ((None, None, None), (), 3),
        ((True, None, None), (), 3),
        ((True, True, False), (), 2),
        ((None, None, False), (), 2),
        ((False, False, False), (), 3),
        ((True, None, None), (3,), 2),
        ((True, None, None), (1, 2, 3), 1),
        ((None, None, None), (1, 2, 3), 3),
        ((None, False, True), (3,), 1),
        ((False, False, None), (3,), 3),
    ],
)
def test_what_was_disproved_comes_last_and_of_the_blamed_the_proved_ones_first(spec, verdicts, blamed, chosen):
    judged(spec, *verdicts)
    paths = tuple(str(Path(spec.run_dir, NAMES[epoch - 1])) for epoch in blamed)
    found = CheckpointPicker(spec=spec).newest(overrides=Overrides(blamed=paths), tell=lambda _: None)
    assert found is not None
    assert found.path.name == NAMES[chosen - 1]


def test_checkpoints_shows_it_and_the_journal_hears_of_it_once(spec):
    judged(spec, True, None, False)
    rows = {Path(row.path).name: row for row in checkpoint_rows(spec, phase=None, verify=False)}
    assert [rows[name].proved for name in NAMES] == [True, None, False]
    assert [rows[name].chosen for name in NAMES] == [False, True, False]
    picker = CheckpointPicker(spec=spec)
    (told,) = picker.take_proofs()
    assert told.facts["reason"] == "not proved: it is another"
    assert picker.take_proofs() == []


def test_a_changed_file_and_garbled_entries_prove_nothing(spec):
    judged(spec, True, True, True)
    document = json.loads(spec.dir.proofs.read_text())
    assert len(proofs(spec.dir.proofs)) == 3
    document |= {"x": [True, None], "[1]": [True, None], '["a",1,2,0]': "true", '["b",1,2,0]': ["yes", None]}
    spec.dir.proofs.write_text(json.dumps(document))
    assert len(proofs(spec.dir.proofs)) == 3
    Path(spec.run_dir, NAMES[2]).write_bytes(b"another")
    rows = checkpoint_rows(spec, phase=None, verify=False)
    assert [row.proved for row in rows] == [None, True, True]


@pytest.mark.parametrize(
    ("size_mib", "free_mib", "room"), [(100, 4096, True), (100, 2000, False), (1000, 4096, False), (100, None, False)]
)
def test_where_memory_is_short_nothing_is_proved(size_mib, free_mib, room):
    assert proof_job.has_room(size_mib << 20, free_mib) is room
