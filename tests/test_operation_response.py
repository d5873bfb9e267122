"""operation-response: what the datamodel shadow holds after results that follow each other, and what their requests are told."""

import json
import time

import pytest

from stack.aws_between import BROKEN, CONFLICT, DENIED, THROTTLED, TOO_LARGE

PLAIN = {"Device": {"0": {"UTC Offset": "+02:00"}}}
# Long ago
THEN = 1795370400


def response(thing: str, result: object, operation: str = "read", failed_keys: list[str] | None = None, **more) -> dict:
    event = {"operation": operation, "failedKeys": failed_keys or [""], "result": result, "thingName": thing}
    return event | {"version": 3, "timestamp": THEN} | more


def respond(functions, thing: str, *arguments, **more):
    return functions["OperationResponse"].invoke(response(thing, *arguments, **more))


def report(stack, thing: str, result: object, operation: str = "read", failed_keys: list[str] | None = None) -> dict:
    """Coiote's report in the operation shadow, of a kind that the deployed rule does not know; and the event of it."""
    reported = {"operation": operation, "failedKeys": failed_keys or [""], "result": result}
    # The rule looks for the operation beside the result in one update.
    update(stack, thing, "operation", {"reported": {name: reported[name] for name in ("operation", "failedKeys")}})
    version = update(stack, thing, "operation", {"reported": {"result": result}})
    return reported | {"thingName": thing, "version": version, "timestamp": int(time.time())}


def update(stack, thing: str, shadow: str, state: dict) -> int:
    payload = json.dumps({"state": state}).encode()
    answer = stack.aws.iot_data.update_thing_shadow(thingName=thing, shadowName=shadow, payload=payload)
    return json.loads(answer["payload"].read())["version"]


def scheduled(stack, thing: str, operation: str = "read", **more) -> int:
    """A request that waits for its result, as operation-request leaves it."""
    version = stack.aws.shadow(thing, "operation")["version"]
    entry = {"operation": operation, "status": "SCHEDULED", "taskId": "t", "attempt": 1, "requestId": "r"} | more
    update(stack, thing, "operation", {"reported": {"requests": {str(version): entry}}})
    return version


def datamodel(stack, thing: str) -> dict:
    return stack.aws.reported(thing, "datamodel")


def code(answer: dict) -> tuple:
    return answer["status"], answer.get("reason", {}).get("code")


def test_results_add_up(stack, functions, device):
    thing = device()
    respond(functions, thing, {"Device": {"0": {"UTC Offset": "+01:00", "Battery Level": "97"}}})
    respond(functions, thing, {"Device": {"0": {"UTC Offset": "+02:00"}}}, "write")
    respond(functions, thing, {"LwM2M Server": {"1": {"Lifetime": 68}}}, "readComposite")
    assert datamodel(stack, thing) == {
        "Device": {"0": {"UTC Offset": "+02:00", "Battery Level": "97"}},
        "LwM2M Server": {"1": {"Lifetime": "68"}},
    }


def test_a_value_and_no_value_replace_each_other(stack, functions, device):
    thing = device()

    def is_now(value: object) -> None:
        respond(functions, thing, {"Test object": {"0": {"Integer array": value}}})
        assert datamodel(stack, thing)["Test object"]["0"]["Integer array"] == value

    for value in ({"noValue": True}, {"0": "6", "1": "7"}, {"noValue": True}, "plain", {"0": "6"}, {}, {"4": "5"}, "plain"):
        is_now(value)


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        (["Test object.0.Integer array"], {"4": "256"}),
        (["Test object.0."], {"4": "256"}),
        (["/"], {"4": "256"}),
        (["Test object.0.Integer array.4"], {"0": "6", "4": "256"}),
        (["Test object.0", "Test object.0.Integer array.4"], {"0": "6", "4": "256"}),
        # Not known what was read
        (None, {"0": "6", "4": "256"}),
    ],
)
@pytest.mark.parametrize("known_by", ["desired", "request"])
def test_resource_instances_that_are_gone(stack, functions, device, keys, left, known_by):
    thing = device()
    respond(functions, thing, {"Test object": {"0": {"Integer array": {"0": "6", "4": "255"}}}})
    if keys and known_by == "desired":
        # Coiote does not know the thing, so no request waits for the result: only desired says what was read.
        stack.coiote.remove_device(thing)
        version = stack.aws.request(thing, {"operation": "read", "keys": keys})
        assert stack.aws.last_word(thing, version)["status"] == "FAILED"
    elif keys:
        in_part = {"instancesOf": ["Test object.0.Integer array"]} if keys[-1].endswith(".4") else {}
        scheduled(stack, thing, **in_part)
    event = report(stack, thing, {"Test object": {"0": {"Integer array": {"4": "256"}}}})
    functions["OperationResponse"].invoke(event)
    assert datamodel(stack, thing)["Test object"]["0"]["Integer array"] == left


