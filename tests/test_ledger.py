"""A request has one task and one last word, however often its event is delivered, and whatever others write meanwhile."""

import functools
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from answers import status_and_code
from results import report_result
from scripted_coiote import CREATE, SLOW, scripted_coiote
from stack.aws_between import BROKEN, DENIED, THROTTLED
from stack.processes import wait_for

READ = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
EXECUTE = {"operation": "execute", "keys": ["Device.0.Reboot"]}
WRONG = {"operation": "read", "keys": ["Device..0"]}
LASTING_FAULT = (503, {"message": "maintenance", "code": 5030})


def new_version(stack, thing: str) -> int:
    """Makes a new version of the shadow for an event of the test; the deployed rule does not fire on it."""
    return stack.aws.update_shadow(thing, "operation", {})


@functools.cache
def made_at(thing: str, version: int | None) -> int:
    """Time of the request with this version; a second delivery has the same."""
    return int(time.time())


def event(thing: str, version: int | None, request: dict = READ, **more) -> dict:
    about = {"thingName": thing, "timestamp": made_at(thing, version)}
    return request | about | ({"version": version} if version is not None else {}) | more


def write(value: str, *keys: str) -> dict:
    keys = keys or ("Device.0.UTC Offset",)
    return {"operation": "write", "keys": list(keys), "values": [value] * len(keys)}


def report_result_of(stack, thing: str, request: dict, value: str = "+02:00") -> dict:
    """Reports this value for all keys of the request; returns the event."""
    result: dict = {}
    for key in request["keys"]:
        *place, last = key.split(".")
        into = result
        for name in place:
            into = into.setdefault(name, {})
        into[last] = value
    return report_result(stack, thing, result, request["operation"])


@pytest.fixture
def two_functions(environment_of):
    """Two execution environments of operation-request."""
    return [environment_of("OperationRequest") for _ in range(2)]


# ---------------------------------------------------------------- deliveries


@pytest.mark.parametrize("request_", [READ, EXECUTE], ids=lambda request: request["operation"])
def test_two_deliveries_at_the_same_moment(stack, device, two_functions, request_):
    for _ in range(10):
        thing = device()
        version = new_version(stack, thing)
        running = [function.begin(event(thing, version, request_)) for function in two_functions]
        results = [function.result(invocation) for function, invocation in zip(two_functions, running, strict=True)]
        assert sorted(result["status"] for result in results) == ["IGNORED", "SCHEDULED"]
        assert next(r for r in results if r["status"] == "IGNORED")["reason"]["code"] == "DUPLICATE"
        assert len(stack.coiote.tasks(thing)) == 1
        stack.aws.answer_as(thing, next(r for r in results if r["status"] == "SCHEDULED"))


def test_one_execute_that_is_delivered_twice_under_one_request_id(stack, device, two_functions):
    for _ in range(10):
        thing = device()
        version = new_version(stack, thing)
        running = [function.begin(event(thing, version, EXECUTE), "one-invocation-of-" + thing) for function in two_functions]
        results = [function.result(invocation) for function, invocation in zip(two_functions, running, strict=True)]
        assert len(stack.coiote.tasks(thing)) == 1
        # The other one may have to be retried, because it is not known whether the first is still running.
        assert {r.get("errorType", r.get("status")) for r in results} - {"IGNORED", "EARLIER_ATTEMPT_UNDER_WAY"} == {"SCHEDULED"}
        stack.aws.answer_as(thing, next(r for r in results if r.get("status") == "SCHEDULED"))


@pytest.mark.parametrize("same_id", [True, False])
@pytest.mark.parametrize("request_", [READ, EXECUTE, WRONG], ids=["read", "execute", "wrong"])
def test_a_delivery_after_the_last_word(stack, device, two_functions, request_, same_id):
    thing = device()
    version = new_version(stack, thing)
    first, second = "one-invocation", "one-invocation" if same_id else "another"
    result = two_functions[0].invoke(event(thing, version, request_), first)
    for redriven in ({}, {"redriven": True}):
        again = two_functions[1].invoke(event(thing, version, request_, **redriven), second)
        assert status_and_code(again) == ("IGNORED", "DUPLICATE")
    assert len(stack.coiote.tasks(thing)) == (0 if result["status"] == "REJECTED" else 1)
    stack.aws.answer_as(thing, result)


