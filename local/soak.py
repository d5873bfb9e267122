"""Many requests while everything goes wrong that can: each has to get a last word, which has to agree with the device.

A tenth of Coiote's calls meet a fault, every event is delivered twice, results come in any order and one in twenty never, reports
are listed late, twice, and one in twenty only if it is asked for; functions are killed while they run, and the local Coiote is
restarted on the way. Reads, writes and composites take turns on the same keys. Bounded in count, not in time.

With --scale another run, that of scale.py.
"""

import argparse
import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from scale import Scale
from stack.aws import LAST_WORDS
from stack.ledger import ended_requests
from stack.local_stack import LocalStack
from stack.processes import Failure, run_command, wait_for

# Requests of one device that are on their way at the same time
REQUESTS_AT_A_TIME = 4
FAULTS = {
    "rate": 0.1,
    "results": {"lost": 0.05, "late": 1, "shuffled": True},
    "reports": {"unlisted": 0.05, "late": 1, "twice": True, "shuffled": True},
}
LOOKS_A_SECOND = 40
# Seconds after which a request without a last word is lost. A report that no list has comes after a minute, and so does the last
# word of a request whose result never comes; a request whose function was killed is taken up a minute later.
PATIENCE = 300
# Seconds between two functions that are killed
KILL_INTERVAL = 5
# Parameter of the template: an invocation that was killed counts as over so many seconds after it began, and 30 more.
REQUEST_TIMEOUT = 10
INTEGER = "Test object.0.Integer"


