"""Builds the functions as for Lambda, and the local Coiote; what `make demo` and the tests run."""

import sys

from stack.deployment import Deployment
from stack.local_stack import ROOT
from stack.processes import Failure


def main() -> None:
    logs = ROOT / ".local" / "run" / "build"
    logs.mkdir(parents=True, exist_ok=True)
    Deployment(ROOT, logs).build()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"\n{failure}")
    except KeyboardInterrupt:
        sys.exit(130)