def test_what_failed_is_not_gone(stack, functions, device):
    thing = device()
    respond(functions, thing, {"T": {"0": {"A": {"0": "a", "1": "b"}, "B": "c", "C": {"0": "d", "1": "e"}}}})
    scheduled(stack, thing)
    event = report(stack, thing, {"T": {"0": {"A": {"0": "x"}, "C": {"0": "y"}}}}, failed_keys=["T.0.A.1", "T.0.B"])
    assert code(functions["OperationResponse"].invoke(event)) == ("FAILED", "DEVICE_FAILED_KEYS")
    assert datamodel(stack, thing) == {"T": {"0": {"A": {"0": "x", "1": "b"}, "B": "c", "C": {"0": "y"}}}}


@pytest.mark.parametrize("operation", ["execute", "observe", "discover", "Read", ""])
def test_other_operations_are_left_alone_and_said_so(stack, functions, device, operation):
    thing = device()
    answer = respond(functions, thing, PLAIN, operation)
    assert code(answer) == ("IGNORED", "NOTHING_TO_FOLD")
    assert stack.aws.shadow(thing, "datamodel") == {}
    lines = [line for line in functions["OperationResponse"].log_lines() if line.get("thing") == thing]
    assert [line["message"] for line in lines] == ["result left alone"]


def test_the_request_is_told(stack, functions, device):
    thing = device()
    notice = {"code": "FIELD_IGNORED", "message": "m"}
    version = scheduled(stack, thing, reason=notice)
    event = report(stack, thing, PLAIN)
    assert code(functions["OperationResponse"].invoke(event)) == ("SUCCEEDED", None)
    answer = stack.aws.answers(thing)[str(version)]
    assert (answer["status"], answer["taskId"], answer["resultVersion"]) == ("SUCCEEDED", "t", event["version"])
    assert answer["reason"] == notice, "it holds on"


def test_failed_keys_are_named(stack, functions, device):
    thing = device()
    version = scheduled(stack, thing)
    event = report(stack, thing, {}, failed_keys=["Device.0.Reboot", "Portfolio.7"])
    functions["OperationResponse"].invoke(event)
    answer = stack.aws.answers(thing)[str(version)]
    assert code(answer) == ("FAILED", "DEVICE_FAILED_KEYS")
    assert "Device.0.Reboot, Portfolio.7" in answer["reason"]["message"]


def test_the_last_error_of_an_attempt_does_not_outlive_the_result(stack, functions, device):
    thing = device()
    version = scheduled(stack, thing, status="IN_PROGRESS", reason={"code": "COIOTE_TIMED_OUT", "message": "m"})
    functions["OperationResponse"].invoke(report(stack, thing, PLAIN))
    answer = stack.aws.answers(thing)[str(version)]
    assert (answer["status"], "reason" in answer) == ("SUCCEEDED", False)


def test_results_answer_requests_in_their_order_and_each_result_one(stack, functions, device):
    thing = device()
    versions = [scheduled(stack, thing) for _ in range(2)] + [scheduled(stack, thing, "write")]

    def statuses() -> list[str]:
        return [stack.aws.answers(thing)[str(version)]["status"] for version in versions]

    event = report(stack, thing, PLAIN)
    functions["OperationResponse"].invoke(event)
    assert statuses() == ["SUCCEEDED", "SCHEDULED", "SCHEDULED"]
    assert code(functions["OperationResponse"].invoke(event)) == ("IGNORED", "DUPLICATE")
    assert statuses() == ["SUCCEEDED", "SCHEDULED", "SCHEDULED"]
    functions["OperationResponse"].invoke(report(stack, thing, PLAIN, "write"))
    assert statuses() == ["SUCCEEDED", "SCHEDULED", "SUCCEEDED"]


