"""Files that were garbled by anybody: any bytes, any JSON value anywhere. Nothing raises, and no number is invented."""

import copy
import io
import json
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers.fred import Fred

from fred_supervisor.attempt.evidence import gather
from fred_supervisor.cli import incidents as incidents_command
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.options import parser
from fred_supervisor.cli.common.settings_layers import layered
from fred_supervisor.cli.common.table import table_lines
from fred_supervisor.cli.common.view import run_lines
from fred_supervisor.contract import heartbeat
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.store.status import read_status

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FILES = [
    *("state.json", "run.json", "journal.jsonl", "monitor.json", "incidents/0001.json", "attempts/0001/exit.json"),
    *("attempts/0001/launch.json", "attempts/0001/error.json", "attempts/0001/heartbeat", "attempts/0001/output.log"),
]
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fred = Fred(home=tmp_path_factory.mktemp("fuzzed"))
    assert fred.run(2, 3, {"1": ["raise", 2, 2]}).returncode == 0
    return fred.run_dir


def look(run_dir: Path) -> None:
    """Everything that reads the files of a run."""
    spec = load_run_spec(run_dir)
    if spec is None:
        return
    status = read_status(spec)
    json.dumps(status.document(), allow_nan=False)
    "\n".join([*run_lines(status), *table_lines([status], width=80)])
    gather(spec, 1, oom_kills_before=None, lookout=Lookout(spec.run_dir))
    with redirect_stdout(io.StringIO()), suppress(CommandError):
        incidents_command.main(["--run-dir", str(run_dir)])
        incidents_command.main(["--run-dir", str(run_dir), "--json"])
        incidents_command.main(["--run-dir", str(run_dir), "1"])


def exchange(document: Any, at: int, value: Any) -> Any:
    """The document with its `at`-th value, counted through all depths, exchanged."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    document = copy.deepcopy(document)
    walk(document)
    node, key = places[at % len(places)]
    node[key] = value
    return document


@pytest.mark.parametrize("name", FILES)
@FEW
@given(data=st.binary(max_size=300))
def test_any_bytes(run_dir: Path, name: str, data: bytes):
    path = run_dir / "supervisor" / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        look(run_dir)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json") and "monitor" not in name])
@FEW
@given(at=st.integers(0, 200), value=JSON)
def test_any_value_anywhere(run_dir: Path, name: str, at: int, value: Any):
    path = run_dir / "supervisor" / name
    before = path.read_bytes()
    path.write_text(json.dumps(exchange(json.loads(before), at, value)))
    try:
        look(run_dir)
        history = read_state(RunDir(run_dir)).history
        assert isinstance(history.spent, int)
        assert type(history.overrides.unfreeze_batch) in (int, type(None))
    finally:
        path.write_bytes(before)


GPU = {
    "uuid": "GPU-1", "index": 0, "name": "card", "mig": None, "parent": None, "chosen": True, "used_mib": 5, "free_mib": 5,
    "total_mib": 10, "trainer_mib": 3, "temperature_c": 50, "health": "ok", "hold": False, "command": None,
    "processes": [{"pid": 5, "user": "u", "command": "c", "mib": 5, "ours": True}],
}  # fmt: skip
EXTREMES = [-1, 0, 2**31, 2**63, 10**400, 1e308, -1e308, "0001-01-01", "9999-12-31T23:59:59-14:00", [None], {"a": [[]]}]
"""Numbers that no clock shows and no division bears, times at the edge of the calendar."""


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
@pytest.mark.parametrize("first", [0, 5])
def test_extremes_in_every_place(run_dir: Path, name: str, first: int):
    """Each place has two of them; `make fuzz` has all."""
    path = run_dir / "supervisor" / name
    before = path.read_bytes() if path.exists() else None
    if name == "monitor.json":
        now = {"boot": proc.boot_id(), "mono_s": time.monotonic() + 1e6, "period_s": 5.0, "sample_mono_s": 1.0}
        document = {**now, "nvml": {"state": "ok", "text": ""}, "gpus": [GPU], "host": {}}
    elif before is None:
        pytest.skip(f"this run has no {name}")
    else:
        document = json.loads(before)
    try:
        for at in range(_places(document)):
            value = EXTREMES[(first + at) % len(EXTREMES)]
            path.write_text(json.dumps(exchange(document, at, value)))
            look(run_dir)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def _places(node: Any) -> int:
    """How many values a document has, in all depths."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return sum(1 + _places(each) for each in inner)


@FEW
@given(data=st.binary(max_size=400), at=st.integers(0, heartbeat.RECORD_BYTES - 1), bit=st.integers(0, 7))
def test_a_heartbeat_is_whole_or_nothing(run_dir: Path, data: bytes, at: int, bit: int):
    whole = (run_dir / "supervisor/attempts/0002/heartbeat").read_bytes()
    assert heartbeat.parse(whole) is not None
    assert heartbeat.parse(data) is None
    torn = bytearray(whole)
    torn[at] ^= 1 << bit
    assert heartbeat.parse(bytes(torn)) in (None, heartbeat.parse(whole))


@FEW
@given(text=st.text(max_size=80) | st.sampled_from(["[supervisor]", "[trainer]"]).flatmap(
    lambda head: st.dictionaries(st.sampled_from(["name", "max_restarts", "epochs", "hang-timeout", "backoff", "kill_s"]), JSON, max_size=2)
    .map(lambda rows: head + "\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items()))
))  # fmt: skip
def test_a_configuration_is_taken_or_refused_in_one_line(tmp_path: Path, text: str):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    refused = ""
    try:
        layered(vars(parser().parse_args(["--config", str(path)])), parser())
    except CommandError as fault:
        refused = str(fault)
    assert "\n" not in refused
