"""Whole runs of a small trainer that misbehaves: what is seen, what is done, what is left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.helpers.fred import PATIENCE_S, kill_supervisor

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc


def test_a_healthy_run_is_left_alone(fred):
    done = fred.run(2, 5, {})
    assert done.returncode == 0, done.stderr
    status = fred.status()
    assert status["state"] == "completed"
    assert "recorded" in status["detail"]
    assert status["restarts"]["total"] == 0
    assert fred.incidents() == []
    assert status["progress"]["epoch"] == 2
    assert status["checkpoint"]["path"].endswith("unfreeze_epoch_2_weights.pth")


def test_a_killed_trainer_goes_on_from_the_newest_checkpoint(fred):
    assert fred.run(3, 10, {"1": ["kill", 2, 5]}).returncode == 0
    (incident,) = fred.incidents()
    assert incident["kind"] == "crash"
    assert incident["signal"] == signal.SIGKILL
    assert "SIGKILL" in incident["cause"]
    assert (incident["phase"], incident["epoch"], incident["step"]) == ("unfreeze", 2, 4)
    assert incident["lost_steps"] == 4
    assert incident["checkpoint"].endswith("freeze_epoch_1_weights.pth")
    assert incident["recovered_after_s"] is not None
    assert "from epoch 2" in fred.output(2)
    assert fred.status()["batch"]["unfreeze"] is None, "somebody's kill is never a reason to halve"


def test_a_hang_is_ended_with_its_stacks(fred, hangs):
    done = fred.run(3, 10, {"1": ["hang", 2, 5]}, *hangs)
    assert done.returncode == 0, done.stderr
    (incident,) = fred.incidents()
    assert incident["kind"] == "hang"
    assert incident["section"] == "train"
    assert "misbehave" in incident["evidence"]["stacks"]
    assert fred.status()["restarts"]["hang"] == 1


def test_a_hang_of_the_deaf_and_of_the_stopped_is_ended_too(fred, hangs):
    assert fred.run(3, 5, {"1": ["deaf", 2, 1], "2": ["stop", 3, 1]}, *hangs).returncode == 0
    assert [i["kind"] for i in fred.incidents()] == ["hang", "hang"]


def test_a_slow_step_within_the_limit_is_not_a_hang(fred, hangs):
    assert fred.run(2, 3, {"1": ["slow", 1, 2]}, "--hang-timeout", "3000").returncode == 0
    assert fred.incidents() == []


def test_out_of_memory_while_unfreezing_halves_the_batch_until_it_fits(fred):
    assert fred.run(3, 4, {"*": ["oom", 2, 1]}).returncode == 0
    assert [i["kind"] for i in fred.incidents()] == ["oom", "oom"]
    batch = fred.status()["batch"]
    assert batch == {"unfreeze": 2, "accumulate": 4, "effective": 8, "initial": None, "confirmed": False}
    assert fred.launch(3)["environment"]["FRED_UNFREEZE_BATCH_SIZE"] == "2"
    assert fred.launch(1)["environment"]["FRED_UNFREEZE_BATCH_SIZE"] == ""
    assert "8 → 4" in fred.incidents()[0]["action"]


def test_no_halve_never_changes_the_batch(fred):
    assert fred.run(3, 4, {"*": ["oom", 2, 1]}, "--no-halve").returncode == 93
    assert fred.launch(3)["environment"]["FRED_UNFREEZE_BATCH_SIZE"] == ""
    assert "batch" not in " ".join(i["action"] for i in fred.incidents())


def test_exit_0_before_the_last_epoch_is_a_failure(fred):
    """Today's trainer stops at the phase boundary like this: no error, no log, exit code 0."""
    assert fred.run(3, 4, {"1": ["exit0", 2, 1]}).returncode == 0
    (incident,) = fred.incidents()
    assert incident["kind"] == "silent_exit"
    assert incident["exit_code"] == 0
    assert "epoch 1 of 3" in incident["cause"]


def test_the_same_failure_at_the_same_step_is_the_code(fred):
    done = fred.run(3, 4, {"*": ["raise", 2, 2]}, "--same-failure", "3")
    assert done.returncode == 93
    status = fred.status()
    assert status["state"] == "failed"
    assert "the same old bug" in status["detail"]
    assert "3 times" in status["detail"]
    assert len(fred.incidents()) == 3
    assert "RuntimeError" in fred.incidents()[0]["evidence"]["traceback"]


