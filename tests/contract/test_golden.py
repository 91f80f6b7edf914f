"""What other programs rely on, word for word: names of variables, exit codes, sections, file names, flags."""

import argparse
import errno

import pytest

from fred_supervisor.contract import environment
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.builtin import flags, trainer_files
from fred_supervisor.contract.builtin.drill import Drill, DrillFault, parse_drills
from fred_supervisor.contract.builtin.trainer_files import (
    TrainerFiles,
    epoch_name,
    is_epoch_name,
    is_step_name,
    last_epoch_name,
    step_name,
)
from fred_supervisor.contract.exit_codes import CommandExit, TrainerExit
from fred_supervisor.contract.heartbeat import RECORD_BYTES, Section


def test_the_variables_that_a_trainer_is_given():
    names = {
        "RUN_ID", "RUN_PLACE", "RUN_DIR", "ATTEMPT", "HEARTBEAT", "ERROR_FILE", "RESUME", "UNFREEZE_BATCH_SIZE", "ACCUMULATE",
    }  # fmt: skip
    assert {name: getattr(environment, name) for name in names} == {name: f"FRED_{name}" for name in names}
    assert environment.OF_CONFIGURATION == "FRED_SUPERVISE_"
    assert set(environment.OF_SYSTEMD) == {
        "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
    }  # fmt: skip
    assert [environment.rank_path("/hb", rank) for rank in (0, 1, 12)] == ["/hb", "/hb.rank1", "/hb.rank12"]


def test_exit_codes():
    assert {one.name: one.value for one in CommandExit} == {
        "OK": 0, "REFUSED": 1, "USAGE": 2, "NOT_RUNNING": 3, "NO_SUCH_RUN": 4, "INTERNAL": 70, "RUN_AGAIN": 75, "NO_PERMISSION": 77,
        "BAD_INPUT": 78, "RUN_FAILED": 93,
    }  # fmt: skip
    assert {one.name: one.value for one in TrainerExit} == {"COMPLETE": 0, "FAILURE": 1, "SAVED": 75, "CONFIG": 78}


def test_words_of_the_heartbeat():
    assert [*Section] == ["startup", "first-step", "train", "eval", "checkpoint", "shutdown"]
    assert RECORD_BYTES == 256
    assert {*Alarm} == {"disk-full", "quota", "read-only", "permission", "disk-error", "thinned", "resume"}


@pytest.mark.parametrize(
    ("number", "alarm"),
    [
        (errno.ENOSPC, Alarm.DISK_FULL), (errno.EDQUOT, Alarm.QUOTA), (errno.EROFS, Alarm.READ_ONLY),
        (errno.EACCES, Alarm.PERMISSION), (errno.EPERM, Alarm.PERMISSION), (errno.EIO, Alarm.DISK_ERROR),
    ],
)  # fmt: skip
def test_what_a_failed_write_means(number: int, alarm: Alarm):
    assert Alarm.of(OSError(number, "x")) is alarm
    assert Alarm.of(OSError("without a number")) is Alarm.DISK_ERROR


def test_names_of_checkpoints(tmp_path):
    assert epoch_name("freeze", 10) == "freeze_epoch_10_weights.pth"
    assert last_epoch_name("unfreeze") == "unfreeze_last_epoch_weights.pth"
    assert step_name(640) == "step_weights.640.pth"
    constants = (trainer_files.STEP_STATE_LINK, trainer_files.BEST, trainer_files.FINAL)
    assert constants == ("step_weights.pth", "fred_fusion_best.pth", "fred_fusion_final.pth")
    assert TrainerFiles(tmp_path).preflight == tmp_path / "preflight.json"
    assert TrainerFiles(tmp_path).drills == tmp_path / "supervisor/drills"


@pytest.mark.parametrize(
    ("name", "epoch", "step"),
    [
        ("freeze_epoch_10_weights.pth", True, False),
        ("unfreeze_epoch_1_weights.pth", True, False),
        ("freeze_last_epoch_weights.pth", False, False),
        ("step_weights.640.pth", False, True),
        ("step_weights.pth", False, False),
        ("step_weights.640.pth.json", False, False),
        ("my_freeze_epoch_10_weights.pth", False, False),
        ("freeze_epoch_10_weights.pth.bak", False, False),
        ("step_weights.x.pth", False, False),
    ],
)
def test_which_names_are_whose(name: str, epoch: bool, step: bool):
    assert (is_epoch_name(name), is_step_name(name)) == (epoch, step)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("freeze_epoch_10_weights.pth", ("freeze", 10, 0)),
        ("unfreeze_epoch_7_weights.pth", ("unfreeze", 7, 0)),
        ("freeze_last_epoch_weights.pth", ("freeze", trainer_files.LAST_EPOCH, 0)),
        ("step_weights.640.pth", (None, None, 640)),
        ("other.pth", (None, None, 0)),
        ("xfreeze_epoch_10_weights.pth", (None, None, 0)),
    ],
)
def test_what_a_name_tells(name: str, place: tuple[str | None, int | None, int]):
    assert trainer_files.place_by_name(name) == place