# ---------------------------------------------------------------- never back


def test_a_late_result_does_not_overwrite_a_newer_one(stack, environment_of, device):
    thing = device()
    first = report(stack, thing, {"Device": {"0": {"UTC Offset": "+01:00", "Timezone": "only in the first"}}})
    second = report(stack, thing, {"Device": {"0": {"UTC Offset": "+02:00"}}})
    # Each in an environment of its own: nothing is remembered.
    environment_of("OperationResponse").invoke(second)
    environment_of("OperationResponse").invoke(first)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "+02:00", "Timezone": "only in the first"}}}


def test_a_late_result_does_not_bring_back_what_is_gone(stack, environment_of, device):
    thing = device()
    first = report(stack, thing, {"T": {"0": {"A": {"0": "a", "1": "b"}, "B": "1", "C": {"noValue": True}}}})
    # Shadows tell the time in seconds, and it is by the time that one report is told from another here.
    second_of_first = int(time.time())
    while int(time.time()) == second_of_first:
        time.sleep(0.01)
    second = report(stack, thing, {"T": {"0": {"A": {"0": "x"}, "B": {"noValue": True}, "C": "2"}}})
    environment_of("OperationResponse").invoke(second)
    environment_of("OperationResponse").invoke(first)
    assert datamodel(stack, thing) == {"T": {"0": {"A": {"0": "x"}, "B": {"noValue": True}, "C": "2"}}}


def test_a_late_result_does_not_overwrite_what_coiote_has_written_since(stack, environment_of, device):
    thing = device()
    update(stack, thing, "datamodel", {"reported": {"Device": {"0": {"UTC Offset": "notified"}}}})
    late = response(thing, {"Device": {"0": {"UTC Offset": "late", "Timezone": "new"}}}, timestamp=int(time.time()) - 60)
    environment_of("OperationResponse").invoke(late)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "notified", "Timezone": "new"}}}


def test_results_in_their_order_are_folded_however_late_they_are(stack, environment_of, device):
    """Their events waited; nothing else has happened."""
    thing = device()
    function = environment_of("OperationResponse")
    for number, value in enumerate(["a", {"0": "b"}, "c", {"noValue": True}, "d"]):
        function.invoke(response(thing, {"T": {"0": {"A": value}}}, version=10 + number))
        assert datamodel(stack, thing)["T"]["0"]["A"] == value
    function.invoke(response(thing, {"T": {"0": {"A": "older"}}}, version=10))
    assert datamodel(stack, thing)["T"]["0"]["A"] == "d"


def test_a_newer_result_that_comes_while_an_older_one_is_folded(stack, environment_of, aws_between, device):
    thing = device()
    older_request, newer_request = scheduled(stack, thing), scheduled(stack, thing)
    older = report(stack, thing, {"Device": {"0": {"UTC Offset": "older"}}})
    other = environment_of("OperationResponse")

    def newer_result() -> None:
        other.invoke(report(stack, thing, {"Device": {"0": {"UTC Offset": "newer"}}}))

    # After the older one has looked, and before it writes.
    aws_between.once("update datamodel", newer_result)
    environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint).invoke(older)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "newer"}}}
    answers = stack.aws.answers(thing)
    assert [answers[str(version)]["status"] for version in (older_request, newer_request)] == ["SUCCEEDED"] * 2


# ---------------------------------------------------------------- calls and faults


@pytest.mark.parametrize(
    ("result", "calls"),
    [
        (PLAIN, ["get operation", "update datamodel", "update operation"]),
        # What an object takes away has to be known.
        ({"T": {"0": {"A": {"0": "1"}}}}, ["get operation", "get datamodel", "update datamodel", "update operation"]),
        ({}, ["get operation", "update operation"]),
    ],
)
def test_the_calls_of_a_fresh_result(stack, environment_of, aws_between, device, result, calls):
    thing = device()
    scheduled(stack, thing)
    environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint).invoke(report(stack, thing, result))
    assert aws_between.calls == calls


