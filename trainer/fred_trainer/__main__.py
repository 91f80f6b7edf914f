"""`python -m fred_trainer` is `fred-train`."""

import sys

from fred_trainer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
