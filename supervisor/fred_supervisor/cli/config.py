"""`fred-supervise config show`."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.find_run import find_run
from fred_supervisor.cli.common.options import parser as start_parser
from fred_supervisor.cli.common.settings_layers import Options, keys, layered, policy_fields
from fred_supervisor.cli.common.start_flags import BY_KEY as START_FLAGS
from fred_supervisor.cli.common.view import aligned
from fred_supervisor.cli.start.requested_run import addresses, requested_run
from fred_supervisor.contract.builtin.flags import BY_KEY, normalise
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import mark, tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store import lock
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import RunSpec

_EPILOG: Final = mark(
    "examples:\n"
    "  fred-supervise config show rgb\n"
    "  fred-supervise config show --config run.toml --epochs 500\n\n"
    "With the NAME of a run, or without anything while one run is live: what holds for it. "
    "With flags of `start`: what\n"
    "`start` would use with them. A flag outranks the environment (FRED_SUPERVISE_ and the "
    "key in capitals), that outranks\n"
    "the file, that what the run was started with before, that the default.\n"
)


def main(argv: Sequence[str]) -> int:
    words = list(argv)
    if words[:1] in (["-h"], ["--help"]):
        words = ["show", "--help"]
    if words[:1] != ["show"]:
        raise CommandError(CommandExit.USAGE, tr("`config` has one verb: fred-supervise config show [NAME]"))
    parser = start_parser()
    parser.prog, parser.description, parser.epilog = (
        "fred-supervise config show",
        tr("The effective configuration, and where each value came from."),
        tr(_EPILOG),
    )
    parser.add_argument("--json", action="store_true", help=tr("one JSON document, for programs"))
    given = vars(parser.parse_args(normalise(words[1:])))
    name, as_json = given.pop("known"), given.pop("json")
    shown = _of_run(name, given["run_dir"]) if name is not None else None
    if shown is None and not any(value for value in given.values()):
        live = [run for run in known_runs() if lock.held(run.dir)]
        shown = live[0] if len(live) == 1 else None
    if shown is not None:
        given |= {"name": shown.name, "run_dir": shown.run_dir}
    document = _document(given, recorded=shown)
    print(json.dumps(document, allow_nan=False) if as_json else "\n".join(_lines(document)))
    return CommandExit.OK


def _of_run(name: str, run_dir: str | None) -> RunSpec:
    return find_run(name, run_dir)


def _document(given: Options, *, recorded: RunSpec | None) -> dict[str, Any]:
    parser = start_parser()
    sections = keys()
    if recorded is not None:
        values = {**given, "policy": {}, "sources": {}}
        spec = recorded
    else:
        values = layered(given, parser)
        spec, _ = requested_run(values, values["command"])
    settings = asdict(spec.settings())
    to = asdict(addresses(values, spec))

    def value(key: str) -> Any:
        if key in START_FLAGS and START_FLAGS[key].secret:
            count = len(to[key] or ()) if key == "notify" else int(to[key] is not None)
            return tr("{count} set", count=count) if count else None
        if key == "daily":
            return to[key]
        if key == "command":
            return None if spec.command is None else shlex.join(spec.command)
        if key in START_FLAGS and START_FLAGS[key].fields:
            flag = START_FLAGS[key]
            values = [settings[name] for name in flag.fields]
            return flag.from_fields(*values) if len(values) == 1 else values
        if key == "gpu_memory":
            return None if spec.gpu_memory_mib is None else f"{spec.gpu_memory_mib}MiB"
        return settings[key] if key in policy_fields() else getattr(spec, key, None)

    def entry(key: str, found: Any) -> dict[str, object]:
        default = BY_KEY[key].default if key in BY_KEY and not BY_KEY[key].own else None
        fallback = "default" if found == default or key not in spec.flags else "an earlier start"
        if key == "command" and found is not None:
            fallback = "behind --"
        return {"value": found, "source": spec.sources.get(key, fallback)}

    kept = [key for key in sections["supervisor"] if key not in START_FLAGS or not START_FLAGS[key].once]
    return {
        "name": spec.name,
        "run_dir": spec.run_dir,
        "command": spec.command,
        "supervisor": {key: entry(key, value(key)) for key in kept},
        "trainer": {
            key: entry(key, spec.modality if key == "modality" else spec.flag(key)) for key in sections["trainer"]
        },
    }


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [f"# {document['name']} in {document['run_dir']}"]
    for section in ("supervisor", "trainer"):
        unused = section == "trainer" and document["command"] is not None
        lines += ["", f"[{section}]{'   # ' + tr('a COMMAND is given none of these') if unused else ''}"]
        rows = [
            (key, f"= {_toml(each['value'])}", f"# {_source(each['source'])}")
            for key, each in document[section].items()
        ]
        lines += aligned(rows)
    return lines


_SOURCES: Final = frozenset({mark("default"), mark("an earlier start"), mark("behind --"), mark("command line")})


def _source(text: str) -> str:
    """Where a value came from."""
    kind, _, name = text.partition(" ")
    if kind == "environment":
        return tr("environment {name}", name=name)
    return tr(text) if text in _SOURCES else printable(text)


def _toml(value: Any) -> str:
    """As it may stand in the file; what is not set is a dash."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, list) and value and not any(isinstance(each, str) for each in value):  # FIRST:MAX
        return json.dumps(":".join(f"{each:g}" for each in value))
    return json.dumps(value)
