"""Every message has its words, and the words use facts that the policy gives."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import fred_supervisor
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.linux.systemd_scope import ScopeOutcome
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.words.actions import goes_on_sentence, lost_sentence
from fred_supervisor.words.sentences import sentence, stored_message
from fred_supervisor.words.status import alarm_sentence
from fred_supervisor.words.tables import SENTENCES

SOURCE = Path(fred_supervisor.__file__).parent
PLACE = say(Topic.PLACE, section="eval", phase="unfreeze", epoch=61, step=7)
GPU = say(Topic.GPU_PLACE, index=1, mig=None)
FACTS: dict[str, Any] = {
    "printed": True, "over": True, "lost": 7, "furthest": 60, "open_end": True,
    "address": "--on-event", "error": "timeout", "events": ("failed", "disk"), "forecast": "Full in 3 h.", "run_dir": "/r", "status": 3,
    "action": say(Topic.RELAUNCHED_AT_ONCE), "alarm": "disk-full", "action_number": 1, "outcome": "refused", "unit": "a.scope", "cleared": True, "pids": (7, 8), "reasons": ("power brake",), "slow_s": 1.7, "why": "the driver hangs.", "amp": "fp16", "window": "daily 08:00-19:00 UTC", "until": "2026-11-22T19:00:00Z", "assumed": False, "attempt": 3,
    "accumulate": 2, "after": 4, "before": 8, "cause": say(Topic.GOAL_REACHED), "checkpoint": "a.pth", "code": 1,
    "command": "sudo reboot", "condition": say(Topic.DATA_GONE, path="/data"), "detail": "ValueError: x", "epoch": 50, "ended": "9",
    "epochs": 300, "factor": 3.0, "file": "train.py", "flag": "workers", "free_mib": 900, "gpu": True, "loss": 2.5, "slept": True, "slept_s": 60.0, "sender": "systemd-oomd ended it.", "group": "/user.slice", "killer": "systemd-oomd", "function": "step",
    "health": "The GPU is lost.", "holder": "process 7", "holders": ("process 7",), "hours": 2.04, "idle": True,
    "index": 1, "kind": "read", "killed": True, "learned": 4, "left_h": 5, "limit_s": 60.0, "line": 5, "mib": 512.0, "mig": None,
    "minutes": 12, "name": "a.pth", "need_mib": 9000, "order_unsure": True, "others": "GPU 1: process 7.", "parts": ("One.", "Two."),
    "path": "/data", "part": "a heartbeat", "phase": "unfreeze", "pid": 4711, "places": ("epoch 3 of 9", "epoch 2 of 9"), "place": PLACE, "quiet": "quiet hours", "rank": 2,
    "reason": "it is damaged", "relaunches": 10, "request": "pause", "run": "other", "section": "eval", "share": 0.04,
    "signal": "SIGSEGV", "silent_s": 61.0, "step": 7, "stuck": say(Topic.STUCK, what=say(Topic.HANG_DATA), where=None),
    "survivor": 7, "survivors": ((4711, "nfs_wait"),), "takes_batch": False, "text": "The driver hangs.", "there": ("0 (GPU-a)",),
    "times": 3, "total_mib": 24000, "trainer_mib": 20000, "trouble": "lost", "user": "anna", "uuids": ("GPU-a",), "value": 8,
    "engine": "Slurm", "how": "rank 3 left", "job": "4711", "node": "n2", "restarts": 2, "saved": True,
    "supervisor": False, "waits_s": 65.0, "more": 2, "held_s": 75.0,
    "by": "stop", "rung": "term", "note": "It crashed.",
    "well_epoch": 14, "mhz": 345.0, "max_mhz": 1980.0, "lanes": 4, "max_lanes": 16, "fs": "nfs4 at /data", "foreign": True, "ids": ("a/1", "a/2"), "processes": (("python", 7),), "count": 9, "says": say(Topic.DISK_NO_ROOM), "step_s": -3600.0, "now": 4.5, "best": 0.41, "best_epoch": 9, "rate": 4.0, "usual": 9.5, "samples": True, "temperature_c": 91, "power_w": 140.0, "cores": 1.5, "mib_s": 3.0, "used": 4096.0, "limit": 8192.0, "per_hour": 900.0, "left_s": 7200.0, "main": False, "cgroup": True, "visible": True, "wait_s": 2.0, "shm_mib": 64.0, "remedy": "fp32", "then": "Given up.", "wanted_mib": 16.0, "since": "2026-11-26T02:10:00Z", "wchan": "nfs_wait", "what": None, "where": None, "word": "7", "pattern": "NCCL.*",
}  # fmt: skip
"""One value for every fact that a message can hold."""


@pytest.mark.parametrize("topic", Topic)
def test_every_topic_has_its_words(topic: Topic):
    text = sentence(Message(topic, FACTS))
    assert text.strip() == text
    assert "None" not in text
    assert "{" not in text.replace("{unfreeze_batch_size}", "")


def test_no_words_are_left_over():
    assert set(SENTENCES) == set(Topic)


@pytest.mark.parametrize("alarm", Alarm)
def test_every_alarm_has_its_words(alarm: Alarm):
    assert alarm_sentence(alarm).endswith(".")


def test_a_trainer_of_somebody_else_may_have_an_alarm_of_its_own():
    assert alarm_sentence("on-fire") == "The trainer says: on-fire."


def test_what_somebody_else_said_stays_as_it_is():
    assert sentence("{so} it is {0}") == "{so} it is {0}"
    assert sentence(say(Topic.EXIT_CODE, code=1, place=PLACE, rank=None, detail="{x}")).endswith(": {x}.")


SAID = [
    (say(Topic.PLACE, section="train", phase=None, epoch=None, step=None), ""),
    (PLACE, "in eval in the unfreeze phase at epoch 61, step 7"),
    (
        say(Topic.NO_PROGRESS, silent_s=61.2, place=PLACE, rank=1, stuck=None),
        "The trainer made no progress for 61 s in eval in the unfreeze phase at epoch 61, step 7 on rank 1.",
    ),
    (
        say(Topic.SILENT_EXIT, epoch=50, epochs=300),
        "The trainer left with exit code 0 after epoch 50 of 300, before its goal.",
    ),
    (say(Topic.GIVEN_UP_BUDGET, relaunches=1), "Given up: 1 relaunch without new progress."),
    (say(Topic.NOT_EXECUTED, reason=say(Topic.GPU_DRIVER, text="No.")), "The command could not be executed: No."),
    (say(Topic.NOT_EXECUTED, reason="x: not found"), "The command could not be executed: x: not found."),
    (say(Topic.RELAUNCHED_AFTER, wait_s=0.0), "Relaunched at once."),
    (say(Topic.GPU_PLACE, index=0, mig=2), "GPU 0, MIG device 2"),
]


@pytest.mark.parametrize(("message", "words"), SAID)
def test_said_so(message: Message, words: str):
    assert sentence(message) == words


@pytest.mark.parametrize("topic", Topic)
def test_the_stored_facts_are_enough_for_the_sentence(topic: Topic):
    message = Message(topic, FACTS)
    document = json.loads(json.dumps(message.document()))
    assert document["topic"] == topic
    stored = stored_message(document)
    assert stored is not None
    assert sentence(stored) == sentence(message)


@pytest.mark.parametrize(
    "document",
    [
        None, [], "disk full", {}, {"topic": 7}, {"topic": []}, {"topic": "unheard of"}, {"topic": "health: slowed", "reasons": 5},
        {"topic": "exit code", "code": 1, "detail": None, "place": {"topic": "place"}}, {"topic": "nvml: silent", "silent_s": "long"},
    ],
)  # fmt: skip
def test_what_is_no_message_is_none(document: object):
    assert stored_message(document) is None


class _Asked(dict[str, Any]):
    """Facts that remember which of them a sentence needs: those that it does not ask for with a default."""

    def __init__(self) -> None:
        super().__init__(FACTS)
        self.needed: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.needed.add(key)
        value = super().__getitem__(key)
        return sentence(value) if isinstance(value, Message) else value


def _needed(topic: Topic) -> set[str]:
    words, asked = SENTENCES[topic], _Asked()
    _ = words.format_map(asked) if isinstance(words, str) else words(asked)
    return asked.needed


def _said_in_source() -> list[tuple[str, Topic, set[str]]]:
    """Where a message is made in so many words: its topic and the facts that it is given."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or any(word.arg is None for word in node.keywords):
                continue
            topics = [
                one.attr for one in node.args if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "Topic"
            ]
            if topics and ast.unparse(node.func) == "say":
                facts = {str(word.arg) for word in node.keywords}
                found.append((f"{path.relative_to(SOURCE)}:{node.lineno}", Topic[topics[0]], facts))
    return found


