"""One request, one task: however often it is delivered, by whom, and when."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from scripted_coiote import CREATE, SLOW, scripted_coiote
from stack.processes import wait_for

READ = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
EXECUTE = {"operation": "execute", "keys": ["Device.0.Reboot"]}
WRONG = {"operation": "read", "keys": ["Device..0"]}


def touch(stack, thing: str, reported: dict | None = None) -> int:
    """A next version of the shadow, which stands for a request's here: the deployed rule does not fire on it."""
    state = {"reported": reported} if reported else {}
    answer = stack.aws.iot_data.update_thing_shadow(
        thingName=thing, shadowName="operation", payload=json.dumps({"state": state}).encode()
    )
    return json.loads(answer["payload"].read())["version"]


def event(thing: str, version: int | None, request: dict = READ) -> dict:
    return request | {"thingName": thing} | ({"version": version} if version is not None else {})


@pytest.fixture
def two(environment_of, stack):
    """Two execution environments."""
    return [environment_of("OperationRequest") for _ in range(2)]


@pytest.mark.parametrize("request_", [READ, EXECUTE], ids=lambda request: request["operation"])
def test_two_deliveries_at_the_same_moment(stack, device, two, request_):
    for _ in range(10):
        thing = device()
        version = touch(stack, thing)
        running = [function.begin(event(thing, version, request_)) for function in two]
        results = [function.result(invocation) for function, invocation in zip(two, running, strict=True)]
        assert sorted(result["status"] for result in results) == ["IGNORED", "SCHEDULED"]
        assert next(r for r in results if r["status"] == "IGNORED")["reason"]["code"] == "DUPLICATE"
        assert len(stack.coiote.tasks(thing)) == 1
        assert stack.aws.answers(thing)[str(version)]["status"] == "SCHEDULED"


def test_one_execute_that_is_handed_out_twice_under_one_id(stack, device, two):
    for _ in range(10):
        thing = device()
        version = touch(stack, thing)
        running = [function.begin(event(thing, version, EXECUTE), "one-invocation-of-" + thing) for function in two]
        for function, invocation in zip(two, running, strict=True):
            function.result(invocation)
        assert len(stack.coiote.tasks(thing)) == 1
        # Whoever sent it knows what became of it, whatever the other one had to assume.
        assert stack.aws.answers(thing)[str(version)]["status"] == "SCHEDULED"


@pytest.mark.parametrize("same_id", [True, False])
@pytest.mark.parametrize("request_", [READ, EXECUTE, WRONG], ids=["read", "execute", "wrong"])
def test_a_delivery_after_the_last_word(stack, device, two, request_, same_id):
    thing = device()
    version = touch(stack, thing)
    first, second = "one-invocation", "one-invocation" if same_id else "another"
    status = two[0].invoke(event(thing, version, request_), first)["status"]
    answers = stack.aws.answers(thing)
    assert two[1].invoke(event(thing, version, request_), second)["status"] == "IGNORED"
    assert stack.aws.answers(thing) == answers and answers[str(version)]["status"] == status
    assert len(stack.coiote.tasks(thing)) == (0 if status == "REJECTED" else 1)


def test_a_delivery_while_another_one_is_at_it(stack, device, environment_of):
    thing = device()
    version = touch(stack, thing)
    with scripted_coiote(stack.authority, {CREATE: SLOW}) as script:
        first, second = (environment_of("OperationRequest", COIOTE_URL=script.url) for _ in range(2))
        running = first.begin(event(thing, version), seconds=5)
        wait_for("the task to be created", lambda: len(script.tasks) == 1)
        assert second.invoke(event(thing, version))["reason"]["code"] == "DUPLICATE"
        first.result(running)
        assert stack.aws.answers(thing)[str(version)]["status"] == "IN_PROGRESS"


def test_a_delivery_while_the_first_waits_for_its_next_attempt(stack, device, environment_of):
    """It need not wait: nobody is at it, and only one of both will be."""
    thing = device()
    version = touch(stack, thing)
    answers = {CREATE: [(503, None, {"Retry-After": "60"}), (201, "d:task:1")]}
    with scripted_coiote(stack.authority, answers) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        assert function.invoke(event(thing, version, EXECUTE), "first")["errorType"] == "COIOTE_UNAVAILABLE"
        assert function.invoke(event(thing, version, EXECUTE), "second")["status"] == "SCHEDULED"
        assert function.invoke(event(thing, version, EXECUTE), "first")["status"] == "IGNORED"
        assert len(script.tasks) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_requests_that_follow_each_other_closely(stack, device, two, order):
    thing = device()
    versions = [touch(stack, thing), touch(stack, thing)]
    running = [two[i].begin(event(thing, versions[i], EXECUTE)) for i in order]
    for i, invocation in zip(order, running, strict=True):
        assert two[i].result(invocation)["status"] == "SCHEDULED"
    assert len(stack.coiote.tasks(thing)) == 2
    assert set(stack.aws.answers(thing)) == {str(version) for version in versions}


