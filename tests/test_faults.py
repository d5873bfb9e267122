"""Faults of Coiote and of AWS, each with an operation that may run twice and one that must not, through the binary.

A fault lasts for one invocation of four seconds. After it, tests look at the status in the operation shadow, the number of tasks
at Coiote, and whether the invocation is an error, which Lambda retries. A request whose fault may pass waits in the ledger, and is
no error.
"""

import itertools
import queue
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from own_ledger import OwnLedger
from stack.aws_between import ACCESS_DENIED, BROKEN, DENIED, LEDGER_THROTTLED, THROTTLED, Answer, CutAnswer, LoseAnswer, Refuse
from runtime_api import Function
from scripted_coiote import CREATE, LOST, RESET, SEARCH, SESSION, SLOW, scripted_coiote
from stack import certificates
from stack.processes import wait_for

SECONDS = 4
KINDS = {
    "read": {"operation": "read", "keys": ["Device.0.UTC Offset"]},
    "execute": {"operation": "execute", "keys": ["Device.0.Reboot"]},
}
# Most attempts of a call within an invocation
MOST_TRIES = 3


class Expected(NamedTuple):
    status: str
    code: str | None
    tasks: int = 0


class Outcome(NamedTuple):
    result: dict
    entry: dict
    tasks: int
    asked: list[str]


def waits(code: str, tasks: int = 0) -> Expected:
    """The request waits in the ledger, and the shadow says why."""
    return Expected("IN_PROGRESS", code, tasks)


def failed(code: str, tasks: int = 0) -> Expected:
    return Expected("FAILED", code, tasks)


def scheduled(code: str | None = None, tasks: int = 1) -> Expected:
    return Expected("SCHEDULED", code, tasks)


def says(message: str) -> dict:
    return {"message": message, "code": 1}


UNKNOWN = failed("OUTCOME_UNKNOWN", 0)
UNKNOWN_AND_DONE = failed("OUTCOME_UNKNOWN", 1)

