"""Flags and orders."""

import pytest

from fred_supervisor.contract.exit_codes import TrainerExit
from fred_trainer.cli.main import main
from fred_trainer.cli.parser import train_parser
from fred_trainer.data import write_sequences
from fred_trainer.errors import ConfigError
from fred_trainer.train.settings import settings_from


def parse(*flags, environ=None):
    return settings_from(train_parser().parse_args(["--data", "/d", *flags]), environ or {})


def test_the_supervisors_orders_outrank_flags_in_the_unfreeze_phase_only():
    settings = parse(
        "--unfreeze-batch-size=8", "--accumulate=1", environ={"FRED_UNFREEZE_BATCH_SIZE": "4", "FRED_ACCUMULATE": "2"}
    )
    assert (settings.batch_size("freeze"), settings.accumulate("freeze")) == (8, 1)
    assert (settings.batch_size("unfreeze"), settings.accumulate("unfreeze")) == (4, 2)


def test_empty_orders_change_nothing_but_an_empty_resume_starts_afresh():
    settings = parse(environ={"FRED_UNFREEZE_BATCH_SIZE": "", "FRED_ACCUMULATE": "", "FRED_RESUME": ""})
    assert settings.batch_size("unfreeze") == 8
    assert settings.resume == "none"
    assert parse().resume == "auto"
    assert str(parse("--resume=none", environ={"FRED_RESUME": "/x.pth"}).resume) == "/x.pth"


def test_phases_follow_from_the_epoch():
    settings = parse("--freeze-epochs=2", "--epochs=4")
    assert [settings.phase_of(epoch) for epoch in (1, 2, 3, 4)] == ["freeze", "freeze", "unfreeze", "unfreeze"]
    assert [settings.is_last_of_phase(epoch) for epoch in (1, 2, 3, 4)] == [False, True, False, True]
    assert parse("--skip-freeze").phase_of(1) == "unfreeze"
    assert parse("--freeze-only").goal_epoch == 50
    assert parse().goal_epoch == 300


def test_the_last_epoch_is_always_evaluated():
    settings = parse("--epochs=7", "--eval-every=5")
    assert [epoch for epoch in range(1, 8) if settings.evaluates(epoch)] == [5, 7]
    assert not parse("--no-eval-map").evaluates(300)


def test_nothing_is_measured_on_what_was_trained_on():
    settings = parse("--train-on=all", "--eval-every=1")
    assert not any(settings.evaluates(epoch) for epoch in range(1, 301))
    assert settings.recorded["train_on"] == "all"
    assert parse().train_on == "held-in"
    with pytest.raises(ConfigError, match="--eval-only with --train-on all: nothing was held out"):
        parse("--train-on=all", "--eval-only")


def test_a_quick_test_has_an_epoch_of_each_phase():
    settings = parse("--quick-test")
    assert [settings.phase_of(epoch) for epoch in range(1, settings.goal_epoch + 1)] == ["freeze", "unfreeze"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--backbone=vgg",), "regnet_x_400mf"),
        (("--input-size=100",), "multiple of 32"),
        (("--freeze-only", "--skip-freeze"), "--freeze-only"),
        (("--drill=boom@startup",), "no such kind"),
    ],
)
def test_impossible_settings_are_refused(flags, says):
    with pytest.raises(ConfigError, match=says):
        parse(*flags)


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs=0", "--data=/d"],
        ["--epochs=many", "--data=/d"],
        ["--no-such-flag", "--data=/d"],
        ["--modality=sound", "--data=/d"],
        [],
        ["--data=/d", "--run-dir=/proc/nowhere"],
        ["--data=/d", "--compression_ratio=2"],
        ["data", "nonsense"],
    ],
)
def test_a_bad_command_line_is_one_clear_line_and_78(words, capsys):
    assert main(words) == TrainerExit.CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fred-train: ")
    assert err.count("\n") == 1


def test_orders_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigError, match="FRED_ACCUMULATE"):
        parse(environ={"FRED_ACCUMULATE": "two"})


def test_a_data_set_that_cannot_be_split_is_still_reported(tmp_path, capsys):
    write_sequences(tmp_path / "one", sequences=1, frames=4, width=256, height=144)
    assert main(["data", "check", str(tmp_path / "one"), "--no-sheet"]) == 0
    out = capsys.readouterr().out
    assert "cannot be split" in out
    assert "RGB" in out
