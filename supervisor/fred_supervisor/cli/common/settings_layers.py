"""Where a value comes from: a flag outranks the environment, that the configuration file, that the default.

The file is TOML with the sections [supervisor] and [trainer]; the environment variable of a key is FRED_SUPERVISE_ and
the key in capitals. Both know every flag of `start`, and every number of the policy.
"""

import contextlib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.start_flags import BY_KEY
from fred_supervisor.cli.common.start_flags import FLAGS as START_FLAGS
from fred_supervisor.contract.builtin.flags import BY_KEY as OF_TRAINER
from fred_supervisor.contract.builtin.flags import FLAGS as TRAINER_FLAGS
from fred_supervisor.contract.environment import OF_CONFIGURATION as PREFIX
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.warnings.memory import LEAST_WINDOW_S

Options = dict[str, Any]
"""What the parser of `start` gives: key → value."""
DERIVED: Final = frozenset(
    {
        "foreign",
        "expects_beats",
        "service",
        "uses_gpu",
        "expandable",
        "takes_batch",
        "batch_set",
        "checkpoints",
        "must_recur_s",
        "unfreeze_batch",
        "freeze_batch",
        "accumulate",
        "workers",
    }
    | {"stop_timeout_set"}
)
"""Fields of `Settings` that follow from the command and the trainer's flags."""
_SWITCHES: Final = frozenset(
    [flag.key for flag in START_FLAGS if flag.kind is None] + [flag.key for flag in TRAINER_FLAGS if flag.kind is None]
)
_LEAST: Final = {"leak_window_s": LEAST_WINDOW_S}
"""Numbers of the policy that mean nothing below this."""
_TRUTH: Final = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


def policy_fields() -> Mapping[str, Any]:
    """Fields of `Settings` that no flag sets, with their defaults: their name is their key."""
    by_flag = {name for flag in START_FLAGS for name in flag.fields}
    return {f.name: f.default for f in fields(Settings) if f.name not in DERIVED | by_flag}


def keys() -> dict[str, list[str]]:
    """Section → its keys."""
    own = [flag.key for flag in START_FLAGS if flag.has_key]
    return {"supervisor": [*own, *policy_fields()], "trainer": [flag.key for flag in TRAINER_FLAGS if not flag.own]}


def layered(flags: Options, parser: CommandParser, environ: Mapping[str, str] = os.environ) -> Options:
    """Flags as parsed, and below them the environment and the file. Two more keys stand in the result.

    `policy`: numbers of the policy that have no flag, by field; `sources`: key → where its value came from.
    Raises Fault for a key that does not exist, and for a value that the flag of the same name would refuse.
    """
    allowed = keys()
    policy: dict[str, object] = {}
    sources = {key: f"flag --{key.replace('_', '-')}" for key, value in flags.items() if _is_given(value)}
    merged = {**flags, "policy": policy, "sources": sources}

    def put(key: str, source: str, convert: Callable[..., Any], where: str, value: object) -> None:
        if key not in sources:
            sources[key] = source
            (merged if key in flags else policy)[key] = convert(where, parser, key, value)

    for name, text in _variables(environ, allowed):
        key = name.removeprefix(PREFIX).lower()
        if key == "config":
            merged["config"] = merged["config"] or text
        else:
            put(key, f"environment {name}", _of_text, name, text)
    if merged["config"] is not None:
        path = Path(merged["config"])
        for section, values in _read(path, allowed).items():
            for written, value in values.items():
                where = f"[{section}] {written}"
                put(
                    written.replace("-", "_"),
                    f"{path} {where}",
                    _of_toml,
                    tr("--config {path}: {where}", path=path, where=where),
                    value,
                )
    return merged


_OLD_VARIABLES: Final[Mapping[str, str]] = {"UNFREEZE_BATCH_SIZE": "unfreeze_batch_size", "FRED_ROOT": "data"}
"""Variables that the old trainer's scripts set → what they mean for ours."""


def from_old_environment(
    flags: Mapping[str, Any], recorded: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> dict[str, tuple[str, str]]:
    """Trainer flag → the variable that says it and its text, of those that are not given otherwise.

    What changes the model or the data is said by what the run was started with before, where there is such a run.
    """
    return {
        key: (name, environ[name])
        for name, key in _OLD_VARIABLES.items()
        if environ.get(name) and key not in flags and not (OF_TRAINER[key].recorded and key in recorded)
    }


def _is_given(value: object) -> bool:
    return value is not None and value is not False


def _variables(environ: Mapping[str, str], allowed: dict[str, list[str]]) -> list[tuple[str, str]]:
    known = {PREFIX + key.upper(): key for key in ["config", *allowed["supervisor"], *allowed["trainer"]]}
    found = [(name, text) for name, text in sorted(environ.items()) if name.startswith(PREFIX) and text]
    for name, _ in found:
        if name not in known:
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr("the environment variable {name} means nothing{near}", name=name, near=_near(name, known)),
            )
    return found


