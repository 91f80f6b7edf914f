"""Failures that other people's training runs are known to have, each on real processes; and where the others stand.

Twenty cases by which a newcomer can be tested:

====  ================================================  ==============================================================
 K1   killed at a random step                           test_runs: test_kill_at_any_moment_never_ends_the_run
 K2   killed during a save                              here: test_killed_in_a_save; contract/test_checkpoint
 K3   stopped (SIGSTOP)                                 test_explained[stopped], [stopped worker]
 K4   asleep for ever in the main thread                test_explained[deadlock]
 K5   the interpreter lock held in C                    test_explained[gil hang]
 K6   slow, but healthy: save, evaluation, compilation  test_drill: test_an_hour_of_healthy_pauses_ends_nobody (slow)
 K7   crash at import                                   test_runs: test_a_crash_at_import_is_tried_exactly_…
 K8   the same crash at the same step                   test_runs: test_the_same_failure_at_the_same_step_is_the_code
 K9   out of memory until the batch fits                test_runs: test_out_of_memory_while_unfreezing_halves_…
 K10  an orphaned grandchild that holds a lock          here: test_an_orphan_does_not_keep_its_lock
 K11  a worker that ignores SIGTERM                     test_runs: test_stop_of_a_trainer_that_ignores_it
 K12  supervisor killed and started again; pid reuse    test_killed_anywhere, test_survive
 K13  truncated, flipped, NaN, future, empty newest     here: test_a_bad_newest_checkpoint_is_passed_over
 K14  no space left in a save                           test_explained[disk], test_disk_and_service
 K15  port taken                                        here: test_a_port_that_is_taken_is_waited_out
 K16  NVML: Xid, lost GPU, foreign memory, a hung call  monitor/test_driver, monitor/test_gpus
 K17  the clock jumps                                   test_survive; monitor/wall_clock.c
 K18  a flood of output                                 test_evidence: test_a_flood_of_output_keeps_beginning_and_end
 K19  exit 0 without progress                           test_runs: test_exit_0_before_the_last_epoch_is_a_failure
 K20  the order of samples after a resume               trainer/test_training: …goes_on_where_it_was_and_ends_the_same
====  ================================================  ==============================================================

What users complain about most, by its number in the field notes:

1, 2, 4 a healthy phase killed: K6, policy/test_watch. 3 a phase left open by the dead: test_a_save_left_open_is_closed.
5 never reported: test_runs: test_any_program_is_watched_for_its_exit. 6 the second incident lost: test_runs (three in a
row). 7 orphans: K10. 8 strangers killed: test_survive. 9 unkillable: test_what_does_not_end. 10 hangs itself: test_runs:
test_stop_with_the_supervisor_dead. 11 budgets: policy/test_decide. 12 poisoned checkpoint: policy/test_decide (blamed).
13 half-written: K2, K13. 14 SIGTERM: test_only_the_trainer_is_asked_to_leave. 15 the first error: test_explained. 16, 17
resume: K20. 18 batch and resume: test_what_was_learned_is_kept. 19 out of memory in the process: K9. 20 not seeing is not
dead: test_rough. 21 adopted: K12. 22 ports: K15. 23 no error text: test_explained. 24 identity over attempts:
test_attempts_share_a_run_id. 25 disk: K14. 26 a hung driver: K16. 27 SIGHUP: test_a_hangup_ends_nobody. 28 stacks: test_evidence.

Pitfalls of supervisors, likewise:

1, 3, 5, 10 pidfd, reaping, identity, TERM then CONT: test_survive, test_explained[stopped]. 2 an inherited SIGCHLD:
test_an_ignored_child_signal_hides_no_exit. 6 exec without a shell: test_runs (signals are told). 7, 8 groups and sessions:
K10, test_what_does_not_end. 9 no death signal: test_runs: test_a_trainer_outlives_its_supervisor. 11 D state:
test_what_does_not_end. 12 the GPU after the end: monitor/test_gpus. 13, 18 inherited descriptors and locks: test_runs:
…is_cut_loose…, test_rough: …closed_standard_input…. 14-16 output: K18. 17 state: test_killed_anywhere, test_rough (garbled).
19 no pid file. 20-23 clocks and heartbeats: K17, test_runs: test_our_own_pause…, policy/test_watch. 24-27 systemd:
test_disk_and_service, test_bad_input (codes). 28 places: test_bad_input. 29 no socket: requests are signals. 30, 31 groups and
their memory: test_explained[host_oom]. 32-34 the unit: its own tests. 35 Python: test_rough.
"""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.helpers.fred import PATIENCE_S, TRAINERS
from tests.helpers.sidecar import change_sidecar

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import read_sidecar

