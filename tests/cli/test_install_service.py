"""`install-service`: what is written, from where, and what it does to files that a person has changed."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
UNIT = ".config/systemd/user/fred-supervise@.service"
CONFIG = ".config/fred-supervise/rgb.toml"


@pytest.fixture
def install(fred):
    fred.environ.pop("XDG_CONFIG_HOME", None)
    return lambda *words: fred("install-service", "rgb", "--user", *words)


def test_a_unit_a_configuration_and_the_next_command(fred, install):
    done = install("--data", "FRED")
    assert done.returncode == 0, done.stderr
    unit = (fred.home / UNIT).read_text()
    program = Path(sys.executable).with_name("fred-supervise")
    assert f"ExecStart={program} start --foreground --name %i --config %E/fred-supervise/%i.toml\n" in unit
    assert f"ExecStop=-{program} stop %i\n" in unit
    assert tomllib.loads((fred.home / CONFIG).read_text())["trainer"] == {
        "modality": "rgb",
        "data": f"{fred.home}/FRED",
    }
    last = done.stdout.splitlines()[-1]
    assert last.endswith("systemctl --user daemon-reload && systemctl --user enable --now fred-supervise@rgb")
    shown = fred("config", "show", "--config", CONFIG, "--name", "rgb")
    assert "[trainer] data" in shown.stdout


def test_without_data_it_says_what_is_missing(fred, install):
    assert f"Set `data` in {fred.home / CONFIG} first." in install().stdout


def test_a_changed_file_is_kept_and_that_is_said(fred, install):
    install("--data", "/srv/FRED")
    unit, config = fred.home / UNIT, fred.home / CONFIG
    assert install("--data", "/srv/FRED").stdout.count("unchanged") == 2
    # Of another version, and nobody's work: replaced.
    older = unit.read_text().partition("# Written by")[0].replace("WatchdogSec=30", "WatchdogSec=20")
    unit.write_text(older)
    assert f"kept       {unit} (changed by hand" in install("--data", "/srv/FRED").stdout
    assert unit.read_text() == older
    config.write_text('[trainer]\ndata = "/mine"\n')
    done = install("--data", "/srv/FRED", "--force")
    assert done.stdout.count("replaced") == 2
    assert unit.with_name(unit.name + ".old").read_text() == older
    assert config.with_name("rgb.toml.old").read_text() == '[trainer]\ndata = "/mine"\n'
    assert "WatchdogSec=30" in unit.read_text()


def test_a_file_of_an_older_version_is_updated(fred, install, monkeypatch):
    from fred_supervisor.cli.install_service.unit import UnitFile
    from fred_supervisor.cli.install_service.unit import install as write

    assert write(UnitFile(fred.home / UNIT, "[Service]\n# of an older version\n"), force=False).startswith("written")
    assert f"updated    {fred.home / UNIT}" in install("--data", "/srv/FRED").stdout


def test_a_known_run_becomes_a_service(fred, install):
    """With its folder, its trainer, and every number that it was started with."""
    flags = ["--backoff", "2:60", "--hang-timeout", "train=90", "--hang-timeout", "eval=500", "--no-halve"]
    flags += ["--stop-timeout", "30", "--max-restarts", "4", "--checkpoints", "*.bin", "--unfreeze-batch-size", "4"]
    trainer = ["sh", "-c", 'echo "a b"; exit 0', "{resume}"]
    assert fred("start", "--name", "rgb", "--foreground", *flags, "--", *trainer).returncode == 0
    before = fred("config", "show", "rgb", "--json").stdout
    done = install()
    assert done.returncode == 0, done.stderr
    assert (
        "WorkingDirectory" in (fred.home / ".config/systemd/user/fred-supervise@rgb.service.d/folder.conf").read_text()
    )
    text = (fred.home / CONFIG).read_text()
    assert fred("start", "--config", CONFIG, "--name", "rgb", "--new", "--foreground").returncode == 0, text
    after = fred("config", "show", "rgb-2", "--json").stdout
    assert values(after) == values(before) | {"command": values(after)["command"]}
    assert values(after)["command"] == [f"/{values(after)['command'][0].strip('/')}", *trainer[1:]]


def values(shown: str) -> dict:
    """What `config show` tells, without where it came from."""
    import json

    told = json.loads(shown)
    kept = {key: each["value"] for key, each in (told["supervisor"] | told["trainer"]).items()}
    ignored = ("name", "run_dir", "command")
    return {key: value for key, value in kept.items() if key not in ignored} | {"command": told["command"]}


def test_what_the_hardened_unit_would_not_see_is_refused(fred):
    """This checkout, or its environment, lies below /home, /root or /tmp."""
    from fred_supervisor.cli.install_service import _HIDDEN

    real = str(Path(sys.base_prefix).resolve()), str(REPOSITORY.resolve())
    if not any(path.startswith(f"{top}/") for path in real for top in _HIDDEN):
        pytest.skip("nothing of this environment is hidden")
    done = fred("install-service", "rgb", "--data", "/srv/FRED")
    assert done.returncode == 1
    assert "which the hardened service does not see" in done.stderr
    assert "--user" in done.stderr
    assert not Path("/etc/systemd/system/fred-supervise@.service").exists()


def test_a_name_is_checked(fred):
    assert fred("install-service", "../x", "--user").returncode == 2


def test_a_wheel_has_the_units_and_the_templates(tmp_path: Path):
    """One source of truth: the folder `systemd` of the repository, also for what is installed from an index."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    made = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    there = {p.relative_to(REPOSITORY / "systemd") for p in (REPOSITORY / "systemd").rglob("*") if p.is_file()}
    for name in there:
        installed = tmp_path / "installed/fred_supervisor/systemd" / name
        assert installed.read_bytes() == (REPOSITORY / "systemd" / name).read_bytes()
    package = REPOSITORY / "supervisor/fred_supervisor"
    others = [p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert {".mo", ".html", ".css", ".js"} <= {path.suffix for path in others}
    for path in others:
        assert (tmp_path / "installed/fred_supervisor" / path.relative_to(package)).read_bytes() == path.read_bytes()
    read = "from fred_supervisor.cli.install_service.unit import _folder, load_unit; print(_folder()); load_unit('fred-supervise@.service', '/x')"
    found = subprocess.run(
        [sys.executable, "-c", read],
        env={"PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(tmp_path / "installed/fred_supervisor/systemd")
