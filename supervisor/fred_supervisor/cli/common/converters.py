"""From the text of a flag to its value. Each raises ArgumentTypeError with what would be right."""

import re
import shlex
from argparse import ArgumentTypeError
from typing import Final

from fred_supervisor.contract.builtin.drill import parse_drills
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.language import listed, tr
from fred_supervisor.linux.time_box import OutOfTimeError, time_box
from fred_supervisor.output.patterns import LINE_CHARS, not_compiled, probe_lines, wrong_regex
from fred_supervisor.output.signs import wrong_fail_pattern
from fred_supervisor.store.run_spec import wrong_done_pattern, wrong_pattern

_MOST_NODES: Final = 1024
_PROBE_S: Final = 0.5
"""Of processor time, for all probes of one pattern; an honest one takes a thousandth of it."""
_GPU: Final = re.compile(r"\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([MG])(?:iB|B)?", re.IGNORECASE)
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_SECONDS_OF: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_MIB_OF: Final = {"M": 1, "G": 1024}


def hang_timeout(text: str) -> tuple[str, float]:
    """SECTION=SECONDS, or SECONDS for `train`."""
    section, equals, seconds = text.rpartition("=")
    section = section if equals else Section.TRAIN
    if section not in set(Section):
        raise ArgumentTypeError(tr("no section {section!r}; there are {there}", section=section, there=listed(Section)))
    try:
        value = float(seconds)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(tr("{text!r} is not SECTION=SECONDS, e.g. train=600", text=text))
    return section, value


def backoff(text: str) -> tuple[float, float]:
    """FIRST:MAX in seconds."""
    try:
        first, longest = (float(part) for part in text.split(":"))
    except ValueError:
        first = longest = -1.0
    if not 0 <= first <= longest < float("inf"):
        raise ArgumentTypeError(tr("{text!r} is not FIRST:MAX in seconds, e.g. 1:300, or 0:0 for none", text=text))
    return first, longest


def seconds(text: str) -> float:
    """Seconds from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(tr("{text!r} is not a number of seconds", text=text))
    return value


def span_s(text: str) -> float:
    """A span with its unit, in seconds."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ArgumentTypeError(tr("{text!r} is not a span of time, e.g. 90s, 10min, 2h, 3d or 4w", text=text))
    return float(found[1]) * _SECONDS_OF[found[2]]


def since_s(text: str) -> float:
    """A span before now, or a time of the local clock, in seconds of the wall clock."""
    import time  # noqa: PLC0415 - here only

    if _SPAN.fullmatch(text.strip()):
        return time.time() - span_s(text)
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        try:
            return time.mktime(time.strptime(text.strip(), form))
        except ValueError:
            continue
    for form in ("%H:%M:%S", "%H:%M"):
        try:
            clock = time.strptime(text.strip(), form)
        except ValueError:
            continue
        today = time.localtime()
        when_s = time.mktime((*today[:3], *clock[3:6], 0, 0, -1))
        return when_s if when_s <= time.time() else when_s - 86400.0
    raise ArgumentTypeError(tr("{text!r} is no time, e.g. 10min, 2h, 02:10, or '2026-11-27 02:10'", text=text))


def clock(text: str) -> str:
    """A time of the day, HH:MM, or none."""
    hour, _, minute = text.partition(":")
    fits = hour.isdecimal() and minute.isdecimal() and len(minute) == 2 and int(hour) < 24 and int(minute) < 60
    if text != "none" and not (fits and text.isascii()):
        raise ArgumentTypeError(tr("{text!r} is no time of the day; e.g. 08:00, or none", text=text))
    return text


