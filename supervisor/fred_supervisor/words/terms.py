"""Words that programs and people share: JSON has them as they are, a person reads them in a language."""

from typing import Final

from fred_supervisor.language import mark, tr

_TERMS: Final = frozenset({
    # phases and sections of a trainer
    mark("freeze"), mark("unfreeze"),
    mark("training"), mark("startup"),
    mark("first-step"), mark("train"), mark("eval"), mark("checkpoint"), mark("shutdown"),
    # states of a run
    mark("starting"), mark("running"), mark("stopping"), mark("paused"), mark("waiting"), mark("holding"),
    mark("completed"), mark("stopped"), mark("failed"),
    # kinds of incidents
    mark("crash"), mark("hang"), mark("oom"), mark("silent_exit"), mark("nan_loss"), mark("learning"), mark("data"),
    mark("disk"), mark("gpu"), mark("config"), mark("supervisor"),
    # what is asked of a run
    mark("stop"), mark("leave"), mark("pause"), mark("resume"), mark("restart"), mark("quiet hours"),
    mark("a line of its output"), mark("divergence"),
    # what the doctor looks at, and how bad it is
    mark("ok"), mark("warn"), mark("fail"), mark("clock"), mark("swap"), mark("mount"), mark("logout"),
    mark("libraries"), mark("upgrades"), mark("pid 1"), mark("GPU driver"), mark("GPU memory"),
    # what a path cannot be, what a machine has no more of
    mark("read"), mark("written"), mark("executed"), mark("process"), mark("memory"), mark("open file"),
    # why a GPU is slowed down
    mark("hardware slowdown"), mark("software thermal"), mark("hardware thermal"), mark("power brake"),
    # what warnings are about
    mark("slow"), mark("leak"), mark("diverging"), mark("flat"), mark("gpu_memory"), mark("sleep"), mark("driver"),
    mark("wsl"), mark("shm"),
    # what alerts are about
    mark("incident"), mark("stalled"), mark("held"), mark("warning"),
})  # fmt: skip


def term(word: str) -> str:
    """A word of ours in the reader's language; one of somebody else as it is."""
    return tr(word) if word in _TERMS else word
