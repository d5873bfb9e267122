"""Many requests while everything goes wrong that can: does each get its last word, and is it what the device did?

A tenth of Coiote's calls meet a fault, every event is delivered twice, results come in any order and one in twenty never, reports
are told late, twice, and one in twenty only to who asks for it; functions are killed in mid-sentence, and the local Coiote is
restarted on the way. Reads, writes and composites take turns on the same keys. Bounded in count, not in time.

With --scale another run: requests that wait while Coiote is away, and what their open requests cost while devices sleep.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from stack.local_stack import LocalStack
from stack.processes import Failure, run_command, wait_for

# So many requests of one device are on their way at the same time.
AT_A_TIME = 4
FAULTS = {
    "rate": 0.1,
    "results": {"lost": 0.05, "late": 1, "shuffled": True},
    "reports": {"unlisted": 0.05, "late": 1, "twice": True, "shuffled": True},
}
LOOKS_A_SECOND = 40
# A request that has no last word by then is lost. A report that only who asks for it is told comes after a minute, and so does
# the word about a result that never comes; a request whose function was killed is taken up a minute later.
PATIENCE = 300
LAST_WORDS = {"REJECTED", "FAILED", "SUCCEEDED", "TIMED_OUT", "CANCELED"}
# Seconds between two functions that are killed
KILLED_EACH = 5
# Of the template: an invocation that was killed is over so many seconds after it began, and 30 more.
REQUEST_TIMEOUT = 10
INTEGER = "Test object.0.Integer"


def request(number: int) -> dict:
    """The requests take turns. An execute's argument and a write's value tell which one it is."""
    kinds = (
        {"operation": "write", "keys": [INTEGER], "values": [number]},
        {"operation": "execute", "keys": ["Device.0.Reboot"], "arguments": f"0='{number}'"},
        {"operation": "read", "keys": [INTEGER, "Device.0.UTC Offset"]},
        {"operation": "writeComposite", "keys": [INTEGER, "LwM2M Server.1.Lifetime"], "values": [number, 60 + number]},
        # The device does not have it.
        {"operation": "execute", "keys": ["Test object.0.Execute"], "arguments": f"0='{number}'"},
        {"operation": "observe", "keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5}]},
        {"operation": "execute", "keys": ["Device.0.Reboot"], "arguments": f"0='{number}'"},
        {"operation": "readComposite", "keys": [INTEGER, "LwM2M Server.1.Lifetime"]},
        {"operation": "discover", "keys": ["Test object.0"]},
        # Wrong: the resource is only read
        {"operation": "write", "keys": ["Device.0.Manufacturer"], "values": ["x"]},
    )
    return kinds[number % len(kinds)]


@dataclass
class Asked:
    """A request, and what became of it."""

    thing: str
    version: int
    number: int
    desired: dict
    # The copy, as its author read it last
    copy: dict = field(default_factory=dict)
    # The ledger's item of its last word
    word: dict = field(default_factory=dict)

    @property
    def is_mine(self) -> str:
        """What tells its run from all others, where there is something."""
        return str(self.number) if self.desired["operation"] in ("write", "writeComposite", "execute") else ""


class Soak:
    def __init__(self, stack: LocalStack, requests: int, devices: int, restarts: int, kills: bool = True):
        self.stack, self.requests, self.restarts, self.kills = stack, requests, restarts, kills
        self.things = [f"soak-{number}" for number in range(devices)]
        self.asked: list[Asked] = []
        self.faults: Counter[str] = Counter()
        self.killed = 0
        self.lost: list[Asked] = []
        self._numbers = itertools.count(1)
        self._done_so_far = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self) -> None:
        for thing in self.things:
            self.stack.coiote.add_device(thing)
            self.stack.add_thing(thing)
        second = self._deliver_twice()
        self.stack.coiote.set_faults(FAULTS)
        beside = [threading.Thread(target=self._restart), threading.Thread(target=self._kill)]
        for thread in beside:
            thread.start()
        try:
            with ThreadPoolExecutor(len(self.things)) as pool, self._stopped_in_the_end():
                share, more = divmod(self.requests, len(self.things))
                shares = [share + (number < more) for number in range(len(self.things))]
                # Any error of a thread is raised here.
                list(pool.map(self._one_device, self.things, shares))
        finally:
            for thread in beside:
                thread.join()
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

    def _kill(self) -> None:
        """Ends functions in mid-sentence, as a crash does: one after the other, while requests come."""
        luck = random.Random(1)
        while self.kills and not self._stop.wait(KILLED_EACH):
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
            for _ in range(min(AT_A_TIME, count)):
                number = next(self._numbers)
                desired = request(number)
                # What the last request had and this one has not would stay.
                fields = {name: desired.get(name) for name in ("keys", "values", "attributes", "arguments")}
                batch.append(Asked(thing, self.stack.aws.request(thing, fields | desired), number, desired))
            count -= len(batch)
            with self._lock:
                self.asked += batch
            self._wait(thing, batch)

    def _wait(self, thing: str, batch: list[Asked]) -> None:
        deadline = time.monotonic() + PATIENCE
        open_ = list(batch)
        while open_ and time.monotonic() < deadline:
            answers = self.stack.aws.answers(thing)
            for asked in list(open_):
                asked.copy = answers.get(str(asked.version), {})
                if asked.copy.get("status") in LAST_WORDS:
                    open_.remove(asked)
                    with self._lock:
                        self._done_so_far += 1
            # Looking costs the local AWS as much as a request does: all together look so many times a second.
            if open_ and self._stop.wait(len(self.things) / LOOKS_A_SECOND):
                break
        with self._lock:
            self.lost += open_

    # ---------------------------------------------------------------- what came of it

    def check(self) -> list[str]:
        """What is wrong; nothing if all is well."""
        wrong = [f"no last word: {lost}" for lost in self.lost]
        for thing in self.things:
            words, runs = last_words(self.stack, thing), self.stack.coiote.runs(thing)
            of_thing = [asked for asked in self.asked if asked.thing == thing]
            for asked in of_thing:
                asked.word = words.get(asked.version, {})
                wrong += [f"{why}: {asked}" for why in disagreements(asked, runs)]
            wrong += in_order(thing, of_thing, runs)
            wrong += self._datamodel_agrees(thing)
        return wrong

    def _datamodel_agrees(self, thing: str) -> list[str]:
        def integer(document: dict) -> object:
            return document.get("Test object", {}).get("0", {}).get("Integer")

        def agrees() -> bool:
            """The datamodel shadow holds what the device held when it reported last, once that has been folded."""
            held = integer(self.stack.coiote.datamodel(thing))
            return integer(self.stack.aws.reported(thing, "datamodel")) == held

        # A result that never came leaves an older value; so this one is read once more, with nothing in its way.
        version = self.stack.aws.request(thing, {"operation": "read", "keys": [INTEGER], "values": None, "attributes": None, "arguments": None})
        try:
            self.stack.aws.last_word(thing, version, LAST_WORDS, seconds=60)
            wait_for(f"the datamodel shadow of {thing} to hold what the device holds", agrees, seconds=20)
        except Failure as failure:
            return [str(failure)]
        return []

    def told(self) -> str:
        words = Counter((asked.desired["operation"], asked.word.get("status", "none")) for asked in self.asked)
        codes = Counter(asked.word["code"] for asked in self.asked if "code" in asked.word)
        executes = [asked for asked in self.asked if asked.desired["operation"] == "execute"]
        lines = [f"{len(self.asked)} requests over {len(self.things)} devices, each delivered twice"]
        lines += [f"  {operation:<15} {word:<10} {number:>5}" for (operation, word), number in sorted(words.items())]
        lines.append("reasons: " + (", ".join(f"{code} {n}" for code, n in sorted(codes.items())) or "none"))
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items()) if n)
        lines.append(f"faults of Coiote: {faults}; it was restarted {self.restarts} times, and {self.killed} functions were killed")
        lines.append(f"executes: {len(executes)} asked for, {sum(asked.word.get('status') == 'SUCCEEDED' for asked in executes)} done")
        lines.append(f"without a last word: {len(self.lost)}")
        return "\n".join(lines)


def environments_of(stack: LocalStack) -> list[int]:
    """The functions' processes: children of the local AWS that run a deployed binary."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == stack.aws.process.pid and os.readlink(status.parent / "exe").endswith("/bootstrap"):
                found.append(int(status.parent.name))
    return found


