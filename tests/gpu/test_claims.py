"""GPUs that runs of one user hold: who looks takes nothing, and who is too late asks again."""

from pathlib import Path

import pytest

from fred_supervisor.gpu.claims import GpuClaims
from fred_supervisor.gpu.run_gpus import RunGpus
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.store.run_spec import RunSpec


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def spec(name: str, folder: Path) -> RunSpec:
    return RunSpec(name=name, modality="rgb", run_dir=str(folder / name), cwd="/")


def test_a_claim_keeps_others_out_until_it_is_let_go(tmp_path: Path):
    ours, theirs = GpuClaims(spec("t", tmp_path)), GpuClaims(spec("u", tmp_path))
    assert ours.other_owner("GPU-1") is None  # nobody has ever had it
    assert theirs.take("GPU-1")
    assert theirs.take("GPU-1"), "it is theirs already"
    assert not ours.take("GPU-1")
    assert ours.other_owner("GPU-1") == "u"
    assert theirs.other_owner("GPU-1") is None  # they themselves
    theirs.keep(("GPU-2",))
    assert ours.other_owner("GPU-1") is None
    assert ours.take("GPU-1")
    ours.keep(())
    theirs.keep(())


def test_who_looks_takes_nothing(tmp_path: Path):
    ours, theirs = GpuClaims(spec("t", tmp_path)), GpuClaims(spec("u", tmp_path))
    assert theirs.take("GPU-1")
    theirs.keep(())
    for _ in range(3):
        assert ours.other_owner("GPU-1") is None
    assert theirs.take("GPU-1")
    theirs.keep(())


def test_a_name_that_nobody_knows_is_no_reason_to_fail(tmp_path: Path):
    ours, theirs = GpuClaims(spec("t", tmp_path)), GpuClaims(spec("u", tmp_path))
    assert theirs.take("GPU-1")
    (tmp_path / "state/fred-supervise/gpus/GPU-1.json").write_text("{")
    assert ours.other_owner("GPU-1") == "of an unknown name"
    theirs.keep(())


def test_a_launch_takes_all_of_its_gpus_or_none(tmp_path: Path):
    ours, theirs = (RunGpus(run, MonitorClient(run)) for run in (spec("t", tmp_path), spec("u", tmp_path)))
    watcher = GpuClaims(spec("v", tmp_path))
    assert theirs.claim(("GPU-1",), shared=False)
    assert not ours.claim(("GPU-0", "GPU-1"), shared=False)
    assert watcher.other_owner("GPU-0") is None
    assert ours.uuids == ()
    assert ours.claim(("GPU-0", "GPU-1"), shared=True)  # a person has named them
    assert ours.uuids == ("GPU-0", "GPU-1")
    assert watcher.other_owner("GPU-0") == "t"
    ours.release(nvml=False)
    assert watcher.other_owner("GPU-0") is None
    assert watcher.other_owner("GPU-1") == "u"
    theirs.release(nvml=False)