def test_the_budget_is_checked_before_every_relaunch(fred):
    assert fred.run(3, 4, {"*": ["kill", 2, 2]}, "--max-restarts", "4").returncode == 93
    assert len(fred.incidents()) == 5, "the first attempt and four relaunches"
    assert "4 relaunches without new progress" in fred.status()["detail"]
    assert fred.status()["restarts"]["budget_left"] == 0


def test_a_refused_configuration_is_never_retried(fred):
    assert fred.run(3, 4, {"*": ["config", 1, 1]}).returncode == 93
    assert [i["kind"] for i in fred.incidents()] == ["config"]


def test_a_crash_at_import_is_tried_exactly_as_often_as_the_policy_says(fred):
    assert fred.run(3, 4, {"*": ["import", 0, 0]}, "--same-failure", "2").returncode == 93
    assert len(fred.incidents()) == 2
    assert "no_such_module" in fred.incidents()[0]["cause"]


def test_a_grandchild_in_a_session_of_its_own_does_not_survive(fred):
    assert fred.run(2, 3, {"1": ["orphan", 2, 1]}).returncode == 0
    orphan = int((fred.run_dir / "orphan").read_text())
    assert proc.stat(orphan) is None
    assert fred.left() == []


def test_back_off_doubles(fred):
    done = fred(
        *[
            w if w != "0:0" else "0.1:0.2"
            for w in fred.words(2, 3, {"*": ["kill", 1, 2]}, "--foreground", "--max-restarts", "3")
        ]
    )
    assert done.returncode == 93
    assert [i["action"].split()[-2] for i in fred.incidents()[:3]] == ["0.1", "0.2", "0.2"]


def test_a_back_off_says_what_for(fred, until):
    assert fred("start", "--name", "t", "--backoff", "60:60", "--", "sh", "-c", "exit 3").returncode == 0
    until(lambda: fred.status()["state"] == "waiting")
    until(lambda: "Exit code 3." in fred.status()["detail"])
    assert "Next attempt in" in fred.status()["detail"]


def test_stop_saves_and_leaves_nothing(fred, until):
    assert fred(*fred.words(1000, 1000000, {})).returncode == 0
    until(lambda: fred.status()["progress"]["epoch"] is not None)
    done = fred("stop", "t")
    assert done.returncode == 0, done.stderr
    assert fred.status()["state"] == "stopped"
    assert fred.left() == []
    assert fred.status()["checkpoint"]["valid"], "the trainer saved on SIGTERM"
    assert fred("stop", "t").returncode == 3
    assert fred("status", "t").returncode == 3


def test_stop_of_a_trainer_that_ignores_it(fred, until):
    assert fred(*fred.words(2, 5, {"*": ["deaf", 1, 2]})).returncode == 0
    until(lambda: fred.status()["progress"]["step"] == 1)
    assert fred("stop", "t", "--timeout", "0.5").returncode == 0
    assert fred.left() == []
    assert fred.status()["state"] == "stopped"


def test_a_second_start_of_a_live_run_touches_nothing(fred, until):
    assert fred(*fred.words(1000, 1000000, {})).returncode == 0
    until(lambda: fred.status()["progress"]["epoch"] is not None)
    pid = fred.status()["trainer"]["pid"]
    again = fred(*fred.words(1000, 1000000, {}))
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1
    assert "live" in again.stderr
    assert fred.status()["trainer"]["pid"] == pid


def test_a_completed_run_says_how_to_go_on(fred):
    assert fred.run(1, 2, {}).returncode == 0
    again = fred(*fred.words(1, 2, {}))
    assert again.returncode == 1
    assert "--new" in again.stderr
    assert fred.run(1, 2, {}).returncode == 0, "a service at boot"
    assert fred.launch(1)["attempt"] == 1
    assert not (fred.run_dir / "supervisor/attempts/0002").exists()
    assert fred(*fred.words(1, 2, {}, "--new", "--foreground")).returncode == 0
    assert (fred.home / "logs" / "fred_t-2" / "supervisor").is_dir()