def test_a_delivery_while_another_one_is_running(stack, device, environment_of):
    thing = device()
    version = new_version(stack, thing)
    with scripted_coiote(stack.authority, {CREATE: SLOW}) as script:
        first, second = (environment_of("OperationRequest", COIOTE_URL=script.url) for _ in range(2))
        running = first.begin(event(thing, version), seconds=5)
        wait_for("the task to be created", lambda: len(script.tasks) == 1)
        assert second.invoke(event(thing, version))["reason"]["code"] == "DUPLICATE"
        stack.aws.answer_as(thing, first.result(running))
        assert len(script.tasks) == 1


def test_a_retry_while_the_attempt_before_it_is_running_is_a_warning(stack, device, environment_of):
    """Lambda tries once more, and nobody has to do anything."""
    thing = device()
    version = new_version(stack, thing)
    invocation = "one-invocation-of-" + thing
    with scripted_coiote(stack.authority, {CREATE: SLOW}) as script:
        first, second = (environment_of("OperationRequest", COIOTE_URL=script.url) for _ in range(2))
        running = first.begin(event(thing, version), invocation, seconds=5)
        wait_for("the task to be created", lambda: len(script.tasks) == 1)
        assert second.invoke(event(thing, version), invocation)["errorType"] == "EARLIER_ATTEMPT_UNDER_WAY"
        [line] = [line for line in second.log_lines() if line.get("message") == "request may be under way"]
        assert (line["level"], line["code"], line["thing"]) == ("WARN", "EARLIER_ATTEMPT_UNDER_WAY", thing)
        stack.aws.answer_as(thing, first.result(running))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_requests_that_follow_each_other_closely(stack, device, two_functions, order):
    thing = device()
    versions = [new_version(stack, thing), new_version(stack, thing)]
    running = [two_functions[i].begin(event(thing, versions[i], EXECUTE)) for i in order]
    for i, invocation in zip(order, running, strict=True):
        stack.aws.answer_as(thing, two_functions[i].result(invocation))
    assert len(stack.coiote.tasks(thing)) == 2


def test_many_requests_of_one_device_at_the_same_moment(stack, device, environment_of):
    thing = device()
    functions = [environment_of("OperationRequest") for _ in range(4)]
    versions = [new_version(stack, thing) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda n: functions[n % 4].invoke(event(thing, versions[n], EXECUTE)), range(len(versions)))
        )
    assert [result["status"] for result in results] == ["SCHEDULED"] * 8
    assert len(stack.coiote.tasks(thing)) == 8
    for result in results:
        stack.aws.answer_as(thing, result)


def test_an_execute_is_never_sent_twice(stack, device, environment_of):
    """Neither after many others, nor redriven, nor after requests without a version."""
    thing = device()
    functions = [environment_of("OperationRequest") for _ in range(3)]
    version = new_version(stack, thing)
    assert functions[0].invoke(event(thing, version, EXECUTE))["status"] == "SCHEDULED"
    assert functions[1].invoke(event(thing, None))["status"] == "SCHEDULED"
    for _ in range(12):
        last = functions[1].invoke(event(thing, new_version(stack, thing)))
    stack.aws.answer_as(thing, last)
    for function in functions:
        for more in ({}, {"redriven": True}):
            assert status_and_code(function.invoke(event(thing, version, EXECUTE, **more))) == ("IGNORED", "DUPLICATE")
    executes = [task for task in stack.coiote.tasks(thing) if task["template"] == "AWSexecuteCertAuth"]
    assert len(executes) == 1


def end_others(stack, thing: str, function) -> None:
    """Makes so many more requests that those before them leave the device's item; returns when all have ended."""
    for version in [new_version(stack, thing) for _ in range(12)]:
        function.invoke(event(thing, version))
        stack.aws.last_word(thing, version)


def test_a_write_that_the_device_has_refused_is_not_sent_again_by_a_redrive(stack, device, two_functions):
    """Neither while its record is in the device's item, nor when it is in the history."""
    thing = device()
    stack.coiote.refuse(thing, {"Device.0.UTC Offset": "4.00 Bad Request"})
    version, request = new_version(stack, thing), write("+05:00")
    assert two_functions[0].invoke(event(thing, version, request))["status"] == "SCHEDULED"
    assert stack.aws.last_word(thing, version)["status"] == "FAILED"
    for prepare in (lambda: None, lambda: end_others(stack, thing, two_functions[1])):
        prepare()
        again = two_functions[0].invoke(event(thing, version, request, redriven=True))
        assert status_and_code(again) == ("IGNORED", "DUPLICATE")
    assert [task["template"] for task in stack.coiote.tasks(thing)].count("AWSwriteCertAuth") == 1


