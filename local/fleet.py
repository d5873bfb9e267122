"""An AWS IoT job over a fleet, rolled out as fast as AWS does it: each execution has to end as its device did.

One device in ten refuses the value, and one in ten sleeps until all others have ended.
"""

import argparse
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from figures import Figures
from stack.jobs import TERMINAL
from stack.local_stack import LocalStack
from stack.processes import Failure, run_command, wait_for

OFFSET = "Device.0.UTC Offset"
VALUE = "+02:00"
WRITE = {"operation": "write", "keys": [OFFSET], "values": [VALUE]}
# Largest pace of a rollout:
# https://docs.aws.amazon.com/general/latest/gr/iot_device_management.html
MAXIMUM_PER_MINUTE = 1_000


class Fleet:
    """Devices of which some refuse and some sleep, and a job that writes to all."""

    def __init__(self, stack: LocalStack, devices: int):
        self.stack = stack
        self.things = [f"fleet-{number}" for number in range(devices)]
        self.refusing = set(self.things[9::10])
        self.sleeping = set(self.things[4::10])
        self.figures = Figures()

    def run(self) -> list[str]:
        """Lists the errors; empty if all is well."""
        stack, jobs = self.stack, self.stack.jobs
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._add, self.things))
        group = jobs.group("fleet", self.things)
        begun = time.monotonic()
        job = jobs.run([group], WRITE, jobExecutionsRolloutConfig={"maximumPerMinute": MAXIMUM_PER_MINUTE})
        self.figures.add(f"the local AWS had named all executions after {time.monotonic() - begun:.0f} s")
        patience = max(120, len(self.things))
        awake = len(self.things) - len(self.sleeping)
        self._wait_until_ended(job, awake, patience)
        took = time.monotonic() - begun
        self.figures.add(f"{awake} executions of devices that are awake ended within {took:.0f} s, {awake / took:.0f} a second")
        wait_for("the others to be in progress", lambda: jobs.counts(job).get("IN_PROGRESS") == len(self.sleeping), patience)
        self.figures.add(f"{len(self.sleeping)} of devices that sleep stayed IN_PROGRESS")
        begun = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda thing: stack.coiote.set_state(thing, "online"), self.sleeping))
        self._wait_until_ended(job, len(self.things), patience)
        self.figures.add(f"and ended within {time.monotonic() - begun:.0f} s when they woke")
        self.figures.add(f"at most {stack.coiote.stats()['mostInFlight']} calls at Coiote in flight")
        counts, status = jobs.counts(job), jobs.describe(job)["status"]
        self.figures.add(f"the job is {status}: {counts}")
        return self._check(counts) + ([] if status == "COMPLETED" else [f"the job is {status}"])

    def _add(self, thing: str) -> None:
        self.stack.coiote.add_device(thing, state="sleeping" if thing in self.sleeping else "online")
        if thing in self.refusing:
            self.stack.coiote.refuse(thing, {OFFSET: "4.00 Bad Request"})
        self.stack.add_thing(thing)

    def _wait_until_ended(self, job: str, executions: int, seconds: float) -> None:
        def have_ended() -> bool:
            # The local AWS counts all executions each time.
            time.sleep(1)
            counts = self.stack.jobs.counts(job)
            return sum(counts.get(status, 0) for status in TERMINAL) >= executions

        wait_for(f"{executions} executions to end", have_ended, seconds)

    def _check(self, counts: dict[str, int]) -> list[str]:
        wrong, outcomes = [], Counter()
        for thing in self.things:
            runs = self.stack.coiote.runs(thing)
            has_done = [bool(run["done"]) and not run["failed"] for run in runs]
            if has_done != [thing not in self.refusing]:
                wrong.append(f"{thing} has run {runs}")
            outcomes["SUCCEEDED" if has_done == [True] else "FAILED"] += 1
        if dict(outcomes) != counts:
            wrong.append(f"the job counts {counts}, the devices did {dict(outcomes)}")
        return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=500)
    # Measuring wants optimized functions; the rest is as right without.
    parser.add_argument("--quick-build", action="store_true", help="functions as the tests have them")
    arguments = parser.parse_args()
    with LocalStack("fleet", optimized=not arguments.quick_build) as stack:
        stack.deployment.build()
        stack.start()
        stack.deploy()
        print(f"A job over {arguments.devices} devices, {MAXIMUM_PER_MINUTE} a minute", flush=True)
        fleet = Fleet(stack, arguments.devices)
        wrong = fleet.run()
    if wrong:
        raise Failure("\n".join(wrong[:50]))


if __name__ == "__main__":
    run_command(main)
