"""Many requests while everything goes wrong that can: is each answered, is none lost, and is nothing executed twice?

A tenth of Coiote's calls meet a fault, every event is delivered twice, at the same moment and to both functions, and the
local Coiote is restarted on the way. Bounded in count, not in time.
"""

import argparse
import contextlib
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from stack.local_stack import LocalStack
from stack.processes import Failure, run_command, wait_for

# So many requests of one device are on their way at the same time. A shadow keeps eight answers.
AT_A_TIME = 4
FAULTS = {"rate": 0.1}
LOOKS_A_SECOND = 40
# A request that has no last word by then is lost: three attempts of Lambda take less than half of it.
PATIENCE = 180
LAST_WORDS = {"REJECTED", "FAILED", "SUCCEEDED"}


def reports(operation: str) -> bool:
    return operation in ("read", "write", "readComposite")


def request(number: int) -> dict:
    """The requests take turns. An execute's argument and a write's value tell which one it is."""
    kinds = (
        {"operation": "write", "keys": ["Test object.0.Integer"], "values": [number]},
        {"operation": "execute", "keys": ["Test object.0.Execute"], "arguments": f"0='{number}'"},
        {"operation": "read", "keys": ["Test object.0.Integer", "Device.0.UTC Offset"]},
        {"operation": "execute", "keys": ["Test object.0.Execute"], "arguments": f"0='{number}'"},
        {"operation": "observe", "keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5}]},
        {"operation": "readComposite", "keys": ["LwM2M Server.1.Lifetime"]},
        {"operation": "execute", "keys": ["Test object.0.Execute"], "arguments": f"0='{number}'"},
        # Wrong: the resource is only read
        {"operation": "write", "keys": ["Device.0.Manufacturer"], "values": ["x"]},
    )
    return kinds[number % len(kinds)]


@dataclass
class Figures:
    words: Counter = field(default_factory=Counter)
    codes: Counter = field(default_factory=Counter)
    attempts: Counter = field(default_factory=Counter)
    lost: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Arguments of the executes that were asked for, and the answer to each
    executes: dict = field(default_factory=dict)

    def add(self, desired: dict, answer: dict) -> None:
        with self.lock:
            self.words[desired["operation"], answer["status"]] += 1
            self.attempts[answer.get("attempt", 1)] += 1
            if "reason" in answer:
                self.codes[answer["reason"]["code"]] += 1
            if desired["operation"] == "execute":
                self.executes[desired["arguments"]] = answer


class Soak:
    def __init__(self, stack: LocalStack, requests: int, devices: int, restarts: int):
        self.stack, self.requests, self.restarts = stack, requests, restarts
        self.things = [f"soak-{number}" for number in range(devices)]
        self.figures = Figures()
        self.faults: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._done = itertools.count(1)
        self._done_so_far = 0
        self._stop = threading.Event()

    def run(self) -> None:
        for thing in self.things:
            self.stack.coiote.add_device(thing)
            self.stack.add_thing(thing)
        second = self._deliver_twice()
        self.stack.coiote.set_faults(FAULTS)
        restarter = threading.Thread(target=self._restart)
        restarter.start()
        try:
            with ThreadPoolExecutor(len(self.things)) as pool, self._stopped_in_the_end():
                share, more = divmod(self.requests, len(self.things))
                shares = [share + (number < more) for number in range(len(self.things))]
                # Any error of a thread is raised here.
                list(pool.map(self._one_device, self.things, shares))
        finally:
            restarter.join()
            for rule in second:
                self.stack.aws.iot.delete_topic_rule(ruleName=rule)
            self._count_faults()
            self.stack.coiote.set_faults({})

    @contextlib.contextmanager
    def _stopped_in_the_end(self):
        """Also when it is interrupted: nobody waits for threads that go on."""
        try:
            yield
        finally:
            self._stop.set()

    def _deliver_twice(self) -> list[str]:
        """A second rule beside each of ours, with the same statement and the same function."""
        names = []
        for output in ("OperationRequestRule", "OperationResponseRule"):
            rule = self.stack.aws.iot.get_topic_rule(ruleName=self.stack.outputs[output])["rule"]
            name = f"again_{output}"
            payload = {key: rule[key] for key in ("sql", "awsIotSqlVersion", "actions")}
            self.stack.aws.iot.create_topic_rule(ruleName=name, topicRulePayload=payload)
            names.append(name)
        return names

    def _restart(self) -> None:
        """At equal distances on the way."""
        for number in range(1, self.restarts + 1):
            at = self.requests * number // (self.restarts + 1)
            while self._done_so_far < at:
                if self._stop.wait(0.05):
                    return
            self._count_faults()
            self.stack.coiote.restart()
            self.stack.coiote.set_faults(FAULTS)

    def _count_faults(self) -> None:
        self.faults.update(self.stack.coiote.stats()["faults"])

    def _one_device(self, thing: str, count: int) -> None:
        while count > 0 and not self._stop.is_set():
            batch = {}
            for _ in range(min(AT_A_TIME, count)):
                desired = request(next(self._numbers))
                # What the last request had and this one has not would stay.
                fields = {name: desired.get(name) for name in ("keys", "values", "attributes", "arguments")}
                batch[self.stack.aws.request(thing, fields | desired)] = desired
            count -= len(batch)
            self._wait(thing, batch)

    def _wait(self, thing: str, batch: dict[int, dict]) -> None:
        deadline = time.monotonic() + PATIENCE
        open_ = dict(batch)
        while open_ and time.monotonic() < deadline:
            answers = self.stack.aws.answers(thing)
            for version, desired in list(open_.items()):
                answer = answers.get(str(version), {})
                scheduled = answer.get("status") == "SCHEDULED" and not reports(desired["operation"])
                if answer.get("status") in LAST_WORDS or scheduled:
                    self.figures.add(desired, answer)
                    del open_[version]
                    self._done_so_far = next(self._done)
            # Looking costs the local AWS as much as a request does: all together look so many times a second.
            if open_ and self._stop.wait(len(self.things) / LOOKS_A_SECOND):
                break
        with self.figures.lock:
            self.figures.lost += [(thing, version, desired) for version, desired in open_.items()]

    # ---------------------------------------------------------------- what came of it

    def executed(self) -> Counter:
        """How many tasks Coiote has for each execute."""
        found: Counter[str] = Counter()
        for thing in self.things:
            for task in self.stack.coiote.tasks(thing):
                parameters = {parameter["name"]: parameter["value"] for parameter in task["parameters"]}
                if task["template"] == "AWSexecuteCertAuth":
                    found[parameters["arguments"]] += 1
        return found

    def check(self) -> list[str]:
        """What is wrong; nothing if all is well."""
        figures, executed = self.figures, self.executed()
        wrong = [f"no last word: {lost}" for lost in figures.lost]
        wrong += [f"executed {count} times: {arguments}" for arguments, count in executed.items() if count > 1]
        for arguments, answer in figures.executes.items():
            if answer["status"] == "SCHEDULED" and executed[arguments] != 1:
                wrong.append(f"SCHEDULED, and Coiote has no task: {arguments}")
            if answer["status"] == "FAILED" and answer["reason"]["code"] != "OUTCOME_UNKNOWN" and executed[arguments]:
                wrong.append(f"FAILED, and Coiote has a task: {arguments}")
        for thing in self.things:
            def agrees(thing=thing) -> bool:
                """The datamodel shadow holds what the device holds, once the last result has been folded."""
                held = self.stack.coiote.datamodel(thing).get("Test object", {}).get("0", {}).get("Integer")
                known = self.stack.aws.reported(thing, "datamodel").get("Test object", {}).get("0", {}).get("Integer")
                return known in (None, held)

            try:
                wait_for(f"the datamodel shadow of {thing} to hold what the device holds", agrees, seconds=20)
            except Failure as failure:
                wrong.append(str(failure))
        return wrong

    def told(self) -> str:
        figures, executed = self.figures, self.executed()
        lines = [f"{sum(figures.words.values())} requests over {len(self.things)} devices, each delivered twice, have their last word"]
        for (operation, word), number in sorted(figures.words.items()):
            lines.append(f"  {operation:<15} {word:<10} {number:>5}")
        lines.append("reasons: " + (", ".join(f"{code} {n}" for code, n in sorted(figures.codes.items())) or "none"))
        lines.append("attempts: " + ", ".join(f"{n} of {number}" for number, n in sorted(figures.attempts.items())))
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items()) if n)
        lines.append(f"faults of Coiote: {faults}; and it was restarted {self.restarts} times")
        lines.append(f"executes: {len(figures.executes)} asked for, {sum(executed.values())} tasks at Coiote, "
                     f"{sum(n > 1 for n in executed.values())} twice")
        lines.append(f"lost: {len(figures.lost)}")
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=2)
    arguments = parser.parse_args()
    with LocalStack("soak", optimized=True) as stack:
        stack.deployment.build()
        stack.start()
        stack.deploy()
        soak = Soak(stack, arguments.requests, arguments.devices, arguments.restarts)
        started = time.monotonic()
        print(f"{arguments.requests} requests over {arguments.devices} devices", flush=True)
        soak.run()
        wrong = soak.check()
        print(soak.told())
        print(f"It took {time.monotonic() - started:.0f} s.")
    if wrong:
        raise Failure("\n".join(wrong))


if __name__ == "__main__":
    run_command(main)
