"""What a request costs: start-up, first and warm requests, calls, memory and sizes, against the least that a function can be.

Everything in a table is measured in the same run, on this machine, with the release binaries that are deployed. Figures that
vary with the machine are to be read as ratios to the floor, a function that returns its event.
"""

import argparse
import contextlib
import io
import json
import math
import platform
import statistics
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from stack.aws_between import AwsBetween
from stack.deployment import AS_DEPLOYED
from stack.environment import Environment, counted, counting, instructions_to_start, valgrind
from stack.local_stack import SECRET_NAME, LocalStack
from stack.processes import Failure, run_command

# By their names in the template
FUNCTIONS = {
    "operation-request": "OperationRequest",
    "operation-response": "OperationResponse",
    "create-thing": "CreateThing",
    "integration-certificates": "IntegrationCertificates",
}
# Building one for Lambda takes a minute and more of both cores, so `make test` measures those that every request goes through,
# and all of them only with AS_DEPLOYED=1, as CI does.
MEASURED_BY_TESTS = tuple(FUNCTIONS) if AS_DEPLOYED else ("operation-request", "operation-response")
# A device that sleeps: its tasks wait at Coiote, so nothing is reported while something is measured.
DEVICE = "measured"
READ = {"operation": "read", "keys": ["Device.0.UTC Offset", "LwM2M Server.1.Lifetime"]}
RESULT = {"Device": {"0": {"UTC Offset": "+02:00"}}, "LwM2M Server": {"1": {"Lifetime": "68"}}}
KEYS = (1, 10, 100, 1_000, 3_000)
DATAMODEL_BYTES = (100, 1_000, 2_000, 4_000, 6_000)
# The whole of AWS Lambda's memory-to-CPU relation: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MEGABYTES_OF_ONE_CPU = 1_769
MEMORY_SIZES = (128, 192, 256, 512, 1_024)


# us-east-1, 2026-11-23, in US dollars: https://aws.amazon.com/lambda/pricing, https://aws.amazon.com/iot-core/pricing,
# https://aws.amazon.com/cloudwatch/pricing
LAMBDA_REQUEST = 0.20 / 1e6
LAMBDA_GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
# For each KB of the shadow
SHADOW_OPERATION = 1.25 / 1e6
RULE_AND_ACTION = (0.15 + 0.15) / 1e6
LOG_GB = 0.50
# Lambda's own lines about an invocation (START, END, REPORT), which are not here to be measured
PLATFORM_LOG_BYTES = 350
# Both rules of the template look at each update of an operation shadow; one of a request and one of a result match.
RULES, MATCHES = 2, 2
# Assumed, because it is not here to be measured: seconds that a call takes in a region, and to Coiote
AWS_CALL, COIOTE_CALL = 0.015, 0.050
# Default quotas, of rules in evaluations: https://docs.aws.amazon.com/general/latest/gr/iot-core.html,
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SHADOW_QUOTA, SHADOW_QUOTA_OF_A_THING, RULE_QUOTA, CONCURRENCY_QUOTA = 4_000, 20, 20_000, 1_000
RATES = (10, 100, 500, 1_000)


