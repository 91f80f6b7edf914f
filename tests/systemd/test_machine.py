"""Whole machines: one that goes down and comes up again, and one that trains the real model."""

import json
import uuid
from pathlib import Path

import pytest

STATE = "/var/lib/fred-supervise"
KEPT = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/systemd/system/fred-supervise@.service")
ENABLED = "/etc/systemd/system/box.target.wants/fred-supervise@{}.service"


@pytest.mark.parametrize("how", ["power-cut", pytest.param("shut-down", marks=pytest.mark.slow)])
def test_after_a_reboot_it_goes_on(box, install, instance, tmp_path: Path, how: str):
    """By itself, from the newest checkpoint; what was left of the boot before is recognised."""
    # A boot of its own is seen through an overmounted file, which ProtectKernelTunables= would uncover.
    drop_in = "[Service]\nProtectKernelTunables=no\n"
    with box.Box(disks={STATE: tmp_path}, boot=str(uuid.uuid4())) as before:
        install(before)
        service = instance(before, how)
        service.start(drop_in=drop_in)
        before.wait(lambda: service.status()["progress"]["epoch"] > 2, what="two epochs")
        kept = (*KEPT, f"/etc/systemd/system/{service.unit}.d/test.conf", f"/etc/fred-supervise/{how}.toml")
        files = {name: before.path(name).read_text() for name in kept}
        if how == "shut-down":
            before.shut_down()
    files[ENABLED.format(how)] = "-> /etc/systemd/system/fred-supervise@.service"
    with box.Box(disks={STATE: tmp_path}, files=files, boot=str(uuid.uuid4())) as after:
        service = instance(after, how)
        after.wait(lambda: service.run_dir.joinpath("supervisor/attempts/0002/launch.json").exists(), what="attempt 2")
        service.trains()
        launch, status = service.launch(2), service.status()
        assert status["state"] == "running"
        assert status["trainer"]["attempt"] == 2
        assert Path(launch["resume"]).name.startswith("unfreeze_epoch_")
        assert int(Path(launch["resume"]).name.split("_")[2]) >= 2
        left = service.run_dir / "supervisor/attempts/0001/exit.json"
        if how == "shut-down":
            assert json.loads(left.read_text())["exit_code"] == 75, "it saved on the way down"
            assert service.incidents() == []
        else:
            assert not left.exists()
            (incident,) = service.incidents()
            assert incident["cause"].startswith("The machine was rebooted, or lost its power, while the trainer was in")
            assert incident["lost_steps"] is not None
            assert status["restarts"] == {"total": 0, "crash": 0, "hang": 0, "oom": 0, "by_kind": {}, "budget_left": 10}
        service.stop()


def test_the_hardened_unit_trains_the_real_model(machine, service):
    """Loader workers, shared memory, oneDNN's own machine code, TensorBoard, checkpoints: nothing of it is denied."""
    made = "import sys; from fred_trainer.cli.main import main; sys.exit(main())"
    words = ("data", "synth", "/srv/FRED", "--sequences=2", "--frames=12", "--seed=1")
    machine.run("/opt/fred/venv/bin/python", "-c", made, *words)
    flags = {"modality": "dual", "data": "/srv/FRED", "backbone": "mobilenet_v3_large", "input-size": 64, "workers": 2}
    flags |= {"freeze-epochs": 1, "epochs": 3, "freeze-batch-size": 4, "unfreeze-batch-size": 4, "eval-every": 1}
    text = "[trainer]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in flags.items())
    machine.write(f"/etc/fred-supervise/{service.name}.toml", text)
    threads = f"/etc/systemd/system/{service.unit}.d/threads.conf"
    machine.write(threads, "[Service]\nEnvironment=OMP_NUM_THREADS=1\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", service.unit)
    machine.wait(lambda: service.show("ActiveState")["ActiveState"] != "active", 800, "the end")
    assert service.show("Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}, machine.journal(service.unit)
    status = service.status()
    assert (status["state"], status["restarts"]["total"]) == ("completed", 0), service.incidents()
    assert {"fred_fusion_final.pth", "fred_fusion_best.pth"} <= {path.name for path in service.run_dir.iterdir()}
    output = (service.run_dir / "supervisor/attempts/0001/output.log").read_text()
    assert "Permission denied" not in output
    assert "Operation not permitted" not in output
