"""Benchmark of the functions: start-up, first and warm requests, calls, memory and sizes, and the bill of an operation.

Everything in a table is measured in the same run, on this machine, with the release binaries that are deployed. Figures that
vary with the machine are to be read as ratios to the floor, the smallest possible function, which returns its event.
"""

import argparse
import contextlib
import functools
import io
import json
import platform
import statistics
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import bills
from bills import MEGABYTES_OF_ONE_CPU, PEER, PEER_CPU, Bill, Counting
from stack.aws_between import AwsBetween
from stack.deployment import AS_DEPLOYED
from stack.environment import Environment, counted, counting, instructions_to_start, valgrind
from stack.local_stack import ROOT, SECRET_NAME, LocalStack
from stack.processes import Failure, run_command

# Binaries of the functions, with their names in the template
FUNCTIONS = {
    "operation-request": "OperationRequest",
    "operation-response": "OperationResponse",
    "answers": "Answers",
    "reconcile": "Reconcile",
    "job-executions": "JobExecutions",
    "create-thing": "CreateThing",
    "integration-certificates": "IntegrationCertificates",
}
# Building one for Lambda takes both cores more than a minute, so `make test` measures those that every request goes through, and
# all of them only with AS_DEPLOYED=1, as CI does.
MEASURED_BY_TESTS = tuple(FUNCTIONS) if AS_DEPLOYED else ("operation-request", "operation-response", "answers")
# A device that sleeps: its tasks wait at Coiote, so nothing is reported while something is measured.
DEVICE = "measured"
READ = {"operation": "read", "keys": ["Device.0.UTC Offset", "LwM2M Server.1.Lifetime"]}
RESULT = {"Device": {"0": {"UTC Offset": "+02:00"}}, "LwM2M Server": {"1": {"Lifetime": "68"}}}
# Requests that are open while reconcile is measured
SLEEPING = 50
RECONCILE_PARTS = ("Lambda's requests", "Lambda's computing", "ledger, reads", "ledger, writes", "logs")
KEYS = (1, 10, 100, 1_000, 3_000)
DATAMODEL_BYTES = (100, 1_000, 2_000, 4_000, 6_000)
MEMORY_SIZES = (128, 192, 256, 512, 1_024)

# Default quotas, of rules in evaluations: https://docs.aws.amazon.com/general/latest/gr/iot-core.html,
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SHADOW_QUOTA, SHADOW_QUOTA_OF_A_THING, RULE_QUOTA, CONCURRENCY_QUOTA = 4_000, 20, 20_000, 1_000
RATES = (10, 100, 500, 1_000)


