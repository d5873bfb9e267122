"""Builds the functions and the local Coiote for the local stack, and the command line.

With `tests` also the crates' tests, with `for-lambda` also the functions that are measured, as they are deployed to AWS.
"""

import sys

from bench import MEASURED_BY_TESTS
from stack.deployment import Deployment
from stack.local_stack import ROOT
from stack.processes import run_command


def main(*more: str) -> None:
    run = ROOT / ".local" / "run" / "build"
    run.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(ROOT, run)
    # First, because they need everything that the others need.
    if "tests" in more:
        deployment.build_tests()
    deployment.build("lwm2m")
    if "for-lambda" in more:
        deployment.build_for_lambda(MEASURED_BY_TESTS)


if __name__ == "__main__":
    run_command(lambda: main(*sys.argv[1:]))
