"""What one `serve` shows: which runs, to whom, and what of each. Reads files only."""

import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from fred_supervisor.cli.common.table import liveliness
from fred_supervisor.cli.report.history import read_history
from fred_supervisor.cli.report.page import curves, environment, incident_entry
from fred_supervisor.contract.record import record
from fred_supervisor.language import language, tr
from fred_supervisor.linux.text_io import printable, tail
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.registry import SilentRun, list_runs
from fred_supervisor.store.run_spec import RunSpec, load_run_spec
from fred_supervisor.store.status import RunStatus, read_status
from fred_supervisor.words import progress as words
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import local_time, span

_INCIDENTS: Final = 20
"""In the page of a run; each older one has a page of its own."""
_LOG_BYTES: Final = 16 << 10
_LOG_LINES: Final = 60
_CURVES_S: Final = 15.0
"""Between two readings of the curves, which are much larger than all else."""
_FRESH_S: Final = 0.9
"""For which several readers are shown the same."""


@record
class RunRow:
    """One run in the page of all, in words; empty where it is not known."""

    key: str
    name: str
    state: str
    where: str
    share: float | None
    speed: str
    to_go: str
    loss: str
    best: str
    detail: str
    warnings: int


@dataclass
class Site:
    """One `serve`."""

    token: str
    port: int
    control: bool = False
    """Whether a reader may pause, resume, restart and stop."""
    run_dirs: tuple[Path, ...] = ()
    """Of runs that are not on the list of this machine."""
    _templates: Environment | None = None
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """Browsers do not tell the ports of one host apart."""
        return f"fred-supervise-{self.port}"

    @property
    def templates(self) -> Environment:
        if self._templates is None:
            self._templates = environment(Path(__file__).with_name("templates"))
            self._templates.globals |= {"tr": tr, "term": term, "language": language().replace("_", "-")}
        return self._templates

    def kept(self, what: str, make: Callable[[], Any], fresh_s: float = _FRESH_S) -> Any:
        """What `make` returns, or has returned less than `fresh_s` ago."""
        until_s, value = self._kept.get(what, (0.0, None))
        if time.monotonic() >= until_s:
            value = make()
            self._kept[what] = time.monotonic() + fresh_s, value
        return value

    def runs(self) -> Mapping[str, RunSpec]:
        """Key → run, by name; a name that two have gets its folder's number."""
        found: Mapping[str, RunSpec] = self.kept("runs", self._runs)
        return found

    def _known(self) -> tuple[list[RunSpec], list[SilentRun]]:
        found: tuple[list[RunSpec], list[SilentRun]] = self.kept("known", list_runs)
        return found

    def _runs(self) -> Mapping[str, RunSpec]:
        known, _ = self._known()
        asked = [load_run_spec(path) for path in self.run_dirs]
        specs = {spec.run_dir: spec for spec in [*known, *asked] if spec is not None}.values()
        names = Counter(spec.name for spec in specs)
        return {
            spec.name if names[spec.name] == 1 else f"{spec.name}~{zlib.crc32(spec.run_dir.encode()):08x}": spec
            for spec in specs
        }

    def render(self, template: str, **facts: object) -> str:
        return self.templates.get_template(template).render(control=self.control, **facts)

    # -- the page of all ----------------------------------------------------------------------------------------------

    def all_parts(self) -> Mapping[str, str]:
        """Id of an element → what is in it now."""
        rows = self.kept("rows", self._rows)
        silent = [str(one) for one in self._known()[1]]
        return {"runs": self.render("runs_part.html", rows=rows, silent=silent)}

    def _rows(self) -> list[RunRow]:
        found = [(key, read_status(spec)) for key, spec in self.runs().items()]
        return [_row(key, status) for key, status in sorted(found, key=lambda one: liveliness(one[1]), reverse=True)]

    # -- the page of one ----------------------------------------------------------------------------------------------

    def run_parts(self, key: str) -> Mapping[str, str]:
        """The same for one run; KeyError when it is not known."""
        spec = self.runs()[key]
        status: RunStatus = self.kept(f"{key} status", lambda: read_status(spec))
        number = last_attempt(spec.dir)
        text = tail(spec.dir.attempt(number).output, size=_LOG_BYTES)
        last = [printable(line.rpartition("\r")[2]) for line in text.rstrip("\n").splitlines()[-_LOG_LINES:]]
        return {
            "head": self.render(
                "head_part.html", status=status, figures=_figures(status), share=_share(status), where=_where(status)
            ),
            "gpus": self.render("gpus_part.html", gpus=status.gpus),
            "curves": self.kept(f"{key} curves", lambda: self._curves(spec), _CURVES_S),
            "incidents": self.kept(f"{key} incidents", lambda: self._incidents(key, spec)),
            "log": self.render("log_part.html", lines=last, attempt=number),
        }

    def _curves(self, spec: RunSpec) -> str:
        return self.render("curves_part.html", **curves(read_history(spec)))

    def _incidents(self, key: str, spec: RunSpec) -> str:
        stored = Incidents(spec.dir)
        newest = [
            {
                "number": one.id,
                "kind": term(str(one.kind)).replace("_", " "),
                "at": local_time(one.at),
                "cause": one.cause,
                "action": one.action,
            }
            for one in islice(stored.newest_first(), _INCIDENTS)
        ]
        return self.render("incidents_part.html", key=key, incidents=newest, in_all=len(stored.numbers()))

    def incident(self, key: str, number: int) -> Incident | None:
        """None when there is none of this number, or its time is not known."""
        found = Incidents(self.runs()[key].dir).read(number)
        return None if found is None or found.at_s is None else found

    def incident_page(self, key: str, incident: Incident) -> str:
        return self.render("incident.html", key=key, name=self.runs()[key].name, incident=incident_entry(incident))


