"""operation-response: the datamodel shadow after results that follow each other, and the answers to their requests."""

import json
import time

import pytest

from answers import status_and_code
from results import report_result
from runtime_api import Function
from scripted_coiote import scripted_coiote
from stack.local_stack import ROOT
from stack.aws_between import (
    ACCESS_DENIED, BROKEN, CONFLICT, DENIED, LEDGER_THROTTLED, THROTTLED, TOO_LARGE, LoseAnswer, Refuse,
)

PLAIN = {"Device": {"0": {"UTC Offset": "+02:00"}}}
# Time of an old event, in seconds
LONG_AGO = 1795370400


def response(thing: str, result: object, version: int, **more) -> dict:
    """The event of a result that was never in a shadow."""
    event = {"operation": "read", "failedKeys": [""], "result": result, "thingName": thing}
    return event | {"version": version, "timestamp": LONG_AGO} | more


@pytest.fixture
def respond(stack, functions):
    """Reports a result, and folds it."""
    return lambda thing, *result: functions["OperationResponse"].invoke(report_result(stack, thing, *result))


@pytest.fixture(scope="module")
def operation_request(stack):
    """operation-request with a Coiote that accepts every task and runs none."""
    with scripted_coiote(stack.authority, {}) as script:
        function = Function(stack, "OperationRequest", {"COIOTE_URL": script.url})
        yield function
        function.stop()


@pytest.fixture
def scheduled(stack, operation_request):
    """Makes requests that wait for their results; returns their versions."""

    def schedule(thing: str, operation: str = "read", keys: tuple = ("Device.0.UTC Offset",), **more) -> int:
        version = stack.aws.update_shadow(thing, "operation", {})
        values = {"values": ["+02:00"] * len(keys)} if operation == "write" else {}
        event = {"operation": operation, "keys": list(keys), "thingName": thing, "version": version} | values | more
        answer = operation_request.invoke(event | {"timestamp": int(time.time()), "clientToken": f"of-{version}"})
        assert answer["status"] == "SCHEDULED", answer
        return version

    return schedule


def wait_for_statuses(stack, thing: str, versions: list[int], expected: list[str]) -> None:
    """Waits until the answers have the expected statuses."""
    for version, status in zip(versions, expected, strict=True):
        stack.aws.last_word(thing, version, (status,))


def datamodel(stack, thing: str) -> dict:
    return stack.aws.reported(thing, "datamodel")


def test_results_add_up(stack, respond, device):
    thing = device()
    respond(thing, {"Device": {"0": {"UTC Offset": "+01:00", "Battery Level": "97"}}})
    respond(thing, {"Device": {"0": {"UTC Offset": "+02:00"}}}, "write")
    respond(thing, {"LwM2M Server": {"1": {"Lifetime": 68}}}, "readComposite")
    assert datamodel(stack, thing) == {
        "Device": {"0": {"UTC Offset": "+02:00", "Battery Level": "97"}},
        "LwM2M Server": {"1": {"Lifetime": "68"}},
    }


def test_a_value_and_no_value_replace_each_other(stack, respond, device):
    thing = device()

    def is_now(value: object) -> None:
        respond(thing, {"Test object": {"0": {"Integer array": value}}})
        assert datamodel(stack, thing)["Test object"]["0"]["Integer array"] == value

    for value in ({"noValue": True}, {"0": "6", "1": "7"}, {"noValue": True}, "plain", {"0": "6"}, {}, {"4": "5"}, "plain"):
        is_now(value)


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        (["Test object.0.Integer array"], {"4": "256"}),
        (["Test object.0."], {"4": "256"}),
        (["/"], {"4": "256"}),
        (["Test object.0", "Test object.0.Integer array.4"], {"4": "256"}),
        (["Test object.0.Integer array.4"], {"0": "6", "4": "256"}),
        # The keys of the read are not known.
        (None, {"0": "6", "4": "256"}),
    ],
)
def test_resource_instances_that_are_gone(stack, respond, scheduled, device, keys, left):
    thing = device()
    respond(thing, {"Test object": {"0": {"Integer array": {"0": "6", "4": "255"}}}})
    if keys:
        scheduled(thing, keys=keys)
    answer = respond(thing, {"Test object": {"0": {"Integer array": {"4": "256"}}}})
    assert ("request" in answer) == bool(keys)
    assert datamodel(stack, thing)["Test object"]["0"]["Integer array"] == left


