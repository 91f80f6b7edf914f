"""Every number of the failure policy."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from fred_supervisor.contract.record import record


class OnDivergence(StrEnum):
    """What is done when the loss explodes or the metric has collapsed."""

    WARN = "warn"
    HOLD = "hold"
    """Save, end, and wait for a person."""
    ROLLBACK = "rollback"
    """Once in a run: go on from the last checkpoint before it."""


@record
class Settings:
    """How a run is watched and answered. Seconds are of the monotonic clock."""

    foreign: bool = False
    """The trainer is a COMMAND of somebody else: it records no goal and takes no flags of ours."""
    expects_beats: bool = True
    """The trainer is known to beat, so the start-up limit holds before the first beat."""

    uses_gpu: bool = False
    """There may be a GPU here, and the trainer may use it: before a launch, one is asked for."""
    service: bool = False
    """No person waits at `start`: an error of the machine at the first launch is held for as well."""

    hang_timeout_s: Mapping[str, float] = field(default_factory=dict)
    """Section → limit set by hand; such a limit is exact."""
    checkpoints: str | None = None
    """The pattern that was given for them."""
    must_recur_s: Mapping[str, float] = field(default_factory=dict)
    """Regular expression → the longest time between two lines of the output that fit it; exact, too."""
    level1_limit_s: float = 3600.0
    """For trainers that only touch the file."""
    train_limit_s: float = 1200.0
    """For `train` until a whole cycle with evaluation and save has been seen."""
    train_limit_least_s: float = 60.0
    """The least that a learned `train` limit can be."""
    section_limit_s: float = 3600.0
    """For every other section; learned upwards."""
    startup_limit_s: float = 1200.0
    """For a start-up, where an earlier attempt has shown how long it takes; learned upwards, too."""
    remote_limit_least_s: float = 120.0
    """The least of a rank on another machine: its heartbeat is seen through a shared file system, late."""
    learn_factor: float = 10.0
    """Learned limit = this × the largest gap seen."""
    busy_factor: float = 3.0
    """A tree that burns CPU or does I/O is ended at this × its limit only."""

    dump_s: float = 0.1
    """Time for the stacks to be written."""
    dump_max_s: float = 1.0
    """Beyond that for a tool that reads the stacks of a trainer that cannot write its own."""
    hang_term_s: float = 0.1
    """From SIGTERM to SIGKILL after a hang."""
    hang_term_moving_s: float = 5.0
    """The same while the stacks still move."""
    stop_timeout_s: float = 120.0
    """From SIGTERM to SIGKILL on `stop` and `pause`; longer where the trainer's saves have been seen to need it."""
    stop_timeout_set: bool = False
    """It was set by hand, and is therefore exact."""
    stop_factor: float = 3.0
    """The learned grace is this × the longest save seen."""
    kill_s: float = 10.0
    """From SIGKILL until the tree is called unkillable."""

    backoff_first_s: float = 1.0
    backoff_max_s: float = 300.0
    max_restarts: int = 10
    """Relaunches without new progress."""
    same_failure: int = 3
    """The same failure at the same step, this often: it is the code or the data."""
    level1_progress_s: float = 600.0
    """An attempt that beat for this long at level 1 has made new progress."""
    useful_window_s: float = 7200.0
    """Over this much time of attempts and back-offs …"""
    useful_least: float = 0.1
    """… at least this share must bring training further, or the run is given up."""
    reprobe_s: float = 30.0
    """Between two looks at what a held run waits for."""
    hold_max_s: float = 86400.0

    slow_share: float = 0.7
    """Training at less than this share of its own median speed …"""
    slow_s: float = 900.0
    """… for so long is worth a warning."""
    slow_window_s: float = 300.0
    """Over so much of the present its speed is taken."""
    leak_window_s: float = 1800.0
    """Memory that rises steadily over so much time, or ten times it, is taken to go on so."""
    leak_soon_s: float = 21600.0
    """Growth that reaches its limit within this is worth a warning."""
    leak_restart: bool = False
    """Save and relaunch at an epoch's end before memory that grows reaches its limit."""
    leak_restart_pause_s: float = 21600.0
    """At most once in so much time, and only after new progress."""

    on_divergence: OnDivergence = OnDivergence.WARN

    diagnose: bool = False
    """A failure that has come again and again is replayed, alone, before the run is given up."""
    prove_s: float = 600.0
    """Between two checkpoints that a second process loads to prove them; 0: never."""
    output_max_mib: float = 512.0
    """Of an attempt's output; beyond that the middle of it is left out."""

    expandable: bool = True
    """CUDA can have expandable segments here: not on WSL, where the driver fails at them."""
    halve: bool = True
    """Half the batch where that helps."""
    unfreeze_batch: int | None = 8
    """The unfreeze batch that the command asks for; None: not known."""
    freeze_batch: int | None = 8
    accumulate: int = 1
    workers: int | None = 4
    takes_batch: bool = True
    """The command can be seen to take a batch; False: it is told by the environment only, which it may not read."""
    batch_set: bool = False
    """The unfreeze batch was set by hand, so it is an order from the first attempt on."""