def test_many_requests_of_one_device_at_the_same_moment(stack, device, environment_of):
    thing = device()
    functions = [environment_of("OperationRequest") for _ in range(4)]
    versions = [touch(stack, thing) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda n: functions[n % 4].invoke(event(thing, versions[n], EXECUTE)), range(len(versions)))
        )
    assert [result["status"] for result in results] == ["SCHEDULED"] * 8
    assert len(stack.coiote.tasks(thing)) == 8
    assert sorted(stack.aws.answers(thing), key=int) == [str(version) for version in versions]


@pytest.mark.parametrize("request_", [READ, WRONG], ids=["scheduled", "rejected"])
@pytest.mark.parametrize("environments", [1, 20])
def test_the_last_eight_are_kept(stack, device, environment_of, request_, environments):
    thing = device()
    functions = [environment_of("OperationRequest") for _ in range(min(environments, 3))]
    versions = []
    for number in range(20):
        versions.append(touch(stack, thing))
        functions[number % len(functions)].invoke(event(thing, versions[-1], request_))
    assert sorted(stack.aws.answers(thing), key=int) == [str(version) for version in versions[-8:]]


def test_a_warm_request_writes_twice_and_reads_nothing(stack, device, environment_of, aws_between):
    thing = device()
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        function.invoke(event(thing, touch(stack, thing)))
        # The secret is read while the request is claimed.
        aws_between.calls.remove("GetSecretValue")
        assert aws_between.calls == ["update operation", "get operation", "update operation"]
        aws_between.calls.clear()
        for _ in range(12):
            # Coiote's report and the answer to it come between one request and the next.
            touch(stack, thing)
            touch(stack, thing)
            function.invoke(event(thing, touch(stack, thing)))
            assert aws_between.calls == ["update operation"] * 2
            aws_between.calls.clear()
    assert len(stack.aws.answers(thing)) == 8


@pytest.mark.parametrize("size", [0, 2_000, 4_000, 6_500, 7_000])
def test_older_answers_yield_where_the_shadow_is_full(stack, device, environment_of, size):
    thing = device()
    function = environment_of("OperationRequest")
    long = {"operation": "read", "keys": ["Device.0." + "x" * 300] * 3, "clientToken": "t" * 64}
    result = {"large": "x" * size}
    touch(stack, thing, {"result": result})
    for _ in range(9):
        version = touch(stack, thing)
        assert function.invoke(event(thing, version, long))["status"] == "REJECTED"
        assert str(version) in stack.aws.answers(thing)
    reported = stack.aws.reported(thing, "operation")
    assert len(json.dumps(reported)) <= 8 * 1024 and reported["result"] == result
    assert 1 <= len(reported["requests"]) < 8


def test_a_shadow_without_room_for_a_single_answer(stack, device, environment_of):
    thing = device()
    touch(stack, thing, {"result": {"large": "x" * 8_100}})
    result = environment_of("OperationRequest").invoke(event(thing, touch(stack, thing)))
    assert result["errorType"] == "OPERATION_SHADOW_FULL"
    assert stack.coiote.tasks(thing) == []


def test_events_without_a_version(stack, device, two):
    thing = device()
    assert two[0].invoke(event(thing, None), "first")["status"] == "SCHEDULED"
    assert two[1].invoke(event(thing, None), "first")["status"] == "IGNORED"
    assert two[1].invoke(event(thing, None, EXECUTE), "second")["status"] == "SCHEDULED"
    assert stack.aws.answers(thing)["unversioned"]["operation"] == "execute"
    assert len(stack.coiote.tasks(thing)) == 2


@pytest.mark.parametrize("version", [None, 7])
def test_a_thing_without_an_operation_shadow(stack, two, version):
    thing = f"shadowless-{uuid.uuid4()}"
    stack.coiote.add_device(thing)
    running = [function.begin(event(thing, version, EXECUTE)) for function in two]
    results = [function.result(invocation)["status"] for function, invocation in zip(two, running, strict=True)]
    # Without a version, nothing tells one request from another.
    assert sorted(results) == (["SCHEDULED"] * 2 if version is None else ["IGNORED", "SCHEDULED"])
    assert set(stack.aws.answers(thing)) == {str(version or "unversioned")}


def test_an_execute_that_may_have_been_forgotten(stack, device, environment_of):
    thing = device()
    function = environment_of("OperationRequest")
    old = touch(stack, thing)
    for _ in range(8):
        function.invoke(event(thing, touch(stack, thing)))
    result = function.invoke(event(thing, old, EXECUTE))
    assert (result["status"], result["reason"]["code"]) == ("FAILED", "OUTCOME_UNKNOWN")
    assert stack.aws.answers(thing)[str(old)]["reason"]["code"] == "OUTCOME_UNKNOWN"
    # What may run twice is sent.
    assert function.invoke(event(thing, old - 1))["status"] == "SCHEDULED"
    assert len(stack.coiote.tasks(thing)) == 9


def test_the_author_may_remove_the_answers(stack, device, environment_of):
    thing = device()
    function = environment_of("OperationRequest")
    function.invoke(event(thing, touch(stack, thing)))
    stack.aws.iot_data.update_thing_shadow(
        thingName=thing, shadowName="operation", payload=b'{"state": {"reported": {"requests": null}}}'
    )
    version = touch(stack, thing)
    assert function.invoke(event(thing, version))["status"] == "SCHEDULED"
    assert set(stack.aws.answers(thing)) == {str(version)}
