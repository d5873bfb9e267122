"""End to end through the deployed template: a request in the operation shadow, its result in the shadows."""

import json
import re

import pytest

from answers import status_and_code
from stack.local_stack import ROOT
from stack.processes import wait_for

WRITTEN = {"LwM2M Server": {"1": {"Lifetime": "68"}}, "Device": {"0": {"UTC Offset": "+02:00"}}}

# Operation → request, and template and parameters of the task at Coiote
OPERATIONS = {
    "read": ({"keys": ["Device.0.UTC Offset"]}, {"keys": "Device.0.UTC Offset"}),
    "write": (
        {"keys": ["LwM2M Server.1.Lifetime", "Device.0.UTC Offset"], "values": [68, "+02:00"]},
        {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset", "values": "68,+02:00"},
    ),
    "observe": (
        {"keys": ["Device.0.UTC Offset", "Device.0.Battery Level"], "attributes": [{}, {"pmin": 5, "gt": 20.5}]},
        {"keys": "Device.0.Battery Level,Device.0.UTC Offset", "attributes": "[{'pmin':5,'gt':20.5},{}]"},
    ),
    "cancelObserve": ({"keys": ["all"]}, {"keys": "all"}),
    "execute": ({"keys": ["Device.0.Reboot"]}, {"keys": "Device.0.Reboot"}),
    "writeAttributes": (
        {"keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5, "pmax": None}]},
        {"keys": "Device.0.Battery Level", "attributes": "[{'pmin':5,'pmax':''}]"},
    ),
    "discover": ({"keys": ["Device.0"]}, {"keys": "Device.0"}),
    "create": (
        {"keys": ["Portfolio.3.Identity.0"], "values": ["AVS"]},
        {"keys": "Portfolio.3.Identity.0", "values": "AVS"},
    ),
    "delete": ({"keys": ["Portfolio.5"]}, {"keys": "Portfolio.5"}),
    "readComposite": ({"keys": ["Device.0.UTC Offset"]}, {"keys": "Device.0.UTC Offset"}),
    "writeComposite": (
        {"keys": ["LwM2M Server.1.Lifetime", "Device.0.UTC Offset"], "values": [68, "+02:00"]},
        {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset", "values": "68,+02:00"},
    ),
    "observeComposite": ({"keys": ["Device.0.Battery Level"]}, {"keys": "Device.0.Battery Level"}),
    "cancelObserveComposite": ({"keys": ["all"]}, {"keys": "all"}),
}


def scheduled(stack, version: int, thing: str) -> dict:
    """Waits for the log line at the end of the request with this shadow version; returns it."""
    group = stack.outputs["OperationRequestLogGroup"]
    return stack.aws.log_line(group, "request scheduled", version=version, thing=thing)


def folded(stack, thing: str) -> dict:
    """Waits for the log line of a folded result; returns it."""
    group = stack.outputs["OperationResponseLogGroup"]
    return stack.aws.log_line(group, "result folded", thing=thing)


def test_a_rule_passes_the_answers_on_as_the_documentation_says(stack, device):
    page = (ROOT / "docs" / "answers.md").read_text()
    [payload] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"sql"' in block]
    queue = stack.aws.sqs.create_queue(QueueName="answers-of-all-things")["QueueUrl"]
    payload["actions"][0]["sqs"]["queueUrl"] = queue
    stack.aws.iot.create_topic_rule(ruleName="lwm2m_answers", topicRulePayload=payload)
    thing, passed_on = device(), []

    def is_done() -> bool:
        received = stack.aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        messages = [json.loads(message["Body"]) for message in received]
        passed_on.extend(message for message in messages if message["thing"] == thing)
        return any((message["requests"].get(str(version)) or {}).get("status") == "SUCCEEDED" for message in passed_on)

    try:
        version = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0.UTC Offset"]})
        wait_for("the answer to be passed on", is_done)
    finally:
        stack.aws.iot.delete_topic_rule(ruleName="lwm2m_answers")
        stack.aws.sqs.delete_queue(QueueUrl=queue)
    assert all(set(message) == {"thing", "version", "requests"} and message["version"] > version for message in passed_on)


def test_values_of_coiote_can_be_written_back_in_the_same_form(stack, device):
    """Reads a value of every type, and writes it as it is in the datamodel shadow."""
    thing = device()
    stack.aws.request(thing, {"operation": "read", "keys": ["Test object.0"]})

    def shown() -> dict:
        return stack.aws.reported(thing, "datamodel").get("Test object", {}).get("0", {})

    values = wait_for("the object's values to be shown", lambda: shown() or None)
    assert (values["Time"], values["Float"], values["Boolean"]) == ("2026-11-22T18:00:00Z", "1.5", "false")
    types = ["String", "Integer", "Unsigned integer", "Float", "Boolean", "Opaque", "Time", "Object link", "CoRE link"]
    fields = {"keys": [f"Test object.0.{name}" for name in types], "values": [values[name] for name in types]}

    version = stack.aws.request(thing, {"operation": "write", **fields})

    def last_word() -> str | None:
        answer = stack.aws.reported(thing, "operation").get("requests", {}).get(str(version), {})
        return answer.get("status") if answer.get("status") in ("SUCCEEDED", "FAILED", "REJECTED") else None

    assert wait_for("the write to end", last_word) == "SUCCEEDED"
    assert shown() == values


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_from_the_shadow_to_the_device(stack, device, operation):
    thing = device()
    fields, parameters = OPERATIONS[operation]

    version = stack.aws.request(thing, {"operation": operation, **fields}, client_token=f"chain-{operation}")

    line = scheduled(stack, version, thing)
    assert line["client_token"] == f"chain-{operation}"
    task = stack.coiote.task(thing, line["task_id"])
    assert task["template"] == f"AWS{operation}CertAuth"
    assert {p["name"]: p["value"] for p in task["parameters"]} == parameters
    assert task["report"]["status"] == "Success", task["report"]
    [only] = stack.coiote.tasks(thing)
    assert only["id"] == task["id"]

    if operation in ("read", "write", "readComposite"):
        folded(stack, thing)
        wanted = WRITTEN if operation == "write" else stack.coiote.datamodel(thing)
        datamodel = stack.aws.reported(thing, "datamodel")
        assert datamodel["Device"]["0"]["UTC Offset"] == wanted["Device"]["0"]["UTC Offset"]
    else:
        assert task["shadowUpdate"] == {"status": "none"}
        assert stack.aws.shadow(thing, "datamodel") == {}


def test_a_write_is_in_the_datamodel_shadow_and_in_the_device(stack, device):
    thing = device()
    request = {"operation": "write", **OPERATIONS["write"][0]}
    version = stack.aws.request(thing, request)
    folded(stack, thing)

    assert stack.aws.reported(thing, "datamodel") == WRITTEN
    answer = stack.aws.last_word(thing, version)
    reported = stack.aws.reported(thing, "operation")
    assert reported.pop("requests") == {str(version): answer}
    assert reported == {"operation": "write", "failedKeys": [""], "result": WRITTEN}
    held = stack.coiote.datamodel(thing)
    assert (held["LwM2M Server"]["1"]["Lifetime"], held["Device"]["0"]["UTC Offset"]) == ("68", "+02:00")
    # The request, the result, and at most one answer for each state between: no rule fired on other updates.
    assert version + 2 <= stack.aws.shadow(thing, "operation")["version"] <= version + 4
    assert len(stack.coiote.tasks(thing)) == 1


def test_the_whole_data_model(stack, device):
    thing = device()
    stack.aws.request(thing, {"operation": "read", "keys": ["/"]})
    folded(stack, thing)
    assert stack.aws.reported(thing, "datamodel") == stack.coiote.datamodel(thing)


def test_a_key_that_fails_does_not_take_the_others_with_it(stack, device):
    thing = device()
    version = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0.UTC Offset", "Portfolio.7"]})
    group = stack.outputs["OperationResponseLogGroup"]
    line = stack.aws.log_line(group, "result not, or not fully, folded", thing=thing)
    assert (line["status"], line["code"]) == ("FAILED", "DEVICE_FAILED_KEYS")
    assert stack.aws.reported(thing, "operation")["failedKeys"] == ["Portfolio.7"]
    assert list(stack.aws.reported(thing, "datamodel")["Device"]["0"]) == ["UTC Offset"]
    # The device's report may be read before its result is folded.
    status, code = status_and_code(stack.aws.last_word(thing, version))
    assert status == "FAILED" and code in ("DEVICE_FAILED_KEYS", "DEVICE_REFUSED")


@pytest.mark.parametrize("state", ["sleeping", "deregistered"])
def test_a_device_that_is_away_answers_when_it_comes_back(stack, device, state):
    thing = device(state)
    version = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0.UTC Offset"]})
    task_id = scheduled(stack, version, thing)["task_id"]
    [task] = stack.coiote.tasks(thing)
    assert (task["id"], task["status"]) == (task_id, "scheduled")
    assert stack.aws.last_word(thing, version, ("SCHEDULED",))["taskId"] == task_id
    assert list(stack.aws.reported(thing, "operation")) == ["requests"]

    stack.coiote.set_state(thing, "online")
    folded(stack, thing)
    expected = stack.coiote.datamodel(thing)["Device"]["0"]["UTC Offset"]
    assert stack.aws.reported(thing, "datamodel") == {"Device": {"0": {"UTC Offset": expected}}}


def test_a_mistake_is_in_the_log_of_the_readme_and_reaches_no_device(stack, device):
    thing = device()
    version = stack.aws.request(thing, {"operation": "write", "keys": ["Device.0.UTC Offset"]})
    group = stack.outputs["OperationRequestLogGroup"]
    line = stack.aws.log_line(group, "request rejected", version=version, thing=thing)
    assert (line["status"], line["code"]) == ("REJECTED", "VALUES_MISSING")
    assert stack.coiote.tasks(thing) == []


def test_updates_without_a_request_invoke_no_function(stack, device):
    thing = device()
    stack.aws.update_shadow(thing, "operation", {"reported": {"requests": {"1": None}}})
    stack.aws.update_shadow(thing, "another", {"desired": {"operation": "read"}})
    # A later request, as something to wait for
    version = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0"]})
    scheduled(stack, version, thing)
    folded(stack, thing)
    for group in ("OperationRequestLogGroup", "OperationResponseLogGroup"):
        about = [
            line["request_id"]
            for line in stack.aws.log_lines(stack.outputs[group])
            if line.get("thing") == thing
        ]
        assert len(set(about)) == 1, about


def test_requests_of_several_devices_at_the_same_time(stack, device):
    things = [device() for _ in range(5)]
    for thing in things:
        stack.aws.request(thing, {"operation": "write", "keys": ["Device.0.UTC Offset"], "values": [f"+0{things.index(thing)}:00"]})
    for number, thing in enumerate(things):
        expected = {"Device": {"0": {"UTC Offset": f"+0{number}:00"}}}
        wait_for(f"the datamodel of {thing}", lambda: stack.aws.reported(thing, "datamodel") == expected)
