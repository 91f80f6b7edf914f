"""What lies in a folder that other programs write is data: looking for files raises nothing, and finds none of ours."""

import os
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fred_supervisor.store.checkpoints import foreign_checkpoints
from fred_supervisor.store.matching import matching


def found(run_dir: Path, pattern: str) -> list[str]:
    return [path.relative_to(run_dir).as_posix() for path in matching(run_dir, pattern)]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for name in (
        "a.pt", ".hidden.pt", "weights/b.pt", "weights/deep/c.pt", "supervisor/events.out.tfevents.1",
        "supervisor/journal.jsonl", "supervisor/attempts/0001/output.log", "supervisor/attempts/0001/heartbeat", "metrics.csv",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.pt").symlink_to("nowhere")
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    (tmp_path / "round").symlink_to(".")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.csv", ["metrics.csv"]),
        ("metrics.csv", ["metrics.csv"]),
        ("weights/*.pt", ["weights/b.pt"]),
        ("**/*.pt", [".hidden.pt", "a.pt", "gone.pt", "loop.pt", "weights/b.pt", "weights/deep/c.pt"]),
        ("weights/**/*.pt", ["weights/b.pt", "weights/deep/c.pt"]),
        ("?.p[t]", ["a.pt"]),
        ("**/events.out.tfevents*", []),
        ("**/*.jsonl", []),
        ("supervisor/*", []),
        ("supervisor/attempts/*/output.log", ["supervisor/attempts/0001/output.log"]),
        ("supervisor/attempts/*/*", ["supervisor/attempts/0001/output.log"]),
        ("a.pt/*", []),
        ("nowhere/*.pt", []),
        ("gone.pt/x", []),
    ],
)
def test_patterns_fit_what_others_write_and_nothing_of_ours(run_dir: Path, pattern: str, names: list[str]):
    assert found(run_dir, pattern) == names


def test_all_but_ours(run_dir: Path):
    assert "supervisor" not in found(run_dir, "*")
    assert "a.pt" in found(run_dir, "*")


@pytest.mark.parametrize("pattern", ["*/*", "**/*.csv", "d*/f*"])
def test_folders_that_come_and_go_raise_nothing(tmp_path: Path, pattern: str):
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            for n in range(20):
                (tmp_path / f"d{n}").mkdir()
                (tmp_path / f"d{n}" / "f.csv").touch()
            for n in range(20):
                (tmp_path / f"d{n}" / "f.csv").unlink()
                (tmp_path / f"d{n}").rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            matching(tmp_path, pattern)
    finally:
        over.set()
        thread.join()


def test_a_tree_deeper_than_any_recursion(tmp_path: Path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        before, here = here, os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(before)
    os.close(here)
    assert matching(tmp_path, "**/*.pt") == []
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest removes old folders by recursion


@pytest.mark.parametrize("pattern", ["\ud800", "\ud800/*", "**/\udfff.pt", "weights/\ud800*"])
def test_a_pattern_that_no_name_can_fit(run_dir: Path, pattern: str):
    assert matching(run_dir, pattern) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=6) | st.just("**"), min_size=1, max_size=4
    )
)
def test_any_pattern_at_all(run_dir: Path, parts: list[str]):
    names = found(run_dir, "/".join(part for part in parts if part != ".."))
    assert all(not name.startswith("supervisor/") or name.endswith("/output.log") for name in names)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*/*", ["checkpoint-8/rng_state.pth"]),
        ("checkpoint-*/*", ["checkpoint-8/rng_state.pth"]),
        ("checkpoint-*/trainer_state.json", ["checkpoint-8/trainer_state.json"]),
        ("*/*.json", ["checkpoint-8/trainer_state.json"]),
    ],
)
def test_a_json_is_a_checkpoint_where_the_pattern_says_so(tmp_path: Path, pattern: str, names: list[str]):
    """Else it is a sidecar. What the Hugging Face Trainer writes last of all is a JSON."""
    (tmp_path / "checkpoint-8").mkdir()
    for name in ("rng_state.pth", "trainer_state.json"):
        (tmp_path / "checkpoint-8" / name).write_text("{}")
    assert [file.path.relative_to(tmp_path).as_posix() for file in foreign_checkpoints(tmp_path, pattern)] == names