LIMITS = f"import os, sys, signal, time, subprocess\nsys.path.append({str(TRAINERS)!r})\nfrom fred_supervisor.contract import Heartbeat\n"


def start(fred, script: str, *flags: str) -> list[str]:
    """The command line of a run of a small Python program; `attempt` and `run` are known to it."""
    known = "attempt, run = int(os.environ['FRED_ATTEMPT']), os.environ['FRED_RUN_DIR']\n"
    (fred.home / "train.py").write_text(LIMITS + known + script)
    return ["start", "--name", "t", "--backoff", "0:0", *flags, "--", sys.executable, str(fred.home / "train.py")]


def test_killed_in_a_save(fred):
    """What was being written is no checkpoint, and the newest whole one is used."""
    script = """
import shutil
if attempt == 1:
    hb = Heartbeat(); hb.beat(epoch=3, step=1)
    with hb.section("checkpoint"):
        whole = open(os.environ["FRED_RESUME"], "rb").read()
        for name in (".3.tmp", "freeze_epoch_3_weights.pth"):
            open(f"{run}/{name}", "wb").write(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
"""
    assert fred.run(2, 3, {}).returncode == 0
    newest = list_checkpoints(fred.run_dir)[0].path
    (fred.run_dir / "supervisor/state.json").unlink()
    script = script.replace("attempt == 1", "attempt == 2")
    assert fred(*start(fred, script, "--foreground"), timeout=PATIENCE_S).returncode == 0
    assert fred.launch(3)["resume"] == str(newest)
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["section"]) == ("crash", "checkpoint")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [truncate, empty, flip, partial(change_sidecar, finite=False), partial(change_sidecar, format_version=99)],
    ids=["truncated", "empty", "flipped", "NaN", "of the future"],
)
def test_a_bad_newest_checkpoint_is_passed_over(fred, damage):
    """It stays where it is, people are told, and the one before is used."""
    assert fred.run(3, 3, {}).returncode == 0
    newest, before, *_ = (found.path for found in list_checkpoints(fred.run_dir))
    assert read_sidecar(newest) is not None
    damage(newest)
    (fred.run_dir / "supervisor/state.json").unlink()
    assert fred.run(4, 3, {}).returncode == 0
    assert fred.launch(2)["resume"] == str(before)
    assert newest.exists()
    assert any(f"{newest.name} is passed over" in line["text"] for line in fred.journal())


def test_an_orphan_does_not_keep_its_lock(fred):
    """A worker in a session of its own that holds what the next attempt needs (on a GPU: its memory)."""
    script = """
import fcntl
lock = open(f"{run}/lock", "w")
if attempt == 1:
    worker = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time; fcntl.flock(3, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"],
        pass_fds=(os.dup2(lock.fileno(), 3),), start_new_session=True, stdout=subprocess.PIPE)
    worker.stdout.readline()
    os.kill(os.getpid(), signal.SIGKILL)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
    assert fred(*start(fred, script, "--foreground")).returncode == 0
    assert len(fred.incidents()) == 1, fred.output(2)


def test_a_port_that_is_taken_is_waited_out(fred):
    """Held, without cost, and tried again with another port."""
    script = """
open(f"{run}/ports", "a").write(os.environ["MASTER_PORT"] + "\\n")
if attempt == 1:
    raise OSError("[Errno 98] Address already in use")
"""
    (fred.home / "c.toml").write_text("[supervisor]\nreprobe_s = 0.1\n")
    words = start(fred, script, "--foreground", "--max-restarts", "0", "--config", "c.toml")
    assert fred(*words).returncode == 0
    first, second = (fred.run_dir / "ports").read_text().split()
    assert first != second
    (incident,) = fred.incidents()
    assert "Address already in use" in incident["cause"]
    assert "Held" in incident["action"]


def test_a_save_left_open_is_closed(fred, hangs):
    """Its section died with the attempt: the next one is not judged by it."""
    script = """
from misbehaving import be_slow
hb = Heartbeat()
hb.beat(epoch=1, step=attempt)
if attempt == 1:
    with hb.section("checkpoint"):
        os.kill(os.getpid(), signal.SIGKILL)
be_slow(30)
"""
    assert fred(*start(fred, script, "--foreground", "--hang-timeout", "checkpoint=10")).returncode == 0
    assert [i["kind"] for i in fred.incidents()] == ["crash"]


def test_only_the_trainer_is_asked_to_leave(fred, until):
    """Loader workers that are asked, too, die under the last save."""
    script = """
hb = Heartbeat()
worker = subprocess.Popen([sys.executable, "-c",
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True));"
    "print('ready', flush=True); time.sleep(600)"], stdout=subprocess.PIPE, text=True)