def test_no_epoch_is_later_than_the_last():
    assert trainer_files.LAST_EPOCH > 10**12
    assert trainer_files.PHASES == ("freeze", "unfreeze")


def test_kinds_of_drills():
    assert {*DrillFault} == {
        "exception", "oom", "segfault", "sigkill", "sigstop", "hang", "gil", "exit0", "nan", "slow",
    }  # fmt: skip


def test_a_drill_without_more():
    drill = Drill(fault=DrillFault.OOM, where="startup", text="x")
    assert (drill.epoch, drill.step, drill.batch_above, drill.seconds, drill.always) == (None, None, None, 0.0, False)


@pytest.mark.parametrize(
    ("text", "marker"),
    [("oom@batch>4", "oom_batch_4"), ("slow=2.5@eval:3", "slow=2.5_eval_3"), ("hang@freeze:1:2!", "hang_freeze_1_2_")],
)
def test_markers(text: str, marker: str):
    assert parse_drills(text)[0].marker == marker


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oom@unfreeze:1:0", "count from 1"),
        ("oom@eval:0", "count from 1"),
        ("oom@checkpoint:0", "count from 1"),
        ("oom@batch>", "KIND@WHERE"),
        ("oom@lunch", "KIND@WHERE"),
        ("slow=@eval:1", "KIND@WHERE"),
        ("hang=2@startup", "seconds"),
        ("slow@startup", "seconds"),
    ],
)
def test_drills_that_are_none(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        parse_drills(text)


def test_the_first_epoch_and_step_are_1():
    (drill,) = parse_drills("nan@freeze:1:1")
    assert (drill.epoch, drill.step) == (1, 1)
    (drill,) = parse_drills("oom@batch>0")
    assert (drill.batch_above, drill.always) == (0, True)
    (drill,) = parse_drills("slow=3@unfreeze:2:7!")
    assert (drill.where, drill.epoch, drill.step, drill.seconds, drill.always) == ("unfreeze", 2, 7, 3.0, True)
    (drill,) = parse_drills("slow=3@startup!")
    assert (drill.where, drill.epoch, drill.step, drill.seconds, drill.always) == ("startup", None, None, 3.0, True)
    (drill,) = parse_drills("slow=3@batch>2")
    assert drill.seconds == 3.0
    (drill,) = parse_drills("oom@eval:2!")
    assert drill.always


DEFAULTS = {
    "modality": "dual", "data": None, "fred-root": None, "split": "canonical", "train-on": "held-in", "negatives": 0.0,
    "run-dir": None, "resume": "auto", "phase": "auto", "force-resume": False, "skip-freeze": False,
    "freeze-only": False, "freeze-epochs": 50, "epochs": 300, "freeze-batch-size": 8, "unfreeze-batch-size": 8,
    "eval-batch-size": None, "accumulate": 1, "save-every-epochs": 10, "save-every-seconds": "auto", "eval-every": 5,
    "patience": None, "no-eval-map": False, "eval-only": False, "no-preflight": False, "quick-test": False,
    "backbone": "regnet_x_400mf", "pretrained": "auto", "compression-ratio": 0.75, "input-size": 640, "finest": "auto",
    "lr": 1e-3, "amp": "auto", "device": "auto", "cache": "none", "cache-gib": None, "no-augment": False, "mosaic": 0.25,
    "time-shift": 0.3, "modality-dropout": 0.1, "workers": 4, "seed": 0,
}  # fmt: skip
RECORDED = {
    "modality", "data", "split", "train-on", "negatives", "backbone", "compression-ratio", "input-size", "finest",
    "seed",
}  # fmt: skip
CHOICES = {
    "modality": ("dual", "rgb", "event"), "split": ("canonical", "challenging"), "train-on": ("held-in", "all"),
    "phase": ("auto", "freeze", "unfreeze"), "amp": ("auto", "fp16", "bf16", "off"), "cache": ("none", "ram", "disk"),
    "finest": ("auto", "4", "8"),
}  # fmt: skip
METAVARS = {
    "data": "DIR", "fred-root": "DIR", "run-dir": "DIR", "resume": "auto|none|PATH", "pretrained": "auto|none|PATH",
    "save-every-seconds": "auto|S", "backbone": "NAME", "device": "NAME", "compression-ratio": "R", "lr": "LR",
    "input-size": "PX", "negatives": "SHARE", "mosaic": "P", "time-shift": "P", "modality-dropout": "P",
    **dict.fromkeys((
        "freeze-epochs", "epochs", "freeze-batch-size", "unfreeze-batch-size", "eval-batch-size", "accumulate",
        "save-every-epochs", "eval-every", "patience", "cache-gib", "workers", "seed",
    ), "N"),
}  # fmt: skip
OWN = {"run-dir", "resume", "phase", "force-resume"}


def test_the_flags_of_the_trainer():
    assert {flag.name: flag.default for flag in flags.FLAGS} == DEFAULTS
    assert [flag.name for flag in flags.FLAGS] == [*DEFAULTS], "in the order of --help"
    assert {flag.name: flag.metavar for flag in flags.FLAGS if flag.metavar} == METAVARS
    assert {flag.name for flag in flags.FLAGS if flag.recorded} == RECORDED
    assert {flag.name: flag.choices for flag in flags.FLAGS if flag.choices} == CHOICES
    assert {flag.name for flag in flags.FLAGS if flag.own} == OWN
    assert {flag.name for flag in flags.FLAGS if flag.kind is None} == {n for n, d in DEFAULTS.items() if d is False}
    assert dict(flags.ALIASES) == {"--freeze-training": "--freeze-only"}


NATURAL, POSITIVE, SHARE, RATIO, RATE = "0", "1", "share", "ratio", "rate"
KINDS = {
    "freeze-epochs": NATURAL, "workers": NATURAL, "seed": NATURAL,
    "epochs": POSITIVE, "freeze-batch-size": POSITIVE, "unfreeze-batch-size": POSITIVE, "eval-batch-size": POSITIVE,
    "accumulate": POSITIVE, "save-every-epochs": POSITIVE, "eval-every": POSITIVE, "patience": POSITIVE,
    "input-size": POSITIVE,
    "negatives": SHARE, "mosaic": SHARE, "time-shift": SHARE, "modality-dropout": SHARE, "compression-ratio": RATIO,
    "lr": RATE, "cache-gib": RATE, "save-every-seconds": RATE,
}  # fmt: skip
TAKEN = {
    NATURAL: ["0", "1", "12"],
    POSITIVE: ["1", "12"],
    SHARE: ["0", "0.5", "1"],
    RATIO: ["0.001", "0.5", "1"],
    RATE: ["0.001", "1", "1e9"],
}
REFUSED = {
    NATURAL: ["-1", "1.5", "x", "", "²"],
    POSITIVE: ["0", "-1", "1.5", "x", "²"],
    SHARE: ["-0.1", "1.1", "x", "nan"],
    RATIO: ["0", "-0.1", "1.1", "nan", "x"],
    RATE: ["0", "-1", "inf", "nan", "x"],
}


@pytest.mark.parametrize("name", KINDS)
def test_which_values_a_flag_takes(name: str):
    kind = flags.BY_KEY[name.replace("-", "_")].kind
    for text in TAKEN[KINDS[name]]:
        assert kind(text) == float(text)
    for text in REFUSED[KINDS[name]]:
        with pytest.raises(argparse.ArgumentTypeError, match="number"):
            kind(text)
    assert flags.seconds_or_auto("auto") == "auto"


def parser(*, defaults: bool) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(exit_on_error=False)
    flags.add_flags(found, flags.FLAGS, defaults=defaults)
    return found


def test_without_defaults_what_was_not_given_is_none():
    assert set(vars(parser(defaults=False).parse_args([])).values()) == {None}
    assert vars(parser(defaults=True).parse_args([])) == {flag.key: flag.default for flag in flags.FLAGS}


def test_every_value_goes_through_a_command_line_unchanged():
    given = {
        flag.key: True if flag.kind is None else flag.choices[-1] if flag.choices else flag.default or "1"
        for flag in flags.FLAGS
    }
    once = vars(parser(defaults=False).parse_args(flags.to_argv(given)))
    assert None not in once.values()
    assert vars(parser(defaults=False).parse_args(flags.to_argv(once))) == once
    assert flags.to_argv({"epochs": None, "no_eval_map": False}) == []
    assert flags.to_argv({"workers": 0, "no_eval_map": True}) == ["--no-eval-map", "--workers=0"]


def test_help_names_values_and_defaults():
    text = " ".join(parser(defaults=False).format_help().split())
    assert "--modality dual|rgb|event" in text
    assert "--cache-gib N" in text
    assert "epochs in all, the frozen ones included (default 300)" in text
    assert "never evaluate --" in text, "a switch has no default worth a word"


def test_spellings_of_the_past():
    assert flags.normalise(["--freeze_training", "--a_b=c_d", "-x_y", "z_z"]) == [
        "--freeze-only",
        "--a-b=c_d",
        "-x_y",
        "z_z",
    ]
