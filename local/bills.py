"""Bill of an operation: everything that AWS charges for, counted on the deployed local stack, and its price.

Counted, not assumed: shadow operations by the KB of the stored record, rules that a message triggers whether or not its WHERE
holds, actions, invocations, log bytes, and each write of the ledger by the KB of its item, with what it changes in the indexes.
Assumed, because no local stack shows it: how long a call takes in a region, Lambda's own log lines, and AWS's prices.
"""

import itertools
import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stack.deployment import STACK_NAME
from stack.local_stack import LocalStack
from stack.processes import wait_for

# us-east-1, 2026-11-23, in US dollars: https://aws.amazon.com/lambda/pricing, https://aws.amazon.com/iot-core/pricing,
# https://aws.amazon.com/cloudwatch/pricing, https://aws.amazon.com/dynamodb/pricing/on-demand,
# https://aws.amazon.com/secrets-manager/pricing
LAMBDA_REQUEST = 0.20 / 1e6
LAMBDA_GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
# Per KB of the shadow
SHADOW_OPERATION = 1.25 / 1e6
RULE = ACTION = 0.15 / 1e6
LOG_GB = 0.50
# Per KB of the item, the larger one of before and after
LEDGER_WRITE = 0.625 / 1e6
# Per 4 KB, strongly consistent
LEDGER_READ = 0.125 / 1e6
LEDGER_GB_MONTH = 0.25
SECRET_READ = 0.05 / 10_000
# Of a function that runs every minute
RUNS_OF_A_MONTH = 43_800
# Bytes that DynamoDB adds to an item, for the price of its storage only
ITEM_OVERHEAD = 100
# Bytes of Lambda's own lines about an invocation (START, END, REPORT), where they are switched on
PLATFORM_LOG_BYTES = 350
# Lambda gives CPU in proportion to memory: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MEGABYTES_OF_ONE_CPU = 1_769
# Seconds that a call takes in a region, and to Coiote
AWS_CALL, COIOTE_CALL = 0.015, 0.050
# Keys of the indexes of the ledger's table
INDEXES = (("look", "lookAt"), ("handOver", "handOverAt"))
TEN_MINUTES = 600_000
OPERATION_TOPIC = "shadow/name/operation/update/accepted"
SHADOWS = ("operation", "datamodel")


@dataclass
class Bill:
    """Billed units of one operation."""

    name: str
    shadows: Counter = field(default_factory=Counter)
    rules: float = 0
    actions: float = 0
    # By function: invocations, bytes of the log, calls to AWS and to Coiote
    invocations: Counter = field(default_factory=Counter)
    log_bytes: Counter = field(default_factory=Counter)
    aws_calls: Counter = field(default_factory=Counter)
    coiote_calls: Counter = field(default_factory=Counter)
    # Units by the kind of the item, and those of the indexes
    writes: Counter = field(default_factory=Counter)
    reads: float = 0
    secret_reads: float = 0
    stored_bytes: float = 0
    # Bytes of shadows and items, which make the units
    sizes: dict = field(default_factory=dict)
    platform_lines: bool = True
    # Of an invocation that pauses
    least_seconds: float = 0

    def add_calls(self, function: str, calls: Counter, consistent_reads: int) -> None:
        """Adds an invocation of a function that made these calls to AWS; its writes are of items of 1 KB at most."""
        self.invocations[function] += 1
        self.aws_calls[function] += calls.total()
        reads = calls["GetItem"] + calls["Query"]
        self.reads += (reads + consistent_reads) / 2
        self.writes["device"] += calls["PutItem"] + calls["UpdateItem"]
        self.secret_reads += calls["GetSecretValue"]

    def seconds(self, cpu: dict[str, float], memory: int) -> float:
        """Billed seconds of all invocations."""
        computing = sum(cpu.get(name, 0) * count for name, count in self.invocations.items())
        waiting = self.aws_calls.total() * AWS_CALL + self.coiote_calls.total() * COIOTE_CALL
        return max(computing * max(1.0, MEGABYTES_OF_ONE_CPU / memory) + waiting, self.least_seconds)

    def parts(self, cpu: dict[str, float], memory: int = 128, architecture: str = "x86_64") -> dict[str, float]:
        """Dollars of a million such operations, by part of the bill."""
        logged = self.log_bytes.total() + (PLATFORM_LOG_BYTES * self.invocations.total() if self.platform_lines else 0)
        gb_seconds = self.seconds(cpu, memory) * memory / 1_024
        each = {
            "shadows": self.shadows.total() * SHADOW_OPERATION,
            "rules and actions": self.rules * RULE + self.actions * ACTION,
            "ledger, writes": (self.writes.total() - self.writes["index"]) * LEDGER_WRITE,
            "ledger, index": self.writes["index"] * LEDGER_WRITE,
            "ledger, reads": self.reads * LEDGER_READ,
            "ledger, a month's storage": self.stored_bytes / 2**30 * LEDGER_GB_MONTH,
            "secret": self.secret_reads * SECRET_READ,
            "Lambda's requests": self.invocations.total() * LAMBDA_REQUEST,
            "Lambda's computing": gb_seconds * LAMBDA_GB_SECOND[architecture],
            "logs": logged / 1e9 * LOG_GB,
        }
        return {part: price * 1e6 for part, price in each.items()}

    def total(self, cpu: dict[str, float], memory: int = 128, architecture: str = "x86_64") -> float:
        return sum(self.parts(cpu, memory, architecture).values())