@pytest.mark.parametrize(("where", "topic", "given"), _said_in_source())
def test_a_sentence_asks_for_facts_that_its_message_has(where: str, topic: Topic, given: set[str]):
    assert _needed(topic) <= given, where


def test_only_events_of_the_closed_set_reach_the_journal():
    """No string stands where an event belongs: neither in `append` nor in a note."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                given = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "event")]
                if name == "Note" or (name in ("append", "note") and "ournal" in ast.unparse(node.func)):
                    assert not any(isinstance(one, ast.Constant) for one in given), f"{path}:{node.lineno}"


def test_only_words_speak_a_language():
    """No room but `words` and `cli` writes a sentence: no string that ends as one, but in docstrings and our own log.

    The metrics' help is for programs; the contract needs the standard library only, and has its own usage errors.
    """
    rooms = ("policy", "linux", "store", "attempt", "gpu", "monitor", "alerts", "run")
    paths = [path for room in rooms for path in (SOURCE / room).rglob("*.py") if path.name != "prometheus.py"]
    assert len(paths) > 60
    for path in paths:
        tree = ast.parse(path.read_text())
        quiet = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in quiet:
                says = node.value.rstrip().endswith(".") and len(node.value.split()) > 2
                assert not says, f"{path}:{node.lineno}: {node.value}"


@pytest.mark.parametrize("outcome", ScopeOutcome)
def test_every_place_of_a_supervisor_has_its_words(outcome: ScopeOutcome):
    words = sentence(say(Topic.SUPERVISOR_PLACE, outcome=outcome, unit="a.scope", detail="no"))
    assert words.endswith(".")
    assert ("a.scope" in words) == (outcome is ScopeOutcome.ENTERED)
    assert ("(no)" in words) == (outcome in (ScopeOutcome.NO_ANSWER, ScopeOutcome.REFUSED))
    advice = sentence(say(Topic.SUPERVISOR_LOGOUT, outcome=outcome))
    assert ("install-service --user" in advice) == (outcome is ScopeOutcome.SESSION)


def test_a_cost_in_words():
    assert [lost_sentence(steps) for steps in (None, 0, 1, 12)] == [
        "What was lost is not known.", "Nothing was lost.", "1 step lost.", "12 steps lost.",
    ]  # fmt: skip
    assert [lost_sentence(steps, printed=True) for steps in (None, 0, 1, 12)] == [
        "What was lost is not known.", "Nothing that it had printed is lost.", "At least 1 step lost.", "At least 12 steps lost.",
    ]  # fmt: skip
    over = [lost_sentence(steps, from_the_beginning=True, printed=True).rpartition(": ")[2] for steps in (None, 0, 12)]
    assert over == ["what was trained so far is lost.", "0 steps are lost.", "at least 12 steps are lost."]
    assert goes_on_sentence("/r/a.pth", takes_resume=True) == "It goes on from a.pth."
    assert goes_on_sentence(None, takes_resume=True) == "It begins from the beginning."
    assert "whether it goes on from there is not known" in goes_on_sentence("/r/a.pth", takes_resume=False)
    assert goes_on_sentence(None, takes_resume=False).startswith("No checkpoint is known")


def test_some_events_are_alerts_too():
    assert {event: event.alert for event in JournalEvent if event.alert is not None} == {
        JournalEvent.ALARM: "warning", JournalEvent.MEMORY_FORECAST: "warning", JournalEvent.GPU: "warning",
        JournalEvent.STARTED_OVER: "warning",
        JournalEvent.WARNING: "warning", JournalEvent.DISK: "disk", JournalEvent.STALLED: "stalled", JournalEvent.FAILED: "failed", JournalEvent.COMPLETED: "completed",
    }  # fmt: skip


@pytest.mark.parametrize("detail", ["OSError: [Errno 28] No space left on device", "ValueError: no.", "What? Why?"])
def test_what_somebody_else_has_said_ends_as_a_sentence_does(detail: str):
    text = sentence(say(Topic.EXCEPTION, place=None, rank=None, detail=detail))
    assert text.endswith(detail if detail[-1] in ".?" else f"{detail}.")


@pytest.mark.parametrize("kind", WarningKind)
def test_every_kind_of_warning_has_an_end_in_words_of_its_own(kind: WarningKind):
    over = sentence(say(Topic.WARNING_OVER, kind=str(kind), about="", since=None))
    assert over.endswith(".")
    assert over != sentence(say(Topic.WARNING_OVER, kind="unheard of", about="", since=None))