def request(number: int) -> dict:
    """The desired state of a request; kinds take turns. Values and arguments hold the number, by which runs are recognized."""
    kinds = (
        {"operation": "write", "keys": [INTEGER], "values": [number]},
        {"operation": "execute", "keys": ["Device.0.Reboot"], "arguments": f"0='{number}'"},
        {"operation": "read", "keys": [INTEGER, "Device.0.UTC Offset"]},
        {"operation": "writeComposite", "keys": [INTEGER, "LwM2M Server.1.Lifetime"], "values": [number, 60 + number]},
        # A resource that the device does not have
        {"operation": "execute", "keys": ["Test object.0.Execute"], "arguments": f"0='{number}'"},
        {"operation": "observe", "keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5}]},
        {"operation": "execute", "keys": ["Device.0.Reboot"], "arguments": f"0='{number}'"},
        {"operation": "readComposite", "keys": [INTEGER, "LwM2M Server.1.Lifetime"]},
        {"operation": "discover", "keys": ["Test object.0"]},
        # A mistake: the resource cannot be written
        {"operation": "write", "keys": ["Device.0.Manufacturer"], "values": ["x"]},
    )
    return kinds[number % len(kinds)]


@dataclass
class SentRequest:
    """A request that was made, and its outcome."""

    thing: str
    version: int
    number: int
    desired: dict
    # The answer in the shadow, as it was read last
    answer: dict = field(default_factory=dict)
    # The ledger's item of its last word
    ended: dict = field(default_factory=dict)

    @property
    def marker(self) -> str:
        """Value or argument that only this request has; empty for operations that have none."""
        return str(self.number) if self.desired["operation"] in ("write", "writeComposite", "execute") else ""


class Soak:
    def __init__(self, stack: LocalStack, requests: int, devices: int, restarts: int, kills: bool = True):
        self.stack, self.requests, self.restarts, self.kills = stack, requests, restarts, kills
        self.things = [f"soak-{number}" for number in range(devices)]
        self.sent: list[SentRequest] = []
        self.faults: Counter[str] = Counter()
        self.killed = 0
        self.lost: list[SentRequest] = []
        self._numbers = itertools.count(1)
        self._ended_so_far = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self) -> None:
        for thing in self.things:
            self.stack.coiote.add_device(thing)
            self.stack.add_thing(thing)
        second_rules = self._deliver_twice()
        self.stack.coiote.set_faults(FAULTS)
        disturbers = [threading.Thread(target=self._restart), threading.Thread(target=self._kill)]
        for thread in disturbers:
            thread.start()
        try:
            with ThreadPoolExecutor(len(self.things)) as pool, self._stop_at_the_end():
                share, more = divmod(self.requests, len(self.things))
                shares = [share + (number < more) for number in range(len(self.things))]
                # Any error of a thread is raised here.
                list(pool.map(self._one_device, self.things, shares))
        finally:
            for thread in disturbers:
                thread.join()
            for rule in second_rules:
                self.stack.aws.iot.delete_topic_rule(ruleName=rule)
            self._count_faults()
            self.stack.coiote.set_faults({})

    @contextlib.contextmanager
    def _stop_at_the_end(self):
        """Ends the threads, also when the run is interrupted: otherwise their end would be waited for."""
        try:
            yield
        finally:
            self._stop.set()

    def _deliver_twice(self) -> list[str]:
        """Adds a second rule beside each of ours, with the same statement and the same function; returns their names."""
        names = []
        for output in ("OperationRequestRule", "OperationResponseRule"):
            rule = self.stack.aws.iot.get_topic_rule(ruleName=self.stack.outputs[output])["rule"]
            name = f"again_{output}"
            payload = {key: rule[key] for key in ("sql", "awsIotSqlVersion", "actions")}
            self.stack.aws.iot.create_topic_rule(ruleName=name, topicRulePayload=payload)
            names.append(name)
        return names

    def _restart(self) -> None:
        """Restarts the local Coiote, at equal distances on the way."""
        for number in range(1, self.restarts + 1):
            at = self.requests * number // (self.restarts + 1)
            while self._ended_so_far < at:
                if self._stop.wait(0.05):
                    return
            self._count_faults()
            self.stack.coiote.restart()
            self.stack.coiote.set_faults(FAULTS)

    def _kill(self) -> None:
        """Kills functions while they run, as a crash does: one after the other, while requests come."""
        luck = random.Random(1)
        while self.kills and not self._stop.wait(KILL_INTERVAL):
            environments = environments_of(self.stack)
            if environments:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(luck.choice(environments), signal.SIGKILL)
                    self.killed += 1

    def _count_faults(self) -> None:
        self.faults.update(self.stack.coiote.stats()["faults"])

    def _one_device(self, thing: str, count: int) -> None:
        while count > 0 and not self._stop.is_set():
            batch = []
            for _ in range(min(REQUESTS_AT_A_TIME, count)):
                number = next(self._numbers)
                desired = request(number)
                # Fields of the last request that this one does not have would stay.
                fields = {name: desired.get(name) for name in ("keys", "values", "attributes", "arguments")}
                batch.append(SentRequest(thing, self.stack.aws.request(thing, fields | desired), number, desired))
            count -= len(batch)
            with self._lock:
                self.sent += batch
            self._wait(thing, batch)

    def _wait(self, thing: str, batch: list[SentRequest]) -> None:
        deadline = time.monotonic() + PATIENCE
        open_ = list(batch)
        while open_ and time.monotonic() < deadline:
            answers = self.stack.aws.answers(thing)
            for sent in list(open_):
                sent.answer = answers.get(str(sent.version), {})
                if sent.answer.get("status") in LAST_WORDS:
                    open_.remove(sent)
                    with self._lock:
                        self._ended_so_far += 1
            # A look costs the local AWS as much as a request does, so all devices together have LOOKS_A_SECOND.
            if open_ and self._stop.wait(len(self.things) / LOOKS_A_SECOND):
                break
        with self._lock:
            self.lost += open_

    # ---------------------------------------------------------------- outcomes

    def check(self) -> list[str]:
        """Lists the errors; empty if all is well."""
        wrong = [f"no last word: {lost}" for lost in self.lost]
        for thing in self.things:
            ended, runs = ended_requests(self.stack, thing), self.stack.coiote.runs(thing)
            of_thing = [sent for sent in self.sent if sent.thing == thing]
            for sent in of_thing:
                sent.ended = ended.get(sent.version, {})
                wrong += [f"{why}: {sent}" for why in disagreements(sent, runs)]
            wrong += writes_out_of_order(thing, of_thing, runs)
            wrong += self._datamodel_disagreement(thing)
        return wrong

    def _datamodel_disagreement(self, thing: str) -> list[str]:
        def integer(document: dict) -> object:
            return document.get("Test object", {}).get("0", {}).get("Integer")

        def agrees() -> bool:
            """The datamodel shadow holds the value of the device's last report, once that has been folded."""
            held = integer(self.stack.coiote.datamodel(thing))
            return integer(self.stack.aws.reported(thing, "datamodel")) == held

        # A result that never came leaves an older value, so the value is read once more, without faults.
        version = self.stack.aws.request(thing, {"operation": "read", "keys": [INTEGER], "values": None, "attributes": None, "arguments": None})
        try:
            self.stack.aws.last_word(thing, version, LAST_WORDS)
            wait_for(f"the datamodel shadow of {thing} to hold what the device holds", agrees)
        except Failure as failure:
            return [str(failure)]
        return []

    def summary(self) -> str:
        outcomes = Counter((sent.desired["operation"], sent.ended.get("status", "none")) for sent in self.sent)
        codes = Counter(sent.ended["code"] for sent in self.sent if "code" in sent.ended)
        executes = [sent for sent in self.sent if sent.desired["operation"] == "execute"]
        lines = [f"{len(self.sent)} requests over {len(self.things)} devices, each delivered twice"]
        lines += [f"  {operation:<15} {status:<10} {number:>5}" for (operation, status), number in sorted(outcomes.items())]
        lines.append("reasons: " + (", ".join(f"{code} {n}" for code, n in sorted(codes.items())) or "none"))
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items()) if n)
        lines.append(f"faults of Coiote: {faults}; it was restarted {self.restarts} times, and {self.killed} functions were killed")
        lines.append(f"executes: {len(executes)} asked for, {sum(sent.ended.get('status') == 'SUCCEEDED' for sent in executes)} done")
        lines.append(f"without a last word: {len(self.lost)}")
        return "\n".join(lines)