# Fault → Coiote's answers, and the expected outcome of a read and of an execute
COIOTE_FAULTS = {
    "search: 400": ({SEARCH: (400, says("no"))}, failed("COIOTE_REFUSED"), failed("COIOTE_REFUSED")),
    "search: 401": ({SEARCH: (401, says("no"))}, failed("COIOTE_UNAUTHORIZED"), failed("COIOTE_UNAUTHORIZED")),
    "search: 404": ({SEARCH: (404, says("no"))}, failed("COIOTE_UNEXPECTED_ANSWER"), failed("COIOTE_UNEXPECTED_ANSWER")),
    "search: 429": ({SEARCH: (429, says("slow down"))}, waits("COIOTE_THROTTLED"), waits("COIOTE_THROTTLED")),
    "search: 500": ({SEARCH: (500, b"<html>")}, waits("COIOTE_UNAVAILABLE"), waits("COIOTE_UNAVAILABLE")),
    "search: 503": ({SEARCH: (503, says("no"))}, waits("COIOTE_UNAVAILABLE"), waits("COIOTE_UNAVAILABLE")),
    "search: no JSON": (
        {SEARCH: (200, b"<html>")},
        failed("COIOTE_UNEXPECTED_ANSWER"),
        failed("COIOTE_UNEXPECTED_ANSWER"),
    ),
    "search: an object": (
        {SEARCH: (200, {"ids": []})},
        failed("COIOTE_UNEXPECTED_ANSWER"),
        failed("COIOTE_UNEXPECTED_ANSWER"),
    ),
    "search: empty list": ({SEARCH: (200, [])}, failed("DEVICE_UNKNOWN"), failed("DEVICE_UNKNOWN")),
    "search: two devices": ({SEARCH: (200, ["d:1", "d:2"])}, failed("DEVICE_AMBIGUOUS"), failed("DEVICE_AMBIGUOUS")),
    "search: redirected": ({SEARCH: (302, None)}, failed("COIOTE_REFUSED"), failed("COIOTE_REFUSED")),
    "search: reset": ({SEARCH: RESET}, waits("COIOTE_INTERRUPTED"), waits("COIOTE_INTERRUPTED")),
    "search: lost": ({SEARCH: LOST}, waits("COIOTE_INTERRUPTED"), waits("COIOTE_INTERRUPTED")),
    "search: slow": ({SEARCH: SLOW}, waits("COIOTE_TIMED_OUT"), waits("COIOTE_TIMED_OUT")),
    "task: 400": ({CREATE: (400, says("values: 2 for\n1 keys"))}, failed("COIOTE_REFUSED"), failed("COIOTE_REFUSED")),
    "task: 401": ({CREATE: (401, says("no"))}, failed("COIOTE_UNAUTHORIZED"), failed("COIOTE_UNAUTHORIZED")),
    "task: 403": ({CREATE: (403, says("no"))}, failed("COIOTE_UNAUTHORIZED"), failed("COIOTE_UNAUTHORIZED")),
    "task: 404, the device": ({CREATE: (404, says("no such device"))}, failed("DEVICE_UNKNOWN"), failed("DEVICE_UNKNOWN")),
    "task: 404, the template": (
        {CREATE: (404, says("No Template of this name"))},
        failed("TEMPLATE_MISSING"),
        failed("TEMPLATE_MISSING"),
    ),
    "task: 400, the template": (
        {CREATE: (400, says("This template does not exist"))},
        failed("TEMPLATE_MISSING"),
        failed("TEMPLATE_MISSING"),
    ),
    "task: 409": ({CREATE: (409, says("conflict"))}, failed("COIOTE_REFUSED"), failed("COIOTE_REFUSED")),
    "task: 429": ({CREATE: (429, says("slow down"))}, waits("COIOTE_THROTTLED"), waits("COIOTE_THROTTLED")),
    "task: 429 for an hour": (
        {CREATE: (429, says("slow down"), {"Retry-After": "3600"})},
        waits("COIOTE_THROTTLED"),
        waits("COIOTE_THROTTLED"),
    ),
    "task: 500": ({CREATE: (500, b"<html>")}, waits("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: 502": ({CREATE: (502, b"<html>")}, waits("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: 503": ({CREATE: (503, says("maintenance"))}, waits("COIOTE_UNAVAILABLE"), waits("COIOTE_UNAVAILABLE")),
    # The answer of a gateway, which says nothing about Coiote
    "task: 503 of a gateway": ({CREATE: (503, b"<html>")}, waits("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: 504": ({CREATE: (504, b"<html>")}, waits("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: another success": ({CREATE: (200, "d:task:1")}, UNKNOWN, UNKNOWN),
    "task: no id": ({CREATE: (201, None)}, UNKNOWN_AND_DONE, UNKNOWN_AND_DONE),
    "task: no JSON": ({CREATE: (201, b"<html>")}, UNKNOWN_AND_DONE, UNKNOWN_AND_DONE),
    "task: reset": ({CREATE: RESET}, waits("COIOTE_INTERRUPTED"), UNKNOWN),
    "task: lost": ({CREATE: LOST}, waits("COIOTE_INTERRUPTED", 3), UNKNOWN_AND_DONE),
    # A call that got no answer for the whole time is not repeated.
    "task: slow": ({CREATE: SLOW}, waits("COIOTE_TIMED_OUT", 1), UNKNOWN_AND_DONE),
    "session: 401": ({SESSION: (401, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 404": ({SESSION: (404, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 409": ({SESSION: (409, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 429": ({SESSION: (429, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 503": ({SESSION: (503, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: lost": ({SESSION: LOST}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: slow": ({SESSION: SLOW}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    # Faults that pass
    "search: 503 once": ({SEARCH: [(503, None), (200, ["d:1"])]}, scheduled(), scheduled()),
    "search: lost twice": ({SEARCH: [LOST, LOST, (200, ["d:1"])]}, scheduled(), scheduled()),
    "task: 429 once": (
        {CREATE: [(429, None, {"Retry-After": "1"}), (201, "d:task:1")]},
        scheduled(),
        scheduled(),
    ),
    "task: 503 twice": ({CREATE: [(503, says("no")), (503, says("no")), (201, "d:task:1")]}, scheduled(), scheduled()),
    "task: 500 once": ({CREATE: [(500, None), (201, "d:task:1")]}, scheduled(), UNKNOWN),
    "task: lost once": ({CREATE: [LOST, (201, "d:task:1")]}, scheduled(tasks=2), UNKNOWN_AND_DONE),
    "task: reset once": ({CREATE: [RESET, (201, "d:task:1")]}, scheduled(), UNKNOWN),
    "session: 503 once": ({SESSION: [(503, None), (200, None)]}, scheduled(), scheduled()),
}


def new_request(stack, device, kind: str) -> dict:
    """The event of a request in a shadow; the deployed function does not get it."""
    thing = device()
    version = stack.aws.shadow(thing, "operation")["version"]
    return request(thing, version, kind)


def request(thing: str, version: int, kind: str) -> dict:
    return KINDS[kind] | {"thingName": thing, "version": version, "timestamp": int(time.time()), "clientToken": "a-token"}


def assert_outcome(expected: Expected, outcome: Outcome) -> None:
    entry = outcome.entry
    assert "errorType" not in outcome.result, outcome
    assert (entry["status"], entry.get("reason", {}).get("code")) == (expected.status, expected.code), outcome
    assert (outcome.result["status"], outcome.result.get("reason", {}).get("code")) == (expected.status, expected.code)
    assert outcome.tasks == expected.tasks, outcome
    posts = sum(asked.startswith(CREATE) for asked in outcome.asked)
    assert posts <= (1 if expected.code == "OUTCOME_UNKNOWN" else MOST_TRIES), outcome
    assert entry["clientToken"] == "a-token"
    assert entry.get("requestId") == (None if expected.status == "SCHEDULED" else outcome.result["requestId"])
    message = entry.get("reason", {}).get("message", "")
    assert "\n" not in message and bool(message) == bool(expected.code)
    assert not any(asked.startswith(SESSION) for asked in outcome.asked) or expected.status == "SCHEDULED"


def invoke(stack, event: dict, **environment: str) -> tuple[dict, dict]:
    function = Function(stack, "OperationRequest", environment)
    try:
        result = function.invoke(event, seconds=SECONDS)
    finally:
        function.stop()
    return result, stack.aws.answer_as(event["thingName"], result) if "request" in result else {}


@pytest.fixture(scope="module")
def ledgers(stack):
    """A queue of ledgers, for requests that are handled concurrently."""
    made = [OwnLedger(stack, f"ledger-of-faults-{number}") for number in range(8)]
    free: queue.Queue[OwnLedger] = queue.Queue()
    for ledger in made:
        free.put(ledger)
    yield free
    for ledger in made:
        ledger.remove()


@pytest.fixture(scope="module")
def outcomes(stack, ledgers) -> dict:
    """Outcomes of all faults of Coiote, which are run concurrently: they mostly wait."""

    def run(case: tuple[str, str, dict]) -> Outcome:
        fault, kind, event = case
        answers = {start: list(a) if isinstance(a, list) else a for start, a in COIOTE_FAULTS[fault][0].items()}
        ledger = ledgers.get()
        ledger.forget_outages()
        try:
            with scripted_coiote(stack.authority, answers) as script:
                result, entry = invoke(stack, event, COIOTE_URL=script.url, **ledger.environment)
                return Outcome(result, entry, len(script.tasks), list(script.asked))
        finally:
            ledgers.put(ledger)

    cases = []
    for number, fault in enumerate(COIOTE_FAULTS):
        for kind in KINDS:
            thing = f"fault-{number}-{kind}"
            stack.add_thing(thing)
            cases.append((fault, kind, request(thing, 1, kind)))
    with ThreadPoolExecutor(8) as pool:
        return {case[:2]: outcome for case, outcome in zip(cases, pool.map(run, cases), strict=True)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", COIOTE_FAULTS)
def test_a_fault_of_coiote(outcomes, fault, kind):
    assert_outcome(COIOTE_FAULTS[fault][1 + list(KINDS).index(kind)], outcomes[fault, kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_coiote_that_is_not_listening(stack, device, kind):
    with socket.socket() as held:
        # Bound but not listening: no other process gets the port, and connections to it are refused.
        held.bind(("127.0.0.1", 0))
        url = f"https://localhost:{held.getsockname()[1]}"
        result, entry = invoke(stack, new_request(stack, device, kind), COIOTE_URL=url)
    assert_outcome(waits("COIOTE_UNREACHABLE"), Outcome(result, entry, 0, []))


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_is_for_another_name(stack, device, kind):
    with scripted_coiote(stack.authority, {}, name="not-localhost") as script:
        result, entry = invoke(stack, new_request(stack, device, kind), COIOTE_URL=script.url)
        assert_outcome(failed("COIOTE_NOT_TRUSTED"), Outcome(result, entry, len(script.tasks), script.asked))


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_leads_to_another_root(stack, device, kind):
    with scripted_coiote(certificates.Authority("another root"), {}) as script:
        result, entry = invoke(stack, new_request(stack, device, kind), COIOTE_URL=script.url)
        assert_outcome(failed("COIOTE_NOT_TRUSTED"), Outcome(result, entry, len(script.tasks), script.asked))


# Fault of AWS → its effects on calls, and the expected outcome: the function's error where there is no answer in the shadow.
# The first UpdateItem claims the request, the second one records the outcome.
AWS = {
    "claim: throttled once": ("UpdateItem", [LEDGER_THROTTLED], scheduled()),
    "claim: broken once": ("UpdateItem", [BROKEN], scheduled()),
    "claim: answer lost": ("UpdateItem", [LoseAnswer()], scheduled()),
    "answer: throttled once": ("UpdateItem", [None, LEDGER_THROTTLED], scheduled()),
    "answer: broken once": ("UpdateItem", [None, BROKEN], scheduled()),
    "answer: lost": ("UpdateItem", [None, LoseAnswer()], scheduled()),
    "look: throttled once": ("GetItem", [LEDGER_THROTTLED], scheduled()),
    "look: denied": ("GetItem", ACCESS_DENIED, scheduled()),
    "device: throttled once": ("PutItem", [LEDGER_THROTTLED], scheduled()),
    "secret: throttled once": ("GetSecretValue", [THROTTLED], scheduled()),
    "secret: broken once": ("GetSecretValue", [BROKEN], scheduled()),
    "secret: denied": ("GetSecretValue", DENIED, failed("SECRET_UNAVAILABLE")),
    "secret: throttled": ("GetSecretValue", THROTTLED, waits("SECRET_UNAVAILABLE")),
    "claim: throttled": ("UpdateItem", LEDGER_THROTTLED, "LEDGER_UNAVAILABLE"),
    "claim: broken": ("UpdateItem", BROKEN, "LEDGER_UNAVAILABLE"),
    "claim: denied": ("UpdateItem", ACCESS_DENIED, "LEDGER_REFUSED"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", AWS)
def test_a_fault_of_aws(stack, device, environment_of, aws_between, fault, kind):
    call, faults, expected = AWS[fault]
    if isinstance(faults, list):
        aws_between.once(call, *faults)
    else:
        aws_between.always(call, faults)
    event = new_request(stack, device, kind)
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        result = function.invoke(event, seconds=SECONDS)
        assert call in aws_between.calls and aws_between.nothing_is_left_of(call)
        if isinstance(expected, Expected):
            entry = stack.aws.answer_as(event["thingName"], result)
            assert_outcome(expected, Outcome(result, entry, len(script.tasks), script.asked))
            return
        # The claim could not be recorded, so nothing was handed over, and the event is kept. The device may have been looked for.
        handed_over = [asked for asked in script.asked if not asked.startswith(SEARCH)]
        assert (result["errorType"], handed_over) == (expected, [])
        [line] = [line for line in function.log_lines() if line.get("message") == "request not recorded"]
        assert line["code"] == expected
        # A retry by Lambda, or a redrive, hands it over: nothing is lost.
        aws_between.heal()
        assert function.invoke(event | {"redriven": True}, seconds=SECONDS)["status"] == "SCHEDULED"
        assert len(script.tasks) == 1


def test_a_ledger_that_is_away(stack, device, environment_of):
    function = environment_of("OperationRequest", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    result = function.invoke(new_request(stack, device, "execute"), seconds=SECONDS)
    assert result["errorType"] == "LEDGER_UNAVAILABLE"
    function = environment_of("OperationRequest", REQUESTS_TABLE="there-is-no-such-table")
    assert function.invoke(new_request(stack, device, "execute"), seconds=SECONDS)["errorType"] == "LEDGER_REFUSED"


def test_the_device_is_found_while_the_request_is_claimed(stack, device, environment_of, aws_between):
    event = new_request(stack, device, "execute")
    with scripted_coiote(stack.authority, {}) as script:
        # The claim is delayed until the device was looked for.
        aws_between.once("UpdateItem", lambda: wait_for("the search", lambda: script.asked))
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        assert function.invoke(event)["status"] == "SCHEDULED"
        assert [asked.partition("?")[0] for asked in script.asked] == [SEARCH, CREATE, SESSION]
        assert function.invoke(event)["reason"]["code"] == "DUPLICATE"
        assert len(script.tasks) == 1


def test_a_secret_that_arrives_in_part_is_never_logged(stack, device, environment_of, aws_between):
    aws_between.always("GetSecretValue", CutAnswer())
    event = new_request(stack, device, "read")
    function = environment_of("OperationRequest", AWS_ENDPOINT_URL=aws_between.endpoint, RUST_LOG="info")
    result = function.invoke(event, seconds=SECONDS)
    entry = stack.aws.answer_as(event["thingName"], result)
    assert entry["reason"]["code"] == "SECRET_UNAVAILABLE"
    log = function.log.read_text()
    assert "secret could not be read" in log
    assert "BEGIN" not in str(result) + str(entry) + log


def test_a_call_that_fails_says_how_long_it_took(stack, device, environment_of):
    with scripted_coiote(stack.authority, {CREATE: SLOW}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        function.invoke(new_request(stack, device, "execute"), seconds=SECONDS)
    [line] = [line for line in function.log_lines() if line.get("call") == "create_task"]
    assert (line["message"], line["code"]) == ("call failed", "COIOTE_TIMED_OUT")
    assert line["duration_ms"] > 1_000, "it was waited for until the invocation's time was up"


@pytest.mark.parametrize(
    ("secret", "code", "message"),
    [
        (None, "SECRET_UNAVAILABLE", "ResourceNotFoundException"),
        ("not JSON, but s3cret", "SECRET_INVALID", "is not JSON"),
        ('{"certificatePem": "s3cret"}', "SECRET_INVALID", 'no string "privateKey"'),
        ('{"certificatePem": "s3cret", "privateKey": "s3cret"}', "SECRET_INVALID", "not valid PEM"),
    ],
)
def test_a_secret_that_cannot_be_used(stack, device, environment_of, secret, code, message):
    name = f"broken-{code}-{len(message)}"
    if secret is not None:
        stack.aws.secrets.create_secret(Name=name, SecretString=secret)
    function = environment_of("OperationRequest", COIOTE_SECRET_ID=name, RUST_LOG="debug")
    event = new_request(stack, device, "read")
    result = function.invoke(event)
    entry = stack.aws.answer_as(event["thingName"], result)
    assert_outcome(failed(code), Outcome(result, entry, 0, []))
    assert name in entry["reason"]["message"] and message in entry["reason"]["message"]
    assert "s3cret" not in str(result) + str(entry) + function.log.read_text()


@pytest.mark.parametrize("url", ["", "http://localhost:8088", "https://localhost:8088/api", "localhost"])
def test_a_url_that_is_not_valid(stack, device, environment_of, url):
    event = new_request(stack, device, "execute")
    result = environment_of("OperationRequest", COIOTE_URL=url).invoke(event)
    assert (result["status"], result["reason"]["code"]) == ("FAILED", "COIOTE_URL_INVALID")


def due(event: dict) -> dict:
    """The event by which reconcile invokes operation-request for a request that is due."""
    return {"thingName": event["thingName"], "due": str(event["version"])}


@pytest.mark.parametrize("kind", KINDS)
def test_a_waiting_request_is_handed_over_when_coiote_is_back(stack, device, environment_of, kind):
    event = new_request(stack, device, kind)
    answers = {CREATE: [(503, says("maintenance"), {"Retry-After": "60"}), (201, "d:task:1")]}
    with scripted_coiote(stack.authority, answers) as script:
        waiting = environment_of("OperationRequest", COIOTE_URL=script.url).invoke(event, seconds=SECONDS)
        entry = stack.aws.answer_as(event["thingName"], waiting)
        assert (entry["status"], entry["reason"]["code"]) == ("IN_PROGRESS", "COIOTE_UNAVAILABLE")
        # Another delivery, or Lambda's own retry, changes nothing.
        again = environment_of("OperationRequest", COIOTE_URL=script.url).invoke(event, seconds=SECONDS)
        assert (again["status"], script.tasks) == ("IN_PROGRESS", [])
        # It is handed over by another environment, and the reason is removed.
        handed_over = environment_of("OperationRequest", COIOTE_URL=script.url).invoke(due(event), seconds=SECONDS)
        entry = stack.aws.answer_as(event["thingName"], handed_over)
        assert (entry["status"], "reason" in entry, entry["clientToken"]) == ("SCHEDULED", False, "a-token")
        # The event of the due request comes twice.
        twice = environment_of("OperationRequest", COIOTE_URL=script.url).invoke(due(event), seconds=SECONDS)
        assert (twice["status"], len(script.tasks)) == ("IGNORED", 1)


def test_while_coiote_counts_as_away_it_is_left_alone(stack, device, environment_of, ledgers):
    """Coiote counts as away after three failures in a row, of any requests and environments."""
    ledger = ledgers.get()
    ledger.forget_outages()
    try:
        with scripted_coiote(stack.authority, {SEARCH: (503, says("maintenance"))}) as script:
            for _ in range(3):
                function = environment_of("OperationRequest", COIOTE_URL=script.url, **ledger.environment)
                answer = function.invoke(new_request(stack, device, "read"), seconds=SECONDS)
                assert answer["reason"]["code"] == "COIOTE_UNAVAILABLE"
            asked = len(script.asked)
            # An environment that has seen it does not call Coiote.
            answer = function.invoke(new_request(stack, device, "execute"), seconds=SECONDS)
            assert (answer["status"], answer["reason"]["code"]) == ("IN_PROGRESS", "COIOTE_AWAY")
            assert len(script.asked) == asked
            # One that has not asks the ledger; meanwhile it may have begun to look for the device.
            other = environment_of("OperationRequest", COIOTE_URL=script.url, **ledger.environment)
            answer = other.invoke(new_request(stack, device, "execute"), seconds=SECONDS)
            assert (answer["status"], answer["reason"]["code"]) == ("IN_PROGRESS", "COIOTE_AWAY")
            assert not any(asked.startswith(CREATE) for asked in script.asked)
    finally:
        ledgers.put(ledger)


@pytest.mark.parametrize(
    "fault", [Refuse(429, "TooManyRequestsException"), BROKEN, CutAnswer()], ids=["throttled", "broken", "half an answer"]
)
def test_waiting_requests_go_on_waiting_where_operation_request_gives_no_answer(
    stack, device, environment_of, aws_between, own_ledger, fault
):
    away = {SEARCH: (503, says("maintenance")), "GET /taskReports/findSince": (200, [])}
    invoke_function = "POST /2015-03-31"
    with scripted_coiote(stack.authority, away) as script:
        environment = own_ledger.environment | {"COIOTE_URL": script.url}
        function = environment_of("OperationRequest", **environment)
        for _ in range(3):
            assert function.invoke(new_request(stack, device, "read"), seconds=SECONDS)["status"] == "IN_PROGRESS"
        aws_between.always(invoke_function, fault)
        reconcile = environment_of(
            "Reconcile",
            **environment,
            AWS_ENDPOINT_URL=aws_between.endpoint,
            OPERATION_REQUEST_FUNCTION=stack.outputs["OperationRequestFunction"],
            RECONCILE_SECONDS="1",
        )
        for run in (1, 2):
            ended = reconcile.invoke({})
            # Coiote counts as away: a request was throttled, or one of each of three things has failed.
            assert (ended["waiting"], ended["handedOver"], ended["coioteAway"]) == (3, 0, True)
            lines = [line for line in reconcile.log_lines() if line.get("code") == "INVOCATION_FAILED"]
            assert [line["level"] for line in lines if "message" in line] == ["WARN"] * run
            assert sum("_aws" in line for line in lines) == run, "each is counted among the failures"
            tried = 1 if isinstance(fault, Refuse) and fault.status == 429 else 3
            assert aws_between.calls.count(invoke_function) == tried * run


def test_a_request_that_always_fails_keeps_no_other_from_coiote(stack, device, environment_of, aws_between, own_ledger):
    away = {SEARCH: (503, says("maintenance")), "GET /taskReports/findSince": (200, [])}
    with scripted_coiote(stack.authority, away) as script:
        environment = own_ledger.environment | {"COIOTE_URL": script.url}
        function = environment_of("OperationRequest", **environment)
        events = [new_request(stack, device, "read") for _ in range(3)]
        for event in events:
            assert function.invoke(event, seconds=SECONDS)["status"] == "IN_PROGRESS"
        # Coiote is back, except for the request that has waited longest.
        done = {"thingName": "a", "requestId": "r", "request": 1, "status": "SCHEDULED"}
        fails = events[0]["thingName"].encode()
        aws_between.always("POST /2015-03-31", lambda call: BROKEN if fails in call.body else Answer(done))
        reconcile = environment_of(
            "Reconcile",
            **environment,
            AWS_ENDPOINT_URL=aws_between.endpoint,
            OPERATION_REQUEST_FUNCTION=stack.outputs["OperationRequestFunction"],
            RECONCILE_SECONDS="1",
        )
        ended = reconcile.invoke({})
        assert (ended["handedOver"] >= 2, ended["coioteAway"]) == (True, False), ended


def test_no_request_waits_for_its_pause_when_coiote_is_back(stack, device, environment_of, aws_between, own_ledger):
    away = {SEARCH: (503, says("maintenance"), {"Retry-After": "7200"}), "GET /taskReports/findSince": (200, [])}
    with scripted_coiote(stack.authority, away) as script:
        environment = own_ledger.environment | {"COIOTE_URL": script.url}
        function = environment_of("OperationRequest", **environment)
        for _ in range(3):
            assert function.invoke(new_request(stack, device, "read"))["status"] == "IN_PROGRESS"
        done = {"thingName": "a", "requestId": "r", "request": 1, "status": "SCHEDULED"}
        aws_between.always("POST /2015-03-31", Answer(done))
        variables = environment | {"AWS_ENDPOINT_URL": aws_between.endpoint, "OPERATION_REQUEST_FUNCTION": "any", "RECONCILE_SECONDS": "1"}
        ended = environment_of("Reconcile", **variables).invoke({})
        assert (ended["handedOver"], ended["coioteAway"]) == (3, False), ended


def test_several_requests_that_always_fail_keep_no_other_from_coiote(stack, device, environment_of, aws_between, own_ledger):
    away = {SEARCH: (503, says("maintenance")), "GET /taskReports/findSince": (200, [])}
    with scripted_coiote(stack.authority, away) as script:
        environment = own_ledger.environment | {"COIOTE_URL": script.url}
        function, events = environment_of("OperationRequest", **environment), []
        for seconds_ago in range(7, 0, -1):
            events.append(new_request(stack, device, "read") | {"timestamp": int(time.time()) - seconds_ago})
            assert function.invoke(events[-1], seconds=SECONDS)["status"] == "IN_PROGRESS"
        script.answers[SEARCH] = (200, ["d:1"])
        # More than a probe tries, and than make a run stop, have waited longest.
        fail = [event["thingName"] for event in events[:4]]
        handed_over = []

        def hand_over(call) -> object:
            due = call.json()
            if due["thingName"] in fail:
                return BROKEN
            answer = function.invoke(due, seconds=SECONDS)
            handed_over.append((due["thingName"], answer["status"]))
            return Answer(answer)

        aws_between.always("POST /2015-03-31", hand_over)
        reconcile = environment_of(
            "Reconcile", **environment, AWS_ENDPOINT_URL=aws_between.endpoint, OPERATION_REQUEST_FUNCTION="any", RECONCILE_SECONDS="1",
        )
        for _ in range(3):
            reconcile.invoke({})
    assert sorted(handed_over) == sorted((event["thingName"], "SCHEDULED") for event in events[4:])


def test_coiote_stays_away_while_no_request_shows_that_it_is_back(stack, device, environment_of, own_ledger):
    away = {SEARCH: (503, says("maintenance")), "GET /taskReports/findSince": (200, [])}
    with scripted_coiote(stack.authority, away) as script:
        environment = own_ledger.environment | {"COIOTE_URL": script.url}
        function = environment_of("OperationRequest", **environment)
        event = new_request(stack, device, "read")
        assert function.invoke(event, seconds=SECONDS)["status"] == "IN_PROGRESS"
        key = {"thing": {"S": event["thingName"]}, "entry": {"S": "device"}}
        item = stack.aws.dynamodb.get_item(TableName=own_ledger.table, Key=key, ConsistentRead=True)["Item"]
        # The ledger fails for the only thing that waits: for others the circuit has opened meanwhile.
        stack.aws.dynamodb.put_item(TableName=own_ledger.table, Item=item | {"state": {"S": "garbage"}})
        circuit = {"thing": {"S": "#coiote"}, "entry": {"S": "circuit"}, "failures": {"N": "3"}, "openSince": {"N": "1"}}
        stack.aws.dynamodb.put_item(TableName=own_ledger.table, Item=circuit)
        reconcile = environment_of("Reconcile", **environment, RECONCILE_SECONDS="1")
        for _ in range(2):
            ended = reconcile.invoke({})
            assert (ended["waiting"], ended["handedOver"], ended["coioteAway"]) == (1, 0, True), ended
        [line, _] = [line for line in reconcile.log_lines() if line.get("thing") == event["thingName"]]
        assert (line["code"], line["level"]) == ("LEDGER_UNREADABLE", "WARN")


def test_a_task_whose_answer_could_not_be_written_is_remembered(stack, device, environment_of, aws_between):
    """The environment that has created the task remembers it."""
    for kind in KINDS:
        event = new_request(stack, device, kind)
        with scripted_coiote(stack.authority, {}) as script:
            function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
            aws_between.once("UpdateItem", None)
            aws_between.always("UpdateItem", ACCESS_DENIED)
            assert function.invoke(event, "one-invocation-" + kind, SECONDS)["errorType"] == "LEDGER_REFUSED"
            aws_between.heal()
            result = function.invoke(event, "one-invocation-" + kind, SECONDS)
            assert (result["status"], len(script.tasks)) == ("SCHEDULED", 1)
            stack.aws.answer_as(event["thingName"], result)


class Interrupted(NamedTuple):
    result: dict
    entry: dict
    tasks: int
    tasks_before: int


@pytest.fixture(scope="module")
def interrupted(stack, ledgers) -> dict:
    """Outcomes of requests whose function was killed, after the claim has expired: half a minute after the function's time was up.
    They run concurrently because of that half minute."""
    numbers = itertools.count(1)

    def run(case: tuple[str, str]) -> Interrupted:
        kind, again = case
        thing = f"interrupted-{next(numbers)}"
        stack.add_thing(thing)
        event = request(thing, 1, kind)
        ledger = ledgers.get()
        ledger.forget_outages()
        with scripted_coiote(stack.authority, {CREATE: [SLOW, (201, "d:task:2")]}) as script:
            environment = ledger.environment | {"COIOTE_URL": script.url}
            first = Function(stack, "OperationRequest", environment)
            first.begin(event, "one-invocation-of-" + thing, seconds=5)
            wait_for("the task to be created", lambda: len(script.tasks) == 1)
            first.kill()
            first.stop()
            others = [Function(stack, "OperationRequest", environment) for _ in range(2)]
            before = []

            def come_again() -> dict | None:
                before.append(len(script.tasks))
                if again == "retry":
                    result = others[0].invoke(event, "one-invocation-of-" + thing)
                    return None if result.get("errorType") == "EARLIER_ATTEMPT_UNDER_WAY" else result
                result = others[1].invoke(event | {"redriven": True})
                is_held = result["status"] == "IGNORED" and "IN_PROGRESS" in result["reason"]["message"]
                return None if is_held else result

            try:
                result = wait_for("the mark to be void", come_again)
                entry = stack.aws.answer_as(thing, result)
                return Interrupted(result, entry, len(script.tasks), before[-1])
            finally:
                for function in others:
                    function.stop()
                ledgers.put(ledger)

    cases = [(kind, again) for kind in KINDS for again in ("retry", "redrive")]
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(run, cases), strict=True))


@pytest.mark.parametrize("again", ["retry", "redrive"])
@pytest.mark.parametrize(
    ("kind", "expected"), [("read", (2, "SCHEDULED", None)), ("execute", (1, "FAILED", "OUTCOME_UNKNOWN"))]
)
def test_a_function_that_was_killed_while_it_ran(interrupted, kind, expected, again):
    """A retry goes on, and so does a redriven event whose attempts have left no answer; an execute is not sent twice."""
    outcome = interrupted[kind, again]
    assert outcome.tasks_before == 1, "while the first may still be at it, nothing is sent"
    assert (outcome.tasks, outcome.entry["status"], outcome.entry.get("reason", {}).get("code")) == expected
