"""The page of an incident: what tells comes first, each thing once, on two screens; nothing of it is lost with `--json`."""

import json

import pytest
from tests.helpers.history import make_history

from fred_supervisor.cli.common.evidence_parts import evidence_parts, folded, minutes_before
from fred_supervisor.contract.files import write_json
from fred_supervisor.store.journal import Incident

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "train.py", line 9, in <module>',
    "    step(batch)",
    '  File "/x/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1, in _call_impl',
    "    return forward_call(*args)",
    "           ^^^^^^^^^^^^^^^^^^^",
    '  File "/x/lib/python3.11/site-packages/torch/nn/functional.py", line 2, in linear',
    "    return torch._C",
    '  File "/usr/lib/python3.11/queue.py", line 3, in get',
    "    wait()",
    '  File "train.py", line 30, in loss',
    "    raise RuntimeError('CUDA error: out of memory')",
    "RuntimeError: CUDA error: out of memory",
]


def incident(**evidence: object) -> Incident:
    return Incident(id=1, evidence=evidence)


def samples(count: int = 60, gpus: bool = True) -> list[dict[str, object]]:
    return [
        {
            "time": f"2026-11-27T02:{at:02d}:00Z", "nvml": "ok",
            "gpus": [{"uuid": "GPU-1", "used_mib": 1024 * at, "trainer_mib": None}] if gpus else [],
            "host": {"memory_available_mib": 23552 - 52 * at, "swap_used_mib": 0, "trainer_rss_mib": None if at < 2 else 512 + at},
        }
        for at in range(count)
    ]  # fmt: skip


def test_frames_of_libraries_are_one_line():
    shown = folded(TRACEBACK)
    assert shown[3:5] == ["  … 3 frames in torch, queue …", '  File "train.py", line 30, in loss']
    assert len(shown) == len(TRACEBACK) - 6
    assert folded([]) == []
    assert folded(["a", "    b"]) == ["a", "    b"]


def test_the_traceback_is_told_once_and_the_output_first():
    output = [f"step {n}" for n in range(30)] + TRACEBACK + ["cleaning up"]
    parts = evidence_parts(incident(output=output, traceback="\n".join(TRACEBACK), exception=TRACEBACK[-1], nvml=None))
    assert [part.title for part in parts] == ["last lines of output", "traceback"]
    first, second = parts
    assert list(first.lines[-2:]) == ["(the traceback stands below)", "cleaning up"]
    assert first.left_out == 16
    assert second.lines[second.tells] == "RuntimeError: CUDA error: out of memory"


@pytest.mark.parametrize(
    ("lines", "tells"),
    [
        (["fine", "loss=nan at step 3", "bye"], 1),
        (["Killed", "bye"], 0),
        (["information", "all is well"], None),
        (["ValueError: x", "epoch 3", "OSError: [Errno 28] No space left on device", "bye"], 2),
    ],
)
def test_the_line_that_tells(lines, tells):
    assert evidence_parts(incident(output=lines))[0].tells == tells


def test_a_traceback_that_only_the_output_has_stays_there():
    (part,) = evidence_parts(incident(output=TRACEBACK))
    assert part.lines[part.tells] == TRACEBACK[-1]
    assert any("3 frames" in line for line in part.lines)
    (whole,) = evidence_parts(incident(output=TRACEBACK), whole=True)
    assert list(whole.lines) == TRACEBACK


def test_the_minutes_before_are_three_curves():
    curves = minutes_before(incident(minutes_before=samples()))
    assert [(one.what, round(one.gib[0], 1), round(one.gib[-1], 1)) for one in curves] == [
        ("host free", 23.0, 20.0), ("trainer", 0.5, 0.6), ("GPU used", 0.0, 59.0)
    ]  # fmt: skip
    assert [one.what for one in minutes_before(incident(minutes_before=samples(gpus=False)))] == [
        "host free",
        "trainer",
    ]
    for garbled in (None, "x", [None, 3, {"host": 7, "gpus": [1]}], [{"gpus": {}}]):
        assert minutes_before(incident(minutes_before=garbled)) == []


def test_an_incident_takes_two_screens_and_json_has_it_all(fred, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    spec = make_history(fred.home / "logs/fred_old", incidents=1, epochs=10, steps=1)
    path = spec.dir.incident(1)
    document = json.loads(path.read_text())
    output = [f"loading {n}" for n in range(80)] + TRACEBACK
    document["evidence"] |= {
        "minutes_before": samples(),
        "output": output,
        "traceback": "\n".join(TRACEBACK),
        "exception": TRACEBACK[-1],
    }
    write_json(path, document)
    lines = fred("incidents", "old", "1").stdout.splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert text.index("last lines of output") < text.index("\n  traceback")
    assert text.count("RuntimeError: CUDA error: out of memory") == 1
    assert "  > RuntimeError: CUDA error: out of memory" in lines
    assert "host free 23.0 → 20.0 GiB" in text
    assert "nvml" not in text
    assert "lines more: --all" in text
    every = fred("incidents", "old", "1", "--all").stdout
    assert all(line in every for line in output)
    assert len(json.loads(fred("incidents", "old", "1", "--json").stdout)[0]["evidence"]["minutes_before"]) == 60
    fred.environ["PYTHONIOENCODING"] = "ascii"
    ascii_text = fred("incidents", "old", "1").stdout
    assert ascii_text.isascii()
    assert "\\u" not in ascii_text
    assert "23.0 -> 20.0 GiB" in ascii_text
