"""What `start --share` says: who can look now, and what is in their way."""

import grp
import os
from collections.abc import Iterator

from fred_supervisor.language import listed, tr
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.sharing.readers import closed_above


def share_lines(spec: RunSpec) -> Iterator[str]:
    if spec.share is None:
        return
    everybody = spec.share == "all"
    yield tr(
        "{name}: {who} can look now: `fred-supervise status --run-dir {run_dir}`",
        name=spec.name,
        who=tr("everybody here") if everybody else tr("the group {group}", group=_group(spec.run_dir)),
        run_dir=spec.run_dir,
    )
    closed = closed_above(spec.dir, spec.share)
    if closed:
        yield tr(
            "{name}: but {folders} lets nobody through; `chmod {who}+x` opens it",
            name=spec.name,
            folders=listed(map(str, closed)),
            who="o" if everybody else "g",
        )


def _group(run_dir: str) -> str:
    gid = os.stat(run_dir).st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
