"""The host ran out of memory: half the loader workers, and no frames cached there."""

from fred_supervisor.attempt.launch import command
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.run_spec import RunSpec


def words(cache: str | None, overrides: Overrides) -> list[str]:
    flags = {"data": "/d"} | ({"cache": cache} if cache else {})
    spec = RunSpec(name="n", modality="dual", run_dir="/r", cwd="/", flags=flags)
    return [word for word in command(spec, 2, overrides, None) if word.startswith(("--cache", "--workers"))]


def test_frames_are_no_longer_kept_in_memory():
    assert words("ram", Overrides()) == ["--cache=ram"]
    assert sorted(words("ram", Overrides(workers=2))) == ["--cache=none", "--workers=2"]
    assert sorted(words("disk", Overrides(workers=2))) == ["--cache=disk", "--workers=2"]
    assert words(None, Overrides(workers=2)) == ["--workers=2"]
