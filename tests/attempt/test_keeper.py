"""What must hold of the keeper, whatever the machine does: how the trainer ended is written, and nobody is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.store.test_kept_file import fill

from fred_supervisor.attempt import keeper
from fred_supervisor.linux import reserved_file
from fred_supervisor.linux.reserved_file import ReservedFile


@pytest.mark.parametrize("full", [False, True])
def test_how_it_ended_is_written_on_a_full_disk_too(small_disk: Path, *, full: bool):
    path = small_disk / "exit.json"
    reserve = ReservedFile(str(path))
    if full:
        fill(small_disk)
    for survivors in ([{"pid": 1, "wchan": "x"}], []):  # at first somebody does not end
        reserve.write({"exit_code": 3, "survivors": survivors})
        assert json.loads(path.read_text()) == {"exit_code": 3, "survivors": survivors}
    assert [name for name in os.listdir(small_disk) if name != "fill"] == ["exit.json"], "nothing else is left"


def test_a_reserve_that_there_was_no_room_for_is_none(small_disk: Path):
    fill(small_disk)
    reserve = ReservedFile(str(small_disk / "exit.json"))
    reserve.write({"exit_code": 3})
    assert os.listdir(small_disk) == ["fill"], "lost, and nothing raised"


@pytest.mark.parametrize("full", [False, True])
def test_a_folder_in_the_place_of_the_end_is_put_aside(small_disk: Path, *, full: bool):
    path = small_disk / "exit.json"
    reserve = ReservedFile(str(path))
    (path / "of the trainer").mkdir(parents=True)
    if full:
        fill(small_disk)
    reserve.write({"exit_code": 3})
    assert json.loads(path.read_text()) == {"exit_code": 3}
    assert [one.name for one in small_disk.glob("exit.json.*/*")] == ["of the trainer"], "nothing of it is deleted"


def test_a_folder_that_is_gone_raises_nothing(tmp_path: Path):
    ReservedFile(str(tmp_path / "gone" / "exit.json")).write({"exit_code": 3})
    assert os.listdir(tmp_path) == []


def test_who_is_left_is_asked_of_the_kernel_not_of_proc():
    asks = "from fred_supervisor.attempt.keeper import _has_children\nimport os, signal\n"
    asks += "print(_has_children())\npid = os.fork()\nif pid == 0: signal.pause()\nprint(_has_children())\n"
    asks += "os.kill(pid, 9)\nprint(_has_children())\nos.waitpid(pid, 0)\nprint(_has_children())\n"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "True", "False"], done.stderr


def test_the_longest_end_fits_into_its_reserve():
    """What is left of a tree, named by bytes that are no text, and cannot be ended."""
    named = [{"pid": 1 << 22, "name": "\udcff" * 15}] * keeper._NAMED
    assert len(json.dumps({**keeper._exit_document(0, 0.0), "ended": named})) <= reserved_file._RESERVE_BYTES