worker.stdout.readline()
hb.beat(epoch=1, step=1)
while not hb.stopping:
    time.sleep(0.01)
import select
asked = bool(select.select([worker.stdout], [], [], 0.3)[0])  # time in which it would say so
open(f"{run}/told", "w").write(f"{worker.poll()} {asked}")
sys.exit(75)
"""
    assert fred(*start(fred, script)).returncode == 0
    until(lambda: fred.status()["progress"]["step"] == 1)
    assert fred("stop", "t").returncode == 0
    assert (fred.run_dir / "told").read_text() == "None False"
    assert fred.left() == []


def test_a_stop_takes_as_long_as_the_save_and_not_its_whole_grace(fred, until):
    """Who waits for the grace to pass is still waiting when this test gives up."""
    script = """
hb = Heartbeat()
hb.beat(epoch=1, step=1)
while not hb.stopping:
    time.sleep(0.01)
sys.exit(75)
"""
    assert fred(*start(fred, script)).returncode == 0
    until(lambda: fred.status()["progress"]["step"] == 1)
    assert fred("stop", "t", "--timeout", "100000", timeout=PATIENCE_S).returncode == 0
    assert fred.status()["state"] == "stopped"


def test_attempts_share_a_run_id(fred):
    script = """
open(f"{run}/ids", "a").write(os.environ["FRED_RUN_ID"] + "\\n")
sys.exit(attempt < 3)
"""
    assert fred(*start(fred, script, "--foreground")).returncode == 0
    assert len(set((fred.run_dir / "ids").read_text().split())) == 1


def test_a_hangup_ends_nobody(fred, until):
    """As when the terminal or the ssh session ends."""
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    status = fred.status()
    os.kill(status["supervisor"]["pid"], signal.SIGHUP)
    os.kill(fred.launch(1)["keeper"]["pid"], signal.SIGHUP)
    assert fred("restart", "t").returncode == 0, "it still answers"
    after = until(lambda: (s := fred.status())["trainer"] and s)
    assert after["supervisor"]["pid"] == status["supervisor"]["pid"]


def test_an_ignored_child_signal_hides_no_exit(fred):
    """Started by a parent that ignores SIGCHLD, exit 5 would look like 0."""
    words = [sys.executable, "-m", "fred_supervisor.cli.main", "start", "--name", "t", "--foreground"]
    done = subprocess.run(
        [*words, "--max-restarts", "0", "--", "sh", "-c", "exit 5"],
        cwd=fred.home,
        env=fred.environ,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        timeout=PATIENCE_S,
    )
    assert done.returncode == 93
    assert fred.incidents()[0]["exit_code"] == 5


def test_what_was_learned_is_kept(fred, until):
    """A halved batch outlives a stop, and what a person sets by hand afterwards outranks it."""
    script = """
hb = Heartbeat()
batch = int(os.environ["FRED_UNFREEZE_BATCH_SIZE"] or 8)
hb.beat(epoch=1, step=1, phase="unfreeze")
if batch > 4:
    raise RuntimeError("CUDA out of memory")
open(f"{run}/batches", "a").write(f"{batch}\\n")
while not hb.stopping:
    time.sleep(0.01)
sys.exit(75)
"""
    batches = fred.run_dir / "batches"
    for flags, seen in (([], "4"), ([], "4"), (["--unfreeze-batch-size", "2"], "2"), ([], "2")):
        before = len(batches.read_text().split()) if batches.exists() else 0
        assert fred(*start(fred, script, *flags)).returncode == 0
        until(lambda before=before: batches.exists() and len(batches.read_text().split()) > before)
        assert batches.read_text().split()[-1] == seen
        assert fred("stop", "t").returncode == 0
    told = [line["text"] for line in fred.journal() if line["event"] == "set by hand"]
    assert told == ["The unfreeze batch was learned to be 4; now it is 2, as set by hand."]


def test_a_command_that_never_takes_the_offered_batch_is_told_so(fred):
    script = "raise RuntimeError('CUDA out of memory')"
    words = start(fred, script, "--foreground")
    assert fred(*words).returncode == 93
    first, *offered = [incident["action"] for incident in fred.incidents()]
    assert "expandable segments" in first
    assert len(offered) == 4, "4, 2, 1, and given up"
    assert all("no {unfreeze_batch_size} in its words" in action for action in offered)
    assert "whatever batch is offered. The command has no {unfreeze_batch_size}" in fred.status()["detail"]
    (fred.run_dir / "supervisor/state.json").unlink()
    assert fred(*words, "--batch={unfreeze_batch_size}").returncode == 93
    assert "in its words" not in fred.incidents()[-1]["action"], "it is told, and takes it or not"