def last_words(stack: LocalStack, thing: str) -> dict[int, dict]:
    """What the ledger says of the device's requests that have ended, by version."""
    pages = stack.aws.dynamodb.get_paginator("query").paginate(
        TableName=stack.outputs["RequestsTable"],
        KeyConditionExpression="#thing = :thing AND begins_with(entry, :request)",
        ExpressionAttributeNames={"#thing": "thing"},
        ExpressionAttributeValues={":thing": {"S": thing}, ":request": {"S": "request#"}},
        ConsistentRead=True,
    )
    items = (item for page in pages for item in page["Items"])
    return {
        int(item["entry"]["S"].removeprefix("request#")): {name: next(iter(value.values())) for name, value in item.items()}
        for item in items
    }


def disagreements(asked: Asked, runs: list[dict]) -> list[str]:
    """What a last word says that is not what the device did."""
    operation, status, code = asked.desired["operation"], asked.word.get("status"), asked.word.get("code", "")
    of_task = [run for run in runs if run["taskId"] == asked.word.get("taskId")]
    # What only this request can have brought about
    own = [run for run in runs if asked.is_mine and names(run, asked)]
    wrong = []
    if operation == "execute" and len(own) > 1:
        wrong.append(f"ran {len(own)} times")
    if status == "SUCCEEDED" and not any(run["done"] and not run["failed"] for run in of_task):
        wrong.append("SUCCEEDED, and the device did not do it")
    if status == "SUCCEEDED" and asked.is_mine and not own:
        wrong.append("SUCCEEDED, and the device did another one")
    if code in ("DEVICE_REFUSED", "DEVICE_FAILED_KEYS") and not any(run["failed"] for run in of_task):
        wrong.append(f"{code}, and the device did it")
    if code == "RESULT_NOT_STORED" and not any(run["done"] for run in of_task):
        wrong.append("RESULT_NOT_STORED, and the device did nothing")
    if status in ("REJECTED", "CANCELED", "TIMED_OUT") or code == "OVERTAKEN":
        wrong += [f"{status}, and the device did it" for _ in own]
    return wrong


