"""Clocks are set, files are copied: what is newest, what is progress and how old things are, all the same."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.trainer_files import epoch_name, step_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, sidecar_path
from fred_supervisor.linux import proc
from fred_supervisor.policy.observation import FreshCheckpoint
from fred_supervisor.store.checkpoint_order import newest_first
from fred_supervisor.store.file_ages import file_age_s, uptime_s
from fred_supervisor.store.run_spec import RunSpec

DAY_NS = 86400 * 10**9
TIMES = st.integers(min_value=0, max_value=2**62)


@pytest.mark.parametrize(
    "names",
    [
        [f"epoch-{n}.pt" for n in (1, 2, 9, 10, 11, 100)],
        [f"checkpoint-{n}/optimizer.pt" for n in (50, 500, 1500)],
        [f"epoch={n}-step={n * 70}-val_loss={0.9 / (n + 1):.2f}.ckpt" for n in range(12)],
        [f"resnet50_iter_{n}.pth" for n in (8, 64, 512)],
        [f"val{10 - n}_epoch{n}.pt" for n in range(9)],
    ],
)
@given(data=st.data())
def test_the_number_in_a_name_outranks_every_clock(names: list[str], data: st.DataObject):
    changed_ns = {name: data.draw(TIMES) for name in data.draw(st.permutations(names))}
    assert newest_first(changed_ns, data.draw(TIMES)) == names[::-1]


@given(st.dictionaries(st.text(st.sampled_from("ab19.-/é²٣"), min_size=1, max_size=9), TIMES), TIMES)
def test_every_name_has_one_place_whatever_its_time(changed_ns: dict[str, int], now_ns: int):
    assert sorted(newest_first(changed_ns, now_ns)) == sorted(changed_ns)


def test_names_that_tell_nothing_of_each_other_are_ordered_by_time_and_wrong_times_come_last():
    now_ns = 1000 * DAY_NS
    changed_ns = {"last.pt": now_ns - 5, "best.pt": now_ns - 9, "epoch3.pt": now_ns - 7, "epoch2.pt": now_ns + 1}
    assert newest_first(changed_ns, now_ns) == ["last.pt", "epoch3.pt", "epoch2.pt", "best.pt"]
    assert newest_first({**changed_ns, "last.pt": now_ns + DAY_NS}, now_ns)[-1] == "last.pt"
    for older, newer in (("last.ckpt", "last-v1.ckpt"), ("last-v1.ckpt", "last.ckpt")):  # Lightning's
        assert newest_first({older: now_ns - 90, newer: now_ns - 5}, now_ns) == [newer, older]
    ahead_ns = 5 * 10**9  # a file server's clock
    assert newest_first({**changed_ns, "best.pt": now_ns + ahead_ns}, now_ns)[0] == "best.pt"


@settings(max_examples=40)
@given(lost=st.sets(st.integers(min_value=0, max_value=9)), data=st.data())
def test_a_lost_sidecar_changes_no_order(tmp_path_factory, lost: set[int], data: st.DataObject):
    """Two processes; the second one resumed from before the end of the first. The first of each keeps its sidecar."""
    run_dir: Path = tmp_path_factory.mktemp("run")
    written = [(1, e, s, e * 100 + s) for e in (1, 2) for s in (0, 40)] + [(2, 3, s, 300 + s) for s in (0, 20, 60, 80)]
    names = []
    for number, (session, epoch, step, samples) in enumerate(written):
        name = epoch_name("unfreeze", epoch) if step == 0 else step_name(samples)
        path = run_dir / name
        path.write_bytes(b"x")
        when_ns = data.draw(TIMES)
        os.utime(path, ns=(when_ns, when_ns))
        meta = CheckpointMeta(
            size=1, digest="", phase="unfreeze", epoch=epoch, step=step, samples=samples, session=session
        )
        if step == 0 or number not in lost:
            sidecar_path(path).write_text(json.dumps(vars(meta)))
        names.append(name)
    assert [found.path.name for found in list_checkpoints(run_dir)] == names[::-1]


def live(tmp_path: Path, **flags: Any) -> LiveAttempt:
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", command=["x"], **flags)
    attempt = LiveAttempt(spec=spec, number=1, keeper=None)
    attempt.folder.path.mkdir(parents=True)
    attempt.folder.launch.write_text("{}")
    attempt.folder.heartbeat.touch()
    for look in (attempt._saved, attempt._progress):
        look.most_s = 0.0  # on a busy machine a look is dear, and the next one would come later
    now_ns = attempt.folder.launch.stat().st_mtime_ns
    os.utime(attempt.folder.heartbeat, ns=(now_ns, now_ns))
    return attempt


@given(times=st.lists(TIMES, min_size=2, max_size=5, unique=True))
def test_a_new_checkpoint_is_progress_whatever_its_time(tmp_path_factory, times: list[int]):
    run_dir: Path = tmp_path_factory.mktemp("run")
    attempt = live(run_dir, checkpoints="*.pt")
    assert attempt.fresh_checkpoint() is None, "what was there before is none"
    for number, when_ns in enumerate(times):
        path = run_dir / f"{number}.pt"
        path.write_text("x")
        os.utime(path, ns=(when_ns, when_ns))
        assert attempt.fresh_checkpoint() is FreshCheckpoint.NEW
        assert attempt.fresh_checkpoint() is None, "once"
    path.rename(run_dir / "renamed.pt")
    assert attempt.fresh_checkpoint() is None, "a name is no progress"
    (run_dir / "0.pt").unlink()
    assert attempt.fresh_checkpoint() is None
    for name in ("renamed.pt", "0.pt"):
        (run_dir / name).write_text("longer")
        assert attempt.fresh_checkpoint() is FreshCheckpoint.REWRITTEN


@pytest.mark.parametrize("flags", [{}, {"progress_file": "log"}], ids=["heartbeat", "progress file"])
@pytest.mark.parametrize("step_ns", [-400 * DAY_NS, -10, 400 * DAY_NS])
def test_a_touch_is_a_beat_after_the_clock_was_set(tmp_path: Path, flags: dict[str, str], step_ns: int):
    attempt = live(tmp_path, **flags)
    file = tmp_path / "log" if flags else attempt.folder.heartbeat
    launched_ns = attempt.folder.launch.stat().st_mtime_ns
    file.touch()
    os.utime(file, ns=(launched_ns - 5, launched_ns - 5))
    (silent,) = attempt.look(1.0)
    assert silent.stamp in (None, ""), "it was there before the launch"
    stamps = set()
    for beat in range(3):
        os.utime(file, ns=(launched_ns + step_ns + beat,) * 2)
        (seen,) = attempt.look(2.0 + beat)
        stamps.add(seen.stamp)
    assert len(stamps - {silent.stamp}) == 3


def test_a_file_from_the_future_is_no_beat_until_it_changes(tmp_path: Path):
    attempt = live(tmp_path, progress_file="log")
    file = tmp_path / "log"
    file.touch()
    os.utime(file, ns=(time.time_ns() + DAY_NS,) * 2)
    assert attempt.look(1.0)[0].stamp in (None, "")
    os.utime(file, ns=(time.time_ns() + DAY_NS + 1,) * 2)
    assert attempt.look(2.0)[0].stamp not in (None, "")


def test_ages_that_cannot_be_are_not_known(monkeypatch: pytest.MonkeyPatch):
    now_s = 1e9
    monkeypatch.setattr(time, "time", lambda: now_s)
    assert file_age_s(now_s - 7.25) == 7.2
    assert file_age_s(now_s + 2) == 0.0, "a file server's clock"
    assert file_age_s(now_s + 60) is None
    assert file_age_s(now_s - 366 * 86400, at_most_s=60) is None
    own = proc.identify(os.getpid())
    assert own is not None
    assert 0 <= uptime_s(own) < 86400, "the wall clock has no part in it"


def test_a_checkpoint_from_the_future_does_not_end_a_run(fred):
    """It stays behind the later ones, and they count as progress."""
    script = fred.home / "t.py"
    script.write_text(
        "import os, sys, time\n"
        "n = 1 + (int(os.path.basename(sys.argv[1])[5:-3]) if len(sys.argv) > 1 else 0)\n"
        "path = os.path.join(os.environ['FRED_RUN_DIR'], f'ckpt-{n}.pt')\n"
        "open(path + '.new', 'w').write('x')\n"
        "os.utime(path + '.new', (time.time() + 8e6 / n,) * 2)\n"
        "os.rename(path + '.new', path)\n"
        "sys.exit(n < 4 and 3)\n"
    )
    flags = ("--foreground", "--name", "t", "--backoff", "0:0", "--checkpoints", "ckpt-*.pt", "--same-failure", "9")
    done = fred("start", *flags, "--", sys.executable, str(script), "{resume}")
    assert done.returncode == 0, done.stdout
    assert {path.name for path in fred.run_dir.glob("*.pt")} == {f"ckpt-{n}.pt" for n in (1, 2, 3, 4)}


def test_a_look_at_many_checkpoints_compares_each_once(tmp_path, monkeypatch):
    compared = 0

    class State(tuple[int, ...]):
        __slots__ = ()
        __hash__ = tuple.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return tuple.__eq__(self, other)

    attempt = live(tmp_path, checkpoints="*.pt")
    many = 1000
    for _ in range(2):
        states = {f"{number}.pt": State((number, 1, 1)) for number in range(many)}
        monkeypatch.setattr(attempt._saved, "seen", lambda states=states, **_: (True, states))
        assert attempt.fresh_checkpoint() is None
    assert compared <= 4 * many
