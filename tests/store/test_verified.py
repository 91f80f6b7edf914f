"""A checkpoint that was found whole once is read again when it, or what its sidecar says of it, has changed."""

import os
from pathlib import Path

import pytest
from tests.helpers.sidecar import DAMAGE, change_sidecar, write

from fred_supervisor.attempt import checkpoint_check
from fred_supervisor.contract import checkpoint
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.policy.message import Message
from fred_supervisor.store.checkpoints import CheckpointPicker, judge, judged_before
from fred_supervisor.store.run_spec import RunSpec


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """Two checkpoints, both of which a background job has found whole."""
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/")
    spec.dir.supervisor.mkdir()
    for epoch in (1, 2):
        write(tmp_path, f"freeze_epoch_{epoch}_weights.pth", epoch=epoch)
    checkpoint_check.main(spec.run_dir, "", str(spec.dir.verified))
    assert list(judged_before(spec.dir.verified).values()) == [None, None]
    return spec


def chosen(spec: RunSpec, told: list[Message]) -> str | None:
    found = CheckpointPicker(spec=spec).newest(tell=told.append)
    return None if found is None else found.path.name


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_was_whole_and_was_damaged_since_is_passed_over(spec, damage):
    newest = Path(spec.run_dir, "freeze_epoch_2_weights.pth")
    os.utime(newest, ns=(1, 1))  # a change in the same tick of the clock would look like none
    checkpoint_check.main(spec.run_dir, "", str(spec.dir.verified))
    told: list[Message] = []
    assert (chosen(spec, told), told) == (newest.name, [])
    damage(newest)
    assert chosen(spec, told) == "freeze_epoch_1_weights.pth"
    assert [one.facts["name"] for one in told] == [newest.name]


def test_a_sidecar_that_is_mended_makes_its_file_whole_again(spec):
    newest = Path(spec.run_dir, "freeze_epoch_2_weights.pth")
    change_sidecar(newest, finite=False)
    checkpoint_check.main(spec.run_dir, "", str(spec.dir.verified))
    assert chosen(spec, []) == "freeze_epoch_1_weights.pth"
    change_sidecar(newest, finite=True)
    assert chosen(spec, []) == newest.name


def test_what_is_replaced_while_it_is_read_is_not_judged_for_good(spec, monkeypatch):
    """As the newest state of a trainer, under its one name, is at every save."""
    (listed, _) = list_checkpoints(Path(spec.run_dir))
    known: dict = {}
    digest = checkpoint.digest_of

    def slow(path: Path) -> str:
        found = digest(path)
        monkeypatch.undo()
        write(path.parent, path.name, content="others", epoch=3)
        return found

    monkeypatch.setattr(checkpoint, "digest_of", slow)
    judge(spec.dir, listed, known, foreign=False)
    assert known == {}
    assert judge(spec.dir, listed, known, foreign=False) is None, "what is listed may be old: its sidecar is read anew"
