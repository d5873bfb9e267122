"""`sam delete`, but with a look every second, and not every 30, whether the stack is gone."""

import sys

from botocore.waiter import Waiter
from samcli.cli.main import cli

wait = Waiter.wait


def wait_eagerly(self: Waiter, **parameters) -> None:
    parameters["WaiterConfig"] = parameters.get("WaiterConfig", {}) | {"Delay": 1, "MaxAttempts": 3_600}
    wait(self, **parameters)


if __name__ == "__main__":
    Waiter.wait = wait_eagerly
    sys.exit(cli(["delete", *sys.argv[1:]], prog_name="sam"))