def _row(key: str, status: RunStatus) -> RunRow:
    progress = status.progress
    return RunRow(
        key=key,
        name=status.name,
        state=status.state,
        where=_where(status),
        share=_share(status),
        speed="" if progress.images_per_s is None else f"{progress.images_per_s:.1f}",
        to_go="" if progress.eta_s is None else span(progress.eta_s),
        loss="" if progress.loss is None else f"{progress.loss:.4g}",
        best="" if progress.best_metric is None else f"{progress.best_metric:.3f}",
        detail=status.detail,
        warnings=len(status.warnings),
    )


def _where(status: RunStatus) -> str:
    at = status.progress
    if at.epoch is None and at.step is None:
        return ""
    return words.position(phase=at.phase, epoch=at.epoch, epochs=at.epochs, step=at.step, steps=at.steps)


def _share(status: RunStatus) -> float | None:
    at = status.progress
    return words.share(at.epoch, at.epochs, at.step, at.steps, completed=status.state == "completed")


def _figures(status: RunStatus) -> list[tuple[str, str]]:
    """(value, what it is) of what is known."""
    progress, trainer, checkpoint = status.progress, status.trainer, status.checkpoint
    found = [
        (progress.eta_s and span(progress.eta_s), tr("to go")),
        (progress.images_per_s and f"{progress.images_per_s:.1f}", tr("images per second")),
        (progress.loss is not None and f"{progress.loss:.4g}", tr("loss")),
        (progress.best_metric is not None and f"{progress.best_metric:.3f}", tr("best mAP50")),
        (progress.metric is not None and f"{progress.metric:.4g}", tr("metric")),
        (checkpoint and checkpoint.age_s is not None and span(checkpoint.age_s), tr("since the newest checkpoint")),
        (trainer and trainer.beat_age_s is not None and span(trainer.beat_age_s), tr("since the last sign of life")),
        (str(status.restarts.total), tr("relaunches")),
    ]
    return [(str(value), label) for value, label in found if value]
