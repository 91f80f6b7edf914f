"""Every reader of what others write, on some garbled files of each kind; `make fuzz` reads many thousands."""

import pytest
from tests.helpers.fuzz import Reader, cases, readers

KINDS = (
    *("run.json", "state.json", "launch.json", "exit.json", "error.json", "heartbeat", "code.json", "incident", "output"),
    *("monitor.json", "monitor ring", "verified.json", "alerts.json", "registry", "preflight.json", "sidecar", "checkpoint"),
    *("zip", "safetensors", "checkpoint as JSON", "events", "progress file", "pattern", "configuration"),
)  # fmt: skip


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    folder = tmp_path_factory.mktemp("fuzzed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        return readers(folder)


def test_there_are_no_others(all_readers: dict[str, Reader]):
    assert {*all_readers} == {*KINDS}


FOUND = [
    ("verified.json", b'{"' + b"[" * 5000 + b'": null}'),
    ("verified.json", b'{"[\\"/x\\", 1e999, 2]": null}'),
    ("registry", b'{"name": "t", "run_dir": "\\u0000"}'),
    ("configuration", b"[supervisor]\nname = " + b"[" * 5000),
    ("registry", b'{"name": "t", "run_dir": "/\\ud800"}'),
]
"""What `make fuzz` has found, and its like."""


@pytest.mark.parametrize(("kind", "data"), FOUND)
def test_what_was_found_stays_mended(
    all_readers: dict[str, Reader], kind: str, data: bytes, monkeypatch: pytest.MonkeyPatch
):
    reader = all_readers[kind]
    monkeypatch.setenv("XDG_STATE_HOME", str(next(p for p in reader.path.parents if (p / "state").is_dir()) / "state"))
    reader.path.write_bytes(data)
    reader.read()
    reader.path.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_raises(all_readers: dict[str, Reader], kind: str, monkeypatch: pytest.MonkeyPatch):
    reader = all_readers[kind]
    monkeypatch.setenv("XDG_STATE_HOME", str(next(p for p in reader.path.parents if (p / "state").is_dir()) / "state"))
    reader.path.parent.mkdir(exist_ok=True)
    before = reader.path.read_bytes() if reader.path.exists() else None
    reader.path.write_bytes(reader.whole)
    reader.read()
    reader.path.unlink() if before is None else reader.path.write_bytes(before)
    for data, cpu_s in cases(reader, 8, seed=20261127):
        assert cpu_s < 20, data[:200]