def names(run: dict, asked: Asked) -> bool:
    template = f"AWS{asked.desired['operation']}CertAuth"
    values = [str(part.get("value", part.get("arguments", ""))) for part in run["done"]]
    wanted = asked.desired.get("arguments", asked.is_mine)
    return run["template"] == template and wanted in values


def in_order(thing: str, asked: list[Asked], runs: list[dict]) -> list[str]:
    """Writes to one key reach the device in the order of their versions; one that is repeated comes before newer ones."""
    versions = {one.is_mine: one.version for one in asked if one.desired.get("keys", [""])[0] == INTEGER and one.is_mine}
    written = []
    for run in runs:
        values = [part.get("value") for part in run["done"] if part.get("key") == INTEGER and "rite" in run["template"]]
        written += [versions[value] for value in map(str, values) if value in versions]
    return [] if written == sorted(written) else [f"{thing} was written to in another order: {written}"]


# ---------------------------------------------------------------- scale


class Scale:
    """Requests that wait while Coiote is away, then it is back; and open requests of devices that sleep."""

    def __init__(self, stack: LocalStack, requests: int, devices: int):
        self.stack, self.requests = stack, requests
        self.things = [f"scale-{number}" for number in range(devices)]
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.figures: list[str] = []
        self.overtaken = 0

    def run(self) -> list[str]:
        """What is wrong; nothing if all is well."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._add, self.things))
            self.stack.coiote.set_faults({"rate": 1.0, "kinds": ["unavailable"]})
            begun = time.monotonic()
            list(pool.map(self._ask, self.things))
            self._wait("all requests to wait", "IN_PROGRESS", self.requests, seconds=self.requests)
            self.figures.append(f"{self.requests} requests over {len(self.things)} devices wait after {time.monotonic() - begun:.0f} s")
            self.stack.coiote.set_faults({})
            begun = time.monotonic()
            self._wait("all requests to end", None, 0, seconds=max(300, self.requests))
            took = time.monotonic() - begun
        at_coiote = self.stack.coiote.stats()["mostInFlight"]
        lines = self.stack.aws.log_lines(self.stack.outputs["ReconcileLogGroup"])
        at_once = max(line.get("most_at_once", 0) for line in lines)
        self.figures.append(
            f"after Coiote was back all ended within {took:.0f} s; at most {at_once} hand-overs at once, and {at_coiote} calls at Coiote"
        )
        wrong = self._check()
        self.figures.append(f"{self.overtaken} were overtaken by newer writes of their key, because the rule delivered them later")
        return wrong

    def asleep(self, seconds: float) -> list[str]:
        """As many requests of devices that sleep: what looking for their reports costs."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda thing: self.stack.coiote.set_state(thing, "sleeping"), self.things))
            list(pool.map(self._ask_to_reboot, self.things))
        self._wait("all requests to be scheduled", "SCHEDULED", self.requests, seconds=self.requests)
        # Single reports are asked for after a minute; then only the looks are left.
        last = [self._calls(), time.monotonic()]

        def only_looks() -> bool:
            calls = self._calls()
            if calls["others"] != last[0]["others"]:
                last[:] = [calls, time.monotonic()]
            return time.monotonic() - last[1] > seconds

        wait_for("single reports to be asked for", only_looks, seconds=600)
        looks = self._calls()["looks"] - last[0]["looks"]
        self.figures.append(
            f"{self.requests} open requests of sleeping devices: {looks} calls of findSince within {seconds:.0f} s, and no others"
        )
        return [] if looks else ["nobody looked for reports"]

    def _calls(self) -> Counter:
        calls = Counter()
        for route, count in self.stack.coiote.stats()["requests"].items():
            calls["looks" if "findSince" in route else "others"] += count
        return calls

    def _add(self, thing: str) -> None:
        self.stack.coiote.add_device(thing)
        self.stack.add_thing(thing)

    def _ask(self, thing: str) -> None:
        for number in range(self.requests // len(self.things)):
            value = 1 + number + len(self.versions[thing])
            desired = {"operation": "write", "keys": [INTEGER], "values": [value]}
            self.versions[thing].append(self.stack.aws.request(thing, desired))

    def _ask_to_reboot(self, thing: str) -> None:
        for number in range(self.requests // len(self.things)):
            desired = {"operation": "execute", "keys": ["Device.0.Reboot"], "values": None, "arguments": f"0='{number}'"}
            self.stack.aws.request(thing, desired)

    def _open(self, thing: str) -> Counter:
        """Open requests of the device by their status, as the ledger has them."""
        key = {"thing": {"S": thing}, "entry": {"S": "device"}}
        item = self.stack.aws.dynamodb.get_item(TableName=self.stack.outputs["RequestsTable"], Key=key).get("Item", {})
        return states(item)

    def _wait(self, what: str, status: str | None, number: int, seconds: float) -> None:
        """Until so many requests have this status; without one, until none is open."""
        left = set(self.things)
        each = number // len(self.things)

        def are_there() -> bool:
            for thing in sorted(left):
                now = self._open(thing)
                if (now[status] + (now["ended"] if status == "IN_PROGRESS" else 0) >= each) if status else (not +now - Counter(ended=now["ended"]) and len(last_words(self.stack, thing)) >= len(self.versions[thing])):
                    left.discard(thing)
                else:
                    break
            return not left

        wait_for(what, are_there, seconds=seconds)

    def _check(self) -> list[str]:
        wrong = []
        for thing in self.things:
            words = last_words(self.stack, thing)
            # An older one that the rule delivers while a newer one is being handed over may not follow it.
            overtaken = {version for version in self.versions[thing] if words.get(version, {}).get("code") == "OVERTAKEN"}
            done = {version for version in self.versions[thing] if words.get(version, {}).get("status") == "SUCCEEDED"}
            if len(done | overtaken) < len(self.versions[thing]):
                wrong.append(f"{thing}: {({version: words.get(version) for version in self.versions[thing]})}")
            self.overtaken += len(overtaken)
            values = [int(part["value"]) for run in self.stack.coiote.runs(thing) for part in run["done"]]
            if values != sorted(values) or len(set(values)) != len(done):
                wrong.append(f"{thing} was written to in another order: {values}")
        return wrong


def states(item: dict) -> Counter:
    """Requests of a device's item: the open ones by status, and those that ended lately."""
    state = json.loads(item.get("state", {}).get("S", "{}"))
    told = {"H": "HELD", "W": "IN_PROGRESS", "S": "SCHEDULED"}
    counted = Counter(told.get(record["s"], record["s"]) for record in state.get("o", []))
    # Claims that the next write of the item takes into its state: of requests that wait from the start.
    appended = (json.loads(event["S"]) for event in item.get("events", {}).get("L", []))
    counted += Counter("IN_PROGRESS" for event in appended if "claim" in event)
    return counted + Counter(ended=len(state.get("e", [])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--seconds", type=float, default=30, help="with --scale: how long looks at sleeping devices are counted")
    # Measuring wants optimized functions; the rest is as right without.
    parser.add_argument("--quick-build", action="store_true", help="functions as the tests have them")
    arguments = parser.parse_args()
    requests = arguments.requests or (10_000 if arguments.scale else 2_000)
    devices = arguments.devices or (500 if arguments.scale else 50)
    with LocalStack("soak", optimized=not arguments.quick_build, LOCAL_RETRY_PAUSES="15,30") as stack:
        stack.deployment.build()
        stack.start()
        stack.deploy(RequestTimeout=str(REQUEST_TIMEOUT))
        started = time.monotonic()
        print(f"{requests} requests over {devices} devices", flush=True)
        if arguments.scale:
            scale = Scale(stack, requests, devices)
            wrong = scale.run()
            wrong += scale.asleep(arguments.seconds)
            print("\n".join(scale.figures))
        else:
            soak = Soak(stack, requests, devices, arguments.restarts)
            soak.run()
            wrong = soak.check()
            print(soak.told())
        print(f"It took {time.monotonic() - started:.0f} s.")
    if wrong:
        raise Failure("\n".join(wrong[:50]))


if __name__ == "__main__":
    run_command(main)
