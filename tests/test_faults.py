"""Each fault of Coiote and of AWS, against an operation that may run twice and one that must not, through its binary.

A fault lasts for one invocation of four seconds here. What is expected after it: the word in the operation shadow, how many
tasks Coiote has, and whether the invocation is an error, which Lambda makes again.
"""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from stack.aws_between import BROKEN, CONFLICT, DENIED, THROTTLED, TOO_LARGE, CutAnswer, LoseAnswer
from runtime_api import Function
from scripted_coiote import CREATE, LOST, RESET, SEARCH, SESSION, SLOW, scripted_coiote
from stack import certificates
from stack.processes import wait_for

SECONDS = 4
KINDS = {
    "read": {"operation": "read", "keys": ["Device.0.UTC Offset"]},
    "execute": {"operation": "execute", "keys": ["Device.0.Reboot"]},
}
ANY = object()


class Expected(NamedTuple):
    status: str
    code: str | None
    tasks: object = 0
    # The function's error; the code, where it is an error at all
    error: str | None = None


class Outcome(NamedTuple):
    result: dict
    entry: dict
    tasks: int
    asked: list[str]


def again(code: str, tasks: object = 0) -> Expected:
    """Lambda tries again, and the shadow says why it has to."""
    return Expected("IN_PROGRESS", code, tasks, code)


def failed(code: str, tasks: object = 0) -> Expected:
    return Expected("FAILED", code, tasks)


def scheduled(code: str | None = None, tasks: object = 1) -> Expected:
    return Expected("SCHEDULED", code, tasks)


def says(message: str) -> dict:
    return {"message": message, "code": 1}


UNKNOWN = failed("OUTCOME_UNKNOWN", 0)
UNKNOWN_AND_DONE = failed("OUTCOME_UNKNOWN", 1)

