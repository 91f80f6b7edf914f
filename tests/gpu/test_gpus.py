"""Runs on a machine with GPUs, which are our own NVML library: what is chosen, what is held for, what is told."""

import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.fred import Fred, kill_supervisor
from tests.helpers.nvidia import Nvidia

from fred_supervisor.contract.files import read_json

GIB = 1 << 30
SHOWS = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]
WAITS = [
    sys.executable,
    "-c",
    "import os, time; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); time.sleep(600)",
]


@pytest.fixture
def nvidia(native: Path, tmp_path: Path, fred: Fred) -> Nvidia:
    """The driver; every command of the test sees it, and is soon back to look what has cleared."""
    (tmp_path / "driver").mkdir()
    made = Nvidia(tmp_path / "driver", native)
    fred.environ |= {key: made.environ[key] for key in ("LD_LIBRARY_PATH", "FRED_FAKE_NVML", "FRED_FAKE_NVML_CLOSED")}
    fred.environ.pop("CUDA_VISIBLE_DEVICES", None)
    (tmp_path / "soon.toml").write_text("[supervisor]\nreprobe_s = 0.2\n")
    return made


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not of any run."""
    process = subprocess.Popen([sys.executable, "-c", "import os; os.read(0, 1)"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def sample(fred: Fred) -> dict[str, Any]:
    return read_json(fred.run_dir / "supervisor/monitor.json") or {}


def uuid(fred: Fred, index: int) -> str:
    return str(sample(fred)["gpus"][index]["uuid"])


@pytest.mark.parametrize(
    ("visible", "flags", "index"),
    [(None, (), 1), ("0,2", (), 2), (None, ("--gpu", "0"), 0), (None, ("--gpu", "2,0"), None)],
)
def test_the_freest_gpu_is_chosen_unless_a_person_names_one(fred, nvidia, visible, flags, index):
    nvidia.say("gpus 3", f"0.used {9 * GIB}", f"1.used {GIB}", f"2.used {5 * GIB}")
    if visible is not None:
        fred.environ["CUDA_VISIBLE_DEVICES"] = visible
    done = fred("start", "--name", "t", "--foreground", *flags, "--", *SHOWS)
    assert done.returncode == 0, done.stderr
    expected = uuid(fred, index) if index is not None else f"{uuid(fred, 2)},{uuid(fred, 0)}"
    assert fred.output(1).split() == [expected]
    assert fred.launch(1)["environment"]["CUDA_VISIBLE_DEVICES"] == expected


def test_a_gpu_of_one_run_is_not_chosen_for_another(fred, nvidia, until):
    nvidia.say("gpus 2", f"0.used {GIB}")
    assert fred("start", "--name", "t", "--", *WAITS).returncode == 0
    assert fred("start", "--name", "u", "--", *WAITS).returncode == 0
    third = fred("start", "--name", "v", "--config", "soon.toml", "--", *SHOWS)
    assert third.returncode == 0, third.stderr
    assert "holding" in third.stdout
    assert "GPU 1 is taken by the run t; --gpu 1 would share it." in third.stdout
    assert until(lambda: fred.output(1)).split() == [uuid(fred, 1)]
    state = fred.run_dir.with_name("fred_v") / "supervisor/state.json"
    assert fred("stop", "t").returncode == 0
    until(lambda: (read_json(state) or {}).get("state") == "completed")
    shown = fred.run_dir.with_name("fred_v") / "supervisor/attempts/0001/output.log"
    assert shown.read_text().split() == [uuid(fred, 1)]
    shared = fred("start", "--name", "w", "--foreground", "--gpu", "0", "--", *SHOWS)  # run u has it
    assert shared.returncode == 0, shared.stderr


def test_runs_that_start_at_once_each_have_a_gpu_of_their_own(fred, nvidia, until):
    nvidia.say("gpus 3", f"1.used {GIB}", f"2.used {2 * GIB}")  # all of them would take GPU 0
    names = ("t", "u", "v")
    starts = [fred.popen("start", "--name", name, "--config", "soon.toml", "--", *WAITS) for name in names]
    for start in starts:
        start.communicate()
        assert start.returncode == 0
    shown = [fred.run_dir.with_name(f"fred_{name}") / "supervisor/attempts/0001/output.log" for name in names]
    given = [until(lambda path=path: path.exists() and path.read_text()).strip() for path in shown]
    assert sorted(given) == sorted(uuid(fred, index) for index in range(3))
    for name in names:
        journal = fred.run_dir.with_name(f"fred_{name}") / "supervisor/journal.jsonl"
        events = {json.loads(line)["event"] for line in journal.read_text().splitlines()}
        assert not events & {"incident", "held"}, "who finds its GPU taken asks again, at once"


def test_a_launch_waits_until_the_memory_is_free(fred, nvidia, stranger, until):
    nvidia.say("gpus 1", f"0.used {20 * GIB}", f"0.process {stranger.pid} {19 * GIB}")
    done = fred("start", "--name", "t", "--gpu-memory", "12GiB", "--config", "soon.toml", "--", *SHOWS)
    assert done.returncode == 0, done.stderr
    status = fred.status()
    assert (status["state"], status["trainer"]) == ("holding", None)
    said = f"process {stranger.pid} ({sys.executable} -c import os; os.read(0, 1)) of {getpass.getuser()} holds {19 << 10} MiB"
    assert f"12288 MiB are needed and 3584 MiB are free; {said}" in status["detail"]
    assert status["detail"] in done.stdout
    nvidia.say("gpus 1", f"0.used {10 * GIB}", f"0.process {stranger.pid} {9 * GIB}")  # a desktop may stay
    until(lambda: fred.status()["state"] == "completed")
    assert fred.status()["restarts"]["total"] == 0
    assert fred.output(1).split() == [uuid(fred, 0)]


def test_the_memory_that_the_next_phase_was_measured_to_need(fred, nvidia, tmp_path: Path):
    from fred_supervisor.contract.builtin.preflight import PhaseNeeds, Preflight, write_preflight
    from fred_supervisor.gpu.inventory import need_mib, next_phase
    from fred_supervisor.policy.history import Overrides
    from fred_supervisor.store.run_spec import RunSpec

    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", flags={"no_eval_map": True})
    assert need_mib(spec, "unfreeze", Overrides()) is None
    needs = {
        phase: PhaseNeeds(batch=8, gpu_peak_bytes=gib * GIB, host_peak_bytes=None)
        for phase, gib in [("freeze", 2), ("unfreeze", 8), ("eval", 4)]
    }
    write_preflight(spec.dir.preflight, Preflight(fingerprint="f", phases=needs, seconds=1.0))
    assert next_phase(spec, None) == "freeze"
    assert need_mib(spec, "freeze", Overrides()) == 2048 + 300
    assert need_mib(spec, "unfreeze", Overrides()) == 8192 + 300
    assert need_mib(spec, "unfreeze", Overrides(unfreeze_batch=4)) == 4096 + 300
    evaluating = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/")
    assert need_mib(evaluating, "freeze", Overrides()) == 4096 + 300
    said = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", gpu_memory_mib=7)
    assert need_mib(said, "unfreeze", Overrides()) == 7


def test_an_out_of_memory_beside_others_is_waited_for_and_the_batch_stays(fred, nvidia, stranger, until):
    nvidia.say("gpus 1", f"0.used {18 * GIB}", f"0.process {stranger.pid} {18 * GIB}")
    words = fred.words(3, 2, {"1": ["oom", 2, 1]}, "--config", "soon.toml")
    assert fred(*words).returncode == 0
    until(lambda: fred.status()["state"] == "holding")
    (incident,) = fred.incidents()
    assert incident["kind"] == "oom"
    assert f"process {stranger.pid}" in incident["cause"]
    assert f"{18 << 10} MiB" in incident["cause"]
    assert incident["evidence"]["minutes_before"][-1]["gpus"][0]["used_mib"] == 18 << 10
    nvidia.say("gpus 1")
    until(lambda: fred.status()["state"] == "completed")
    status = fred.status()
    assert (status["batch"]["unfreeze"], status["restarts"]["total"]) == (None, 0)  # nothing was changed, nothing spent
    assert "with batch 8" in fred.output(2)


def test_an_out_of_memory_of_our_own_halves_the_batch(fred, nvidia, stranger):
    nvidia.say("gpus 1", f"0.used {GIB}", f"0.process {stranger.pid} {GIB // 2}")  # a desktop
    assert fred.run(3, 2, {"1": ["oom", 2, 1]}).returncode == 0
    assert "with batch 4" in fred.output(2)


def test_a_gpu_that_asks_for_a_reset_is_held_for_with_the_command(fred, nvidia, until):
    assert fred(*fred.words(3, 2, {"1": ["wait", 2, 1]}, "--config", "soon.toml")).returncode == 0
    until(lambda: sample(fred).get("gpus"))
    trainer = until(lambda: fred.status()["trainer"])
    nvidia.say("gpus 1", "0.recovery 1", "0.xid 1 48")
    os.kill(trainer["pid"], signal.SIGABRT)
    until(lambda: fred.status()["state"] == "holding")
    command = f"sudo nvidia-smi --gpu-reset -i {uuid(fred, 0)}"
    (incident,) = fred.incidents()
    assert incident["kind"] == "gpu"
    assert command in incident["cause"]
    assert command in fred.status()["detail"]
    until(lambda: nvidia.closed)  # an open NVML would block the reset
    assert fred.status()["restarts"]["total"] == 0
    nvidia.say("gpus 1", "0.recovery 0", "0.xid 1 48")
    until(lambda: fred.status()["state"] == "completed")


def test_our_own_dead_must_have_let_go(fred, nvidia, until):
    assert fred(*fred.words(3, 2, {"1": ["wait", 2, 1]})).returncode == 0
    trainer = until(lambda: fred.status()["trainer"])["pid"]
    nvidia.say("gpus 1", f"0.used {8 * GIB}", f"0.process {trainer} {8 * GIB}")
    until(lambda: (sample(fred).get("gpus") or [{}])[0].get("trainer_mib") == 8 << 10)
    os.kill(trainer, signal.SIGKILL)
    killed_s = time.monotonic()
    until(lambda: fred.status()["state"] == "starting")
    until(lambda: sample(fred)["mono_s"] > killed_s + 2)
    assert fred.status()["trainer"] is None
    until(lambda: f"process {trainer}" in fred.status()["detail"])
    assert not (fred.run_dir / "supervisor/attempts/0002").exists()
    nvidia.say("gpus 1")
    until(lambda: fred.status()["state"] == "completed")
    assert fred.launch(2)["attempt"] == 2


@pytest.mark.parametrize(
    "trouble", ["error nvmlInitWithFlags 18", "error nvmlInitWithFlags 9", "gpus 0", "crash nvmlDeviceGetMemoryInfo_v2"]
)
def test_a_driver_that_cannot_be_asked_keeps_nobody_out(fred, nvidia, trouble: str):
    nvidia.say(trouble, "gpus 1")
    done = fred("start", "--name", "t", "--foreground", "--gpu-memory", "1GiB", "--", *SHOWS)
    assert done.returncode == 0, done.stderr
    assert fred.output(1).split() == ["None"]


def test_a_driver_that_hangs_keeps_nobody_from_going_on(fred, nvidia, until):
    assert fred(*fred.words(3, 2, {"1": ["wait", 2, 1]})).returncode == 0
    gpu = until(lambda: fred.status()["gpus"])[0]
    trainer = fred.status()["trainer"]["pid"]
    nvidia.say("gpus 1", "hang nvmlDeviceGetTemperature")
    os.kill(trainer, signal.SIGKILL)
    until(lambda: fred.status()["state"] == "completed")
    assert fred.output(2).startswith("attempt 2")
    assert fred.launch(2)["environment"]["CUDA_VISIBLE_DEVICES"] == gpu["uuid"]


def test_a_gpu_that_does_not_exist_is_told_and_nothing_started(fred, nvidia):
    nvidia.say("gpus 2")
    done = fred("start", "--name", "t", "--gpu", "7", "--", *SHOWS)
    assert done.returncode == 78
    assert "--gpu 7: no such GPU; there are: 0 (GPU-" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (fred.run_dir / "supervisor/run.json").exists()


def test_a_supervisor_that_dies_while_it_waits_for_a_gpu_answers_no_end_twice(fred, nvidia, until):
    assert fred(*fred.words(3, 2, {"1": ["wait", 2, 1]})).returncode == 0
    trainer = until(lambda: fred.status()["trainer"])["pid"]
    nvidia.say("gpus 1", f"0.used {8 * GIB}", f"0.process {trainer} {8 * GIB}")
    until(lambda: (sample(fred).get("gpus") or [{}])[0].get("trainer_mib") == 8 << 10)
    os.kill(trainer, signal.SIGKILL)
    until(lambda: fred.status()["state"] == "starting" and len(fred.incidents()) == 1)
    kill_supervisor(fred)
    nvidia.say("gpus 1")
    assert fred("start", "--name", "t").returncode == 0
    until(lambda: fred.status()["state"] == "completed")
    assert len(fred.incidents()) == 1
    assert fred.launch(2)["attempt"] == 2


def test_a_command_for_several_gpus_keeps_them(fred, nvidia, tmp_path: Path):
    nvidia.say("gpus 2")
    words = [*SHOWS, "--nproc-per-node=2"]
    assert fred("start", "--name", "t", "--foreground", "--", *words).returncode == 0
    assert fred.output(1).split() == ["None"]


def test_a_run_that_is_adopted_keeps_its_gpu(fred, nvidia, until):
    assert fred("start", "--name", "t", "--", *WAITS).returncode == 0
    kill_supervisor(fred)
    assert fred("start", "--name", "t").returncode == 0
    assert [line["event"] for line in fred.journal()][-1] == "adopted"
    until(lambda: (sample(fred).get("chosen") or {}).get("uuids") == [uuid(fred, 0)])
    other = fred("start", "--name", "u", "--", *SHOWS)
    assert "GPU 0 is taken by the run t" in other.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--gpu", "first"], "is not auto, nor a list"),
        (["--gpu", "0,0"], "names a GPU twice"),
        (["--gpu-memory", "11"], "is not a size of memory, e.g. 11GiB"),
        (["--quiet", "mun 08:00-09:00"], "'mun' is no day"),
        (["--quiet", "08:00-19:00 Europe/Nowhere"], "there is no time zone"),
    ],
)
def test_flags_that_make_no_sense(fred, flags: list[str], says: str):
    done = fred("start", *flags, "--", "true")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_flags_have_keys_and_variables(fred, tmp_path: Path):
    (tmp_path / "c.toml").write_text('[supervisor]\nquiet = ["sun 10:00-12:00", "sat 08:00-09:00 UTC"]\ngpu = 0\n')
    fred.environ["FRED_SUPERVISE_GPU_MEMORY"] = "9.5 GiB"
    shown = json.loads(fred("config", "show", "--config", "c.toml", "--json").stdout)["supervisor"]
    assert shown["quiet"]["value"] == ["sun 10:00-12:00", "sat 08:00-09:00 UTC"]
    assert (shown["gpu"]["value"], shown["gpu_memory"]["value"]) == ("0", "9728MiB")
    assert '"sat 08:00-09:00 UTC"' in fred("config", "show", "--config", "c.toml").stdout


def test_who_says_nothing_does_not_say_that_a_gpu_was_reset(fred, nvidia, until):
    nvidia.say("gpus 1", "0.recovery 1")
    assert "holding" in fred("start", "--name", "t", "--config", "soon.toml", "--", *SHOWS).stdout
    nvidia.say("gpus 1", "hang nvmlDeviceGetTemperature")
    until(lambda: sample(fred)["nvml"]["state"] in ("starting", "hung"))
    opened_s = time.monotonic()
    until(lambda: sample(fred)["mono_s"] > opened_s + 3)  # ten looks at what has cleared
    assert fred.status()["state"] == "holding"
    nvidia.say("gpus 1")
    until(lambda: fred.status()["state"] == "completed", 60)


def test_a_stop_while_the_gate_is_asked(fred, nvidia, until):
    nvidia.say("gpus 1", "hang nvmlInitWithFlags")  # the driver is being opened, and that takes its time
    starting = fred.popen("start", "--name", "t", "--", *WAITS)
    until(lambda: sample(fred).get("nvml", {}).get("state") == "starting")
    assert fred("stop", "t").returncode == 0
    assert fred.status()["state"] == "stopped"
    starting.communicate()
    assert not (fred.run_dir / "supervisor/attempts/0001").exists()