@pytest.mark.parametrize(
    ("call", "faults"),
    [
        ("get operation", [THROTTLED]),
        ("update datamodel", [THROTTLED]),
        ("update datamodel", [BROKEN, BROKEN]),
        ("update operation", [CONFLICT, CONFLICT]),
        ("update operation", [THROTTLED]),
        ("update operation", [TOO_LARGE]),
    ],
)
def test_what_passes(stack, environment_of, aws_between, device, call, faults):
    thing = device()
    versions = [scheduled(stack, thing) for _ in range(2)]
    event = report(stack, thing, PLAIN)
    aws_between.once(call, *faults)
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
    assert code(function.invoke(event)) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == PLAIN
    assert stack.aws.answers(thing)[str(versions[0])]["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("call", "fault", "expected"),
    [
        ("update datamodel", TOO_LARGE, "DATAMODEL_TOO_LARGE"),
        ("update datamodel", DENIED, "DATAMODEL_REFUSED"),
    ],
)
def test_what_aws_iot_will_not_take_is_not_tried_again(stack, environment_of, aws_between, device, call, fault, expected):
    thing = device()
    version = scheduled(stack, thing)
    event = report(stack, thing, PLAIN)
    aws_between.always(call, fault)
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
    assert code(function.invoke(event)) == ("FAILED", expected)
    assert code(stack.aws.answers(thing)[str(version)]) == ("FAILED", expected)


def test_three_attempts_and_then_the_last_word_which_a_later_success_corrects(stack, environment_of, aws_between, device):
    thing = device()
    version = scheduled(stack, thing)
    event = report(stack, thing, PLAIN)
    aws_between.always("update datamodel", BROKEN)
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
    for status in ("SCHEDULED", "SCHEDULED", "FAILED"):
        assert function.invoke(event, "one-invocation")["errorType"] == "DATAMODEL_NOT_UPDATED"
        assert stack.aws.answers(thing)[str(version)]["status"] == status
    assert code(stack.aws.answers(thing)[str(version)]) == ("FAILED", "DATAMODEL_NOT_UPDATED")

    # An operator sends it through again.
    aws_between.heal()
    assert code(function.invoke(event | {"redriven": True})) == ("SUCCEEDED", None)
    assert code(stack.aws.answers(thing)[str(version)]) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == PLAIN


def test_an_unreachable_aws_is_an_error_that_lambda_tries_again(device, environment_of):
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert function.invoke(response(device(), PLAIN))["errorType"] == "DATAMODEL_NOT_UPDATED"


# ---------------------------------------------------------------- 8 KB


def test_resources_without_a_value_make_room(stack, environment_of, device):
    thing = device()
    none = {f"Nothing {number}": {"noValue": True} for number in range(150)}
    held = {"T": {"0": {"Large": "x" * 2500, "Becomes none": "1"} | none}}
    update(stack, thing, "datamodel", {"reported": held})
    version = scheduled(stack, thing)
    result = {"U": {"0": {"Also large": "y" * 2000, "None either": {"noValue": True}}}, "T": {"0": {"Becomes none": {"noValue": True}}}}
    answer = environment_of("OperationResponse").invoke(report(stack, thing, result))
    assert code(answer) == ("SUCCEEDED", "DATAMODEL_RELIEVED")
    assert datamodel(stack, thing) == {"T": {"0": {"Large": "x" * 2500}}, "U": {"0": {"Also large": "y" * 2000}}}
    assert code(stack.aws.answers(thing)[str(version)]) == ("SUCCEEDED", "DATAMODEL_RELIEVED")


def test_nothing_is_lost_where_there_is_no_room(stack, environment_of, device):
    thing = device()
    held = {"T": {"0": {"Large": "x" * 5000, "None": {"noValue": True}}}}
    update(stack, thing, "datamodel", {"reported": held})
    version = scheduled(stack, thing)
    answer = environment_of("OperationResponse").invoke(report(stack, thing, {"U": {"0": {"Large": "y" * 5000}}}))
    assert code(answer) == ("FAILED", "DATAMODEL_TOO_LARGE")
    assert code(stack.aws.answers(thing)[str(version)]) == ("FAILED", "DATAMODEL_TOO_LARGE")
    assert datamodel(stack, thing) == held
