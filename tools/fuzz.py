"""Garbled files of every kind, for every reader of what others write: nothing may raise, or take long.

python -m tools.fuzz [--cases 21000] [--seed 0] [--only KIND]
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.helpers.fuzz import Reader, cases, of_the_trainer, readers

MOST_CPU_S: Final = 5.0
"""Of one case."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=21_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="one kind of file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        found = {**readers(Path(folder)), **of_the_trainer(Path(folder))}
        found = {kind: reader for kind, reader in found.items() if given.only in ("", kind)}
        each = -(-given.cases // len(found))
        broken = [kind for kind, reader in found.items() if not _holds(kind, reader, each, given.seed)]
    print(f"{each * len(found)} cases of {len(found)} kinds, {len(broken)} kinds broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def _holds(kind: str, reader: Reader, count: int, seed: int) -> bool:
    """Whether nothing is raised; what is, is told."""
    longest_s = total_s = 0.0
    try:
        for _, cpu_s in cases(reader, count, seed):
            longest_s, total_s = max(longest_s, cpu_s), total_s + cpu_s
    except Exception:  # noqa: BLE001 - that is what is looked for
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        print(f"{kind:20} BROKEN", flush=True)
        return False
    slow = longest_s > MOST_CPU_S
    told = f"mean {total_s / count * 1e3:.1f} ms, longest {longest_s * 1e3:.0f} ms of CPU{'  TOO SLOW' if slow else ''}"
    print(f"{kind:20} {count} cases, {told}", flush=True)
    return not slow


if __name__ == "__main__":
    sys.exit(main())