HELD = {
    "Device": {"0": {"UTC Offset": "+02:00", "Timezone": "Europe/Berlin"}},
    "Portfolio": {"5": {"Identity": {"0": "a"}}, "11": {"Identity": {"0": "b"}}},
    "Location": {"0": {"Latitude": "50.1", "Speed": "0.0"}},
}
DEVICE = {"Device": {"0": {"UTC Offset": "+01:00"}}}
PORTFOLIO_11 = {"Portfolio": {"11": {"Identity": {"0": "b"}}}}
LATITUDE = {"Location": {"0": {"Latitude": "50.1"}}}


@pytest.mark.parametrize("wide", ["/", "Device", "Device.0"])
def test_a_result_of_a_narrow_read_proves_nothing_about_a_wide_one(stack, respond, scheduled, device, wide):
    """AWS IoT may have refused the result of the wide read, for its size."""
    thing = device()
    respond(thing, HELD)
    of_wide, of_narrow = scheduled(thing, keys=[wide]), scheduled(thing)
    assert respond(thing, DEVICE)["request"] == of_narrow
    assert datamodel(stack, thing) == HELD | {"Device": {"0": HELD["Device"]["0"] | DEVICE["Device"]["0"]}}
    # The next is the one of the wide read, and names all that there is.
    assert respond(thing, PLAIN)["request"] == of_wide
    assert datamodel(stack, thing) == (PLAIN if wide == "/" else HELD | PLAIN)


@pytest.mark.parametrize(
    ("keys", "result", "failed", "left"),
    [
        (["/"], DEVICE, [], DEVICE),
        # A key that failed was not read, so it is not known to be gone.
        (["Device", "Portfolio"], DEVICE, ["Portfolio"], HELD | DEVICE),
        (["Device.0"], DEVICE, [], HELD | DEVICE),
        (["Portfolio"], PORTFOLIO_11, [], HELD | PORTFOLIO_11),
        (["Device", "Portfolio"], DEVICE | PORTFOLIO_11, [], HELD | DEVICE | PORTFOLIO_11),
        (["Location.0"], LATITUDE, [], HELD | LATITUDE),
        (["/"], HELD | PORTFOLIO_11 | LATITUDE, [], HELD | PORTFOLIO_11 | LATITUDE),
    ],
)
def test_values_that_a_read_of_all_did_not_find_are_removed(stack, respond, scheduled, device, keys, result, failed, left):
    """Object instances and resources that are not in the result are removed."""
    thing = device()
    respond(thing, HELD)
    scheduled(thing, keys=keys)
    answer = respond(thing, result, "read", failed)
    assert status_and_code(answer) == (("FAILED", "DEVICE_FAILED_KEYS") if failed else ("SUCCEEDED", None))
    assert datamodel(stack, thing) == left


