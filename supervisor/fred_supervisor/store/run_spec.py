"""What was asked for when a run was started, and the settings that follow from it."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.decode import decode_or, decode_strictly
from fred_supervisor.contract.files import json_bytes, now_text, read_json
from fred_supervisor.contract.placeholders import takes_batch, takes_resume
from fred_supervisor.contract.record import record
from fred_supervisor.language import tr
from fred_supervisor.output.patterns import not_compiled, wrong_regex
from fred_supervisor.output.signs import wrong_fail_pattern
from fred_supervisor.policy.settings import Settings
from fred_supervisor.store.kept_file import write_kept
from fred_supervisor.store.layout import RunDir

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a run. A name is a part of a path: nothing in it leads anywhere else."""
FORMAT = 1
"""Of run.json and state.json."""


@record
class RunSpec:
    """`run.json`: everything that a supervisor needs to take up a run."""

    name: str
    modality: str | None
    """None: a COMMAND, of which it was not said."""
    run_dir: str
    command: list[str] | None = None
    """Somebody else's trainer; None: the built-in one."""
    cwd: str
    flags: dict[str, Any] = field(default_factory=dict)
    """Flags of the trainer that were given, by key."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Fields of `Settings` that were given."""
    drill: str = ""
    resume: str = "auto"
    """For the next attempt only: auto, none or a path."""
    phase: str | None = None
    """For the next attempt only: start from the newest checkpoint of this phase."""
    done_file: str | None = None
    checkpoints: str | None = None
    progress_file: str | None = None
    progress_output: list[str] = field(default_factory=list)
    """How the position is read from the output: auto (empty means that, too), none, or regular expressions."""
    fail_output: list[str] = field(default_factory=list)
    """Regular expressions: a line of the output that fits one means that the attempt has failed."""
    must_recur: dict[str, float] = field(default_factory=dict)
    """Regular expression → seconds: a line of the output that fits must come again within them."""
    gpu: str | None = None
    """`auto`, or a list of indices and UUIDs; None: not said, which is auto."""
    gpu_memory_mib: int | None = None
    """Needed before a launch; None: as the trainer measured it."""
    quiet: list[str] = field(default_factory=list)
    """Windows in which the trainer is paused, as they were written."""
    prometheus_dir: str | None = None
    """Where a collector reads metrics; None: they stay with the run."""
    share: str | None = None
    """Who else may read it: group, all; None: nobody."""
    ranks: int | None = None
    """As it was given; None: one for each GPU."""
    nodes: str | None = None
    """Several machines: `slurm`, or how many; None: this one."""
    node: int | None = None
    """Without Slurm: which of them this one is, from 0."""
    rendezvous: str | None = None
    """Without Slurm: HOST:PORT of machine 0, where the ranks meet."""
    min_nodes: int | None = None
    """Without Slurm: as many are enough."""
    by_hand: list[str] = field(default_factory=list)
    """Flags of the trainer whose value the newest start has changed."""
    accepted: bool = False
    """A person has accepted changes of the model or the data: older checkpoints are resumed all the same."""
    sources: dict[str, str] = field(default_factory=dict)
    """Key → where its value came from, for people."""
    run_id: str = field(default_factory=lambda: os.urandom(16).hex())
    created: str = field(default_factory=now_text)
    format: int = FORMAT

    @property
    def dir(self) -> RunDir:
        return RunDir(Path(self.run_dir))

    def flag(self, key: str) -> Any:
        """The value of a trainer flag in force: as given, else its default."""
        given = self.flags.get(key)
        return BY_KEY[key].default if given is None else given

    @property
    def lost(self) -> bool:
        """What was asked for is not known: see `lost_run`."""
        return self.command == []  # None, of fred-train, would promise its batch and its goal

    @property
    def rank_count(self) -> int:
        """How many processes train together."""
        return self.ranks or (len(self.gpu.split(",")) if self.gpu else 1)

    @property
    def under_slurm(self) -> bool:
        """Its attempts are steps of the Slurm job that the supervisor is in."""
        return self.nodes == "slurm"

    @property
    def on_cpu(self) -> bool:
        """Several ranks without a word of GPUs: they train on the CPU."""
        return (self.ranks or 1) > 1 and self.gpu is None and not self.under_slurm

    @property
    def takes_resume(self) -> bool:
        """The trainer is told where to go on, and can be seen to listen."""
        return self.command is None or takes_resume(self.command, self.cwd)

    def data(self) -> bytes:
        """As the file holds it."""
        return json_bytes(asdict(self))

    def save(self) -> None:
        """Raises OSError."""
        write_kept(self.dir.run, self.data())

    def settings(self) -> Settings:
        foreign = self.command is not None
        given = _checked(self.policy)
        return Settings(
            foreign=foreign,
            expects_beats=not foreign,
            unfreeze_batch=self.flag("unfreeze_batch_size"),
            freeze_batch=None if foreign else self.flag("freeze_batch_size"),
            accumulate=self.flag("accumulate"),
            workers=None if foreign else self.flag("workers"),
            checkpoints=self.checkpoints,
            must_recur_s=self.must_recur,
            stop_timeout_set="stop_timeout_s" in given,
            takes_batch=self.command is None or takes_batch(self.command, self.cwd),
            batch_set=foreign and self.flags.get("unfreeze_batch_size") is not None,
            **{"leak_restart": not foreign, **given},
        )


