"""Many requests that wait while Coiote is away and are handed over when it is back, and the cost of open requests of sleeping
devices. `make soak SCALE=1` runs it."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from figures import Figures
from stack.ledger import ended_requests, requests_by_status
from stack.local_stack import LocalStack
from stack.processes import wait_for

INTEGER = "Test object.0.Integer"


class Scale:
    """A run over so many devices, each of which gets the same number of requests."""

    def __init__(self, stack: LocalStack, requests: int, devices: int):
        self.stack, self.requests = stack, requests
        self.things = [f"scale-{number}" for number in range(devices)]
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.figures = Figures()
        self.overtaken = 0

    @property
    def requests_of_a_device(self) -> int:
        return self.requests // len(self.things)

    def run(self) -> list[str]:
        """Lists the errors; empty if all is well."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._add, self.things))
            self.stack.coiote.set_faults({"rate": 1.0, "kinds": ["unavailable"]})
            begun = time.monotonic()
            list(pool.map(self._request_writes, self.things))
            self._wait("all requests to wait", self._all_are_waiting, seconds=self.requests)
            self.figures.add(f"{self.requests} requests over {len(self.things)} devices wait after {time.monotonic() - begun:.0f} s")
            self.stack.coiote.set_faults({})
            begun = time.monotonic()
            self._wait("all requests to end", self._all_have_ended, seconds=max(300, self.requests))
            took = time.monotonic() - begun
        at_coiote = self.stack.coiote.stats()["mostInFlight"]
        lines = self.stack.aws.log_lines(self.stack.outputs["ReconcileLogGroup"])
        at_once = max(line.get("most_at_once", 0) for line in lines)
        self.figures.add(
            f"after Coiote was back all ended within {took:.0f} s; at most {at_once} hand-overs at once, and {at_coiote} calls at Coiote"
        )
        wrong = self._check()
        self.figures.add(f"{self.overtaken} were overtaken by newer writes of their key, because the rule delivered them later")
        return wrong

    def asleep(self, seconds: float) -> list[str]:
        """Measures the calls for reports of as many requests of sleeping devices, for so many seconds; lists the errors."""
        # Each is asked for once, a minute after its hand-over.
        single = self._calls()["single reports"] + self.requests
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda thing: self.stack.coiote.set_state(thing, "sleeping"), self.things))
            list(pool.map(self._request_reboots, self.things))
        self._wait("all requests to be scheduled", self._all_are_scheduled, seconds=self.requests)
        wait_for("the report of each task", lambda: self._calls()["single reports"] >= single, seconds=self.requests)
        # They come again after ten minutes; until then only the looks are left.
        last = [self._calls(), time.monotonic()]

        def only_looks() -> bool:
            calls = self._calls()
            if calls - Counter(looks=calls["looks"]) != last[0] - Counter(looks=last[0]["looks"]):
                last[:] = [calls, time.monotonic()]
            return time.monotonic() - last[1] > seconds

        wait_for("single reports to be read", only_looks, seconds=600)
        looks = self._calls()["looks"] - last[0]["looks"]
        self.figures.add(
            f"{self.requests} open requests of sleeping devices: {looks} calls of findSince within {seconds:.0f} s, and no others"
        )
        return [] if looks else ["nobody looked for reports"]

    def _calls(self) -> Counter:
        """Counts the calls at Coiote: looks for the reports of all devices, and others."""
        calls = Counter()
        for route, count in self.stack.coiote.stats()["requests"].items():
            kind = "looks" if "findSince" in route else "single reports" if "taskReports" in route else "others"
            calls[kind] += count
        return calls

    def _add(self, thing: str) -> None:
        self.stack.coiote.add_device(thing)
        self.stack.add_thing(thing)

    def _request_writes(self, thing: str) -> None:
        for number in range(self.requests_of_a_device):
            value = 1 + number + len(self.versions[thing])
            desired = {"operation": "write", "keys": [INTEGER], "values": [value]}
            self.versions[thing].append(self.stack.aws.request(thing, desired))

    def _request_reboots(self, thing: str) -> None:
        for number in range(self.requests_of_a_device):
            desired = {"operation": "execute", "keys": ["Device.0.Reboot"], "values": None, "arguments": f"0='{number}'"}
            self.stack.aws.request(thing, desired)

    def _wait(self, what: str, condition: Callable[[str], bool], seconds: float) -> None:
        """Waits until the condition has been true of each thing; one of which it was true is not looked at again."""
        left = set(self.things)

        def was_true_of_all() -> bool:
            for thing in sorted(left):
                if not condition(thing):
                    break
                left.discard(thing)
            return not left

        wait_for(what, was_true_of_all, seconds=seconds)

    def _all_are_waiting(self, thing: str) -> bool:
        """Requests that have ended count as well: one that was overtaken does not wait."""
        counts = requests_by_status(self.stack, thing)
        return counts["IN_PROGRESS"] + counts["ended"] >= self.requests_of_a_device

    def _all_are_scheduled(self, thing: str) -> bool:
        return requests_by_status(self.stack, thing)["SCHEDULED"] >= self.requests_of_a_device

    def _all_have_ended(self, thing: str) -> bool:
        """No request is open, and each has an item of its own."""
        counts = requests_by_status(self.stack, thing)
        is_open = any(count > 0 for status, count in counts.items() if status != "ended")
        return not is_open and len(ended_requests(self.stack, thing)) >= len(self.versions[thing])

    def _check(self) -> list[str]:
        wrong = []
        for thing in self.things:
            ended = ended_requests(self.stack, thing)
            # An older one that the rule delivers while a newer one is being handed over may not follow it.
            overtaken = {version for version in self.versions[thing] if ended.get(version, {}).get("code") == "OVERTAKEN"}
            done = {version for version in self.versions[thing] if ended.get(version, {}).get("status") == "SUCCEEDED"}
            if len(done | overtaken) < len(self.versions[thing]):
                wrong.append(f"{thing}: {({version: ended.get(version) for version in self.versions[thing]})}")
            self.overtaken += len(overtaken)
            values = [int(part["value"]) for run in self.stack.coiote.runs(thing) for part in run["done"]]
            if values != sorted(values) or len(set(values)) != len(done):
                wrong.append(f"{thing} was written to in another order: {values}")
        return wrong
