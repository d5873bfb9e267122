"""One local stack for the tests: built, started and deployed once, ended at the end whatever happens.

Two processes share the tests, file by file (pytest-xdist). Each has a stack of its own, with its own folder and ports.
"""

import itertools
import os
import signal
import sys

import pytest

import build
from stack.aws_between import AwsBetween
from emulator import Emulator
from own_ledger import OwnLedger
from runtime_api import Function
from permissions import Records
from stack.local_stack import ROOT, LocalStack

_numbers = itertools.count(1)


# All processes write there what they deploy, call and test; tests/test_permissions.py reads it in a run of its own.
RECORDS = Records(ROOT / ".local" / "run" / "permissions")
LOOKS_AT_THE_RECORDS = "test_permissions.py"


def looks_at_the_records(config) -> bool:
    return any(LOOKS_AT_THE_RECORDS in argument for argument in config.args)


def pytest_configure(config):
    if looks_at_the_records(config) or config.option.collectonly:
        return
    if not hasattr(config, "workerinput"):
        RECORDS.begin()
    config.pluginmanager.register(Recorder())
    # The local AWS of each stack writes down there what its functions call.
    os.environ["CALLS_OF_FUNCTIONS"] = str(RECORDS.calls)
    deploy = LocalStack.deploy

    def deploy_and_remember(stack: LocalStack, **parameters: str) -> None:
        deploy(stack, **parameters)
        RECORDS.remember(stack)

    LocalStack.deploy = deploy_and_remember


def pytest_ignore_collect(collection_path, config):
    # What the others did is there to be looked at only when they have ended.
    return True if collection_path.name == LOOKS_AT_THE_RECORDS and not looks_at_the_records(config) else None


def pytest_sessionstart(session):
    # Ends what was started also when the tests are ended by a signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Before the processes part, so that none builds while another one tests.
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and not session.config.option.collectonly and not looks_at_the_records(session.config):
        build.main()


class Recorder:
    """Writes down which tests there are, and which have run."""

    def pytest_collection_finish(self, session):
        # Of a file that is named with a test of it, it is not known what else it has.
        if not any("::" in argument for argument in session.config.args):
            RECORDS.tests(item.nodeid for item in session.items)

    def pytest_deselected(self, items):
        RECORDS.tests(item.nodeid for item in items)

    def pytest_runtest_logreport(self, report):
        has_ended = report.when == "call" or (report.when == "setup" and not report.passed)
        # The process that hands the tests out hears of each as well.
        if has_ended and "PYTEST_XDIST_WORKER" not in os.environ:
            RECORDS.ran(report.nodeid)


@pytest.fixture(scope="session")
def stack():
    with LocalStack("-".join(["test", *worker()])) as stack:
        stack.start()
        stack.deploy()
        yield stack


def worker() -> list[str]:
    """The name of this process among those that share the tests, if there are others."""
    return [name] if (name := os.environ.get("PYTEST_XDIST_WORKER")) else []


@pytest.fixture(autouse=True)
def no_outage_before(request):
    """The ledger remembers for all runs that Coiote is away; what one test brought about is not the next one's matter."""
    if "stack" in request.fixturenames:
        stack = request.getfixturevalue("stack")
        stack.aws.forget_outages(stack.outputs["RequestsTable"])


@pytest.fixture
def device(stack):
    """Adds a device to the local Coiote, and its thing to AWS; each test has its own."""

    def add(state: str = "online") -> str:
        endpoint = f"urn:test:{next(_numbers)}"
        stack.coiote.add_device(endpoint, state=state)
        stack.add_thing(endpoint)
        return endpoint

    return add


def started(stack, kind: type):
    """Starts functions' binaries as they are asked for, and ends them all."""
    functions = []

    def start(logical_id: str, **environment: str):
        functions.append(kind(stack, logical_id, environment))
        return functions[-1]

    yield start
    for function in functions:
        function.stop()


@pytest.fixture
def emulate(stack):
    """A function under AWS's Runtime Interface Emulator."""
    yield from started(stack, Emulator)


@pytest.fixture
def environment_of(stack):
    """An execution environment of a function, whose invocations the test decides about."""
    yield from started(stack, Function)


@pytest.fixture
def aws_between(stack):
    """What stands between a function and AWS, if the function is started with its endpoint."""
    with AwsBetween(stack).serve() as between:
        yield between


@pytest.fixture
def own_ledger(stack):
    """A ledger that the deployed functions do not know."""
    ledger = OwnLedger(stack, f"ledger-{next(_numbers)}")
    yield ledger
    ledger.remove()


@pytest.fixture(scope="module")
def functions(stack):
    """The functions that rules invoke, warm, for tests that do not need one of their own."""
    started = {name: Emulator(stack, name, {}) for name in ("OperationRequest", "OperationResponse", "CreateThing")}
    yield started
    for emulator in started.values():
        emulator.stop()
