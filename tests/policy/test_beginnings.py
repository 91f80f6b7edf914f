"""What a record says before anything was said: nothing is known, nothing is ordered, nothing was spent."""

from dataclasses import asdict

from fred_supervisor.policy.actions import PASSING, AnswerStart, AskGpu, DumpStacks, Spawn, Terminate
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence
from fred_supervisor.policy.gpu_admission import Admit, Deny, Gpu, GpuNeed
from fred_supervisor.policy.history import Learned, Overrides, Remedy, Restarts, RunHistory, RunOutcome
from fred_supervisor.policy.launching import answer_start, spawn
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.observation import Observation, SpawnFailure
from fred_supervisor.policy.state import AwaitingGpu, Paused, Rung, Starting, Stopping
from fred_supervisor.policy.watch import HeartbeatLevel, HeartbeatReading, RankWatch, begin

LEARNED = {"gaps_s": {}, "cycle": (), "factors": {}, "beats": False, "client": False, "patterns": ()}
NO_OVERRIDE = {
    "unfreeze_batch": None, "accumulate": None, "freeze_batch": None, "eval_batch": None, "workers": None,
    "no_eval_map": False, "full_precision": False, "expandable_segments": False, "open_files": False, "withdrawn": (), "blamed": (), "stretch": None,
}  # fmt: skip


def test_a_run_begins_with_nothing_learned_and_nothing_spent():
    assert asdict(Overrides()) == NO_OVERRIDE
    assert asdict(Learned()) == LEARNED
    assert asdict(RunHistory()) == {
        "attempt": 0, "overrides": NO_OVERRIDE, "learned": LEARNED, "restarts": {"crash": 0, "hang": 0, "oom": 0, "others": {}},
        "furthest": {}, "began": {}, "batch_order": None, "spent": 0, "backoffs": 0, "tried": (), "failures": {}, "eval_failures": {},
        "signal_crashes": 0, "trial": None, "left_at": None, "left": (), "short_at": None, "unanswered": False, "progressed": False, "waived": False, "lived_s": 0.0, "useful_s": 0.0,
        "warnings": (), "usual_speed": {}, "learning": {"epochs": (), "evaluations": (), "lr_zero": {"looks": 0, "since": None}, "gradient_zero": {"looks": 0, "since": None}, "parts": {"points": (), "every": 10, "looks": 0, "mean": 0.0, "epoch": 0}, "high": None, "usual": None, "well_samples": None, "onset": None}, "leak_restart_s": None, "trace": {"attempt": 0, "points": (), "before": (), "judged": False},
    }  # fmt: skip
    assert Restarts(crash=1, hang=2, oom=4).total == 7


def test_an_observation_that_saw_nothing():
    assert asdict(Observation(now_s=1.0)) == {
        "now_s": 1.0, "fits": None, "late_s": 0.0, "admission": None, "spawn_failure": None, "launched": False, "looks": (),
        "fresh_checkpoint": None, "busy": None, "stacks_moved": None, "dumping": False, "survivors": (), "ended": None,
        "request": None, "clear": None, "fault": None, "quiet": None, "notes": (), "failed_line": None, "signs": (), "machine": None, "time": None, "replayed": None, "saved_before": None, "told": (),
    }  # fmt: skip
    assert asdict(SpawnFailure()) == {"reason": "", "fault": None, "ours": False, "gpu_taken": False}
    assert asdict(HeartbeatReading()) == {
        "rank": 0, "stamp": "", "beat": None, "readable": True, "age_s": 0.0, "stopped": False, "gap_s": 0.0,
        "patterns": (), "gone": False, "recurred": None, "remote": False,
    }  # fmt: skip


def test_evidence_that_knows_nothing():
    empty = {
        "attempt": 0,
        "unverified": False,
        "stacks": "",
        "early_stop": False,
        "near_goal": False,
        "midway": False,
        "time_is_left": False,
        "written_lost": (),
        "slept": False,
        "raised": False,
    }
    assert {key: value for key, value in asdict(Evidence()).items() if value is not None} == empty


