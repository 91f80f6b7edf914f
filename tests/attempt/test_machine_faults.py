"""What a trainer said, and what is so now: which of it is an error of the machine, where, and whether it is over."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.attempt import machine_faults
from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.store.attempt_files import ExitRecord
from fred_supervisor.store.run_spec import RunSpec


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    (tmp_path / "run").mkdir()
    return RunSpec(name="t", modality="dual", run_dir=str(tmp_path / "run"), cwd=str(tmp_path), command=["train"])


def said(spec: RunSpec, text: str, **known: int) -> MachineFault | None:
    return machine_faults.of_trainer(spec, known, None, text, shell_failed=False)


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [Errno 28] No space left on device",
        "RuntimeError: unable to write to file </torch_1_2>: No space left on device (28)",
        "thread 'main' panicked: Os { code: 28, message: \"No space left on device\" } (os error 28)",
        "OSError: [Errno 122] Disk quota exceeded: 'a.pth'",
        "torch_shm_manager: error: unable to allocate shared memory(shm) for file </t>: No space left on device (28)",
    ],
)
def test_the_place_that_is_full_is_found_and_asked_again(spec: RunSpec, small_disk: Path, monkeypatch, text: str):
    """It need not be the run dir: here TMPDIR."""
    monkeypatch.setenv("TMPDIR", str(small_disk))
    assert said(spec, text) is None, "there is room everywhere"
    (small_disk / "fill").write_bytes(b"0" * (25 << 20))
    fault = said(spec, f"Traceback\n{text}\nbye\n")
    assert fault is not None
    assert (fault.kind, fault.path, fault.wanted_mib, fault.seen) == (FaultKind.FULL, str(small_disk), 16.0, True)
    assert fault.free_mib is not None
    assert 6 <= fault.free_mib <= 7
    (small_disk / "fill").unlink()
    assert machine_faults.look(fault) is None


def test_a_file_system_smaller_than_a_checkpoint_is_not_full_for_ever(spec: RunSpec, small_disk: Path):
    os.system(f"mount -o remount,size=64k {small_disk}")
    name = f"OSError: [Errno 28] No space left on device: '{small_disk}/a'"
    assert said(spec, name) is None
    (small_disk / "a").write_bytes(b"0" * (64 << 10))
    fault = said(spec, name)
    assert fault is not None
    assert (fault.free_mib, fault.wanted_mib) == (0.0, 0.03125)


def test_a_file_system_that_takes_no_more_names_is_full(spec: RunSpec, small_disk: Path):
    os.system(f"mount -o remount,nr_inodes=3 {small_disk}")
    for name in ("a", "b"):
        (small_disk / name).touch()
    assert said(spec, f"OSError: [Errno 28] No space left on device: '{small_disk}/c'") is not None


def test_what_is_read_only_is_asked_again(spec: RunSpec, small_disk: Path):
    text = f"OSError: [Errno 30] Read-only file system: '{small_disk}/new/a.pth'"
    os.system(f"mount -o remount,ro {small_disk}")
    fault = said(spec, text)
    assert fault is not None
    assert (fault.kind, fault.path, fault.seen) == (FaultKind.UNWRITABLE, f"{small_disk}/new/a.pth", True)
    os.system(f"mount -o remount,rw {small_disk}")
    assert machine_faults.look(fault) is None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN])
def test_a_path_that_could_not_be_read_is_named(spec: RunSpec, tmp_path: Path, number: int):
    (tmp_path / "x.jpg").touch()
    fault = said(spec, f"OSError: [Errno {number}] {os.strerror(number)}: '{tmp_path}/x.jpg'")
    assert fault is not None
    assert (fault.kind, fault.path, fault.why) == (FaultKind.UNREADABLE, f"{tmp_path}/x.jpg", os.strerror(number))
    assert not fault.seen, "it can be read now"


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: can't start new thread",
        "go.sh: fork: retry: Resource temporarily unavailable",
        "libgomp: Thread creation failed: Resource temporarily unavailable",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: Resource temporarily unavailable",
    ],
)
def test_no_further_process(spec: RunSpec, text: str):
    fault = said(spec, text)
    assert fault is not None
    assert fault.kind is FaultKind.NO_PROCESS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "ValueError: x",
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        "OSError: [Errno 24] Too many open files",
        "OSError: [Errno 12] Cannot allocate memory",
        "FileNotFoundError: [Errno 2] No such file or directory: '/gone/a.jpg'",
        "OSError: [Errno 107] Transport endpoint is not connected",
        "warning: [Errno 5] Input/output error: 'x'\nKeyError: 3",
        "epoch 28, loss 5.0, errno 99",
        "[Errno 99999999999999999999999]",
    ],
)
def test_what_is_no_fault_of_the_machine_as_far_as_can_be_seen(spec: RunSpec, text: str):
    assert said(spec, text) is None


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(["[Errno ", "28]", "'", "/", ":", " ", "\n", "5", '"', "-"])).map("".join)
)
def test_whatever_a_trainer_says_raises_nothing(text: str):
    spec = RunSpec(name="t", modality="dual", run_dir="/nowhere/run", cwd="/nowhere", command=["train"])
    for shell_failed in (False, True):
        machine_faults.of_trainer(spec, {"/nowhere/x": 1}, None, text, shell_failed=shell_failed)
    error = ErrorRecord(kind=ErrorKind.DISK, message=text)
    assert machine_faults.of_trainer(spec, {}, error, "", shell_failed=False) is not None


# -- what was there, and is away -------------------------------------------------------------------------------------


def test_what_the_command_names_is_remembered_while_it_is_there(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "train.py").touch()
    words = ["python", "train.py", "--data=data", "--out=new", "-x", "", "\0", "--=data"]
    spec = RunSpec(name="t", modality="dual", run_dir=str(tmp_path / "run"), cwd=str(tmp_path), command=words)
    assert set(machine_faults.paths_of(spec, Lookout(str(tmp_path)))) == {
        str(tmp_path),
        str(tmp_path / "data"),
        str(tmp_path / "train.py"),
    }


def test_data_that_is_away_is_waited_for_and_a_file_that_never_was_is_not(spec: RunSpec, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    known = {str(data): data.stat().st_dev}

    def missing(name: str) -> MachineFault | None:
        text = f"FileNotFoundError: [Errno 2] No such file or directory: '{name}'"
        return machine_faults.of_trainer(spec, known, None, text, shell_failed=False)

    assert missing("data/1/RGB/a.jpg") is None, "the folder is there, so it is a file that is not"
    data.rmdir()
    fault = missing("data/1/RGB/a.jpg")
    assert fault is not None
    assert (fault.kind, fault.path, fault.seen) == (FaultKind.MISSING, str(data), True)
    assert missing("elsewhere/a.jpg") is None
    data.mkdir()
    assert machine_faults.look(fault) is None


def test_an_empty_mount_point_is_not_the_data(spec: RunSpec, tmp_path: Path):
    (tmp_path / "data").mkdir()
    known = {str(tmp_path / "data"): -1}
    text = f"cv2.error: can't open/read file: '{tmp_path}/data/a.jpg' does not exist"
    fault = machine_faults.of_trainer(spec, known, None, text, shell_failed=False)
    assert fault is not None
    assert fault.path == f"{tmp_path}/data/a.jpg"


# -- at a launch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EAGAIN, FaultKind.NO_PROCESS),
        (errno.ENOMEM, FaultKind.NO_MEMORY),
        (errno.EMFILE, FaultKind.NO_DESCRIPTOR),
        (errno.ENFILE, FaultKind.NO_DESCRIPTOR),
        (errno.EIO, FaultKind.UNREADABLE),
        (errno.ESTALE, FaultKind.UNREADABLE),
        (errno.ENOTCONN, FaultKind.UNREADABLE),
        (errno.EROFS, FaultKind.UNWRITABLE),
        (errno.ENOSPC, FaultKind.FULL),
        (errno.EDQUOT, FaultKind.FULL),
        (errno.EFBIG, FaultKind.UNWRITABLE),
        (errno.ENOENT, FaultKind.MISSING),
        (errno.ETXTBSY, FaultKind.UNEXECUTABLE),
        (errno.E2BIG, None),
        (errno.EINVAL, None),
        (None, None),
    ],
)
def test_what_an_error_of_a_launch_means(spec: RunSpec, number: int | None, kind: FaultKind | None):
    fault = machine_faults.of_error(spec, OSError(number, "x", "/nowhere/p"))
    assert (None if fault is None else fault.kind) is kind
    fault = machine_faults.of_exit(spec, ExitRecord(exec_error="x", exec_errno=number, exec_path="/nowhere/p"))
    assert (None if fault is None else fault.kind) is kind


def test_a_write_that_names_no_file_was_of_ours(spec: RunSpec):
    fault = machine_faults.of_error(spec, OSError(errno.ENOSPC, "x"))
    assert fault is not None
    assert fault.path == spec.run_dir
    assert machine_faults.look(fault) is None, "there is room"


def test_a_program_that_is_there_lacks_what_its_first_line_names(spec: RunSpec, tmp_path: Path):
    script = tmp_path / "t.sh"
    script.write_text(f"#!{tmp_path}/interpreter -x\n")
    script.chmod(0o755)
    fault = machine_faults.of_error(spec, OSError(errno.ENOENT, "x", str(script)))
    assert fault is not None
    assert (fault.path, fault.seen) == (f"{tmp_path}/interpreter", True)


def test_a_program_that_cannot_be_executed_is_asked_again(spec: RunSpec, tmp_path: Path):
    script = tmp_path / "t.sh"
    script.touch()
    fault = machine_faults.of_error(spec, OSError(errno.EACCES, "x", str(script)))
    assert fault is not None
    assert (fault.kind, fault.path, fault.seen) == (FaultKind.UNEXECUTABLE, str(script), True)
    script.chmod(0o755)
    assert machine_faults.look(fault) is None


@pytest.mark.parametrize("kind", [FaultKind.NO_PROCESS, FaultKind.NO_DESCRIPTOR])
def test_a_machine_that_gives_a_process_again(kind: FaultKind, monkeypatch):
    fault = MachineFault(kind=kind, why="x")
    assert machine_faults.look(fault) is None
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fork" if kind is FaultKind.NO_PROCESS else "pipe2", lambda *_: (_ for _ in ()).throw(OSError(11, "x"))
        )
        assert machine_faults.look(fault) == fault


def test_memory_that_is_short_is_told_with_how_much(monkeypatch):
    fault = MachineFault(kind=FaultKind.NO_MEMORY)
    monkeypatch.setattr(machine_faults, "available_memory_mib", lambda: 100.0)
    now = machine_faults.look(fault)
    assert now is not None
    assert (now.free_mib, now.wanted_mib) == (100.0, 512.0)
    monkeypatch.setattr(machine_faults, "available_memory_mib", lambda: 5000.0)
    assert machine_faults.look(fault) is None