def _read(path: Path, allowed: dict[str, list[str]]) -> dict[str, dict[str, object]]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        denied = isinstance(error, PermissionError)
        code = CommandExit.NO_PERMISSION if denied else CommandExit.BAD_INPUT
        raise CommandError(
            code,
            tr("--config {path}: {strerror}; name a TOML file that you may read", path=path, strerror=error.strerror),
        ) from error
    except (ValueError, RecursionError) as error:
        raise CommandError(
            CommandExit.BAD_INPUT, tr("--config {path}: not TOML: {error}", path=path, error=error)
        ) from error
    for section, values in document.items():
        if section in allowed and not isinstance(values, dict):
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr("--config {path}: {section} is a section: write [{section}]", path=path, section=section),
            )
        if section not in allowed:
            raise CommandError(
                CommandExit.BAD_INPUT,
                tr(
                    "--config {path}: no section [{section}]; there are [supervisor] and [trainer]",
                    path=path,
                    section=section,
                ),
            )
        for written in values:
            key = written.replace("-", "_")
            if key not in allowed[section]:
                other = next((name for name, there in allowed.items() if key in there), None)
                hint = tr("; it belongs into [{other}]", other=other) if other else _near(key, allowed[section])
                raise CommandError(
                    CommandExit.BAD_INPUT,
                    tr(
                        "--config {path}: [{section}] has no key {written!r}{hint}",
                        path=path,
                        section=section,
                        written=written,
                        hint=hint,
                    ),
                )
    return document


def _near(key: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only for people who mistype

    near = difflib.get_close_matches(key, list(known), 1)
    return tr("; did you mean {near!r}?", near=near[0]) if near else ""


def _of_text(name: str, parser: CommandParser, key: str, text: str) -> object:
    """A value of the environment."""
    value: object = text
    if key in _SWITCHES or isinstance(policy_fields().get(key), bool):
        if text.lower() not in _TRUTH:
            raise CommandError(
                CommandExit.BAD_INPUT, tr("{name} is {text!r}; it is a switch: 1 or 0", name=name, text=text)
            )
        value = _TRUTH[text.lower()]
    elif key in policy_fields():
        with contextlib.suppress(ValueError):  # then it is refused below, as what it is
            value = float(text) if "." in text or "e" in text else int(text)
    elif key in BY_KEY and BY_KEY[key].repeatable:
        value = [word.strip() for word in text.split(BY_KEY[key].between)]
    return _of_toml(name, parser, key, value)


def _of_toml(where: str, parser: CommandParser, key: str, value: object) -> object:
    """A value of the file, through the converter of the flag of the same name; numbers of the policy by their kind."""
    if key in policy_fields():
        return _number(where, policy_fields()[key], value, _LEAST.get(key, 0))
    if isinstance(value, bool) or key in _SWITCHES:
        if not (isinstance(value, bool) and key in _SWITCHES):
            kind = tr("a switch: true or false") if key in _SWITCHES else tr("no switch")
            raise CommandError(
                CommandExit.BAD_INPUT, tr("{where} = {value!r}: it is {kind}", where=where, value=value, kind=kind)
            )
        return value
    flag = f"--{key.replace('_', '-')}"
    if isinstance(value, dict):
        words = [f"{flag}={k}={v}" for k, v in value.items()]
    elif isinstance(value, list):
        words = [f"{flag}={v}" for v in value]
    else:
        words = [f"{flag}={value}"]
    if len(words) != 1 and not (key in BY_KEY and BY_KEY[key].repeatable):
        raise CommandError(
            CommandExit.BAD_INPUT, tr("{where} = {value!r}: one value stands here", where=where, value=value)
        )
    try:
        return vars(parser.parse_args(words))[key]
    except CommandError as fault:
        raise CommandError(CommandExit.BAD_INPUT, f"{where}: {str(fault).partition('; see `')[0]}") from fault


def _number(where: str, default: object, value: object, least: float) -> object:
    """A number of the policy, of the kind of its default."""
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value < float("inf")
    if not fits:
        kind = {bool: tr("true or false"), int: tr("a whole number from 0")}.get(
            type(default), tr("a number from {least:g}", least=least)
        )
        raise CommandError(
            CommandExit.BAD_INPUT, tr("{where} = {value!r}: it must be {kind}", where=where, value=value, kind=kind)
        )
    return value