@pytest.mark.parametrize("odd", [True, False])
def test_a_bad_leaf_does_not_cost_the_rest(stack, functions, respond, scheduled, device, odd):
    """An instance without a value exists, null means gone, and a leaf that is not understood stays and is reported."""
    thing = device()
    held = {"Timezone": "Europe/Berlin", "Error Code": {"0": "3", "1": "2"}, "UTC Offset": "+02:00"} | ({"Odd": "as it was"} if odd else {})
    respond(thing, {"Device": {"0": held}, "Portfolio": {"5": {"Identity": {"0": "a"}}, "6": {"Identity": {"0": "b"}}}})
    version = scheduled(thing, keys=["Device.0", "Portfolio"])
    instances = {"UTC Offset": "+01:00", "Error Code": {"0": {"noValue": True}}}
    device_0 = instances | {"Timezone": None} | ({"Odd": [1]} if odd else {})
    result = {"Device": {"0": device_0}, "Portfolio": {"5": None, "6": {"Identity": {"0": "c"}}}}
    event = response(thing, result, stack.aws.update_shadow(thing, "operation", {}), timestamp=int(time.time()))

    answer = functions["OperationResponse"].invoke(event)

    assert answer["request"] == version
    left = instances | ({"Odd": "as it was"} if odd else {})
    assert datamodel(stack, thing) == {"Device": {"0": left}, "Portfolio": {"6": {"Identity": {"0": "c"}}}}
    for told in (answer, stack.aws.last_word(thing, version)):
        assert status_and_code(told) == ("SUCCEEDED", "RESULT_IN_PART" if odd else None)
        assert not odd or "Device.0.Odd: expected a value, found an array" in told["reason"]["message"]


def test_leaves_that_were_not_understood_are_reported_after_failed_keys(stack, functions, respond, scheduled, device):
    thing = device()
    respond(thing, {"Device": {"0": {"UTC Offset": "+02:00", "Timezone": "Europe/Berlin"}}})
    version = scheduled(thing, keys=["Device.0", "Location"])
    result = {"Device": {"noValue": True, "0": {"noValue": True, "UTC Offset": "+01:00", "Timezone": [1]}}}
    answer = respond(thing, result, "read", ["Location"])
    # An unexpected noValue does not affect the values beside it.
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "+01:00", "Timezone": "Europe/Berlin"}}}
    for told in (answer, stack.aws.last_word(thing, version)):
        assert status_and_code(told) == ("FAILED", "DEVICE_FAILED_KEYS")
        for part in ("failed keys: Location", "Device: expected", "Device.0: expected", "Device.0.Timezone: expected"):
            assert part in told["reason"]["message"]


def test_failed_keys_are_not_removed(stack, respond, scheduled, device):
    thing = device()
    respond(thing, {"T": {"0": {"A": {"0": "a", "1": "b"}, "B": "c", "C": {"0": "d", "1": "e"}}}})
    scheduled(thing, keys=["T.0"])
    answer = respond(thing, {"T": {"0": {"A": {"0": "x"}, "C": {"0": "y"}}}}, "read", ["T.0.A.1", "T.0.B"])
    assert status_and_code(answer) == ("FAILED", "DEVICE_FAILED_KEYS")
    assert datamodel(stack, thing) == {"T": {"0": {"A": {"0": "x", "1": "b"}, "B": "c", "C": {"0": "y"}}}}


@pytest.mark.parametrize(
    ("deleted", "left"),
    [
        ("Portfolio.11", {"5": {"Identity": {"0": "a", "1": "b"}}}),
        ("Portfolio.5.Identity.0", {"5": {"Identity": {"1": "b"}}, "11": {"Identity": {"0": "c"}}}),
    ],
)
def test_paths_that_a_device_has_deleted_are_removed(stack, functions, respond, device, deleted, left):
    thing = device()
    respond(thing, {"Portfolio": {"5": {"Identity": {"0": "a", "1": "b"}}, "11": {"Identity": {"0": "c"}}}})
    event = {"thingName": thing, "deleted": [deleted], "timestamp": int(time.time()) + 10}
    assert status_and_code(functions["OperationResponse"].invoke(event)) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == {"Portfolio": left}


