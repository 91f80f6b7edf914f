"""When nothing could be started: what was there before is put back."""

import shutil

from fred_supervisor.store.journal import Incidents
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.registry import forget
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state


class Undo:
    """Puts back what was there when the command turns out not to be executable: nothing was started."""

    def __init__(self, spec: RunSpec, before: RunSpec | None) -> None:
        self._spec, self._before = spec, before
        self._state = read_state(spec.dir) if spec.dir.state.exists() else None
        self._attempt = last_attempt(spec.dir)
        self._incidents = Incidents(spec.dir).numbers()

    def __call__(self) -> None:
        run = self._spec.dir
        for number in range(self._attempt + 1, last_attempt(run) + 1):
            shutil.rmtree(run.attempt(number).path, ignore_errors=True)
        for number in set(Incidents(run).numbers()) - set(self._incidents):
            run.incident(number).unlink(missing_ok=True)
        if self._before is None:
            forget(self._spec)
            for path in (run.run, run.state, run.journal):
                path.unlink(missing_ok=True)
            return
        self._before.save()
        if self._state is not None:
            self._state.write(run)