def test_a_watch_that_has_seen_nothing():
    assert begin(5.0).main == RankWatch(changed_s=5.0)
    assert asdict(begin(5.0))["stalled_s"] is asdict(begin(5.0))["stalled_rank"] is None
    assert asdict(RankWatch(changed_s=5.0)) == {
        "stamp": "", "beat": None, "changed_s": 5.0, "first_s": None, "blind": False, "stopped": False,
        "remote": False,
    }  # fmt: skip


def test_a_gpu_and_a_need_of_which_nothing_is_known():
    gpu = Gpu(uuid="GPU-0", index=0)
    assert (gpu.allowed, gpu.split, gpu.part, gpu.mig, gpu.others_mib) == (True, False, False, None, 0)
    assert GpuNeed() == GpuNeed(named=(), memory_mib=None, before=(), patient=False)
    assert Admit() == Admit(uuids=(), blind=False, named=False)
    denial = Deny(cause=Cause.GPU, message=say(Topic.GPU_DRIVER))
    assert (denial.soon, denial.absent) == (False, False)


def test_actions_without_more():
    assert Spawn() == Spawn(gpus=(), shared=False)
    assert not Terminate().wake
    assert set(PASSING) == {AskGpu, DumpStacks}


def test_states_without_more():
    starting = Starting(history=RunHistory())
    assert (starting.request, starting.at_start) == (None, False)
    stopping = Stopping(history=RunHistory(), watch=begin(0.0), by=EndedBy.STOP, rung=Rung.TERM, until_s=1.0)
    assert (stopping.dump_s, stopping.stalled_s, stopping.rank) == (None, None, None)


def test_words_that_are_stored():
    """In `state.json` of a run that another version goes on with."""
    assert [*Rung] == ["dump", "term", "kill"]
    assert [*RunOutcome] == ["completed", "stopped", "failed"]
    assert [(level.name, level.value) for level in HeartbeatLevel] == [("SILENT", 0), ("TOUCHES", 1), ("RECORDS", 2)]
    assert {*Remedy} == {
        "relaunch at once", "relaunch after a back-off", "hold until it clears",
        "the same batch with expandable segments", "half the unfreeze batch", "half the freeze batch",
        "half the evaluation batch", "no evaluation", "one checkpoint older", "the newest checkpoint once more",
        "half the loader workers", "fp32", "as many open files as the machine allows", "twice the limit of the section", "give up", "a checkpoint from before it", "pause until a person goes on",
    }  # fmt: skip
    assert {*Cause} >= {
        "goal reached", "state saved", "configuration error", "import or syntax error", "disk full", "environment",
        "GPU lost, or needs a reset", "others hold the GPU's memory", "CUDA out of memory", "checkpoint does not load",
        "host out of memory", "loss not finite", "hang", "crash by a signal", "killed by hand",
        "exit 0 without the goal", "crash", "a process does not end",
    }  # fmt: skip


def test_each_attempt_begins_without_progress():
    after, actions = spawn(RunHistory(attempt=2, progressed=True, spent=1), Admit(uuids=("GPU-1",), named=True))
    assert after == Starting(history=RunHistory(attempt=3, spent=1))
    assert actions == (Spawn(gpus=("GPU-1",), shared=True),)


def test_start_is_told_last_and_once_it_is_clear():
    waits = AwaitingGpu(history=RunHistory())
    assert answer_start(waits, (AskGpu(),)) == (AwaitingGpu(history=RunHistory(), at_start=True), (AskGpu(),))
    starting = Starting(history=RunHistory())
    assert answer_start(starting, ()) == (Starting(history=RunHistory(), at_start=True), ())
    assert answer_start(starting, (DumpStacks(),), launched=True) == (starting, (DumpStacks(), AnswerStart(error=None)))
    paused = Paused(history=RunHistory())
    assert answer_start(paused, (DumpStacks(),), error="no") == (paused, (DumpStacks(), AnswerStart(error="no")))