def test_a_deletion_has_its_place_among_the_results(stack, functions, respond, device):
    """The times of the shadow's values are those of the folds, and not of what the device did."""
    thing = device()
    portfolio, now = {"Portfolio": {"5": {"Identity": {"0": "a"}}}}, int(time.time())

    def fold(event: dict) -> dict:
        assert status_and_code(functions["OperationResponse"].invoke(event))[0] == "SUCCEEDED"
        return datamodel(stack, thing)

    def deletion(at: int) -> dict:
        return {"thingName": thing, "deleted": ["Portfolio.5"], "timestamp": at}

    def result(at: int) -> dict:
        return report_result(stack, thing, portfolio) | {"timestamp": at}

    # The shadow has the values since now, and the device had them before the deletion.
    assert fold(result(now - 20)) == portfolio
    assert "5" not in fold(deletion(now - 10))["Portfolio"]
    # Since before the deletion, and the device had them again after it.
    assert fold(result(now + 20)) == portfolio
    assert fold(deletion(now + 10)) == portfolio


@pytest.mark.parametrize("is_deleted_first", [True, False])
def test_within_a_second_a_deletion_has_its_place_by_its_request(stack, functions, respond, scheduled, device, is_deleted_first):
    """A device that wakes deletes an instance, creates it again and reads it within a second; or reads it and deletes it."""
    thing, portfolio = device(), {"Portfolio": {"5": {"Identity": {"0": "a"}}}}
    order = {"delete": "Portfolio.5", "read": "Portfolio.5"} if is_deleted_first else {"read": "Portfolio.5", "delete": "Portfolio.5"}
    versions = {operation: scheduled(thing, operation, [key]) for operation, key in order.items()}
    event = report_result(stack, thing, portfolio)
    deletion = {"thingName": thing, "deleted": ["Portfolio.5"], "request": str(versions["delete"])}
    assert functions["OperationResponse"].invoke(event)["request"] == versions["read"]
    functions["OperationResponse"].invoke(deletion | {"timestamp": event["timestamp"]})
    assert datamodel(stack, thing)["Portfolio"] == (portfolio["Portfolio"] if is_deleted_first else {})


def test_a_late_result_does_not_restore_what_was_deleted_since(stack, functions, device):
    thing = device()
    before = int(time.time()) - 10
    version = stack.aws.request(thing, {"operation": "delete", "keys": ["Portfolio.5"]})
    assert status_and_code(stack.aws.last_word(thing, version)) == ("SUCCEEDED", None)
    late = report_result(stack, thing, {"Portfolio": {"5": {"Identity": {"0": "a"}}, "11": {"Identity": {"0": "b"}}}})
    assert functions["OperationResponse"].invoke(late | {"timestamp": before})["status"] == "SUCCEEDED"
    assert datamodel(stack, thing) == PORTFOLIO_11


LWM2M = ROOT / "shared" / "lwm2m"


def writable() -> dict[tuple[str, str], bool]:
    """Names of object and resource → whether it is writable in any registered version."""
    names, found = {}, {}
    for table, more in (("objects.tsv", 0), ("object-versions.tsv", 1)):
        for line in (LWM2M / table).read_text().splitlines():
            kind, *facts = line.split("\t")
            if kind == "O" and not more:
                names[facts[0]] = facts[1]
            elif kind == "R":
                number, (_, resource, operations) = facts[0], facts[more + 1 : more + 4]
                place = names[number], resource
                found[place] = found.get(place, False) or "W" in operations
    return found


