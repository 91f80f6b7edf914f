"""The host ran out of memory: half the loader workers, and no frames cached there."""

from fred_supervisor.policy.state import Orders
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.launch import command


def words(cache: str | None, orders: Orders) -> list[str]:
    flags = {"data": "/d"} | ({"cache": cache} if cache else {})
    asked = Asked(name="n", modality="dual", run_dir="/r", cwd="/", flags=flags)
    return [word for word in command(asked, 2, orders, None) if word.startswith(("--cache", "--workers"))]


def test_frames_are_no_longer_kept_in_memory():
    assert words("ram", Orders()) == ["--cache=ram"]
    assert sorted(words("ram", Orders(workers=2))) == ["--cache=none", "--workers=2"]
    assert sorted(words("disk", Orders(workers=2))) == ["--cache=disk", "--workers=2"]
    assert words(None, Orders(workers=2)) == ["--workers=2"]