def _checked(policy: Mapping[str, object]) -> Mapping[str, Any]:
    """Fields of `Settings`; one that has no sense there (anybody may have edited the file) is not set."""
    fitting = decode_or(Settings, policy)
    known = {f.name: getattr(fitting, f.name) for f in fields(Settings) if f.name in policy}
    return {key: value for key, value in known.items() if value == policy[key] and not _negative(value)}


def _negative(value: object) -> bool:
    numbers = value.values() if isinstance(value, Mapping) else (value,)
    return any(isinstance(number, int | float) and number < 0 for number in numbers)


def load_run_spec(run_dir: Path) -> RunSpec | None:
    """What was asked for in a run dir; None when it holds no run of ours."""
    document = read_json(RunDir(run_dir).run)
    spec = None if document is None or "run_id" not in document else decode_strictly(RunSpec, document)
    if spec is None:
        return None
    patterns = (spec.done_file, spec.checkpoints, spec.progress_file)
    if not NAME.fullmatch(spec.name) or any(wrong_pattern(text) for text in patterns if text is not None):
        return None
    if spec.progress_output not in (["auto"], ["none"]) and any(map(wrong_regex, spec.progress_output)):
        return None
    if any(map(wrong_fail_pattern, spec.fail_output)) or any(map(not_compiled, spec.must_recur)):
        return None
    if not all(limit_s > 0 for limit_s in spec.must_recur.values()):
        return None
    # A run dir may have been moved or mounted elsewhere: where it is found is where it is.
    return replace(spec, run_dir=str(run_dir))


def wrong_pattern(text: str) -> str | None:
    """Why a text is no file name pattern relative to the run dir; None when it is one."""
    if os.path.isabs(text) or ".." in text.split("/"):
        return tr("leaves the run dir; patterns are relative to it: --run-dir . makes this folder the run dir")
    if text.count("[") > text.count("]"):
        return tr("is no file name pattern: a [ without its ]; [[] is the letter itself")
    try:
        next(iter(Path(os.devnull).glob(text)), None)
    except (ValueError, NotImplementedError, IndexError) as error:
        return tr("is no file name pattern: {error}", error=error)
    return None


def wrong_done_pattern(text: str) -> str | None:
    """The same of `--done-file`; nor may it fit what the supervisor writes, which comes with every attempt."""
    parts = text.split("/")
    if fnmatchcase("supervisor", parts[0]) and (len(parts) == 1 or fnmatchcase("run.json", parts[-1])):
        return tr("fits the supervisor's own files; name what the trainer writes at its end")
    return wrong_pattern(text)


def changed_flags(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Recorded flags (of the model and the data) whose value would change, in words."""
    changes = []
    for key, flag in BY_KEY.items():
        if not flag.recorded or after.get(key) is None:
            continue
        was = before.get(key, flag.default)
        if was is not None and was != after[key]:
            changes.append(f"--{flag.name} was {was}, now {after[key]}")
    return changes
