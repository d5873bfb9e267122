"""Fixtures of all tests: one local stack, built, started and deployed once and always stopped at the end.

Six processes share the tests, file by file (pytest-xdist). Each has a stack of its own, with its own folder and ports.
"""

import itertools
import os
import signal
import sys

import pytest

import build
import stop
from deployed_template import deployed_resources
from stack.aws_between import AwsBetween
from emulator import Emulator
from job_requests import READ
from own_ledger import OwnLedger
from runtime_api import Function
from permissions import Records
from stack.local_stack import ROOT, LocalStack
from stack.processes import wait_for

_numbers = itertools.count(1)

# Records of deployments, calls and tests of all processes; tests/test_permissions.py reads them in a run of its own.
RECORDS = Records(ROOT / ".local" / "run" / "permissions")
READER_OF_THE_RECORDS = "test_permissions.py"


def reads_the_records(config) -> bool:
    """Whether this is the run that compares the records."""
    return any(READER_OF_THE_RECORDS in argument for argument in config.args)


def pytest_configure(config):
    if reads_the_records(config) or config.option.collectonly:
        return
    if not hasattr(config, "workerinput"):
        RECORDS.begin()
    config.pluginmanager.register(Recorder())
    # The local AWS of each stack records the calls of its functions in this file.
    os.environ["CALLS_OF_FUNCTIONS"] = str(RECORDS.calls)
    deploy = LocalStack.deploy

    def deploy_and_remember(stack: LocalStack, *arguments, **parameters) -> None:
        deploy(stack, *arguments, **parameters)
        RECORDS.record_roles(stack)

    LocalStack.deploy = deploy_and_remember


def pytest_ignore_collect(collection_path, config):
    # The records are complete only when the other tests have ended.
    return True if collection_path.name == READER_OF_THE_RECORDS and not reads_the_records(config) else None


def pytest_sessionstart(session):
    # The stack is stopped also when the tests are ended by a signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Before the processes start, so that none builds while another one tests.
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and not session.config.option.collectonly and not reads_the_records(session.config):
        build.main()


def pytest_unconfigure(config):
    """Ends what the processes that share the tests have left: a run that is interrupted kills them."""
    if hasattr(config, "workerinput") or config.option.collectonly or reads_the_records(config):
        return
    for run in stop.RUNS.glob("*test*"):
        stop.stop_all_in(run)


# Files that take longest. They come first: no process is left with one of them when the others have ended. Those that mostly wait
# and those that mostly compute take turns, so that the CPUs are never all idle.
LONGEST = (
    "test_outcomes.py",
    "test_cost.py",
    "test_soak.py",
    "test_jobs.py",
    "test_job_searches.py",
    "test_demo.py",
    "test_guided.py",
    "test_faults.py",
    "test_devices.py",
    "test_failure_queue.py",
    "test_ledger.py",
    "test_package.py",
    "test_own_objects.py",
    "test_operation_response.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


class Recorder:
    """Records the tests that there are, and those that have run."""

    def pytest_collection_finish(self, session):
        # If a single test is named, the other tests of its file are not known.
        if not any("::" in argument for argument in session.config.args):
            RECORDS.record_tests(item.nodeid for item in session.items)

    def pytest_deselected(self, items):
        RECORDS.record_tests(item.nodeid for item in items)

    def pytest_runtest_logreport(self, report):
        has_ended = report.when == "call" or (report.when == "setup" and not report.passed)
        # The main process gets the reports of all processes.
        if has_ended and "PYTEST_XDIST_WORKER" not in os.environ:
            RECORDS.record_run(report.nodeid)


@pytest.fixture(scope="session")
def stack():
    with LocalStack("-".join(["test", *worker()])) as stack:
        stack.start()
        stack.deploy()
        yield stack


def worker() -> list[str]:
    """Name of this process among those that share the tests; empty if there is only one."""
    return [name] if (name := os.environ.get("PYTEST_XDIST_WORKER")) else []


@pytest.fixture(autouse=True)
def no_outage_before(request):
    """Removes the outage that an earlier test has caused: the ledger remembers it for all functions."""
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


def started_functions(stack, kind: type):
    """Yields a function that starts functions' binaries; stops all of them at the end."""
    functions = []

    def start(logical_id: str, **environment: str):
        functions.append(kind(stack, logical_id, environment))
        return functions[-1]

    yield start
    for function in functions:
        function.stop()


@pytest.fixture
def emulate(stack):
    """Starts functions under AWS's Runtime Interface Emulator."""
    yield from started_functions(stack, Emulator)


@pytest.fixture
def environment_of(stack):
    """Starts execution environments of functions, with full control of their invocations."""
    yield from started_functions(stack, Function)


@pytest.fixture
def aws_between(stack):
    """A proxy between AWS and functions that are started with its endpoint."""
    with AwsBetween(stack).serve() as between:
        yield between


@pytest.fixture
def own_ledger(stack):
    """A ledger that the deployed functions do not know."""
    ledger = OwnLedger(stack, f"ledger-{next(_numbers)}")
    yield ledger
    ledger.remove()


@pytest.fixture(scope="module")
def resources(stack) -> dict:
    """Resources of the deployed template."""
    return deployed_resources(stack)


@pytest.fixture(scope="module")
def functions(stack):
    """The functions that rules invoke, warm, for tests that do not need an environment of their own."""
    started = {name: Emulator(stack, name, {}) for name in ("OperationRequest", "OperationResponse", "CreateThing")}
    yield started
    for emulator in started.values():
        emulator.stop()


@pytest.fixture(scope="module")
def jobs(stack):
    """AWS IoT Jobs of the local AWS, whose events are on."""
    stack.jobs.switch_events_on()
    return stack.jobs


@pytest.fixture
def group(jobs):
    """Creates thing groups; returns name and ARN."""

    def create(*things: str, parent: str | None = None) -> tuple[str, str]:
        name = f"group-{next(_numbers)}"
        return name, jobs.group(name, list(things), parent)

    return create


@pytest.fixture
def sleeping(stack, jobs, device):
    """A thing, and a job whose execution waits for its device."""
    thing = device("sleeping")
    job = jobs.run([thing], READ)
    wait_for("the task", lambda: jobs.execution(job, thing)["details"].get("taskId"))
    return thing, job