# Figures of AVSystem's own functions, from one run of a write with its result on shadows of 1 KB. They are entered by hand, and
# the only ones here that nothing counts again. Calls, rules, invocations and CPU are those of that run; log bytes are rounded,
# without Lambda's own lines. Prices and waiting times are those of all bills, so the total is a model and no bill of AWS.
PEER = Bill(
    "AVSystem's stack, a write with its result",
    shadows=Counter({"update": 3}),
    rules=2,
    actions=2,
    invocations=Counter({"peer": 1}),
    log_bytes=Counter({"peer": 350}),
    aws_calls=Counter({"peer": 1}),
    coiote_calls=Counter({"peer": 3}),
    secret_reads=1,
    platform_lines=False,
)
PEER_CPU = {"peer": 0.148}


def size_of(value: dict) -> int:
    """Bytes of an attribute's value, as DynamoDB counts them.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    (kind, held), = value.items()
    match kind:
        case "S":
            return len(held.encode())
        case "N":
            return math.ceil(len(held.lstrip("-").strip("0")) / 2) + 1
        case "L":
            return 3 + sum(1 + size_of(part) for part in held)
        case "M":
            return 3 + sum(1 + len(name.encode()) + size_of(part) for name, part in held.items())
        case "B":
            return len(held)
        case _:
            return 1


def size_of_item(item: dict) -> int:
    return sum(len(name.encode()) + size_of(value) for name, value in item.items())


def write_units(old: dict, new: dict) -> Counter:
    """Units of one write: by the kind of its item, and of the indexes, which only hold keys."""
    entry = (new or old)["entry"]["S"].partition("#")[0]
    units = Counter({entry: max(1, math.ceil(max(size_of_item(old), size_of_item(new)) / 1_024))})
    for names in INDEXES:
        before, after = (tuple(json.dumps(item.get(name)) for name in names if name in item) for item in (old, new))
        before, after = (key if len(key) == len(names) else None for key in (before, after))
        if before != after:
            units["index"] += (before is not None) + (after is not None)
    return units


def api_name(call: dict) -> str:
    """Name of the operation, such as GetItem; empty where the call is known by its path."""
    return call["target"].partition(".")[2]


class Counting:
    """Counts on the deployed stack, whose local AWS records the calls of the functions in `calls_file` (CALLS_OF_FUNCTIONS)."""

    def __init__(self, stack: LocalStack, calls_file: Path):
        self.stack, self.calls_file, self.aws = stack, calls_file, stack.aws
        self.table = stack.outputs["RequestsTable"]
        self.stream = self.aws.dynamodb.describe_table(TableName=self.table)["Table"]["LatestStreamArn"]
        template = stack.deployment.template()["Resources"]
        rules = [r["Properties"]["TopicRulePayload"] for r in template.values() if r["Type"] == "AWS::IoT::TopicRule"]
        self.rules = sum(OPERATION_TOPIC in rule["Sql"] for rule in rules)
        logging = stack.deployment.template()["Globals"]["Function"].get("LoggingConfig", {})
        self.platform_lines = logging.get("SystemLogLevel", "INFO") != "WARN"
        found = self.aws.lambda_.get_paginator("list_functions").paginate()
        names = {f["FunctionName"]: f["LoggingConfig"]["LogGroup"] for page in found for f in page["Functions"]}
        resources = self.aws.cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
        ids = {r["PhysicalResourceId"]: r["LogicalResourceId"] for r in resources}
        binaries = stack.deployment.functions
        # Binary and log group of each function, by the name that AWS gave it
        self.functions = {name: (binaries[ids[name]], group) for name, group in names.items() if ids.get(name) in binaries}

    # ---------------------------------------------------------------- one operation

    def age(self, thing: str) -> None:
        """Makes the device's item ten minutes older: operations of a device are not seconds apart."""
        key = {"thing": {"S": thing}, "entry": {"S": "device"}}
        item = self.aws.dynamodb.get_item(TableName=self.table, Key=key)["Item"]
        state = json.loads(item["state"]["S"])
        # Only the newest result is kept for longer than a minute.
        state["r"] = sorted(state.get("r", []), key=lambda result: result["n"])[-1:]
        for record in state.get("e", []) + state["r"]:
            record["z"] -= TEN_MINUTES
        item["state"]["S"] = json.dumps(state, separators=(",", ":"))
        for name in ("look", "lookAt", "events"):
            item.pop(name, None)
        self.aws.dynamodb.put_item(TableName=self.table, Item=item)

    def wait_until_idle(self, seconds: float = 1.5) -> None:
        """Waits until no function has called anything for so long, which is more than the window of the answers."""
        last = [0, time.monotonic()]

        def is_idle() -> bool:
            calls = len(self._calls())
            if calls != last[0]:
                last[:] = [calls, time.monotonic()]
            return time.monotonic() - last[1] > seconds

        wait_for("the functions to be idle", is_idle, seconds=60)

    def count(self, name: str, things: list[str], operate) -> Bill:
        """Counts one operation of each thing, one after the other; `operate` returns when it has its last word."""
        before = self._totals(things)
        for thing in things:
            operate(thing)
        self.wait_until_idle()
        after = self._totals(things)
        bill, each = Bill(name, platform_lines=self.platform_lines), len(things)
        calls, records = (after[what][len(before[what]) :] for what in ("calls", "records"))
        self._add_shadow_updates(bill, before["versions"], after["versions"], each)
        for call in calls:
            self._add_call(bill, call, each)
        self._add_writes(bill, calls, records, each)
        for binary, group in self.functions.values():
            lines, bytes_ = (after["logs"][group][n] - before["logs"][group][n] for n in (0, 1))
            if binary != "reconcile":
                bill.invocations[binary] += lines / each
                bill.log_bytes[binary] += bytes_ / each
        bill.actions = bill.invocations["operation-request"] + bill.invocations["operation-response"]
        for route, count in (after["coiote"] - before["coiote"]).items():
            if "taskReports" not in route:
                bill.coiote_calls["operation-request"] += count / each
        self._add_sizes(bill, things, records)
        return bill

    def _add_shadow_updates(self, bill: Bill, before: dict, after: dict, each: int) -> None:
        """Adds the updates, which are the new versions, and the rules that those of the operation shadow trigger."""
        for (thing, shadow), version in after.items():
            updates = version - before[thing, shadow]
            kilobytes = math.ceil(self.stored(thing, shadow) / 1_024)
            bill.shadows[f"update {shadow}"] += updates * max(1, kilobytes) / each
            bill.rules += (updates * self.rules / each) if shadow == "operation" else 0

    def _add_writes(self, bill: Bill, calls: list[dict], records: list[dict], each: int) -> None:
        """Adds the writes of the ledger by the records of its stream."""
        for record in records:
            change = record["dynamodb"]
            # How far reports were read is written each minute, whatever is requested.
            if change["Keys"]["thing"]["S"].startswith("#"):
                continue
            for kind, units in write_units(change.get("OldImage", {}), change.get("NewImage", {})).items():
                bill.writes[kind] += units / each
        called = sum(api_name(call) in ("UpdateItem", "PutItem", "DeleteItem") for call in calls)
        # A write that its condition refused, or that changed nothing, is billed and is in no stream.
        bill.writes["refused or without a change"] += max(0, called - len(records)) / each

    def _add_sizes(self, bill: Bill, things: list[str], records: list[dict]) -> None:
        """Adds the largest sizes of shadows and items, and the bytes that stay in the ledger."""
        bill.sizes = {shadow: max(self.stored(thing, shadow) for thing in things) for shadow in SHADOWS}
        images = [record["dynamodb"].get("NewImage", {}) for record in records]
        for kind in ("device", "request"):
            sizes = [size_of_item(image) for image in images if image.get("entry", {}).get("S", "").partition("#")[0] == kind]
            bill.sizes[f"ledger, {kind}"] = max(sizes, default=0)
            if kind == "request":
                bill.stored_bytes = (sum(sizes) + ITEM_OVERHEAD * len(sizes)) / len(things)

    def _add_call(self, bill: Bill, call: dict, each: int) -> None:
        bill.aws_calls[self._binary(call)] += 1 / each
        if call["method"] == "GET" and call["path"].endswith("/shadow"):
            bill.shadows[f"get {call['query']['name'][0]}"] += 1 / each
        elif api_name(call) in ("GetItem", "Query"):
            bill.reads += (1 if call["body"]["ConsistentRead"] else 0.5) / each
        elif api_name(call) == "GetSecretValue":
            bill.secret_reads += 1 / each

    def _calls(self) -> list[dict]:
        """Calls for operations: those of `reconcile` are made each minute, whatever is requested."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        calls = (json.loads(line) for line in lines)
        return [call for call in calls if self._binary(call) not in (None, "reconcile")]

    def _binary(self, call: dict) -> str | None:
        return self.functions.get(call["function"], (None, ""))[0]

    def stored(self, thing: str, shadow: str) -> int:
        """Bytes of a shadow's document, without its metadata, and without the delta, which AWS does not store."""
        state = self.aws.shadow(thing, shadow).get("state", {})
        return len(json.dumps({part: state[part] for part in state if part != "delta"}, separators=(",", ":")).encode())

    def _totals(self, things: list[str]) -> dict:
        """Everything that is counted, from the beginning of the stack."""
        versions = {
            (thing, shadow): self.aws.shadow(thing, shadow).get("version", 0) for thing in things for shadow in SHADOWS
        }
        return {
            "versions": versions,
            "calls": self._calls(),
            "records": self._records(),
            "logs": {group: self._logged(group) for _, group in self.functions.values()},
            "coiote": Counter(self.stack.coiote.stats()["requests"]),
        }

    def _records(self) -> list[dict]:
        """All records of the table's stream so far."""
        shards = self.aws.streams.describe_stream(StreamArn=self.stream)["StreamDescription"]["Shards"]
        records = []
        for shard in shards:
            iterator = self.aws.streams.get_shard_iterator(
                StreamArn=self.stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                page = self.aws.streams.get_records(ShardIterator=iterator)
                records += page["Records"]
                iterator = page.get("NextShardIterator") if page["Records"] else None
        return records

    def _logged(self, group: str) -> tuple[int, int]:
        """Number of invocations, and bytes of the functions' own lines."""
        invocations = size = 0
        for page in self.aws.logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            for event in page["events"]:
                message = event["message"]
                if message.startswith("START "):
                    invocations += 1
                elif message.startswith("{"):
                    size += len(message.encode())
        return invocations, size


# ---------------------------------------------------------------- operations that are counted

WRITE = {"operation": "write", "keys": ["Device.0.UTC Offset"], "values": ["+02:00"]}
EXECUTE = {"operation": "execute", "keys": ["Device.0.Reboot"]}
# Operations that a device has had before the one that is counted: they stand in its item, too
EARLIER = 2
SCHEDULED_AND_LATER = ("SCHEDULED", "SUCCEEDED")
# Each device is counted once.
_device_numbers = itertools.count(1)


class Fleet:
    """Devices that have had some operations before, and ways to make another one."""

    def __init__(self, counting: Counting):
        self.counting, self.stack = counting, counting.stack
        self._numbers = itertools.count(1)

    def devices(self, name: str, number: int, desired: dict) -> list[str]:
        things = [f"{name}-{next(_device_numbers)}" for _ in range(number)]
        for thing in things:
            self.stack.coiote.add_device(thing)
            self.stack.add_thing(thing)
        for _ in range(EARLIER):
            for thing in things:
                self.wait_until_ended(thing, self.request(thing, desired))
        self.counting.wait_until_idle()
        for thing in things:
            self.counting.age(thing)
        self.counting.wait_until_idle()
        return things

    def request(self, thing: str, desired: dict) -> int:
        # Each with a token of its own: an execute with the token of an earlier one would be refused.
        return self.stack.aws.request(thing, desired, client_token=f"c0ffee-{next(self._numbers)}")

    def wait_until_ended(self, thing: str, version: int) -> None:
        self.stack.aws.last_word(thing, version, ("SUCCEEDED",), seconds=90)

    def at_once(self, desired: dict):
        """Operation whose device answers at once: SCHEDULED and the last word are written together."""
        return lambda thing: self.wait_until_ended(thing, self.request(thing, desired))

    def later(self, desired: dict):
        """Operation whose device answers after SCHEDULED has been written."""

        def operate(thing: str) -> None:
            self.stack.coiote.set_state(thing, "sleeping")
            version = self.request(thing, desired)
            self.stack.aws.last_word(thing, version, SCHEDULED_AND_LATER)
            self.stack.coiote.set_state(thing, "online")
            self.wait_until_ended(thing, version)

        return operate


def write_later(counting: Counting, number: int) -> Bill:
    fleet = Fleet(counting)
    return counting.count("a write with its result", fleet.devices("later", number, WRITE), fleet.later(WRITE))


def write_at_once(counting: Counting, number: int) -> Bill:
    fleet = Fleet(counting)
    things = fleet.devices("at-once", number, WRITE)
    return counting.count("a write whose result comes at once", things, fleet.at_once(WRITE))


def execute(counting: Counting, number: int) -> Bill:
    fleet = Fleet(counting)
    things = fleet.devices("executes", number, EXECUTE)
    return counting.count("an execute with its outcome", things, fleet.at_once(EXECUTE))