# Fault → Coiote's answers, what is expected of read, and of execute
LASTING = {
    "search: 400": ({SEARCH: (400, says("no"))}, failed("COIOTE_REFUSED"), failed("COIOTE_REFUSED")),
    "search: 401": ({SEARCH: (401, says("no"))}, failed("COIOTE_UNAUTHORIZED"), failed("COIOTE_UNAUTHORIZED")),
    "search: 404": ({SEARCH: (404, says("no"))}, failed("COIOTE_UNEXPECTED_ANSWER"), failed("COIOTE_UNEXPECTED_ANSWER")),
    "search: 429": ({SEARCH: (429, says("slow down"))}, again("COIOTE_THROTTLED"), again("COIOTE_THROTTLED")),
    "search: 500": ({SEARCH: (500, b"<html>")}, again("COIOTE_UNAVAILABLE"), again("COIOTE_UNAVAILABLE")),
    "search: 503": ({SEARCH: (503, says("no"))}, again("COIOTE_UNAVAILABLE"), again("COIOTE_UNAVAILABLE")),
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
    "search: reset": ({SEARCH: RESET}, again("COIOTE_INTERRUPTED"), again("COIOTE_INTERRUPTED")),
    "search: lost": ({SEARCH: LOST}, again("COIOTE_INTERRUPTED"), again("COIOTE_INTERRUPTED")),
    "search: slow": ({SEARCH: SLOW}, again("COIOTE_TIMED_OUT"), again("COIOTE_TIMED_OUT")),
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
    "task: 429": ({CREATE: (429, says("slow down"))}, again("COIOTE_THROTTLED"), again("COIOTE_THROTTLED")),
    "task: 429 for an hour": (
        {CREATE: (429, says("slow down"), {"Retry-After": "3600"})},
        again("COIOTE_THROTTLED"),
        again("COIOTE_THROTTLED"),
    ),
    "task: 500": ({CREATE: (500, b"<html>")}, again("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: 502": ({CREATE: (502, b"<html>")}, again("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: 503": ({CREATE: (503, says("maintenance"))}, again("COIOTE_UNAVAILABLE"), again("COIOTE_UNAVAILABLE")),
    "task: 504": ({CREATE: (504, b"<html>")}, again("COIOTE_UNAVAILABLE"), UNKNOWN),
    "task: another success": ({CREATE: (200, "d:task:1")}, failed("COIOTE_UNEXPECTED_ANSWER"), UNKNOWN),
    "task: no id": ({CREATE: (201, None)}, failed("COIOTE_UNEXPECTED_ANSWER", 1), UNKNOWN_AND_DONE),
    "task: no JSON": ({CREATE: (201, b"<html>")}, failed("COIOTE_UNEXPECTED_ANSWER", 1), UNKNOWN_AND_DONE),
    "task: reset": ({CREATE: RESET}, again("COIOTE_INTERRUPTED"), UNKNOWN),
    "task: lost": ({CREATE: LOST}, again("COIOTE_INTERRUPTED", ANY), UNKNOWN_AND_DONE),
    "task: slow": ({CREATE: SLOW}, again("COIOTE_TIMED_OUT", ANY), UNKNOWN_AND_DONE),
    "session: 401": ({SESSION: (401, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 404": ({SESSION: (404, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 409": ({SESSION: (409, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 429": ({SESSION: (429, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: 503": ({SESSION: (503, says("no"))}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: lost": ({SESSION: LOST}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    "session: slow": ({SESSION: SLOW}, scheduled("SESSION_NOT_STARTED"), scheduled("SESSION_NOT_STARTED")),
    # What passes
    "search: 503 once": ({SEARCH: [(503, None), (200, ["d:1"])]}, scheduled(), scheduled()),
    "search: lost twice": ({SEARCH: [LOST, LOST, (200, ["d:1"])]}, scheduled(), scheduled()),
    "task: 429 once": (
        {CREATE: [(429, None, {"Retry-After": "1"}), (201, "d:task:1")]},
        scheduled(),
        scheduled(),
    ),
    "task: 503 twice": ({CREATE: [(503, None), (503, None), (201, "d:task:1")]}, scheduled(), scheduled()),
    "task: 500 once": ({CREATE: [(500, None), (201, "d:task:1")]}, scheduled(), UNKNOWN),
    "task: lost once": ({CREATE: [LOST, (201, "d:task:1")]}, scheduled(tasks=2), UNKNOWN_AND_DONE),
    "task: reset once": ({CREATE: [RESET, (201, "d:task:1")]}, scheduled(), UNKNOWN),
    "session: 503 once": ({SESSION: [(503, None), (200, None)]}, scheduled(), scheduled()),
}


def new_request(stack, device, kind: str) -> dict:
    """A request in a shadow, as the rule passes it on; the deployed function never sees it."""
    thing = device()
    version = stack.aws.shadow(thing, "operation")["version"]
    return KINDS[kind] | {"thingName": thing, "version": version, "clientToken": "a-token"}


def check(expected: Expected, outcome: Outcome) -> None:
    entry = outcome.entry
    assert (entry["status"], entry.get("reason", {}).get("code")) == (expected.status, expected.code), outcome
    assert outcome.result.get("errorType") == expected.error, outcome
    assert expected.tasks is ANY or outcome.tasks == expected.tasks, outcome
    assert entry["attempt"] == 1 and entry["clientToken"] == "a-token"
    assert "claim" not in entry, "whoever claimed it has spoken"
    message = entry.get("reason", {}).get("message", "")
    assert "\n" not in message and bool(message) == bool(expected.code)
    if not expected.error:
        assert (outcome.result["status"], outcome.result.get("reason", {}).get("code")) == (expected.status, expected.code)
    assert not any(asked.startswith(SESSION) for asked in outcome.asked) or expected.status == "SCHEDULED"


def invoke(stack, event: dict, **environment: str) -> tuple[dict, dict]:
    function = Function(stack, "OperationRequest", environment)
    try:
        result = function.invoke(event, seconds=SECONDS)
    finally:
        function.stop()
    return result, stack.aws.answers(event["thingName"])[str(event["version"])]


@pytest.fixture(scope="module")
def lasting(stack) -> dict:
    """All of them side by side: they mostly wait."""

    def run(case: tuple[str, str, dict]) -> Outcome:
        fault, kind, event = case
        answers = {start: list(a) if isinstance(a, list) else a for start, a in LASTING[fault][0].items()}
        with scripted_coiote(stack.authority, answers) as script:
            result, entry = invoke(stack, event, COIOTE_URL=script.url)
            return Outcome(result, entry, len(script.tasks), list(script.asked))

    cases = []
    for number, fault in enumerate(LASTING):
        for kind in KINDS:
            thing = f"fault-{number}-{kind}"
            stack.add_thing(thing)
            cases.append((fault, kind, KINDS[kind] | {"thingName": thing, "version": 1, "clientToken": "a-token"}))
    with ThreadPoolExecutor(8) as pool:
        return {case[:2]: outcome for case, outcome in zip(cases, pool.map(run, cases), strict=True)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", LASTING)
def test_coiote(lasting, fault, kind):
    check(LASTING[fault][1 + list(KINDS).index(kind)], lasting[fault, kind])


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_listens(stack, device, kind):
    with socket.socket() as held:
        # Bound but not listening: nobody else gets the port, and connections to it are refused.
        held.bind(("127.0.0.1", 0))
        url = f"https://localhost:{held.getsockname()[1]}"
        result, entry = invoke(stack, new_request(stack, device, kind), COIOTE_URL=url)
    check(again("COIOTE_UNREACHABLE"), Outcome(result, entry, 0, []))


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_is_for_another_name(stack, device, kind):
    with scripted_coiote(stack.authority, {}, name="not-localhost") as script:
        result, entry = invoke(stack, new_request(stack, device, kind), COIOTE_URL=script.url)
        check(failed("COIOTE_NOT_TRUSTED"), Outcome(result, entry, len(script.tasks), script.asked))


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_leads_to_another_root(stack, device, kind):
    with scripted_coiote(certificates.Authority("another root"), {}) as script:
        result, entry = invoke(stack, new_request(stack, device, kind), COIOTE_URL=script.url)
        check(failed("COIOTE_NOT_TRUSTED"), Outcome(result, entry, len(script.tasks), script.asked))


# Fault of AWS → what it does to which call, what is expected of read and of execute; nothing in the shadow where it is None
AWS = {
    "claim: conflict once": (("update operation", [CONFLICT]), scheduled(), scheduled()),
    "claim: throttled once": (("update operation", [THROTTLED]), scheduled(), scheduled()),
    "claim: broken once": (("update operation", [BROKEN]), scheduled(), scheduled()),
    "claim: answer lost": (("update operation", [LoseAnswer()]), scheduled(), scheduled()),
    "claim: full once": (("update operation", [TOO_LARGE]), scheduled(), scheduled()),
    "answer: conflict once": (("update operation", [None, CONFLICT]), scheduled(), scheduled()),
    "answer: throttled once": (("update operation", [None, THROTTLED]), scheduled(), scheduled()),
    "answer: lost": (("update operation", [None, LoseAnswer()]), scheduled(), scheduled()),
    "look: throttled once": (("get operation", [THROTTLED]), scheduled(), scheduled()),
    "secret: throttled once": (("GetSecretValue", [THROTTLED]), scheduled(), scheduled()),
    "secret: broken once": (("GetSecretValue", [BROKEN]), scheduled(), scheduled()),
    "secret: denied": (("GetSecretValue", DENIED), failed("SECRET_UNAVAILABLE"), failed("SECRET_UNAVAILABLE")),
    "secret: throttled": (("GetSecretValue", THROTTLED), again("SECRET_UNAVAILABLE"), again("SECRET_UNAVAILABLE")),
    "claim: throttled": (("update operation", THROTTLED), "ANSWER_NOT_WRITTEN", "ANSWER_NOT_WRITTEN"),
    "claim: denied": (("update operation", DENIED), "ANSWER_NOT_WRITTEN", "ANSWER_NOT_WRITTEN"),
    "claim: full": (("update operation", TOO_LARGE), "OPERATION_SHADOW_FULL", "OPERATION_SHADOW_FULL"),
    "claim: conflict": (("update operation", CONFLICT), "ANSWER_NOT_WRITTEN", "ANSWER_NOT_WRITTEN"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", AWS)
def test_aws(stack, device, environment_of, aws_between, fault, kind):
    (call, faults), *expectations = AWS[fault]
    expected = expectations[list(KINDS).index(kind)]
    if isinstance(faults, list):
        aws_between.once(call, *faults)
    else:
        aws_between.always(call, faults)
    event = new_request(stack, device, kind)
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        result = function.invoke(event, seconds=SECONDS)
        entry = stack.aws.answers(event["thingName"]).get(str(event["version"]))
        if isinstance(expected, Expected):
            check(expected, Outcome(result, entry, len(script.tasks), script.asked))
        else:
            # Nobody could be told, so nothing was handed over, and the event is kept. The device may have been looked for.
            handed_over = [asked for asked in script.asked if not asked.startswith(SEARCH)]
            assert (result["errorType"], entry, handed_over) == (expected, None, [])


def test_the_device_is_found_while_the_request_is_claimed(stack, device, environment_of, aws_between):
    event = new_request(stack, device, "execute")
    with scripted_coiote(stack.authority, {}) as script:
        # The claim gets no further before the device was looked for.
        aws_between.once("update operation", lambda: wait_for("the search", lambda: script.asked))
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        assert function.invoke(event)["status"] == "SCHEDULED"
        assert [asked.partition("?")[0] for asked in script.asked] == [SEARCH, CREATE, SESSION]
        # What came before is not waited for.
        aws_between.calls.clear()
        assert function.invoke(event)["reason"]["code"] == "DUPLICATE"
        assert len(script.tasks) == 1


def test_a_secret_that_arrives_in_part_is_nowhere_to_be_read(stack, device, environment_of, aws_between):
    aws_between.always("GetSecretValue", CutAnswer())
    event = new_request(stack, device, "read")
    function = environment_of("OperationRequest", AWS_ENDPOINT_URL=aws_between.endpoint, RUST_LOG="info")
    result = function.invoke(event, seconds=SECONDS)
    entry = stack.aws.answers(event["thingName"])[str(event["version"])]
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
def test_a_secret_that_does_not_serve(stack, device, environment_of, secret, code, message):
    name = f"broken-{code}-{len(message)}"
    if secret is not None:
        stack.aws.secrets.create_secret(Name=name, SecretString=secret)
    function = environment_of("OperationRequest", COIOTE_SECRET_ID=name, RUST_LOG="debug")
    event = new_request(stack, device, "read")
    result = function.invoke(event)
    entry = stack.aws.answers(event["thingName"])[str(event["version"])]
    check(failed(code), Outcome(result, entry, 0, []))
    assert name in entry["reason"]["message"] and message in entry["reason"]["message"]
    assert "s3cret" not in str(result) + str(entry) + function.log.read_text()


@pytest.mark.parametrize("url", ["", "http://localhost:8088", "https://localhost:8088/api", "localhost"])
def test_a_url_that_is_none(stack, device, environment_of, url):
    event = new_request(stack, device, "execute")
    result = environment_of("OperationRequest", COIOTE_URL=url).invoke(event)
    assert (result["status"], result["reason"]["code"]) == ("FAILED", "COIOTE_URL_INVALID")


def test_three_attempts_and_then_the_last_word(stack, device, environment_of):
    event = new_request(stack, device, "execute")
    with scripted_coiote(stack.authority, {CREATE: (503, says("maintenance"))}) as script:
        # Each in an environment of its own, as after a minute.
        for attempt, status in ((1, "IN_PROGRESS"), (2, "IN_PROGRESS"), (3, "FAILED"), (3, "FAILED")):
            function = environment_of("OperationRequest", COIOTE_URL=script.url)
            result = function.invoke(event, request_id="one-invocation", seconds=2)
            entry = stack.aws.answers(event["thingName"])[str(event["version"])]
            assert (entry["attempt"], entry["status"]) == (attempt, status)
            assert result["errorType"] == entry["reason"]["code"] == "COIOTE_UNAVAILABLE"
    assert script.tasks == []


@pytest.mark.parametrize("kind", KINDS)
def test_coiote_is_back_at_the_next_attempt(stack, device, environment_of, kind):
    event = new_request(stack, device, kind)
    answers = {CREATE: [(503, says("maintenance"), {"Retry-After": "60"}), (201, "d:task:1")]}
    with scripted_coiote(stack.authority, answers) as script:
        for status, attempt in (("IN_PROGRESS", 1), ("SCHEDULED", 2)):
            function = environment_of("OperationRequest", COIOTE_URL=script.url)
            function.invoke(event, request_id="one-invocation", seconds=SECONDS)
            entry = stack.aws.answers(event["thingName"])[str(event["version"])]
            assert (entry["status"], entry["attempt"], "reason" in entry) == (status, attempt, status == "IN_PROGRESS")
        assert len(script.tasks) == 1


def test_attempts_that_could_not_be_counted_in_the_shadow_count_all_the_same(stack, device, environment_of, aws_between):
    """AWS IoT fails first, then Coiote: the third attempt is the last, though the shadow knows of one only."""
    event = new_request(stack, device, "read")
    with scripted_coiote(stack.authority, {SEARCH: (503, None, {"Retry-After": "60"})}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        aws_between.always("update operation", DENIED)
        for _ in range(2):
            assert function.invoke(event, "one-invocation", SECONDS)["errorType"] == "ANSWER_NOT_WRITTEN"
        aws_between.heal()
        assert function.invoke(event, "one-invocation", SECONDS)["errorType"] == "COIOTE_UNAVAILABLE"
    entry = stack.aws.answers(event["thingName"])[str(event["version"])]
    assert (entry["status"], entry["attempt"]) == ("FAILED", 1)


@pytest.mark.parametrize(
    ("kind", "same", "expected"),
    [
        # The environment that created the task knows of it; another one does not.
        ("read", True, (1, "SCHEDULED", 2)),
        ("read", False, (2, "SCHEDULED", 2)),
        ("execute", True, (1, "SCHEDULED", 1)),
        ("execute", False, (1, "FAILED", 1)),
    ],
)
def test_a_task_whose_answer_could_not_be_written(stack, device, environment_of, aws_between, kind, same, expected):
    event = new_request(stack, device, kind)
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        aws_between.once("update operation", None)
        aws_between.always("update operation", DENIED)
        assert function.invoke(event, "one-invocation", SECONDS)["errorType"] == "ANSWER_NOT_WRITTEN"
        aws_between.heal()
        if not same:
            function = environment_of("OperationRequest", COIOTE_URL=script.url)
        function.invoke(event, "one-invocation", SECONDS)
        entry = stack.aws.answers(event["thingName"])[str(event["version"])]
        assert (len(script.tasks), entry["status"], entry["attempt"]) == expected


@pytest.mark.parametrize(("kind", "expected"), [("read", (2, "SCHEDULED", None)), ("execute", (1, "FAILED", "OUTCOME_UNKNOWN"))])
def test_a_function_that_was_ended_in_mid_sentence(stack, device, environment_of, kind, expected):
    event = new_request(stack, device, kind)
    with scripted_coiote(stack.authority, {CREATE: [SLOW, (201, "d:task:2")]}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        function.begin(event, "one-invocation", SECONDS)
        wait_for("the task to be created", lambda: len(script.tasks) == 1)
        function.kill()
        result = environment_of("OperationRequest", COIOTE_URL=script.url).invoke(event, "one-invocation", SECONDS)
        entry = stack.aws.answers(event["thingName"])[str(event["version"])]
        assert (len(script.tasks), entry["status"], entry.get("reason", {}).get("code")) == expected
        assert (result["status"], "claim" in entry) == (entry["status"], False)