def test_the_whole_of_a_real_device_is_folded_and_each_value_is_written_back(stack, functions, respond, scheduled, device):
    model = json.loads((LWM2M / "tests" / "data" / "real-device.json").read_text())
    thing = device()
    version = scheduled(thing, keys=["/"])
    assert status_and_code(respond(thing, model)) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == model
    assert status_and_code(stack.aws.last_word(thing, version)) == ("SUCCEEDED", None)

    known = writable()
    described = {name for name, _ in known}
    counts = {"SCHEDULED": 0, "NOT_ALLOWED": 0, "VALUE_NOT_ENCODABLE": 0}
    for name, instances in model.items():
        # Open requests have to fit into the item of their device.
        writes_to = device("sleeping")
        values = {}
        for instance, resources in instances.items():
            for resource, value in resources.items():
                parts = {f".{part}": one for part, one in value.items()} if isinstance(value, dict) else {"": value}
                shown = {part: one for part, one in parts.items() if isinstance(one, str)}
                values |= {(f"{name}.{instance}.{resource}{part}", resource): one for part, one in shown.items()}
        for number, ((key, resource), value) in enumerate(values.items()):
            event = {"operation": "write", "keys": [key], "values": [value], "thingName": writes_to, "version": 100 + number}
            answer = functions["OperationRequest"].invoke(event | {"timestamp": int(time.time())})
            is_writable = name not in described or known[name, resource]
            expected = "NOT_ALLOWED" if not is_writable else "VALUE_NOT_ENCODABLE" if "," in key else "SCHEDULED"
            counts[expected] += 1
            if expected == "SCHEDULED":
                assert status_and_code(answer) == ("SCHEDULED", None), answer
                task = stack.coiote.tasks(writes_to)[-1]
                assert {parameter["name"]: parameter["value"] for parameter in task["parameters"]} == {"keys": key, "values": value}
            else:
                assert status_and_code(answer) == ("REJECTED", expected), answer
                assert ";" not in answer["reason"]["message"]
    assert counts == {"SCHEDULED": 49, "NOT_ALLOWED": 65, "VALUE_NOT_ENCODABLE": 4}


@pytest.mark.parametrize("operation", ["execute", "observe", "discover", "Read", ""])
def test_other_operations_are_ignored_with_a_reason(stack, functions, device, operation):
    thing = device()
    answer = functions["OperationResponse"].invoke(response(thing, PLAIN, 3, operation=operation))
    assert status_and_code(answer) == ("IGNORED", "NOTHING_TO_FOLD")
    assert stack.aws.shadow(thing, "datamodel") == {}
    lines = [line for line in functions["OperationResponse"].log_lines() if line.get("thing") == thing]
    assert [line["message"] for line in lines] == ["result left alone"]


def test_the_request_gets_its_answer(stack, respond, scheduled, device):
    thing = device()
    # A read has no values: a notice says so, and stays in the answer.
    version = scheduled(thing, values=["+02:00"])
    answer = respond(thing, PLAIN)
    assert status_and_code(answer) == ("SUCCEEDED", None)
    assert (answer["request"], answer["clientToken"], answer["taskId"]) == (version, f"of-{version}", "d:task:1")
    told = stack.aws.last_word(thing, version)
    assert (told["status"], told["taskId"], told["clientToken"]) == ("SUCCEEDED", "d:task:1", f"of-{version}")
    assert told["reason"]["code"] == "FIELD_IGNORED"


def test_failed_keys_are_named(stack, respond, scheduled, device):
    thing = device()
    version = scheduled(thing, keys=["Device.0.Battery Level", "Portfolio.7"])
    respond(thing, {}, "read", ["Device.0.Battery Level", "Portfolio.7"])
    answer = stack.aws.last_word(thing, version)
    assert status_and_code(answer) == ("FAILED", "DEVICE_FAILED_KEYS")
    assert "Device.0.Battery Level, Portfolio.7" in answer["reason"]["message"]


def test_results_answer_requests_in_their_order_and_each_result_one(stack, functions, respond, scheduled, device):
    thing = device()
    versions = [scheduled(thing), scheduled(thing), scheduled(thing, "write")]
    event = report_result(stack, thing, PLAIN)
    functions["OperationResponse"].invoke(event)
    wait_for_statuses(stack, thing, versions, ["SUCCEEDED", "SCHEDULED", "SCHEDULED"])
    assert status_and_code(functions["OperationResponse"].invoke(event)) == ("IGNORED", "DUPLICATE")
    respond(thing, PLAIN, "write")
    wait_for_statuses(stack, thing, versions, ["SUCCEEDED", "SCHEDULED", "SUCCEEDED"])