def environments_of(stack: LocalStack) -> list[int]:
    """Process ids of the functions: children of the local AWS that run a deployed binary."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == stack.aws.process.pid and os.readlink(status.parent / "exe").endswith("/bootstrap"):
                found.append(int(status.parent.name))
    return found


def disagreements(sent: SentRequest, runs: list[dict]) -> list[str]:
    """Lists how the last word of a request differs from what the device did."""
    operation, status, code = sent.desired["operation"], sent.ended.get("status"), sent.ended.get("code", "")
    of_task = [run for run in runs if run["taskId"] == sent.ended.get("taskId")]
    # Runs that only this request can have brought about
    own = [run for run in runs if sent.marker and is_run_of(run, sent)]
    wrong = []
    if operation == "execute" and len(own) > 1:
        wrong.append(f"ran {len(own)} times")
    if status == "SUCCEEDED" and not any(run["done"] and not run["failed"] for run in of_task):
        wrong.append("SUCCEEDED, and the device did not do it")
    if status == "SUCCEEDED" and sent.marker and not own:
        wrong.append("SUCCEEDED, and the device did another one")
    if code in ("DEVICE_REFUSED", "DEVICE_FAILED_KEYS") and not any(run["failed"] for run in of_task):
        wrong.append(f"{code}, and the device did it")
    if code == "RESULT_NOT_STORED" and not any(run["done"] for run in of_task):
        wrong.append("RESULT_NOT_STORED, and the device did nothing")
    if status in ("REJECTED", "CANCELED", "TIMED_OUT") or code == "OVERTAKEN":
        wrong += [f"{status}, and the device did it" for _ in own]
    return wrong


def is_run_of(run: dict, sent: SentRequest) -> bool:
    """Whether the run has the operation and the value, or the argument, of the request."""
    template = f"AWS{sent.desired['operation']}CertAuth"
    values = [str(part.get("value", part.get("arguments", ""))) for part in run["done"]]
    wanted = sent.desired.get("arguments", sent.marker)
    return run["template"] == template and wanted in values


def writes_out_of_order(thing: str, sent: list[SentRequest], runs: list[dict]) -> list[str]:
    """Writes to one key reach the device in the order of their versions; one that is repeated comes before newer ones."""
    versions = {one.marker: one.version for one in sent if one.desired.get("keys", [""])[0] == INTEGER and one.marker}
    written = []
    for run in runs:
        values = [part.get("value") for part in run["done"] if part.get("key") == INTEGER and "rite" in run["template"]]
        written += [versions[value] for value in map(str, values) if value in versions]
    return [] if written == sorted(written) else [f"{thing} was written to in another order: {written}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--seconds", type=float, default=150, help="with --scale: how long looks at sleeping devices are counted")
    # Measuring wants optimized functions; the rest is as right without.
    parser.add_argument("--quick-build", action="store_true", help="functions as the tests have them")
    arguments = parser.parse_args()
    requests = arguments.requests or (10_000 if arguments.scale else 2_000)
    devices = arguments.devices or (500 if arguments.scale else 50)
    # What is measured needs AWS's own minute: a run of `reconcile` begins when the one before has ended.
    minute = {"LOCAL_SCHEDULE_SECONDS": "60"} if arguments.scale else {}
    with LocalStack("soak", optimized=not arguments.quick_build, LOCAL_RETRY_PAUSES="15,30", **minute) as stack:
        stack.deployment.build()
        stack.start()
        stack.deploy(RequestTimeout=str(REQUEST_TIMEOUT))
        started = time.monotonic()
        print(f"{requests} requests over {devices} devices", flush=True)
        if arguments.scale:
            scale = Scale(stack, requests, devices)
            wrong = scale.run()
            wrong += scale.asleep(arguments.seconds)
        else:
            soak = Soak(stack, requests, devices, arguments.restarts)
            soak.run()
            wrong = soak.check()
            print(soak.summary())
        print(f"It took {time.monotonic() - started:.0f} s.")
    if wrong:
        raise Failure("\n".join(wrong[:50]))


if __name__ == "__main__":
    run_command(main)
