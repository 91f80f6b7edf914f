"""What stands beside a cause: the kernel's log, the code's changes, stacks from outside, an output of any length."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fred_supervisor.attempt import checkpoint_check, code_state, stack_dump
from fred_supervisor.linux import kernel_log, sparse_log
from fred_supervisor.store.checkpoints import CheckpointPicker, judged_before
from fred_supervisor.store.run_spec import RunSpec

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]


def git(folder: Path, *words: str) -> None:
    subprocess.run([*GIT, "-C", str(folder), *words], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_what_changed_in_the_code_since_the_first_attempt(fred, until):
    work = fred.home / "work"
    work.mkdir()
    trainer = work / "train.py"
    trainer.write_text(
        "import os, time\n"
        "while not os.path.exists('code-' + os.environ['FRED_ATTEMPT']): time.sleep(0.01)\n"
        "raise SystemExit(3)\n"
    )
    git(work, "init", "-q")
    git(work, "add", "train.py")
    git(work, "commit", "-qm", "first")
    attempts = fred.run_dir / "supervisor/attempts"
    words = ("--backoff", "0:0", "--max-restarts", "1", "--", sys.executable, str(trainer))
    assert fred("start", "--name", "t", *words).returncode == 0
    until((attempts / "0001/code.json").exists)
    trainer.write_text(trainer.read_text() + "# edited at night\n")
    (fred.home / "code-1").touch()
    until((attempts / "0002/code.json").exists)
    (fred.home / "code-2").touch()
    until(lambda: fred.status()["state"] == "failed")
    first, second = until(lambda: len(told := fred.incidents()) == 2 and told)  # written after the state
    assert first["evidence"]["code_changes"] is None
    assert second["evidence"]["code_changes"] == ["train.py changed"]
    assert "train.py changed" in fred("incidents", "t", "2").stdout


def test_code_that_is_in_no_repository_is_compared_file_by_file(tmp_path: Path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "data.bin").write_bytes(b"0" * 100)
    before = code_state.state(tmp_path)
    (tmp_path / "a.py").write_text("2")
    (tmp_path / "b.py").write_text("1")
    assert code_state.changes(before, code_state.state(tmp_path)) == ["a.py changed", "b.py changed"]
    assert code_state.changes(before, before) == []
    assert code_state.changes(None, before) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_a_new_commit_is_told(tmp_path: Path):
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    before = code_state.state(tmp_path)
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "second")
    (change,) = code_state.changes(before, code_state.state(tmp_path))
    assert re.fullmatch(r"commit [0-9a-f]{10} → [0-9a-f]{10}", change)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "sub/train.py", "--lr", "1"], "sub"),
        (["torchrun", "--nproc-per-node", "2", "sub/train.py"], "sub"),
        (["python", "-m", "package"], "."),
        (["sub/train.py"], "sub"),
    ],
)
def test_where_a_trainers_code_lies(tmp_path: Path, command: list[str], expected: str):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/train.py").touch()
    assert code_state.folder_of(command, str(tmp_path), Path("/ours")).resolve() == (tmp_path / expected).resolve()
    assert code_state.folder_of(None, str(tmp_path), Path("/ours")) == Path("/ours")


@pytest.mark.skipif(kernel_log.relevant_lines(0.0) is None, reason="the kernel log may not be read")
def test_the_kernels_word_on_a_segfault(fred):
    crash = "import ctypes; ctypes.string_at(1)"
    words = ("--foreground", "--max-restarts", "0", "--", sys.executable, "-c", crash)
    assert fred("start", "--name", "t", *words).returncode == 93
    (incident,) = fred.incidents()
    pid = fred.launch(1)["trainer"]["pid"]
    assert any("segfault" in line and f"[{pid}]" in line for line in incident["evidence"]["kernel"])
    assert "segfault" in fred("incidents", "t", "1").stdout


def test_the_out_of_memory_killer_names_its_victim():
    lines = ["Memory cgroup out of memory: Killed process 4711 (python) total-vm:1kB, anon-rss:1kB"]
    assert 4711 in kernel_log.killed(lines)
    assert 471 not in kernel_log.killed(lines)


@pytest.mark.skipif(stack_dump.py_spy() is None, reason="py-spy is not installed")
def test_the_stacks_of_a_trainer_that_cannot_write_its_own(fred, until, hangs):
    script = fred.home / "hangs.py"
    script.write_text(
        "import os, time\n"
        "def stuck_in_here():\n    time.sleep(600)\n"
        "open(os.environ['FRED_HEARTBEAT'], 'w').write('beat')\n"
        "open(os.environ['HUNG_FILE'], 'w').write(f\"{os.getpid()} {os.environ['FRED_RUN_DIR']}/supervisor/state.json\")\n"
        "stuck_in_here()\n"
    )
    words = (*hangs, "--max-restarts", "0", "--foreground", "--", sys.executable, str(script))
    assert fred("start", "--name", "t", *words).returncode == 93
    (incident,) = fred.incidents()
    assert incident["kind"] == "hang"
    if "Permission" in (incident["evidence"]["stacks"] or ""):
        pytest.skip("py-spy may not read other processes here")
    assert "stuck_in_here" in incident["evidence"]["stacks"]


@pytest.mark.skipif(stack_dump.py_spy() is None, reason="py-spy is not installed")
def test_dump_reads_a_foreign_trainer_without_harm(fred, until):
    script = fred.home / "works.py"
    script.write_text("import time\ndef at_work():\n    time.sleep(600)\nprint('up', flush=True)\nat_work()\n")
    assert fred("start", "--name", "t", "--", sys.executable, str(script)).returncode == 0
    until(lambda: "up" in fred.output(1))
    done = fred("dump", "t")
    assert "at_work" in done.stdout, done.stderr
    assert fred.status()["trainer"] is not None


def test_a_flood_of_output_keeps_beginning_and_end(fred, until):
    (fred.home / "small.toml").write_text("[supervisor]\noutput_max_mib = 8.0\n")
    script = (
        "import os, sys\nprint('the beginning')\n"
        "for at in range(40): sys.stdout.write('x' * (1 << 20) + '\\n')\n"
        "print('the end', flush=True)\nopen('flooded', 'w')\nimport time; time.sleep(600)\n"
    )
    words = ("--config", "small.toml", "--", sys.executable, "-c", script)
    assert fred("start", "--name", "t", *words).returncode == 0
    until((fred.home / "flooded").exists)
    path = fred.run_dir / "supervisor/attempts/0001/output.log"
    until(lambda: path.stat().st_blocks * 512 <= 8 << 20)
    assert path.stat().st_size > 40 << 20, "positions stay: it is a hole"
    shown = fred("logs", "t").stdout
    assert shown.startswith("the beginning")
    assert shown.endswith("the end\n")
    assert re.search(r"--- \d+ MiB of output are left out ---", shown)
    assert any("middle is left out" in line.get("text", "") for line in fred.journal())


def test_an_output_within_its_limit_is_left_alone(tmp_path: Path):
    path = tmp_path / "output.log"
    path.write_bytes(b"a" * 100_000)
    sparse_log.cap(path, 1 << 20)
    assert path.read_bytes() == b"a" * 100_000


def test_checkpoints_are_verified_when_they_appear(fred, until):
    assert fred(*fred.words(2, 20, {"1": ["wait", 2, 5]})).returncode == 0
    path = fred.run_dir / "freeze_epoch_1_weights.pth"
    verified = fred.run_dir / "supervisor/verified.json"
    judged = until(lambda: judged_before(verified))
    assert [(Path(key[0]).name, reason) for key, reason in judged.items()] == [(path.name, None)]
    path.write_bytes(b"torn")
    os.utime(fred.run_dir)  # as a rename into the folder does
    told = until(lambda: [e["text"] for e in fred.journal() if e["event"] == "checkpoint passed over"])
    assert path.name in told[0]
    assert fred.status()["state"] == "running", "it is told before anybody needs it"
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")


def test_of_a_checkpoint_that_is_written_over_and_over_one_judgement_is_kept(tmp_path: Path):
    """Also of files that come and go under new names: what is kept does not grow with the run."""
    spec = RunSpec(name="t", modality=None, run_dir=str(tmp_path), cwd="/", command=["x"], checkpoints="state*.json")
    spec.dir.supervisor.mkdir()
    picker = CheckpointPicker(spec)
    for number in range(5):
        (tmp_path / "state.json").write_text(json.dumps({"step": "1" * number}))
        (tmp_path / f"state{number}.json").write_text("{}")
        (tmp_path / f"state{number - 1}.json").unlink(missing_ok=True)
        checkpoint_check.main(str(tmp_path), "state*.json", str(spec.dir.verified))
        assert picker.take_verified() == []
    kept = judged_before(spec.dir.verified)
    assert sorted(Path(key[0]).name for key in kept) == ["state.json", "state4.json"]
    assert picker._judged == kept


def test_a_garbled_list_of_verified_checkpoints_is_no_list(tmp_path: Path):
    path = tmp_path / "verified.json"
    for text in (
        "",
        "[]",
        '{"x": null}',
        '{"[1, 2, 3, 4]": null}',
        '{"[\\"a\\", 1, 2, 3]": 5}',
        '{"[\\"a\\", 1, 2]": null}',
        '{"[\\"a\\", \\"b\\", 2, 3]": null}',
    ):
        path.write_text(text)
        assert judged_before(path) == {}


@pytest.fixture
def kernel(monkeypatch):
    """Says records as /dev/kmsg does: one at each read, then nothing for now."""
    ours, said = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *more: os.dup(ours.fileno()) if path == "/dev/kmsg" else real(path, *more)
    )
    with ours, said:
        yield lambda record: said.send(record.encode())


def test_the_kernel_log_is_read_from_the_attempts_beginning_on(kernel):
    kernel("6,1,999999,-;Out of memory: Killed process 6 (before)")
    kernel("6,2,1000000,-;Out of memory: Killed process 7 (python)\n SUBSYSTEM=x")
    kernel("6,3,1000001,-;usb 1-1: new device")
    kernel("3,4,2000000,c;NVRM: Xid (PCI:0000:01:00): 79")
    found = kernel_log.relevant_lines(1.0)
    assert found == ["Out of memory: Killed process 7 (python)", "NVRM: Xid (PCI:0000:01:00): 79"]
    assert kernel_log.relevant_lines(1.0) == []
    assert kernel_log.killed(found) == {7}


def test_a_kernel_log_of_another_form_is_not_known(kernel):
    kernel("no record")
    assert kernel_log.relevant_lines(0.0) is None


def test_a_kernel_log_that_may_not_be_read_is_not_known(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    assert kernel_log.relevant_lines(0.0) is None
