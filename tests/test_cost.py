"""Bounds of sizes, memory and bills, and of instructions, which do not vary with the machine's load.

Each bound is the figure that was measured when it was set and about an eighth more, but at most the project's targets (zip
3.6 MiB, memory 14 MiB). Who exceeds one says why, and sets another. Times are for `make bench`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pytest

import bills
from bench import DEVICE, FUNCTIONS, MEASURED_BY_TESTS, Bench, check_succeeded, deployed_with_counting, zipped
from bills import PEER, PEER_CPU
from stack.environment import instructions_to_start, valgrind
from stack.local_stack import ROOT, LocalStack

MIB = 2**20
needs_valgrind = pytest.mark.skipif(valgrind() is None, reason="valgrind is not installed: instructions are not counted")


class Bounds(NamedTuple):
    zip_mib: float
    # Millions of instructions to the first poll, and of a warm request
    start: float
    warm: float | None


BOUNDS = {
    # Its log line is read again, so that the metrics stand in it: 3% of the instructions, for a tenth of the log's bytes.
    "operation-request": Bounds(zip_mib=3.6, start=2.45, warm=1.6),
    "operation-response": Bounds(zip_mib=3.05, start=1.9, warm=2.2),
    "answers": Bounds(zip_mib=3.05, start=2.35, warm=0.65),
    # The targets: these were not measured when the bounds were set.
    "reconcile": Bounds(zip_mib=3.6, start=3.0, warm=None),
    "job-executions": Bounds(zip_mib=3.6, start=3.0, warm=None),
    "create-thing": Bounds(zip_mib=2.6, start=1.95, warm=1.75),
    "integration-certificates": Bounds(zip_mib=3.0, start=2.05, warm=None),
}
PEAK_MEMORY_MIB = 12
# Most shadow operations, writes of the device's item, writes in indexes, reads of the ledger, and bytes of log of an operation
BILLED = {
    "write_later": (5, 4, 2, 1, 3_400),
    "write_at_once": (5, 4, 2, 1, 3_400),
    "execute": (3, 3, 2, 1, 2_700),
}


def functions(names: Iterable[str]) -> list:
    not_built = pytest.mark.skip(reason="not built for Lambda in this run: make test AS_DEPLOYED=1 measures all, as CI does")
    return [pytest.param(name, marks=[] if name in MEASURED_BY_TESTS else not_built) for name in names]


@pytest.fixture(scope="module")
def bench(stack):
    """A bench on a local stack without rules, so that nothing else handles requests. `stack` has built everything."""
    with LocalStack("test-cost") as measured:
        # The functions as they are deployed to AWS; the local stack runs others.
        measured.deployment.build_for_lambda(MEASURED_BY_TESTS)
        measured.start()
        measured.coiote.add_device(DEVICE, state="sleeping")
        measured.add_thing(DEVICE)
        with Bench(measured, MEASURED_BY_TESTS) as bench:
            yield bench


def test_every_function_has_its_bounds():
    assert BOUNDS.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("name", functions(BOUNDS))
def test_the_package_stays_small(bench, name):
    assert zipped(bench.binaries[name]) / MIB < BOUNDS[name].zip_mib <= 3.6


@needs_valgrind
@pytest.mark.parametrize("name", functions(BOUNDS))
def test_the_way_to_the_first_poll_stays_short(bench, name):
    millions = instructions_to_start(bench.binaries[name], bench.stack.run, bench.variables) / 1e6
    assert millions < BOUNDS[name].start


@needs_valgrind
@pytest.mark.parametrize("name", functions(name for name, bounds in BOUNDS.items() if bounds.warm))
def test_a_warm_request_stays_cheap(bench, name):
    assert bench.instructions_warm(name) / 1e6 < BOUNDS[name].warm


@pytest.mark.parametrize("name", functions(name for name, bounds in BOUNDS.items() if bounds.warm))
def test_memory_stays_small_however_many_requests_come(bench, name):
    with bench.environment(name) as environment:
        for _ in range(100):
            check_succeeded(name, environment.invoke(bench.event(name)).result)
        assert environment.peak_memory() / MIB < PEAK_MEMORY_MIB


def test_a_warm_request_calls_coiote_twice_and_the_ledger_twice_and_no_shadow(bench):
    _, warm = bench.calls("operation-request")
    to_aws = {call: count for call, count in warm.items() if not call.startswith("Coiote")}
    # A third call asks every few seconds how Coiote answers the others.
    assert to_aws.pop("GetItem", 0) <= 1
    assert to_aws == {"UpdateItem": 2}
    assert {call.partition("/")[2]: count for call, count in warm.items() if call.startswith("Coiote")} == {
        "sessions/{deviceId}/allow-deregistered": 1,
        "tasksFromTemplates/device/{deviceId}": 1,
    }


@pytest.fixture(scope="module")
def counting(stack):
    """A deployed stack with counting. `stack` has built everything."""
    with deployed_with_counting("test-bills") as counting:
        yield counting


def test_what_the_pages_say_of_avsystems_stack_is_the_sum_of_the_figures_entered_for_it():
    """These figures are entered and not measured: local/bills.py says where they come from."""
    assert round(PEER.total(PEER_CPU), 2) == 14.33
    for page in ("performance.md", "limits.md"):
        assert "14.33" in (ROOT / "docs" / page).read_text()


@pytest.mark.parametrize("operation", [bills.write_later, bills.write_at_once, bills.execute])
def test_an_operation_is_billed_no_more_than_it_has_to_be(counting, operation):
    shadows, device, index, reads, log = BILLED[operation.__name__]
    # On a busy machine two functions may write to an item at the same moment, and one of them once more. Not three times in a row.
    for _ in range(3):
        bill = operation(counting, 1)
        if bill.writes.total() <= device + index + 1:
            break
    assert round(bill.shadows.total(), 2) <= shadows
    assert round(bill.rules, 2) <= round(2 * bill.shadows["update operation"], 2)
    for kind, most in {"device": device, "request": 1, "index": index, "refused or without a change": 0}.items():
        assert round(bill.writes[kind], 2) <= most, kind
    assert bill.reads <= reads
    assert bill.log_bytes.total() < log
    # Sizes count by the KB.
    assert max(bill.sizes.values()) <= 1_024