def regex(text: str) -> re.Pattern[str]:
    """A regular expression, tried on lines of ours by a person who waits for it."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ArgumentTypeError(tr("{text!r} is no regular expression: {error}", text=text, error=error)) from error


def pattern(text: str) -> str:
    """A file name pattern relative to the run dir."""
    if (wrong := wrong_pattern(text)) is not None:
        raise ArgumentTypeError(f"{text!r} {wrong}")
    return text


def done_pattern(text: str) -> str:
    """The same, of what only a finished training leaves."""
    if (wrong := wrong_done_pattern(text)) is not None:
        raise ArgumentTypeError(f"{text!r} {wrong}")
    return text


def output_pattern(text: str) -> str:
    """A regular expression with the groups of a position, or auto or none. One that can take for ever is refused."""
    if text in ("auto", "none"):
        return text
    return _quick(text, wrong_regex(text))


def fail_pattern(text: str) -> str:
    """A regular expression, or none."""
    return text if text == "none" else _quick(text, wrong_fail_pattern(text))


def recurrence(text: str) -> tuple[str, float]:
    """REGEX=SECONDS, or none."""
    regex, _, seconds = text.rpartition("=")
    if text == "none":
        return text, 0.0
    try:
        value = float(seconds)
    except ValueError:
        value = 0.0
    if not regex or not 0 < value < float("inf"):
        raise ArgumentTypeError(tr("{text!r} is not REGEX=SECONDS, e.g. 'loss=600'", text=text))
    return _quick(regex, not_compiled(regex)), value


def _quick(text: str, wrong: str | None) -> str:
    """A regular expression that does not take for ever; `wrong`: what is wrong with it otherwise."""
    if wrong is not None:
        raise ArgumentTypeError(f"{text!r} {wrong}")
    regex = re.compile(text)
    try:
        with time_box(_PROBE_S):
            for line in probe_lines(text):
                regex.search(line)
    except OutOfTimeError as error:
        raise ArgumentTypeError(
            tr(
                "{text!r} takes too long on a line of {line_chars} characters; avoid a repetition within a repetition",
                text=text,
                line_chars=LINE_CHARS,
            )
        ) from error
    return text


def gpus(text: str) -> str:
    """`auto`, or a list of indices (as `nvidia-smi` counts) and UUIDs."""
    words = text.split(",")
    if text != "auto" and not all(_GPU.fullmatch(word) for word in words):
        raise ArgumentTypeError(
            tr("{text!r} is not auto, nor a list of indices and UUIDs, e.g. 0 or 0,1 or GPU-8f6e", text=text)
        )
    if len(set(words)) < len(words):
        raise ArgumentTypeError(tr("{text!r} names a GPU twice", text=text))
    return text


def memory(text: str) -> int:
    """A size with its unit, in MiB; `auto`, as the trainer measured it, is 0."""
    if text == "auto":
        return 0
    found = _SIZE.fullmatch(text.strip())
    size_mib = 0 if found is None else round(float(found[1]) * _MIB_OF[found[2].upper()])
    if size_mib < 1:
        raise ArgumentTypeError(tr("{text!r} is not a size of memory, e.g. 11GiB or 9500MiB", text=text))
    return size_mib


def quiet_window(text: str) -> str:
    """Checked here, kept as it was written; `never` takes back what was asked before."""
    from fred_supervisor.monitor.quiet import parse_window  # noqa: PLC0415 - time zones, only where somebody has hours

    try:
        if text != "never":
            parse_window(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def command(text: str) -> list[str]:
    """A COMMAND in one line, quoted as for a shell; no shell ever sees it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from error
    if not words:
        raise ArgumentTypeError(tr("no command stands in it"))
    return words


def drills(text: str) -> str:
    """Checked here, carried out by the trainer."""
    try:
        parse_drills(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def nodes(text: str) -> str:
    """`slurm`, or a number of machines. Raises ArgumentTypeError."""
    if text == "slurm" or (text.isdecimal() and 2 <= int(text) <= _MOST_NODES):
        return text
    raise ArgumentTypeError(
        tr("{text!r}: give slurm, or a number of machines from 2 to {most_nodes}", text=text, most_nodes=_MOST_NODES)
    )


def host_port(text: str) -> str:
    """HOST:PORT. Raises ArgumentTypeError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ArgumentTypeError(tr("{text!r}: give the host and a free port of machine 0, e.g. ws1:29400", text=text))
    return text