def test_a_stopped_run_goes_on_where_it_was(fred, until):
    assert fred(*fred.words(4, 5, {"1": ["wait", 2, 3]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    with fred.popen("stop", "t") as stop:
        until(lambda: fred.status()["state"] == "stopping")
        (fred.run_dir / "go").touch()
        assert stop.wait(60) == 0
    assert fred.status()["state"] == "stopped"
    assert fred.status()["checkpoint"]["epoch"] == 2
    assert fred.run(4, 5, {}).returncode == 0
    assert fred.status()["state"] == "completed"
    assert "attempt 2 from epoch 3" in fred.output(2)
    assert fred.incidents() == []


def test_status_answers_while_the_supervisor_is_stopped(fred, until):
    assert fred(*fred.words(1000, 1000000, {})).returncode == 0
    until(lambda: fred.status()["progress"]["epoch"] is not None)
    supervisor = fred.status()["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    until(lambda: proc.stopped(proc.identify(supervisor)))
    before = fred.status()
    assert before["state"] == "running"
    until(lambda: fred.status()["progress"]["samples"] > before["progress"]["samples"])
    assert "SIGSTOP" in fred.status()["detail"]
    assert fred("stop", "t", "--timeout", "5").returncode == 0, "also with the supervisor hung"
    assert fred.left() == []
    assert fred.status()["state"] == "stopped"


def test_stop_with_the_supervisor_dead(fred, until):
    assert fred(*fred.words(1000, 1000000, {})).returncode == 0
    until(lambda: fred.status()["progress"]["epoch"] is not None)
    kill_supervisor(fred)
    status = fred.status()
    assert status["state"] == "running"
    assert "gone" in status["detail"]
    assert fred("stop", "t").returncode == 0
    assert fred.left() == []
    assert fred.status()["state"] == "stopped"


def test_a_trainer_outlives_its_supervisor_and_is_adopted(fred, until):
    assert fred(*fred.words(2, 3, {"1": ["wait", 2, 2]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    before = fred.status()
    kill_supervisor(fred)
    assert fred(*fred.words(2, 3, {})).returncode == 0
    after = fred.status()
    assert after["supervisor"]["alive"]
    assert after["trainer"]["pid"] == before["trainer"]["pid"]
    assert after["trainer"]["attempt"] == 1
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")
    assert fred.incidents() == []


def test_an_end_that_nobody_watched_is_answered_by_the_next_supervisor(fred, until):
    assert fred(*fred.words(2, 3, {"1": ["wait", 2, 2]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    status = fred.status()
    kill_supervisor(fred)
    os.kill(status["trainer"]["pid"], signal.SIGKILL)
    until((fred.run_dir / "supervisor/attempts/0001/exit.json").exists)
    assert fred.run(2, 3, {}).returncode == 0
    (incident,) = fred.incidents()
    assert incident["signal"] == signal.SIGKILL
    assert fred.launch(2)["resume"].endswith("freeze_epoch_1_weights.pth")


def test_a_trainer_outlives_its_keeper(fred, until):
    assert fred(*fred.words(2, 3, {"1": ["wait", 2, 2]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    keeper, trainer = (fred.launch(1)[who]["pid"] for who in ("keeper", "trainer"))
    os.kill(keeper, signal.SIGKILL)
    until(lambda: any(line["event"] == "keeper lost" for line in fred.journal()))
    assert fred.status()["trainer"]["pid"] == trainer
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")
    assert fred.incidents() == []


def test_a_crash_after_the_keeper_died_is_still_explained(fred, until):
    assert fred(*fred.words(2, 3, {"1": ["wait", 2, 2]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    keeper, trainer = (fred.launch(1)[who]["pid"] for who in ("keeper", "trainer"))
    os.kill(keeper, signal.SIGKILL)
    until(lambda: any(line["event"] == "keeper lost" for line in fred.journal()))
    os.kill(trainer, signal.SIGSEGV)
    until(lambda: fred.status()["state"] == "completed")
    (incident,) = fred.incidents()
    assert incident["signal"] == signal.SIGSEGV


def test_any_program_is_watched_for_its_exit(fred, until):
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    status = until(lambda: (s := fred.status())["state"] == "running" and s)
    assert "exit only" in status["detail"]
    assert status["trainer"]["section"] is None
    assert proc.stat(status["trainer"]["pid"]) is not None


def test_exit_0_of_any_program_is_completed_but_unverified(fred):
    assert fred("start", "--name", "t", "--foreground", "--", "true").returncode == 0
    status = fred.status()
    assert status["state"] == "completed"
    assert "unverified" in status["detail"]


def test_a_done_file_says_what_exit_0_does_not(fred):
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--done-file", "done*", "--same-failure", "2"]
    assert fred(*words, "--", "true").returncode == 93
    assert [i["kind"] for i in fred.incidents()] == ["silent_exit", "silent_exit"]
    assert fred.incidents()[0]["cause"] == "The trainer left with exit code 0; no new file fits --done-file done*."
    assert fred(*words, "--", "sh", "-c", "date > $FRED_RUN_DIR/done.txt").returncode == 0


HANGS = 'echo "$$ $FRED_RUN_DIR/supervisor/state.json" > "$HUNG_FILE"; sleep 600'


def test_touching_the_file_is_a_beat_and_silence_is_a_hang(fred, hangs):
    script = 'test "$FRED_ATTEMPT" = 2 && exit 0; date > "$FRED_HEARTBEAT"; ' + HANGS
    done = fred("start", "--name", "t", "--foreground", *hangs, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert [i["kind"] for i in fred.incidents()] == ["hang"]


def test_a_progress_file_is_a_sign_of_life(fred, hangs):
    script = 'test "$FRED_ATTEMPT" = 2 && exit 0; date > "$FRED_RUN_DIR/log.csv"; ' + HANGS
    words = ["start", "--name", "t", "--foreground", *hangs, "--progress-file", "*.csv"]
    assert fred(*words, "--", "sh", "-c", script).returncode == 0
    assert [i["kind"] for i in fred.incidents()] == ["hang"]


def test_placeholders_and_environment(fred):
    program = "import os, sys; print(sys.argv[1:]); print({k: v for k, v in os.environ.items() if 'FRED' in k or 'NOTIFY' in k})"
    fred.environ["NOTIFY_SOCKET"] = "/nowhere"
    words = [
        "{run_dir}",
        "{modality}",
        "{attempt}",
        "--resume={resume}",
        "{other}",
        "b={unfreeze_batch_size}",
        "{heartbeat}",
    ]
    done = fred(
        "start", "--name", "t", "--foreground", "--modality", "rgb", "--", sys.executable, "-c", program, *words
    )
    assert done.returncode == 0
    given, environ = fred.output(1).splitlines()
    beat = f"{fred.run_dir}/supervisor/attempts/0001/heartbeat"
    assert given == str([str(fred.run_dir), "rgb", "1", "{other}", beat])
    assert "NOTIFY_SOCKET" not in environ
    assert "'FRED_RESUME': ''" in environ
    assert "'FRED_UNFREEZE_BATCH_SIZE': ''" in environ


def test_a_batch_set_by_hand_is_an_order_from_the_first_attempt_on(fred):
    program = "import os; print(os.environ['FRED_UNFREEZE_BATCH_SIZE'])"
    words = ["start", "--name", "t", "--foreground", "--unfreeze-batch-size", "6", "--", sys.executable, "-c", program]
    assert fred(*words).returncode == 0
    assert fred.output(1) == "6\n"


def test_checkpoints_of_another_tool(fred):
    script = 'echo "resume=$1"; date > "$FRED_HEARTBEAT"; echo weights > "$FRED_RUN_DIR/w-$FRED_ATTEMPT.bin"; test "$FRED_ATTEMPT" = 2'
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--checkpoints", "w-*.bin"]
    assert fred(*words, "--", "sh", "-c", script, "sh", "{resume}").returncode == 0
    assert fred.output(1) == "resume=\n"
    assert fred.output(2) == f"resume={fred.run_dir}/w-1.bin\n"


def test_the_trainer_is_cut_loose_from_terminal_and_signals(fred, until):
    fred("start", "--name", "t", "--", "sleep", "600")
    trainer, keeper = fred.launch(1)["trainer"]["pid"], fred.launch(1)["keeper"]["pid"]
    supervisor = fred.status()["supervisor"]["pid"]
    assert len({os.getsid(pid) for pid in (trainer, keeper, supervisor, os.getpid())}) == 4
    assert os.readlink(f"/proc/{trainer}/fd/0") == os.devnull
    assert sorted(os.listdir(f"/proc/{trainer}/fd")) == ["0", "1", "2"], "nothing is inherited that it should not have"
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        ignored = next(
            line for line in Path(f"/proc/{trainer}/status").read_text().splitlines() if line.startswith("SigIgn")
        )
        assert not int(ignored.split()[1], 16) >> (number - 1) & 1
    blocked = next(
        line for line in Path(f"/proc/{trainer}/status").read_text().splitlines() if line.startswith("SigBlk")
    )
    assert int(blocked.split()[1], 16) == 0


def test_files_are_private(fred):
    assert fred.run(1, 2, {"1": ["kill", 1, 2]}).returncode == 0
    folder = fred.run_dir / "supervisor"
    modes = {p.relative_to(folder): p.stat().st_mode & 0o777 for p in (folder, *folder.rglob("*"))}
    wrong = {p: oct(m) for p, m in modes.items() if m != (0o700 if (folder / p).is_dir() else 0o600)}
    assert wrong == {}


def test_the_foreground_leaves_on_sigterm(fred, until):
    process = fred.popen(*fred.words(1000, 1000000, {}, "--foreground"))
    until(
        lambda: (fred.run_dir / "supervisor/attempts/0001/launch.json").exists() and fred.status()["progress"]["epoch"]
    )
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "Stopped" in out
    assert fred.status()["state"] == "stopped"


def test_our_own_pause_is_not_the_trainers_hang(fred, until, hangs):
    """A supervisor that was held up for longer than the limit gives everybody a fresh deadline."""
    assert fred(*fred.words(2, 5, {"1": ["wait", 1, 3]}, *hangs)).returncode == 0
    until((fred.run_dir / "waiting").exists)
    fred.away(3600)
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")
    assert fred.incidents() == []


def test_a_stopped_supervisor_ends_nobody(fred, until):
    assert fred(*fred.words(2, 5, {"1": ["wait", 1, 3]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    supervisor = fred.status()["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    until(lambda: proc.stopped(proc.identify(supervisor)))
    (fred.run_dir / "go").touch()
    os.kill(supervisor, signal.SIGCONT)
    until(lambda: fred.status()["state"] == "completed")
    assert fred.incidents() == []


def test_the_monitor_comes_after_the_trainer_and_leaves_with_the_run(fred, until):
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    sample = until(lambda: read_json(fred.run_dir / "supervisor/monitor.json"))
    monitor = sample["pid"]
    until(
        lambda: (
            (s := json.loads((fred.run_dir / "supervisor/monitor.json").read_text()))
            and s["host"]["memory_available_mib"]
        )
    )
    assert isinstance(fred.status()["gpus"], list)
    os.kill(monitor, signal.SIGKILL)
    until(lambda: proc.stat(monitor) is None)
    assert fred.status()["state"] == "running", "a dead monitor is no reason for anything"
    assert fred("stop", "t").returncode == 0
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(fred.run_dir) in " ".join(p.info["cmdline"] or [])]


def test_a_monitor_that_hangs_holds_nobody_up(fred, until):
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    monitor = until(lambda: read_json(fred.run_dir / "supervisor/monitor.json"))["pid"]
    os.kill(monitor, signal.SIGSTOP)
    assert fred("stop", "t").returncode == 0
    until(lambda: proc.stat(monitor) is None)


def test_status_json_has_every_key_of_the_contract(fred):
    assert fred.run(2, 3, {"1": ["kill", 2, 2]}).returncode == 0
    status = fred.status()
    assert list(status) == [
        *("name", "run_dir", "modality", "state", "detail", "started_at", "ended_at"),
        *("last_started_at", "worked_s", "drill", "supervisor", "trainer"),
        *(
            "progress",
            "checkpoint",
            "restarts",
            "batch",
            "gpus",
            "last_incident",
            "alarm",
            "warnings",
            "as_of",
            "nodes",
            "user",
        ),
    ]
    assert list(status["progress"]) == [
        *("phase", "epoch", "epochs", "step", "steps", "samples", "loss", "lr", "metric", "best_metric"),
        *("images_per_s", "steps_per_s", "eta_s", "loss_history", "source"),
    ]
    assert list(status["checkpoint"]) == ["path", "phase", "epoch", "step", "age_s", "valid"]
    assert list(status["restarts"]) == ["total", "crash", "hang", "oom", "by_kind", "budget_left"]
    assert list(status["batch"]) == ["unfreeze", "accumulate", "effective", "initial", "confirmed"]
    keys = ("id", "kind", "cause", "at", "phase", "epoch", "step", "lost_steps", "action")
    assert tuple(status["last_incident"]) == keys
    (incident,) = fred.incidents()
    assert set(incident) == {
        *keys,
        *("attempt", "exit_code", "signal", "section", "checkpoint", "recovered_after_s", "evidence"),
        *("lost_known", "from_the_beginning", "killer"),
    }


@pytest.mark.parametrize("times", [5])
def test_kill_at_any_moment_never_ends_the_run(fred, until, times):
    """Killed from outside again and again, whatever it is doing: the run ends where it should."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fred_supervisor.cli.main",
            *fred.words(3, 400, {}, "--foreground", "--max-restarts", "50"),
        ],
        cwd=fred.home,
        env=fred.environ,
        stdout=subprocess.DEVNULL,
    )
    for attempt in range(1, times + 1):
        launch = fred.run_dir / f"supervisor/attempts/{attempt:04d}/launch.json"
        until(lambda launch=launch: launch.exists() or process.poll() is not None)
        if process.poll() is not None:
            break
        pid = json.loads(launch.read_text())["trainer"]["pid"]
        time.sleep(0.03 * attempt)  # "any moment": import, training, saving
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            break
    assert process.wait(timeout=PATIENCE_S) == 0
    assert fred.status()["state"] == "completed"
    assert fred.left() == []
