"""What a person meant who has typed a flag that there is not: for the parsers of `start` and of `fred-train`."""

import re
from collections.abc import Iterable, Mapping, Sequence

from fred_supervisor.contract.builtin.flags import ALIASES
from fred_supervisor.language import tr


def meant_flag(message: str, known: Iterable[str], meant: Mapping[str, str]) -> str:
    """A hint behind the message of argparse on an unknown flag or choice; empty where there is none.

    `known` flags there are; `meant`: flags that other programs have → what they are here.
    """
    choice = tr("invalid choice: %(value)r (choose from %(choices)s)").partition("%")[0]
    value, *choices = re.findall(r"'([^']*)'", message.partition(choice)[2]) or [""]
    if choices:
        return _nearest(value, choices, {})
    head, _, text = message.partition(tr("unrecognized arguments: %s").removesuffix("%s"))
    words = [word.partition("=")[0].replace("_", "-") for word in text.split()]
    wrong = next((word for word in words if word.startswith("-") or word in meant), None)
    return "" if head or wrong is None else _nearest(wrong, [*known, *meant], meant)


def _nearest(wrong: str, known: Sequence[str], meant: Mapping[str, str]) -> str:
    import difflib  # noqa: PLC0415 - only for people who mistype

    near = next(iter(difflib.get_close_matches(wrong, known, 1)), None)
    return "" if near is None else tr("; did you mean {meant}?", meant=tr(meant.get(near, near)))


def taken_as(argv: Sequence[str]) -> list[str]:
    """A sentence for each flag of the trainer before that is taken under its present name; up to a `--`."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    given = {word.partition("=")[0] for word in own}
    return [
        tr("{old} is taken as {new}, its name here", old=old.replace("-", "_").replace("__", "--", 1), new=new)
        for old, new in ALIASES.items()
        if given & {old, "--" + old[2:].replace("-", "_")}
    ]