def test_a_result_of_other_keys_answers_no_request(stack, respond, scheduled, device):
    thing = device()
    version = scheduled(thing, keys=["Device.0.Timezone"])
    assert "request" not in respond(thing, PLAIN)
    assert datamodel(stack, thing) == PLAIN
    # A result without paths and failed keys belongs to no request.
    assert "request" not in respond(thing, {})
    assert respond(thing, {"Device": {"0": {"Timezone": "Europe/Berlin"}}})["request"] == version


def test_a_key_with_a_comma_in_its_name_may_fail(stack, respond, scheduled, device):
    """Coiote's list of failed keys is one text, which is split at commas."""
    thing = device()
    key = "LwM2M Cellular Connectivity.0.Validity (MCC, MNC)"
    version = scheduled(thing, keys=[key])
    assert respond(thing, {}, "read", key.split(","))["request"] == version


# ---------------------------------------------------------------- late results


def test_a_late_result_does_not_overwrite_a_newer_one(stack, environment_of, device):
    thing = device()
    first = report_result(stack, thing, {"Device": {"0": {"UTC Offset": "+01:00", "Timezone": "only in the first"}}})
    second = report_result(stack, thing, {"Device": {"0": {"UTC Offset": "+02:00"}}})
    # Each in an environment of its own, which remembers nothing.
    environment_of("OperationResponse").invoke(second)
    environment_of("OperationResponse").invoke(first)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "+02:00", "Timezone": "only in the first"}}}


def test_a_late_result_does_not_restore_values_that_are_gone(stack, environment_of, scheduled, device):
    thing = device()
    first = report_result(stack, thing, {"T": {"0": {"A": {"0": "a", "1": "b"}, "B": "1", "C": {"noValue": True}}}})
    # The reports differ by their time, which shadows have in seconds.
    second_of_first = int(time.time())
    while int(time.time()) == second_of_first:
        time.sleep(0.01)
    # Only the keys of the request say which values are gone.
    scheduled(thing, keys=["T.0"])
    second = report_result(stack, thing, {"T": {"0": {"A": {"0": "x"}, "B": {"noValue": True}, "C": "2"}}})
    environment_of("OperationResponse").invoke(second)
    environment_of("OperationResponse").invoke(first)
    assert datamodel(stack, thing) == {"T": {"0": {"A": {"0": "x"}, "B": {"noValue": True}, "C": "2"}}}


def test_a_late_result_does_not_overwrite_later_updates_by_coiote(stack, environment_of, device):
    thing = device()
    stack.aws.update_shadow(thing, "datamodel", {"reported": {"Device": {"0": {"UTC Offset": "notified"}}}})
    late = response(thing, {"Device": {"0": {"UTC Offset": "late", "Timezone": "new"}}}, 3, timestamp=int(time.time()) - 60)
    environment_of("OperationResponse").invoke(late)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "notified", "Timezone": "new"}}}


def test_results_in_their_order_are_folded_however_late_they_are(stack, environment_of, device):
    """Only their events have waited."""
    thing = device()
    function = environment_of("OperationResponse")
    for number, value in enumerate(["a", {"0": "b"}, "c", {"noValue": True}, "d"]):
        function.invoke(response(thing, {"T": {"0": {"A": value}}}, 10 + number))
        assert datamodel(stack, thing)["T"]["0"]["A"] == value
    function.invoke(response(thing, {"T": {"0": {"A": "older"}}}, 9))
    assert datamodel(stack, thing)["T"]["0"]["A"] == "d"


