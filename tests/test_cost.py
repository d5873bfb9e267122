"""What must not grow unseen: sizes, memory, and instructions, which do not vary with the machine's load.

Each bound is what was measured when it was set and about an eighth more, but not more than the project's targets (zip 3.6 MiB,
memory 14 MiB). Whoever exceeds one says why, and sets another. Times are for `make bench`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pytest

from bench import DEVICE, FUNCTIONS, MEASURED_BY_TESTS, Bench, check, zipped
from stack.environment import instructions_to_start, valgrind
from stack.local_stack import LocalStack

MIB = 2**20
needs_valgrind = pytest.mark.skipif(valgrind() is None, reason="valgrind is not installed: instructions are not counted")


class Bounds(NamedTuple):
    zip_mib: float
    # Millions of instructions to the first poll, and of a warm request
    start: float
    warm: float | None


BOUNDS = {
    "operation-request": Bounds(zip_mib=3.0, start=2.35, warm=1.25),
    "operation-response": Bounds(zip_mib=2.5, start=1.45, warm=1.45),
    "answers": Bounds(zip_mib=3.0, start=2.35, warm=1.25),
    "reconcile": Bounds(zip_mib=3.6, start=2.35, warm=None),
    "create-thing": Bounds(zip_mib=2.6, start=1.95, warm=1.75),
    "integration-certificates": Bounds(zip_mib=3.0, start=2.05, warm=None),
}
PEAK_MEMORY_MIB = 10.5


def functions(names: Iterable[str]) -> list:
    not_built = pytest.mark.skip(reason="not built for Lambda in this run: make test AS_DEPLOYED=1 measures all, as CI does")
    return [pytest.param(name, marks=[] if name in MEASURED_BY_TESTS else not_built) for name in names]


@pytest.fixture(scope="module")
def bench(stack):
    """`stack` is there because it has built everything. This one has no rules: only what is measured deals with requests."""
    with LocalStack("test-cost") as measured:
        # What is measured is what is deployed to AWS; the local stack runs others.
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
            check(name, environment.invoke(bench.event(name)).result)
        assert environment.peak_memory() / MIB < PEAK_MEMORY_MIB