def test_writes_of_a_deleted_shadow_do_not_overtake_those_of_a_new_one(stack, device, two_functions):
    """AWS IoT begins with version 0 again if a shadow was deleted for more than 48 hours."""
    thing = device()
    stack.coiote.refuse(thing, {"Device.0.UTC Offset": "4.00 Bad Request"})
    assert two_functions[0].invoke(event(thing, 1_000, write("+05:00")))["status"] == "SCHEDULED"
    assert stack.aws.last_word(thing, 1_000)["status"] == "FAILED"
    stack.coiote.refuse(thing, {})
    for prepare in (lambda: None, lambda: end_others(stack, thing, two_functions[1])):
        prepare()
        late = event(thing, new_version(stack, thing), write("+06:00"))
        assert status_and_code(two_functions[0].invoke(late)) == ("FAILED", "OVERTAKEN")
    in_three_days = int(time.time()) + 3 * 24 * 3600
    new = event(thing, new_version(stack, thing), write("+06:00"), timestamp=in_three_days)
    assert two_functions[0].invoke(new)["status"] == "SCHEDULED"


def test_an_event_without_a_version_is_recognised_after_many_others(stack, device, two_functions):
    thing = device()
    assert two_functions[0].invoke(event(thing, None, write("+05:00")), "first-invocation")["status"] == "SCHEDULED"
    end_others(stack, thing, two_functions[1])
    again = two_functions[0].invoke(event(thing, None, write("+05:00")), "first-invocation")
    assert status_and_code(again) == ("IGNORED", "DUPLICATE")
    assert [task["template"] for task in stack.coiote.tasks(thing)].count("AWSwriteCertAuth") == 1


def test_events_without_a_version(stack, device, two_functions):
    thing = device()
    first = two_functions[0].invoke(event(thing, None), "first-invocation")
    assert (first["status"], first["request"]) == ("SCHEDULED", "first-invocation")
    stack.aws.answer_as(thing, first)
    assert two_functions[1].invoke(event(thing, None), "first-invocation")["status"] == "IGNORED"
    # Its second delivery could not be recognized.
    assert status_and_code(two_functions[1].invoke(event(thing, None, EXECUTE), "second-invocation")) == ("REJECTED", "VERSION_MISSING")
    assert len(stack.coiote.tasks(thing)) == 1


def test_a_thing_without_an_operation_shadow(stack, two_functions):
    thing = f"shadowless-{uuid.uuid4()}"
    stack.coiote.add_device(thing)
    running = [function.begin(event(thing, 7, EXECUTE)) for function in two_functions]
    results = [function.result(invocation) for function, invocation in zip(two_functions, running, strict=True)]
    assert sorted(result["status"] for result in results) == ["IGNORED", "SCHEDULED"]
    stack.aws.answer_as(thing, next(r for r in results if r["status"] == "SCHEDULED"))


def test_an_event_that_is_older_than_a_requests_lifetime_is_not_sent(stack, device, two_functions):
    thing = device()
    old = event(thing, new_version(stack, thing)) | {"timestamp": int(time.time()) - 168 * 3600 - 1}
    assert status_and_code(two_functions[0].invoke(old)) == ("TIMED_OUT", "LIFETIME_OVER")
    assert stack.coiote.tasks(thing) == []


# ---------------------------------------------------------------- the same requests, and older ones


def test_the_same_execute_with_the_same_token_runs_once(stack, device, two_functions):
    thing = device()
    first, second, third = (new_version(stack, thing) for _ in range(3))
    assert two_functions[0].invoke(event(thing, first, EXECUTE, clientToken="my-token"))["status"] == "SCHEDULED"
    again = two_functions[1].invoke(event(thing, second, EXECUTE, clientToken="my-token"))
    assert status_and_code(again) == ("REJECTED", "SAME_TOKEN") and str(first) in again["reason"]["message"]
    # With another content, or if it may run twice, it is another request.
    other = EXECUTE | {"keys": ["Test object.0.Execute"]}
    assert two_functions[1].invoke(event(thing, third, other, clientToken="my-token"))["status"] == "SCHEDULED"
    for _ in range(2):
        assert two_functions[0].invoke(event(thing, new_version(stack, thing), READ, clientToken="same"))["status"] == "SCHEDULED"
    assert len(stack.coiote.tasks(thing)) == 4