class Bench:
    """Measures functions by their binaries, with a ledger of their own beside the local stack."""

    def __init__(self, stack: LocalStack, functions: Iterable[str] = FUNCTIONS, floor: Path | None = None, rounds: int = 40):
        self.stack, self.rounds = stack, rounds
        self.binaries = {"floor": floor} if floor else {}
        self.binaries |= {name: stack.deployment.binary_for_lambda(name) for name in functions}
        self.table = self._make_table()
        self.variables = stack.aws.environment | {
            "COIOTE_URL": stack.coiote.url,
            "COIOTE_SECRET_ID": SECRET_NAME,
            "REQUESTS_TABLE": self.table,
            # Nothing that is measured uses the queue.
            "ANSWERS_QUEUE_URL": f"{stack.aws.endpoint}/000000000000/none",
        }
        self._number = 0
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_) -> None:
        self._ending.close()

    def _make_table(self) -> str:
        """Makes a ledger as the template describes it, without its stream: nothing else is to handle the measured requests."""
        properties = self.stack.deployment.template()["Resources"]["RequestsTable"]["Properties"]
        parts = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
        self.stack.aws.dynamodb.create_table(TableName="measured", **{part: properties[part] for part in parts})
        return "measured"

    # ---------------------------------------------------------------- functions and their events

    def environment(self, name: str, wrapper: list[str] | None = None, **variables: str) -> Environment:
        return self._environment(name, self.stack.run / f"{name}.log", variables, wrapper)

    def _environment(self, name: str, log: Path, variables: dict[str, str], wrapper: list[str] | None = None) -> Environment:
        # The local AWS records the calls of functions by their names in the template.
        logical_ids = {binary: logical_id for logical_id, binary in self.stack.deployment.functions.items()}
        function_name = {"AWS_LAMBDA_FUNCTION_NAME": logical_ids.get(name, name)}
        return Environment(self.binaries[name], log, self.variables | function_name | variables, wrapper)

    def event(self, name: str) -> dict:
        self._number += 1
        match name:
            case "operation-request":
                return self.request(READ)
            case "operation-response":
                return self.result(RESULT)
            case "answers" | "job-executions":
                return self.change()
            case "create-thing":
                return {"coioteDeviceId": f"measured-{self._number}", "coioteDeviceType": "measured.type"}
            case _:
                return {"number": self._number}

    def request(self, desired: dict, thing: str = DEVICE) -> dict:
        """Writes a request of a device that has no others, and returns its event as the rule makes it."""
        self.stack.aws.dynamodb.delete_item(TableName=self.table, Key=self._key(thing))
        version = self.stack.aws.request(thing, READ, client_token="bench")
        return desired | {"thingName": thing, "version": version, "timestamp": int(time.time()), "clientToken": "bench"}

    def result(self, result: dict, thing: str = DEVICE) -> dict:
        """Reports the result of a request that was handed over, and returns its event as the rule makes it."""
        self._hand_over(thing)
        reported = {"operation": "read", "failedKeys": [""], "result": result}
        version = self.stack.aws.update_shadow(thing, "operation", {"reported": reported})
        return reported | {"thingName": thing, "version": version, "timestamp": int(time.time())}

    def change(self) -> dict:
        """Hands over the first request of a device, and returns the change of the ledger as its stream has it."""
        # The answers in the shadow are of requests that the ledger does not know any more.
        self.stack.aws.update_shadow(DEVICE, "operation", {"reported": None})
        self._hand_over(DEVICE)
        item = self.stack.aws.dynamodb.get_item(TableName=self.table, Key=self._key(DEVICE))["Item"]
        change = {"Keys": self._key(DEVICE), "NewImage": item}
        return {"Records": [{"eventID": str(self._number), "eventSource": "aws:dynamodb", "dynamodb": change}]}

    def _forget_requests(self) -> None:
        for page in self.stack.aws.dynamodb.get_paginator("scan").paginate(TableName=self.table):
            for item in page["Items"]:
                key = {name: item[name] for name in ("thing", "entry")}
                self.stack.aws.dynamodb.delete_item(TableName=self.table, Key=key)

    @staticmethod
    def _key(thing: str) -> dict:
        return {"thing": {"S": thing}, "entry": {"S": "device"}}

    def _hand_over(self, thing: str) -> None:
        check_succeeded("operation-request", self._helper.invoke(self.request(READ, thing)).result)

    @functools.cached_property
    def _helper(self) -> Environment:
        """Function that makes the requests whose results are measured; it is not measured itself."""
        log = self.stack.run / "helper.log"
        return self._ending.enter_context(self._environment("operation-request", log, {}))

    # ---------------------------------------------------------------- measuring

    def starts(self) -> dict[str, list[float]]:
        """Milliseconds to the first poll. The functions take turns, so that other load of the machine meets all alike."""
        found = {name: [] for name in self.binaries}
        for _ in range(self.rounds):
            for name, times in found.items():
                with self.environment(name) as environment:
                    times.append(environment.started_in * 1_000)
        return found

    def first_requests(self, name: str) -> tuple[list[float], list[float]]:
        """Milliseconds by the clock, and of computing, of the first request of new environments."""
        walls, cpus = [], []
        for _ in range(max(5, self.rounds // 3)):
            event = self.event(name)
            with self.environment(name) as environment:
                first = environment.invoke(event)
            walls.append(first.wall * 1_000)
            cpus.append(first.cpu * 1_000)
        return walls, cpus

    def warm_requests(self, name: str) -> tuple[list[float], list[float], int]:
        """Milliseconds by the clock, and of computing, of warm requests; and the peak of memory in bytes."""
        walls, cpus = [], []
        with self.environment(name) as environment:
            for number in range(self.rounds * 2 + 3):
                invocation = environment.invoke(self.event(name))
                check_succeeded(name, invocation.result)
                # The first ones warm up.
                if number >= 3:
                    walls.append(invocation.wall * 1_000)
                    cpus.append(invocation.cpu * 1_000)
            return walls, cpus, environment.peak_memory()

    def calls(self, name: str) -> tuple[Counter, Counter]:
        """Counts the calls of the first request and of a warm one."""
        counts = []
        with AwsBetween(self.stack).serve() as between:
            event, before = self.event(name), self._coiote_counts()
            with self.environment(name, AWS_ENDPOINT_URL=between.endpoint) as environment:
                for _ in range(3):
                    check_succeeded(name, environment.invoke(event).result)
                    counts.append(Counter(between.calls) + (self._coiote_counts() - before))
                    event, before = self.event(name), self._coiote_counts()
                    between.calls.clear()
        return counts[0], counts[-1]

    def _coiote_counts(self) -> Counter:
        stats = self.stack.coiote.stats()
        return Counter({f"Coiote {call}": count for call, count in stats["requests"].items()}) + Counter(
            {"TLS handshake": stats["tlsHandshakes"]}
        )

    def instructions_warm(self, name: str) -> int:
        """Instructions of one warm request: a tenth of the difference that ten more make."""
        totals = []
        for requests in (3, 13):
            log = self.stack.run / f"{name}-{requests}.valgrind"
            with self.environment(name, counting(log)) as environment:
                for _ in range(requests):
                    check_succeeded(name, environment.invoke(self.event(name)).result)
            totals.append(counted(log))
        return (totals[1] - totals[0]) // 10

    def run_of_reconcile(self, sleeping: int) -> tuple[Bill, float]:
        """Bill of a run with that many requests of devices that sleep, handed over just before; and its seconds of computing."""
        things = [f"sleeping-{number}" for number in range(sleeping)]
        for thing in things:
            self.stack.coiote.add_device(thing, state="sleeping")
            self.stack.add_thing(thing)
        self._forget_requests()
        with AwsBetween(self.stack).serve() as between:
            with self.environment("reconcile", AWS_ENDPOINT_URL=between.endpoint) as environment:
                # The first run of an environment reads the secret.
                check_succeeded("reconcile", environment.invoke({}).result)
                for thing in things:
                    self._hand_over(thing)
                between.forget_calls()
                logged, coiote = environment.log.stat().st_size, self._coiote_counts()
                run = environment.invoke({})
                check_succeeded("reconcile", run.result)
                bill = Bill("a run of reconcile", platform_lines=False, least_seconds=run.wall)
                bill.add_calls("reconcile", Counter(between.calls), between.consistent_reads)
                bill.coiote_calls["reconcile"] = (self._coiote_counts() - coiote).total()
                bill.log_bytes["reconcile"] = environment.log.stat().st_size - logged
        return bill, run.cpu

    def cpu_of(self, name: str, event: Callable[[], dict], rounds: int) -> float:
        """Milliseconds of computing of a warm request; the median."""
        with self.environment(name) as environment:
            for _ in range(2):
                environment.invoke(event())
            return statistics.median(environment.invoke(event()).cpu for _ in range(rounds)) * 1_000


def check_succeeded(name: str, result: dict | None) -> None:
    result = result or {}
    has_failed = "errorType" in result or result.get("batchItemFailures")
    if has_failed or (name.startswith("operation") and result.get("status") not in ("SCHEDULED", "SUCCEEDED")):
        raise Failure(f"{name} answered {json.dumps(result)}")


def zipped(binary: Path) -> int:
    """Size of the package in bytes, as `sam deploy` makes it."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(binary, "bootstrap")
    return len(package.getvalue())


def spread(values: list[float], floor: list[float]) -> str:
    """Formats the median, the quartiles, and the median's ratio to that of the floor."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f}), {middle / statistics.median(floor):.1f}×"


def ratio(value: float, floor: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}, {value / floor:.1f}×"


def print_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print(flush=True)


def machine() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{cpu}, {len(list(Path('/sys/devices/system/cpu').glob('cpu[0-9]*')))} CPUs, Linux {platform.release()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="starts of each function (twice as many warm requests)")
    rounds = parser.parse_args().rounds
    if not valgrind():
        print("valgrind is not installed: instructions are not counted.")
    with LocalStack("bench", optimized=True) as stack:
        stack.deployment.build()
        floor = stack.deployment.build_floor()
        stack.start()
        stack.coiote.add_device(DEVICE, state="sleeping")
        stack.add_thing(DEVICE)
        print(f"\n{machine()}\nMedians and middle halves of {rounds} starts, {rounds * 2} warm requests\n", flush=True)
        with Bench(stack, floor=floor, rounds=rounds) as bench:
            cpu = measure(bench)
            print_reconcile(bench)
    with deployed_with_counting("bench-bills") as counting:
        print_bills(counting, cpu)


@contextlib.contextmanager
def deployed_with_counting(run_name: str, **parameters: str) -> Iterator[Counting]:
    """Deploys a local stack that records the calls of its functions, and counts with them."""
    calls_file = ROOT / ".local" / "run" / f"{run_name}-calls.jsonl"
    calls_file.parent.mkdir(parents=True, exist_ok=True)
    calls_file.write_text("")
    with LocalStack(run_name, CALLS_OF_FUNCTIONS=str(calls_file)) as stack:
        stack.start()
        stack.deploy(AnswerWindow="1", **parameters)
        yield Counting(stack, calls_file)


def measure(bench: Bench) -> dict[str, float]:
    """Prints all figures of single functions; returns seconds of computing of a warm request, by function."""
    starts = bench.starts()
    # Only a deployment waits for integration-certificates. Reconcile has no request; its bill is below.
    measured = [name for name in bench.binaries if name not in ("integration-certificates", "reconcile")]
    first = {name: bench.first_requests(name) for name in measured}
    warm = {name: bench.warm_requests(name) for name in measured}
    to_start, to_answer = {}, {}
    if valgrind():
        to_start = {
            name: instructions_to_start(binary, bench.stack.run, bench.variables) / 1e6
            for name, binary in bench.binaries.items()
        }
        to_answer = {name: bench.instructions_warm(name) / 1e6 for name in measured}

    print("Each with its ratio to the floor\n")
    print_starts(bench.binaries, starts, to_start)
    print_requests(first, warm, to_answer)
    print_calls(bench, measured[1:])
    print_by_keys(bench)
    print_by_shadow_size(bench)
    requests, results = (1_000 / statistics.median(warm[name][0]) for name in ("operation-request", "operation-response"))
    print(f"One environment, one request after the other: {requests:.0f} requests/s, ", end="")
    print(f"{results:.0f} results/s, with these neighbours on these CPUs\n")
    print_by_memory(warm, first)
    return {name: statistics.median(warm[name][1]) / 1_000 for name in measured}


def print_starts(binaries: dict[str, Path], starts: dict[str, list[float]], instructions: dict[str, float]) -> None:
    sizes = {name: (binary.stat().st_size / 2**20, zipped(binary) / 2**20) for name, binary in binaries.items()}
    rows = [
        [
            name,
            spread(starts[name], starts["floor"]),
            ratio(instructions[name], instructions["floor"]) if instructions else "",
            *(ratio(size, floor) for size, floor in zip(sizes[name], sizes["floor"], strict=True)),
        ]
        for name in binaries
    ]
    print_table(["function", "start-up, ms", "million instructions", "binary, MiB", "zip, MiB"], rows)


def print_requests(first: dict, warm: dict, instructions: dict[str, float]) -> None:
    rows = [
        [
            name,
            *(spread(times, floor) for times, floor in zip(first[name], first["floor"], strict=True)),
            *(spread(times, floor) for times, floor in zip(warm[name][:2], warm["floor"][:2], strict=True)),
            ratio(instructions[name], instructions["floor"]) if instructions else "",
            ratio(warm[name][2] / 2**20, warm["floor"][2] / 2**20, 1),
        ]
        for name in warm
    ]
    head = ["function", "first request, ms", "its CPU, ms", "warm request, ms", "its CPU, ms", "million instructions"]
    print_table([*head, "peak memory, MiB"], rows)


def print_calls(bench: Bench, names: list[str]) -> None:
    calls = {name: bench.calls(name) for name in names}
    for name, of_name in calls.items():
        for which, counts in zip(("first", "warm"), of_name, strict=True):
            print(f"{name}, {which} request: " + ", ".join(f"{count} × {call}" for call, count in sorted(counts.items())))
    print()


def print_by_keys(bench: Bench) -> None:
    rows = []
    for count in KEYS:
        keys = [f"Test object.0.Integer array.{number}" for number in range(count)]
        cpu = bench.cpu_of("operation-request", lambda keys=keys: bench.request(READ | {"keys": keys}), 9)
        rows.append([f"{count:,}", f"{cpu:.2f}", f"{cpu / count * 1_000:.1f}"])
    print_table(["keys of a read", "CPU, ms", "microseconds a key"], rows)


def print_by_shadow_size(bench: Bench) -> None:
    rows = []
    for size in DATAMODEL_BYTES:
        thing = f"holds-{size}"
        bench.stack.coiote.add_device(thing, state="sleeping")
        bench.stack.add_thing(thing)
        held = {"Held": {"0": {f"Resource {number:03}": "x" * 30 for number in range(size // 50)}}}
        state = {"reported": held}
        bench.stack.aws.update_shadow(thing, "datamodel", state)
        plain = bench.cpu_of("operation-response", lambda thing=thing: bench.result(RESULT, thing), 9)
        multiple = {"Device": {"0": {"Error Code": {"0": "0"}}}}
        objects = bench.cpu_of("operation-response", lambda thing=thing, r=multiple: bench.result(r, thing), 9)
        rows.append([f"{len(json.dumps({'state': state})):,}", f"{plain:.2f}", f"{objects:.2f}"])
    print_table(["bytes in the datamodel shadow", "plain result, CPU ms", "result with a multiple resource, CPU ms"], rows)


def print_by_memory(warm: dict, first: dict) -> None:
    """Prints computing time as Lambda stretches it: a function with less than one CPU waits for its share."""
    rows = []
    for size in MEMORY_SIZES:
        share = min(1.0, size / MEGABYTES_OF_ONE_CPU)
        row = [f"{size:,}"]
        for name in ("operation-request", "operation-response"):
            row += [f"{statistics.median(first[name][1]) / share:.0f}", f"{statistics.median(warm[name][1]) / share:.1f}"]
        rows.append(row)
    head = ["memory, MB", "request: first, ms of computing", "warm", "response: first", "warm"]
    print_table(head, rows)


def print_bills(counting: Counting, cpu: dict[str, float], number: int = 10) -> None:
    """Prints the price of a million operations, beside that of AVSystem's stack."""
    counted = [count(counting, number) for count in (bills.write_later, bills.write_at_once, bills.execute)]
    columns = [(each, each.parts(cpu), each.total(cpu)) for each in counted]
    columns.append((PEER, PEER.parts(PEER_CPU), PEER.total(PEER_CPU)))
    print(
        f"What AWS bills for an operation, counted of {number} each on the deployed local stack, of devices that had "
        f"{bills.EARLIER} operations before\n"
    )
    rows = [
        ["shadow operations, a KB each", *(f"{each.shadows.total():.1f}" for each, _, _ in columns)],
        ["rules triggered, actions", *(f"{each.rules:.1f}, {each.actions:.1f}" for each, _, _ in columns)],
        ["ledger: writes of a KB", *(f"{each.writes.total() - each.writes['index']:.1f}" for each, _, _ in columns)],
        ["ledger: writes in its indexes", *(f"{each.writes['index']:.1f}" for each, _, _ in columns)],
        ["ledger: reads of 4 KB", *(f"{each.reads:.2f}" for each, _, _ in columns)],
        ["invocations", *(f"{each.invocations.total():.1f}" for each, _, _ in columns)],
        ["calls to AWS, to Coiote", *(f"{e.aws_calls.total():.1f}, {e.coiote_calls.total():.1f}" for e, _, _ in columns)],
        ["log, bytes", *(f"{each.log_bytes.total():,.0f}" for each, _, _ in columns)],
    ]
    rows += [[f"$ a million: {part}", *(f"{parts[part]:.2f}" for _, parts, _ in columns)] for part in columns[0][1]]
    rows.append(["**$ a million: all of it**", *(f"**{total:.2f}**" for _, _, total in columns)])
    print_table(["of one operation", *(each.name for each, _, _ in columns)], rows)
    sizes = ", ".join(f"{name} {size}" for name, size in counted[0].sizes.items())
    print(f"Largest, in bytes: {sizes}. A shadow counts by the KB, a record of the ledger too.\n")
    rows = []
    for memory in MEMORY_SIZES:
        row = [f"{memory:,}"]
        for each in counted:
            row += [f"{each.total(cpu, memory, architecture):.2f}" for architecture in bills.LAMBDA_GB_SECOND]
        rows.append(row)
    head = [f"{each.name}, {architecture}" for each in counted for architecture in bills.LAMBDA_GB_SECOND]
    print_table(["memory, MB", *head], rows)
    print_by_rate(counted[0], cpu)


def print_reconcile(bench: Bench) -> None:
    """Prints the price of a month of reconcile, if all its runs were like the measured ones."""
    rows = []
    for sleeping in (0, SLEEPING):
        bill, cpu = bench.run_of_reconcile(sleeping)
        parts = {part: price * bills.RUNS_OF_A_MONTH / 1e6 for part, price in bill.parts({"reconcile": cpu}).items() if price}
        what = f"{sleeping} requests of devices that sleep, made just now" if sleeping else "nothing is open"
        calls = f"{bill.aws_calls.total():.0f}, {bill.coiote_calls.total():.0f}"
        prices = {part: parts.get(part, 0) for part in RECONCILE_PARTS}
        rows.append([what, calls, *(f"{price:.2f}" for price in prices.values()), f"**{sum(parts.values()):.2f}**"])
    print(f"Reconcile: dollars a month, {bills.RUNS_OF_A_MONTH:,} runs at {MEMORY_SIZES[0]} MB, if each were like the measured one\n")
    print_table(["of a run", "calls to AWS, to Coiote", *RECONCILE_PARTS, "all of it"], rows)


def print_by_rate(each: Bill, cpu: dict[str, float]) -> None:
    seconds, shadows, rules = each.seconds(cpu, MEMORY_SIZES[0]), each.shadows.total(), each.rules
    rows = [
        [f"{rate:,}", f"{rate * seconds:.0f}", f"{rate * shadows:,.0f}", f"{rate * rules:,.0f}", f"{rate * each.writes.total():,.0f}"]
        for rate in RATES
    ]
    head = ["operations/s", "environments at 128 MB", "shadow operations/s", "rule evaluations/s", "ledger writes/s"]
    print_table(head, rows)
    print(
        f"By default AWS allows {CONCURRENCY_QUOTA:,} environments, {SHADOW_QUOTA:,} shadow operations/s (400 in smaller regions), "
        f"{SHADOW_QUOTA_OF_A_THING} for one thing, {RULE_QUOTA:,} rule evaluations/s.\n"
        f"So shadows are the next bottleneck: at {SHADOW_QUOTA / shadows:,.0f} operations/s, and at "
        f"{SHADOW_QUOTA_OF_A_THING / shadows:.1f} for one thing. What Coiote takes before it answers 429 its operator knows; "
        "RequestConcurrency keeps below it."
    )


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        run_command(main)