def test_a_newer_result_that_comes_while_an_older_one_is_folded(stack, environment_of, aws_between, scheduled, device):
    thing = device()
    versions = [scheduled(thing), scheduled(thing)]
    older = report_result(stack, thing, {"Device": {"0": {"UTC Offset": "older"}}})
    other = environment_of("OperationResponse")

    def newer_result() -> None:
        other.invoke(report_result(stack, thing, {"Device": {"0": {"UTC Offset": "newer"}}}))

    # Between the read and the write of the older result.
    aws_between.once("update datamodel", newer_result)
    environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint).invoke(older)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "newer"}}}
    wait_for_statuses(stack, thing, versions, ["SUCCEEDED"] * 2)


def test_a_late_result_whose_correction_fails_does_not_overwrite_a_newer_one(stack, environment_of, aws_between, scheduled, device):
    """The newer result is written in between, the correction fails, and another environment goes on."""
    thing = device()
    versions = [scheduled(thing), scheduled(thing)]
    older = report_result(stack, thing, {"Device": {"0": {"UTC Offset": "older", "Timezone": "only in the older"}}})
    newer = report_result(stack, thing, {"Device": {"0": {"UTC Offset": "newer"}}})

    def newer_result() -> None:
        assert environment_of("OperationResponse").invoke(newer)["status"] == "SUCCEEDED"
        aws_between.always("update datamodel", BROKEN)

    aws_between.once("update datamodel", newer_result)
    first = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
    assert first.invoke(older, "one-invocation")["errorType"] == "DATAMODEL_NOT_UPDATED"
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "newer"}}}
    assert status_and_code(environment_of("OperationResponse").invoke(older, "one-invocation")) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == {"Device": {"0": {"UTC Offset": "newer", "Timezone": "only in the older"}}}
    wait_for_statuses(stack, thing, versions, ["SUCCEEDED"] * 2)


# ---------------------------------------------------------------- calls and faults


@pytest.mark.parametrize(
    ("result", "calls"),
    [
        (PLAIN, ["UpdateItem", "update datamodel", "PutItem", "UpdateItem"]),
        # For an object, the values that it removes have to be read.
        (
            {"Device": {"0": {"UTC Offset": {"0": "1"}}}},
            ["UpdateItem", "get datamodel", "GetItem", "update datamodel", "PutItem", "UpdateItem"],
        ),
    ],
)
def test_the_calls_of_a_result(stack, environment_of, aws_between, respond, scheduled, device, result, calls):
    thing = device()
    respond(thing, {"Device": {"0": {"Timezone": "Europe/Berlin"}}})
    scheduled(thing)
    environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint).invoke(report_result(stack, thing, result))
    assert aws_between.calls == calls


@pytest.mark.parametrize(
    ("call", "faults"),
    [
        ("get datamodel", [THROTTLED]),
        ("update datamodel", [THROTTLED]),
        ("update datamodel", [BROKEN, BROKEN]),
        # The first one creates the shadow.
        ("update datamodel", [None, CONFLICT, CONFLICT]),
        ("update datamodel", [LoseAnswer()]),
        ("UpdateItem", [LEDGER_THROTTLED]),
        ("UpdateItem", [BROKEN]),
        ("UpdateItem", [LoseAnswer()]),
        ("UpdateItem", [None, LEDGER_THROTTLED]),
        ("UpdateItem", [None, LoseAnswer()]),
        ("PutItem", [LEDGER_THROTTLED]),
        ("GetItem", [LEDGER_THROTTLED]),
    ],
)
def test_faults_that_pass(stack, environment_of, aws_between, scheduled, device, call, faults):
    thing = device()
    versions = [scheduled(thing) for _ in range(2)]
    event = report_result(stack, thing, PLAIN)
    aws_between.once(call, *faults)
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
    assert status_and_code(function.invoke(event)) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == PLAIN
    wait_for_statuses(stack, thing, versions, ["SUCCEEDED", "SCHEDULED"])
    assert aws_between.nothing_is_left_of(call)