def test_an_older_write_that_comes_after_a_newer_one_is_not_sent(stack, device, two_functions):
    thing = device()
    older, newer = new_version(stack, thing), new_version(stack, thing)
    assert two_functions[0].invoke(event(thing, newer, write("newer")))["status"] == "SCHEDULED"
    answer = two_functions[1].invoke(event(thing, older, write("older")))
    assert status_and_code(answer) == ("FAILED", "OVERTAKEN")
    stack.aws.answer_as(thing, answer)
    assert len(stack.coiote.tasks(thing)) == 1


def test_writes_to_one_key_reach_coiote_in_their_order(stack, device, environment_of):
    """A write waits behind an older one that waits, and follows it; a write of other keys does not wait."""
    thing = device()
    first, second, third = (new_version(stack, thing) for _ in range(3))
    with scripted_coiote(stack.authority, {CREATE: [LASTING_FAULT] * 3 + [(201, "d:task:1"), (201, "d:task:2"), (201, "d:task:3")]}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        assert status_and_code(function.invoke(event(thing, first, write("first")))) == ("IN_PROGRESS", "COIOTE_UNAVAILABLE")
        waits = function.invoke(event(thing, second, write("second", "Device.0.UTC Offset", "Device.0.Timezone")))
        assert status_and_code(waits) == ("IN_PROGRESS", "WAITS_FOR_OLDER_WRITE")
        stack.aws.answer_as(thing, waits)
        other = function.invoke(event(thing, third, write("68", "LwM2M Server.1.Lifetime")))
        assert other["status"] == "SCHEDULED"
        handed_over = function.invoke({"thingName": thing, "due": str(first)})
        assert handed_over["status"] == "SCHEDULED"
        tasks = {v: stack.aws.last_word(thing, v, ("SCHEDULED",))["taskId"] for v in (third, first, second)}
        assert tasks == {third: "d:task:1", first: "d:task:2", second: "d:task:3"}


def test_waiting_requests_can_be_canceled(stack, device, environment_of):
    thing = device()
    waiting, by_token, cancel = (new_version(stack, thing) for _ in range(3))
    with scripted_coiote(stack.authority, {CREATE: LASTING_FAULT}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        assert function.invoke(event(thing, waiting))["status"] == "IN_PROGRESS"
        assert function.invoke(event(thing, by_token, EXECUTE, clientToken="my-token"))["status"] == "IN_PROGRESS"
        answer = function.invoke(event(thing, cancel, {"operation": "cancelRequest", "requests": [waiting, "my-token", 9999]}))
        assert status_and_code(answer) == ("SUCCEEDED", "CANCEL_DONE") and "9999: not among" in answer["reason"]["message"]
        for version in (waiting, by_token):
            assert status_and_code(stack.aws.last_word(thing, version, ("CANCELED",))) == ("CANCELED", "CANCELED")
        assert function.invoke({"thingName": thing, "due": str(waiting)})["status"] == "IGNORED"
    assert script.tasks == []


# ---------------------------------------------------------------- results and their requests


def test_a_result_does_not_answer_a_request_that_waits(stack, device, environment_of):
    thing = device()
    waiting, sent = new_version(stack, thing), new_version(stack, thing)
    with scripted_coiote(stack.authority, {CREATE: [LASTING_FAULT] * 3 + [(201, "d:task:1"), (201, "d:task:2")]}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        assert function.invoke(event(thing, waiting))["status"] == "IN_PROGRESS"
        assert function.invoke(event(thing, sent))["status"] == "SCHEDULED"
        folds = environment_of("OperationResponse")
        assert folds.invoke(report_result_of(stack, thing, READ))["request"] == sent
        stack.aws.last_word(thing, sent, ("SUCCEEDED",))
        stack.aws.last_word(thing, waiting, ("IN_PROGRESS",))
        # It is handed over when it is due, and has a result of its own.
        assert function.invoke({"thingName": thing, "due": str(waiting)})["status"] == "SCHEDULED"
        assert len(script.tasks) == 2
        assert folds.invoke(report_result_of(stack, thing, READ))["request"] == waiting
        stack.aws.last_word(thing, waiting, ("SUCCEEDED",))


def test_a_result_that_aws_refuses_does_not_shift_the_answers(stack, device):
    """The result of the whole data model is too large for a shadow; later requests get their own answers."""
    thing = device()
    stack.coiote.set_values(thing, {"Device.0.Timezone": "x" * 9_000})
    large = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0.Timezone"]})
    task = stack.aws.last_word(thing, large, ("SCHEDULED",))["taskId"]
    assert stack.coiote.task(thing, task)["status"] == "done"
    for number in range(3):
        request = {"operation": "read", "keys": ["Device.0.UTC Offset" if number % 2 else "Device.0.Battery Level"]}
        version = stack.aws.request(thing, request)
        assert status_and_code(stack.aws.last_word(thing, version)) == ("SUCCEEDED", None)
    assert stack.aws.answers(thing)[str(large)]["status"] == "SCHEDULED"


def test_the_shadow_keeps_the_newest_result_as_a_whole_and_no_other(stack, device):
    thing = device()

    def result_of(*keys: str) -> dict:
        version = stack.aws.request(thing, {"operation": "read", "keys": list(keys)})
        assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
        return stack.aws.reported(thing, "operation")["result"]

    first = result_of("Device.0")
    assert first["Device"]["0"]["Error Code"] and isinstance(first["Device"]["0"]["Error Code"], dict), "a multiple resource"
    assert result_of("Device.0") == first
    assert result_of("Device.0.Error Code") == {"Device": {"0": {"Error Code": first["Device"]["0"]["Error Code"]}}}
    offset = {"Device": {"0": {"UTC Offset": first["Device"]["0"]["UTC Offset"]}}}
    assert result_of("Device.0.UTC Offset") == offset
    assert list(result_of("Test object.0.Integer array")) == ["Test object"]


def test_results_that_are_handled_in_the_other_order(stack, device, environment_of):
    thing = device()
    versions = [new_version(stack, thing), new_version(stack, thing)]
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        for version in versions:
            assert function.invoke(event(thing, version))["status"] == "SCHEDULED"
    first, second = report_result_of(stack, thing, READ, "+01:00"), report_result_of(stack, thing, READ, "+02:00")
    answered = {environment_of("OperationResponse").invoke(result)["request"] for result in (second, first)}
    assert answered == set(versions)
    for version in versions:
        assert status_and_code(stack.aws.last_word(thing, version, ("SUCCEEDED",))) == ("SUCCEEDED", None)
    assert stack.aws.reported(thing, "datamodel") == {"Device": {"0": {"UTC Offset": "+02:00"}}}


# ---------------------------------------------------------------- other writers


def test_a_console_that_saves_the_whole_document(stack, device):
    """There is no second reboot, no result is folded again, and the answers are restored."""
    thing = device()
    read = stack.aws.request(thing, READ)
    assert stack.aws.last_word(thing, read)["status"] == "SUCCEEDED"
    # Its values stay in `desired`, so that they are saved with the execute, which has none.
    written = stack.aws.request(thing, {"operation": "write", "keys": ["LwM2M Server.1.Lifetime"], "values": [68]})
    assert stack.aws.last_word(thing, written)["status"] == "SUCCEEDED"
    executed = stack.aws.request(thing, {"keys": EXECUTE["keys"], "operation": "execute"})
    task = stack.aws.last_word(thing, executed, ("SCHEDULED", "SUCCEEDED"))["taskId"]
    stack.coiote.task(thing, task)
    stack.aws.update_shadow(thing, "datamodel", {"reported": {"Device": {"0": {"UTC Offset": "notified"}}}})
    document = stack.aws.shadow(thing, "operation")["state"]
    document["reported"]["requests"][str(read)]["status"] = "FAILED"
    document["reported"]["requests"]["9999"] = {"operation": "read", "status": "SCHEDULED"}

    saved = stack.aws.update_shadow(thing, "operation", {"desired": document["desired"], "reported": document["reported"]})

    assert status_and_code(stack.aws.last_word(thing, saved)) == ("REJECTED", "RESAVED")
    wait_for("the copies to be put right", lambda: "9999" not in stack.aws.answers(thing))
    assert stack.aws.answers(thing)[str(read)]["status"] == "SUCCEEDED"
    assert stack.aws.reported(thing, "datamodel")["Device"]["0"]["UTC Offset"] == "notified"
    assert len([task for task in stack.coiote.tasks(thing) if task["template"] == "AWSexecuteCertAuth"]) == 1
    # Without the rest of the document, it is a new request.
    again = stack.aws.request(thing, {"keys": EXECUTE["keys"], "operation": "execute"})
    stack.aws.last_word(thing, again, ("SCHEDULED", "SUCCEEDED"))
    # As it is after it was removed. What the update sets beside it makes no request.
    cleared = stack.aws.update_shadow(thing, "operation", {"desired": {"operation": None, "keys": EXECUTE["keys"]}})
    stack.aws.log_line(stack.outputs["OperationRequestLogGroup"], "nothing to do", thing=thing, version=cleared)
    document = stack.aws.shadow(thing, "operation")["state"]
    desired = document["desired"] | {"operation": "execute"}
    saved = stack.aws.update_shadow(thing, "operation", {"desired": desired, "reported": document["reported"]})
    stack.aws.last_word(thing, saved, ("SCHEDULED", "SUCCEEDED"))


def test_the_author_may_remove_the_answers(stack, device, environment_of):
    thing = device()
    function = environment_of("OperationRequest")
    stack.aws.answer_as(thing, function.invoke(event(thing, new_version(stack, thing))))
    stack.aws.update_shadow(thing, "operation", {"reported": {"requests": None}})
    stack.aws.answer_as(thing, function.invoke(event(thing, new_version(stack, thing))))


# ---------------------------------------------------------------- room


def test_the_newest_eight_open_ones_are_shown(stack, device, environment_of):
    thing = device()
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        versions = [new_version(stack, thing) for _ in range(12)]
        for version in versions:
            last = function.invoke(event(thing, version))
    stack.aws.answer_as(thing, last)
    assert sorted(stack.aws.answers(thing), key=int) == [str(version) for version in versions[-8:]]


@pytest.mark.parametrize("size", [0, 2_000, 4_000, 5_500])
def test_answers_stay_within_their_room(stack, device, environment_of, size):
    """Requests of 8 KB with long reasons and the longest tokens, with a result in the same shadow."""
    thing = device()
    function = environment_of("OperationRequest")
    result = {"large": "x" * size}
    stack.aws.update_shadow(thing, "operation", {"reported": {"result": result}})
    wrong = {"operation": "read", "keys": ["Device.0." + "x" * 300 for _ in range(26)], "clientToken": "t" * 64}
    for _ in range(9):
        answer = function.invoke(event(thing, new_version(stack, thing), wrong))
        assert answer["status"] == "REJECTED"
    entry = stack.aws.last_word(thing, answer["request"])
    assert (entry["clientToken"], entry["reason"]["code"]) == ("t" * 64, answer["reason"]["code"])
    reported = stack.aws.reported(thing, "operation")
    assert reported["result"] == result
    assert len(json.dumps(reported["requests"], ensure_ascii=False, separators=(",", ":")).encode()) <= 5_000
    assert len(reported["requests"]) >= 3


def test_a_reason_of_eight_thousand_characters(stack, device, environment_of):
    thing = device()
    said_by_coiote = (400, {"message": "no\n" + "ä" * 8_000, "code": 1})
    with scripted_coiote(stack.authority, {CREATE: said_by_coiote}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)
        answer = function.invoke(event(thing, new_version(stack, thing), READ, clientToken="t" * 64))
    entry = stack.aws.answer_as(thing, answer)
    assert status_and_code(entry) == ("FAILED", "COIOTE_REFUSED")
    assert len(entry["reason"]["message"].encode()) < 500 and "\n" not in entry["reason"]["message"]


def test_a_shadow_without_room_for_a_single_answer(stack, device):
    """The request is handled, and the answer comes when there is room."""
    thing = device()
    stack.aws.update_shadow(thing, "operation", {"reported": {"result": {"large": "x" * 8_050}}})
    version = stack.aws.request(thing, EXECUTE)
    line = stack.aws.log_line(stack.outputs["AnswersLogGroup"], "copies not written; they are tried again", thing=thing)
    assert line["code"] == "OPERATION_SHADOW_FULL"
    assert len(stack.coiote.tasks(thing)) == 1
    stack.aws.update_shadow(thing, "operation", {"reported": {"result": None}})
    stack.aws.sqs.send_message(QueueUrl=stack.outputs["AnswersQueueUrl"], MessageBody=thing)
    stack.aws.last_word(thing, version, ("SCHEDULED", "SUCCEEDED"))


@pytest.mark.parametrize("fault", [THROTTLED, BROKEN, DENIED], ids=lambda fault: fault.code)
def test_answers_that_aws_iot_does_not_take_are_put_off_and_written_later(stack, device, environment_of, aws_between, fault):
    thing = device()
    version = stack.aws.request(thing, READ)
    stack.aws.last_word(thing, version)
    key = {"thing": {"S": thing}, "entry": {"S": "device"}}
    item = stack.aws.dynamodb.get_item(TableName=stack.outputs["RequestsTable"], Key=key, ConsistentRead=True)["Item"]
    changed = {"Records": [{"eventSource": "aws:dynamodb", "dynamodb": {"Keys": key, "NewImage": item}}]}
    queued = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": thing}]}
    function = environment_of("Answers", AWS_ENDPOINT_URL=aws_between.endpoint)
    aws_between.always("update operation", fault)
    # A message stays in the queue; for a record of the stream, one is put there.
    assert function.invoke(queued) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert "SendMessage" not in aws_between.calls
    stack.aws.update_shadow(thing, "operation", {"reported": {"requests": None}})
    assert function.invoke(changed) == {"batchItemFailures": []}
    assert "SendMessage" in aws_between.calls
    told = [line for line in function.log_lines() if line.get("message") == "copies not written; they are tried again"]
    assert [(line["code"], line["thing"], line["level"]) for line in told] == [("ANSWER_NOT_WRITTEN", thing, "WARN")] * 2
    # The deployed function gets the thing from the queue.
    assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
    # If the queue refuses it, too, the record of the stream is retried.
    aws_between.always("SendMessage", fault)
    assert function.invoke(changed)["errorType"] == "ANSWER_NOT_WRITTEN"
    [line] = [line for line in function.log_lines() if line.get("message") == "copies not written, and not put off"]
    assert (line["code"], line["thing"], line["level"]) == ("ANSWER_NOT_WRITTEN", thing, "ERROR")


def test_a_record_that_cannot_be_read_leaves_no_copy_out(stack, device, environment_of):
    """As while a deployment replaces one function after another."""
    thing = device()
    version = stack.aws.request(thing, READ)
    stack.aws.last_word(thing, version)
    stack.aws.update_shadow(thing, "operation", {"reported": {"requests": None}})
    key = {"thing": {"S": thing}, "entry": {"S": "device"}}
    item = stack.aws.dynamodb.get_item(TableName=stack.outputs["RequestsTable"], Key=key, ConsistentRead=True)["Item"]
    newer = item | {"events": {"L": [{"S": '{"Unknown": {}}'}]}}
    records = [{"Keys": key, "NewImage": newer}, {"Keys": key, "OldImage": newer, "NewImage": item}]
    function = environment_of("Answers")
    event = {"Records": [{"eventSource": "aws:dynamodb", "dynamodb": record} for record in records]}
    assert function.invoke(event) == {"batchItemFailures": []}
    assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
    told = [line["code"] for line in function.log_lines() if line.get("message") == "record left out"]
    assert told == ["EVENT_INVALID"] * 2


# ---------------------------------------------------------------- cost


def test_the_calls_of_a_warm_request(stack, device, environment_of, aws_between):
    """Two calls to Coiote, two to the ledger and a third every few seconds, and none to shadows."""
    thing = device()
    with scripted_coiote(stack.authority, {}) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url, AWS_ENDPOINT_URL=aws_between.endpoint)
        function.invoke(event(thing, new_version(stack, thing)))
        assert sorted(aws_between.calls) == ["GetItem", "GetSecretValue", "PutItem", "UpdateItem", "UpdateItem"]
        folds = environment_of("OperationResponse")
        for _ in range(12):
            # Coiote reports each result before the next request.
            folds.invoke(report_result_of(stack, thing, READ))
            aws_between.calls.clear()
            script.asked.clear()
            function.invoke(event(thing, new_version(stack, thing)))
            assert [call for call in aws_between.calls if call != "GetItem"] == ["UpdateItem"] * 2
            assert len(aws_between.calls) <= 3
            assert len(script.asked) == 2
