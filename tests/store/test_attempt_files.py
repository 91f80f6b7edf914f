"""What the small files of an attempt are believed."""

from pathlib import Path

import pytest

from fred_supervisor.attempt.output_times import TimesOfOutput
from fred_supervisor.contract.files import write_json
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.place import place_of


@pytest.mark.parametrize(
    ("name", "believed"),
    [("fred-0123-{here}-1", True), ("fred-0123-{here}-1-2", True), ("fred-0123-1.2-1", False), ("{here}", False)],
)
def test_a_control_group_is_believed_whose_name_says_this_place(tmp_path: Path, name: str, believed: bool):
    """Its processes are killed: one of another live run may have been written into a file by hand."""
    run = RunDir(tmp_path / "run")
    folder = run.attempt(1)
    folder.path.mkdir(parents=True, mode=0o700)
    here = place_of(run.path)
    group = tmp_path / name.format(here=here)
    group.mkdir()
    write_json(folder.launch, {"place": here, "cgroup": str(group)})
    assert read_launch(folder).cgroup == (str(group) if believed else None)


def test_the_last_line_was_printed_when_the_output_was_written_to_last(tmp_path: Path):
    folder = RunDir(tmp_path).attempt(1)
    folder.path.mkdir(parents=True)
    assert TimesOfOutput.of(folder).at(0) is None
    folder.output.write_text("Epoch 1/2\nEpoch 2/2\n")
    (folder.path / "output.times").write_text("10 1700000000\n")
    times = TimesOfOutput.of(folder)
    assert (times.at(0), times.at(10)) == (1700000000.0, folder.output.stat().st_mtime)