@pytest.mark.parametrize(
    ("call", "fault", "expected"),
    [
        ("update datamodel", TOO_LARGE, "DATAMODEL_TOO_LARGE"),
        ("update datamodel", Refuse(400, "InvalidRequestException"), "DATAMODEL_REFUSED"),
    ],
)
def test_an_update_that_aws_iot_refuses_is_not_retried(
    stack, environment_of, aws_between, scheduled, device, call, fault, expected
):
    thing = device()
    version = scheduled(thing)
    event = report_result(stack, thing, PLAIN)
    aws_between.always(call, fault)
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
    assert status_and_code(function.invoke(event)) == ("FAILED", expected)
    assert status_and_code(stack.aws.last_word(thing, version)) == ("FAILED", expected)


@pytest.mark.parametrize(
    ("call", "fault", "expected"),
    [
        ("update datamodel", BROKEN, "DATAMODEL_NOT_UPDATED"),
        ("update datamodel", DENIED, "DATAMODEL_NOT_UPDATED"),
        ("UpdateItem", LEDGER_THROTTLED, "LEDGER_UNAVAILABLE"),
        ("UpdateItem", ACCESS_DENIED, "LEDGER_REFUSED"),
    ],
)
def test_attempts_without_an_answer_in_three_environments_are_made_good_by_a_redrive(
    stack, environment_of, aws_between, scheduled, device, call, fault, expected
):
    thing = device()
    version = scheduled(thing)
    event = report_result(stack, thing, PLAIN)
    aws_between.always(call, fault)
    for _ in range(3):
        function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)
        assert function.invoke(event, "one-invocation")["errorType"] == expected
    assert datamodel(stack, thing) == {}

    # A redrive
    aws_between.heal()
    assert status_and_code(environment_of("OperationResponse").invoke(event | {"redriven": True})) == ("SUCCEEDED", None)
    assert status_and_code(stack.aws.last_word(thing, version)) == ("SUCCEEDED", None)
    assert datamodel(stack, thing) == PLAIN


def test_an_unreachable_aws_is_an_error_that_lambda_retries(device, environment_of):
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert function.invoke(response(device(), PLAIN, 3))["errorType"] == "LEDGER_UNAVAILABLE"


# ---------------------------------------------------------------- 8 KB


def test_resources_without_a_value_make_room(stack, environment_of, scheduled, device):
    thing = device()
    none = {f"Nothing {number}": {"noValue": True} for number in range(150)}
    held = {"T": {"0": {"Large": "x" * 2500, "Becomes none": "1"} | none}}
    stack.aws.update_shadow(thing, "datamodel", {"reported": held})
    version = scheduled(thing, keys=["U.0", "T.0.Becomes none"])
    result = {"U": {"0": {"Also large": "y" * 2000, "None either": {"noValue": True}}}, "T": {"0": {"Becomes none": {"noValue": True}}}}
    answer = environment_of("OperationResponse").invoke(report_result(stack, thing, result))
    assert status_and_code(answer) == ("SUCCEEDED", "DATAMODEL_RELIEVED")
    assert datamodel(stack, thing) == {"T": {"0": {"Large": "x" * 2500}}, "U": {"0": {"Also large": "y" * 2000}}}
    assert status_and_code(stack.aws.last_word(thing, version)) == ("SUCCEEDED", "DATAMODEL_RELIEVED")


def test_nothing_is_lost_where_there_is_no_room(stack, environment_of, scheduled, device):
    thing = device()
    held = {"T": {"0": {"Large": "x" * 5000, "None": {"noValue": True}}}}
    stack.aws.update_shadow(thing, "datamodel", {"reported": held})
    version = scheduled(thing, keys=["U.0"])
    answer = environment_of("OperationResponse").invoke(report_result(stack, thing, {"U": {"0": {"Large": "y" * 5000}}}))
    assert status_and_code(answer) == ("FAILED", "DATAMODEL_TOO_LARGE")
    assert status_and_code(stack.aws.last_word(thing, version)) == ("FAILED", "DATAMODEL_TOO_LARGE")
    assert datamodel(stack, thing) == held