class Bench:
    def __init__(self, stack: LocalStack, functions: Iterable[str] = FUNCTIONS, floor: Path | None = None, rounds: int = 40):
        self.stack, self.rounds = stack, rounds
        self.binaries = {"floor": floor} if floor else {}
        self.binaries |= {name: stack.deployment.binary_for_lambda(name) for name in functions}
        self.variables = stack.aws.environment | {"COIOTE_URL": stack.coiote.url, "COIOTE_SECRET_ID": SECRET_NAME}
        # Of an invocation, by function
        self.log_bytes: dict[str, float] = {}
        self._number = 0
        self._is_full = False

    # ---------------------------------------------------------------- functions and their events

    def environment(self, name: str, wrapper: list[str] | None = None, **variables: str) -> Environment:
        return Environment(self.binaries[name], self.stack.run / f"{name}.log", self.variables | variables, wrapper)

    def event(self, name: str) -> dict:
        self._number += 1
        if name == "operation-request":
            return self.request(READ)
        if name == "operation-response":
            return self.result(RESULT)
        if name == "create-thing":
            return {"coioteDeviceId": f"measured-{self._number}", "coioteDeviceType": "measured.type"}
        return {"number": self._number}

    def request(self, desired: dict) -> dict:
        """As the rule passes a request on that was just written."""
        version = self.stack.aws.request(DEVICE, READ, client_token="bench")
        return desired | {"thingName": DEVICE, "version": version, "timestamp": int(time.time()), "clientToken": "bench"}

    def result(self, result: dict, thing: str = DEVICE) -> dict:
        """As the rule passes a result on that Coiote has just reported, of a request that waits for it."""
        version = self.stack.aws.request(thing, READ, client_token="bench")
        waits = {"operation": "read", "status": "SCHEDULED", "taskId": "t", "requestId": "r", "attempt": 1}
        self._report(thing, {"requests": {str(version): waits}})
        reported = {"operation": "read", "failedKeys": [""], "result": result}
        version = self._report(thing, reported)
        return reported | {"thingName": thing, "version": version, "timestamp": int(time.time())}

    def _report(self, thing: str, reported: dict) -> int:
        payload = json.dumps({"state": {"reported": reported}}).encode()
        update = self.stack.aws.iot_data.update_thing_shadow
        answer = update(thingName=thing, shadowName="operation", payload=payload)
        return json.loads(answer["payload"].read())["version"]

    def fill(self) -> None:
        """Answers as many requests as an operation shadow keeps, so that what comes before a measurement makes no difference."""
        if not self._is_full:
            with self.environment("operation-response") as environment:
                for _ in range(8):
                    check("operation-response", environment.invoke(self.event("operation-response")).result)
            self._is_full = True

    def stored(self, shadow: str) -> int:
        """Bytes of a shadow's document, without its metadata."""
        answer = self.stack.aws.iot_data.get_thing_shadow(thingName=DEVICE, shadowName=shadow)
        state = json.loads(answer["payload"].read())["state"]
        # What AWS derives is not stored.
        return len(json.dumps({part: state[part] for part in state if part != "delta"}, separators=(",", ":")))

    # ---------------------------------------------------------------- measuring

    def starts(self) -> dict[str, list[float]]:
        """Milliseconds to the first poll. The functions take turns, so that what else the machine does meets all alike."""
        found = {name: [] for name in self.binaries}
        for _ in range(self.rounds):
            for name, times in found.items():
                with self.environment(name) as environment:
                    times.append(environment.started_in * 1_000)
        return found

    def first_requests(self, name: str) -> tuple[list[float], list[float]]:
        walls, cpus = [], []
        for _ in range(max(5, self.rounds // 3)):
            event = self.event(name)
            with self.environment(name) as environment:
                first = environment.invoke(event)
            walls.append(first.wall * 1_000)
            cpus.append(first.cpu * 1_000)
        return walls, cpus

    def warm_requests(self, name: str) -> tuple[list[float], list[float], int]:
        """Milliseconds by the clock, of computing, and the peak of memory in bytes."""
        walls, cpus = [], []
        self.fill()
        with self.environment(name) as environment:
            for number in range(self.rounds * 2 + 3):
                invocation = environment.invoke(self.event(name))
                check(name, invocation.result)
                # The first ones warm up.
                if number >= 3:
                    walls.append(invocation.wall * 1_000)
                    cpus.append(invocation.cpu * 1_000)
            self.log_bytes[name] = environment.log.stat().st_size / (self.rounds * 2 + 3)
            return walls, cpus, environment.peak_memory()

    def calls(self, name: str) -> tuple[Counter, Counter]:
        """What the first and a warm request call."""
        counts = []
        with AwsBetween(self.stack).serve() as between:
            event, before = self.event(name), self._coiote_counts()
            with self.environment(name, AWS_ENDPOINT_URL=between.endpoint) as environment:
                for _ in range(3):
                    check(name, environment.invoke(event).result)
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
        """Of one warm request: what ten more cost."""
        totals = []
        self.fill()
        for requests in (3, 13):
            log = self.stack.run / f"{name}-{requests}.valgrind"
            with self.environment(name, counting(log)) as environment:
                for _ in range(requests):
                    check(name, environment.invoke(self.event(name)).result)
            totals.append(counted(log))
        return (totals[1] - totals[0]) // 10

    def cpu_of(self, name: str, event: Callable[[], dict], rounds: int) -> float:
        """Milliseconds of computing, warm."""
        with self.environment(name) as environment:
            for _ in range(2):
                environment.invoke(event())
            return statistics.median(environment.invoke(event()).cpu for _ in range(rounds)) * 1_000


def check(name: str, result: dict) -> None:
    if name.startswith("operation") and result.get("status") not in ("SCHEDULED", "SUCCEEDED"):
        raise Failure(f"{name} answered {json.dumps(result)}")


def zipped(binary: Path) -> int:
    """Bytes of the package, as `sam deploy` makes it."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(binary, "bootstrap")
    return len(package.getvalue())


def spread(values: list[float], floor: list[float]) -> str:
    """The median, the quarters below and above it, and the median's ratio to that of the floor."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f}), {middle / statistics.median(floor):.1f}×"


def ratio(value: float, floor: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}, {value / floor:.1f}×"


def table(head: list[str], rows: list[list[str]]) -> None:
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
        measure(Bench(stack, floor=floor, rounds=rounds))


def measure(bench: Bench) -> None:
    starts = bench.starts()
    # Nobody waits for the one that makes certificates but a deployment.
    measured = [name for name in bench.binaries if name != "integration-certificates"]
    first = {name: bench.first_requests(name) for name in measured}
    warm = {name: bench.warm_requests(name) for name in measured}
    to_start, to_answer = {}, {}
    if valgrind():
        to_start = {
            name: instructions_to_start(binary, bench.stack.run, bench.variables) / 1e6
            for name, binary in bench.binaries.items()
        }
        to_answer = {name: bench.instructions_warm(name) / 1e6 for name in measured}
    sizes = {name: (binary.stat().st_size / 2**20, zipped(binary) / 2**20) for name, binary in bench.binaries.items()}

    print("Each with its ratio to the floor\n")
    rows = [
        [
            name,
            spread(starts[name], starts["floor"]),
            ratio(to_start[name], to_start["floor"]) if to_start else "",
            *(ratio(size, floor) for size, floor in zip(sizes[name], sizes["floor"], strict=True)),
        ]
        for name in bench.binaries
    ]
    table(["function", "start-up, ms", "million instructions", "binary, MiB", "zip, MiB"], rows)
    rows = [
        [
            name,
            *(spread(times, floor) for times, floor in zip(first[name], first["floor"], strict=True)),
            *(spread(times, floor) for times, floor in zip(warm[name][:2], warm["floor"][:2], strict=True)),
            ratio(to_answer[name], to_answer["floor"]) if to_answer else "",
            ratio(warm[name][2] / 2**20, warm["floor"][2] / 2**20, 1),
        ]
        for name in measured
    ]
    head = ["function", "first request, ms", "its CPU, ms", "warm request, ms", "its CPU, ms", "million instructions"]
    table([*head, "peak memory, MiB"], rows)

    calls = {name: bench.calls(name) for name in measured[1:]}
    for name, of_name in calls.items():
        for which, counts in zip(("first", "warm"), of_name, strict=True):
            print(f"{name}, {which} request: " + ", ".join(f"{count} × {call}" for call, count in sorted(counts.items())))
    print()
    with_keys(bench)
    with_size(bench)
    print(f"One environment, one request after the other: {1_000 / statistics.median(warm['operation-request'][0]):.0f} requests/s, ", end="")
    print(f"{1_000 / statistics.median(warm['operation-response'][0]):.0f} results/s, with these neighbours on these CPUs\n")
    by_memory(warm, first)
    cpu = {name: statistics.median(warm[name][1]) / 1_000 for name in ("operation-request", "operation-response")}
    fleet(bench, cpu, {name: calls[name][1] for name in cpu}, sum(bench.log_bytes[name] for name in cpu))


def with_keys(bench: Bench) -> None:
    rows = []
    for count in KEYS:
        keys = [f"Test object.0.Integer array.{number}" for number in range(count)]
        cpu = bench.cpu_of("operation-request", lambda keys=keys: bench.request(READ | {"keys": keys}), 9)
        rows.append([f"{count:,}", f"{cpu:.2f}", f"{cpu / count * 1_000:.1f}"])
    table(["keys of a read", "CPU, ms", "microseconds a key"], rows)


def with_size(bench: Bench) -> None:
    rows = []
    for size in DATAMODEL_BYTES:
        thing = f"holds-{size}"
        bench.stack.add_thing(thing)
        held = {"Held": {"0": {f"Resource {number:03}": "x" * 30 for number in range(size // 50)}}}
        payload = json.dumps({"state": {"reported": held}}).encode()
        bench.stack.aws.iot_data.update_thing_shadow(thingName=thing, shadowName="datamodel", payload=payload)
        plain = bench.cpu_of("operation-response", lambda thing=thing: bench.result(RESULT, thing), 9)
        multiple = {"Device": {"0": {"Error Code": {"0": "0"}}}}
        objects = bench.cpu_of("operation-response", lambda thing=thing, r=multiple: bench.result(r, thing), 9)
        rows.append([f"{len(payload):,}", f"{plain:.2f}", f"{objects:.2f}"])
    table(["bytes in the datamodel shadow", "plain result, CPU ms", "result with a multiple resource, CPU ms"], rows)


def by_memory(warm: dict, first: dict) -> None:
    """Computing time as Lambda would stretch it: a function with less than one CPU waits for its share."""
    rows = []
    for size in MEMORY_SIZES:
        share = min(1.0, size / MEGABYTES_OF_ONE_CPU)
        row = [f"{size:,}"]
        for name in ("operation-request", "operation-response"):
            row += [f"{statistics.median(first[name][1]) / share:.0f}", f"{statistics.median(warm[name][1]) / share:.1f}"]
        rows.append(row)
    head = ["memory, MB", "request: first, ms of computing", "warm", "response: first", "warm"]
    table(head, rows)


def fleet(bench: Bench, cpu: dict[str, float], calls: dict[str, Counter], log_bytes: float) -> None:
    """What an operation with a result comes to in a fleet, on paper."""

    def seconds(name: str, memory: int) -> float:
        to_coiote = sum(count for call, count in calls[name].items() if call.startswith("Coiote"))
        to_aws = calls[name].total() - to_coiote
        return cpu[name] * max(1.0, MEGABYTES_OF_ONE_CPU / memory) + to_aws * AWS_CALL + to_coiote * COIOTE_CALL

    # The author's update and Coiote's report; and what the functions call
    on_shadows = Counter({"update operation": 2})
    for of_name in calls.values():
        on_shadows += Counter({call: n for call, n in of_name.items() if call.startswith(("get ", "update "))})
    shadow_calls = on_shadows.total()
    evaluations = on_shadows["update operation"] * RULES
    stored = {shadow: bench.stored(shadow) for shadow in ("operation", "datamodel")}
    metered = sum(n * math.ceil(stored[call.split()[1]] / 1_024) for call, n in on_shadows.items())
    log_bytes += 2 * PLATFORM_LOG_BYTES
    parts = {
        "shadows": metered * SHADOW_OPERATION,
        "rules": MATCHES * RULE_AND_ACTION,
        "logs": log_bytes / 1e9 * LOG_GB,
        "Lambda's requests": MATCHES * LAMBDA_REQUEST,
    }
    others = sum(parts.values())
    rows = []
    for memory in MEMORY_SIZES:
        gb_seconds = sum(seconds(name, memory) for name in cpu) * memory / 1_024
        row = [f"{memory:,}", *(f"{seconds(name, memory) * 1_000:.0f}" for name in cpu), f"{gb_seconds:.4f}"]
        rows.append([*row, *(f"{(gb_seconds * price + others) * 1e6:.2f}" for price in LAMBDA_GB_SECOND.values())])
    print(
        f"On paper: an operation with a result makes {MATCHES} invocations and {shadow_calls} shadow operations (two of them its "
        f"author's and Coiote's), has rules evaluated {evaluations} times, {MATCHES} with a match and an action, and logs "
        f"{log_bytes:,.0f} bytes ({2 * PLATFORM_LOG_BYTES} of them Lambda's own, assumed).\n"
        f"Measured here: an operation shadow of {stored['operation']:,} bytes with the answers that it keeps, a datamodel shadow of "
        f"{stored['datamodel']:,}; a shadow operation counts once for each KB of the shadow, so these {shadow_calls} count as {metered}.\n"
        f"Assumed: {AWS_CALL * 1_000:.0f} ms a call to AWS, {COIOTE_CALL * 1_000:.0f} ms to Coiote. "
        "Prices of us-east-1, 2026-11-23, first tier.\n"
    )
    head = ["memory, MB", "request, ms", "response, ms", "GB-seconds", "$ a million operations, x86_64", "arm64"]
    table(head, rows)
    print("Of a million operations: " + ", ".join(f"{part} ${price * 1e6:.2f}" for part, price in parts.items()) + "\n")
    together = sum(seconds(name, MEMORY_SIZES[0]) for name in cpu)
    rows = [
        [f"{rate:,}", f"{rate * together:.0f}", f"{rate * shadow_calls:,}", f"{rate * evaluations:,}"]
        for rate in RATES
    ]
    table(["operations/s", "environments at 128 MB", "shadow operations/s", "rule evaluations/s"], rows)
    print(
        f"By default AWS allows {CONCURRENCY_QUOTA:,} environments, {SHADOW_QUOTA:,} shadow operations/s (400 in smaller regions), "
        f"{SHADOW_QUOTA_OF_A_THING} for one thing, {RULE_QUOTA:,} rule evaluations/s.\n"
        f"So shadows are the next bottleneck: at {SHADOW_QUOTA // shadow_calls:,} operations/s, and at "
        f"{SHADOW_QUOTA_OF_A_THING / shadow_calls:.1f} for one thing. What Coiote takes before it answers 429 its operator knows; "
        "RequestConcurrency keeps below it."
    )


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        run_command(main)
