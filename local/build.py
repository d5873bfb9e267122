"""Builds the functions as for Lambda, and the local Coiote; what `make demo` and the tests run."""

from stack.deployment import Deployment
from stack.local_stack import ROOT
from stack.processes import run_command


def main() -> None:
    logs = ROOT / ".local" / "run" / "build"
    logs.mkdir(parents=True, exist_ok=True)
    Deployment(ROOT, logs).build()


if __name__ == "__main__":
    run_command(main)
