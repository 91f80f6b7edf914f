"""The configuration file: TOML with the sections [supervisor] and [trainer]. Flags outrank it."""

import difflib
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.contract.flags import BY_KEY
from fred_supervisor.policy.settings import Settings

_DERIVED = frozenset(
    {"foreign", "expects_beats", "batch_set", "unfreeze_batch", "freeze_batch", "accumulate", "workers"}
    | {"hang_timeout_s"}
)
"""Fields of `Settings` that follow from other things, or have a flag of another form."""
_NOT_IN_FILE = frozenset({"config", "foreground", "new", "accept_changes"})


def load_config(path: Path, given: dict[str, Any], parser: Parser) -> dict[str, Any]:
    """What was given on the command line, and below it what the file says. Values are checked by the parser itself."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Fault(CommandExit.BAD_INPUT, f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Fault(CommandExit.BAD_INPUT, f"--config {path}: not TOML: {error}") from error
    policy_keys = {f.name for f in fields(Settings)} - _DERIVED
    own_keys = {key for key in given if key not in BY_KEY or BY_KEY[key].own} - _NOT_IN_FILE
    allowed = {"supervisor": own_keys | policy_keys, "trainer": {k for k, f in BY_KEY.items() if not f.own}}
    merged, policy = dict(given), {}
    for section, values in document.items():
        if section not in allowed or not isinstance(values, dict):
            raise Fault(CommandExit.BAD_INPUT, f"--config {path}: no section [{section}]; there are {_list(allowed)}")
        for written, value in values.items():
            key = written.replace("-", "_")
            if key not in allowed[section]:
                near = difflib.get_close_matches(key, allowed[section], 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise Fault(CommandExit.BAD_INPUT, f"--config {path}: [{section}] has no key {written!r}{hint}")
            if section == "supervisor" and key in policy_keys and key not in own_keys:
                policy[key] = _number(path, written, value, getattr(Settings(), key))
            elif given.get(key) is None or given[key] is False:
                merged[key] = _as_flag(path, parser, key, value)
    merged["policy"] = policy
    return merged


def _number(path: Path, key: str, value: object, default: object) -> object:
    fits = isinstance(value, bool) if isinstance(default, bool) else isinstance(value, int | float)
    if not fits or (isinstance(value, int | float) and not 0 <= value < float("inf")):
        raise Fault(CommandExit.BAD_INPUT, f"--config {path}: {key} = {value!r} is not of the right kind")
    return value


def _as_flag(path: Path, parser: Parser, key: str, value: object) -> object:
    """A value of the file, through the converter of the flag of the same name."""
    flag = f"--{key.replace('_', '-')}"
    words: list[str]
    if isinstance(value, bool):
        words = [flag] if value else []
    elif isinstance(value, dict):
        words = [word for k, v in value.items() for word in (flag, f"{k}={v}")]
    elif isinstance(value, list):
        words = [word for v in value for word in (flag, str(v))]
    else:
        words = [f"{flag}={value}"]
    try:
        return vars(parser.parse_args(words))[key]
    except Fault as fault:
        raise Fault(CommandExit.BAD_INPUT, f"--config {path}: {fault}") from fault


def _list(allowed: dict[str, set[str]]) -> str:
    return " and ".join(f"[{name}]" for name in allowed)
