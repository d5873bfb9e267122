"""What no attempt could deal with: it waits in the failure queue, and can be sent through again."""

import json
import subprocess
import sys

import pytest

from stack.aws import base_environment
from stack.deployment import STACK_NAME
from stack.local_stack import ROOT
from stack.processes import wait_for


@pytest.fixture
def coiote_is_down(stack):
    stack.coiote.set_faults({"rate": 1, "kinds": ["unavailable"]})
    yield
    stack.coiote.set_faults({})


def waiting(stack) -> int:
    attributes = stack.aws.sqs.get_queue_attributes(
        QueueUrl=stack.outputs["FailureQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def redrive(stack, *arguments: str) -> str:
    command = [sys.executable, ROOT / "operate" / "redrive.py", "--stack-name", STACK_NAME, *arguments]
    environment = base_environment() | stack.aws.environment
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_events_come_back_out_of_the_queue(stack, device, coiote_is_down):
    execute = {"operation": "execute", "keys": ["Test object.0.Execute"]}
    read = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
    requests = [(device(), request) for request in (execute, read)]
    versions = [stack.aws.request(thing, request) for thing, request in requests]
    for (thing, _), version in zip(requests, versions, strict=True):
        answer = stack.aws.last_word(thing, version, seconds=90)
        assert (answer["status"], answer["attempt"]) == ("FAILED", 3)
        assert answer["reason"]["code"] == "COIOTE_UNAVAILABLE"
        assert stack.coiote.tasks(thing) == []
    # And one that is no operation at all.
    stack.aws.lambda_.invoke(
        FunctionName=stack.outputs["OperationRequestFunction"], InvocationType="Event", Payload=b'{"operation": "read"}'
    )
    wait_for("the events to be in the failure queue", lambda: waiting(stack) == 3)

    listed = redrive(stack, "--dry-run")
    for (thing, request), version in zip(requests, versions, strict=True):
        assert f"waits: {thing} {request['operation']} {version} COIOTE_UNAVAILABLE" in listed
    assert "waits: - read - EVENT_INVALID" in listed and "3 waits" in listed
    assert waiting(stack) == 3

    stack.coiote.set_faults({})
    shown = redrive(stack)
    assert "2 sent again" in shown and "1 left" in shown
    for (thing, request), version in zip(requests, versions, strict=True):
        words = ("SUCCEEDED",) if request is read else ("SCHEDULED",)
        assert stack.aws.last_word(thing, version, words)["attempt"] == 1
        assert len(stack.coiote.tasks(thing)) == 1
    assert waiting(stack) == 1
    assert "1 discarded" in redrive(stack, "--discard-invalid")
    assert redrive(stack) == "The failure queue is empty.\n"


def test_an_event_that_expired_is_told_from_one_that_failed(stack):
    context = {"condition": "EventAgeExceeded", "approximateInvokeCount": 0, "functionArn": "a:b:c:d:e:function:f"}
    expired = {"operation": "read", "thingName": "waited-too-long", "version": 7}
    record = {"version": "1.0", "requestContext": context, "requestPayload": expired}
    stack.aws.sqs.send_message(QueueUrl=stack.outputs["FailureQueueUrl"], MessageBody=json.dumps(record))
    try:
        assert "waits: waited-too-long read 7 never ran (expired)" in redrive(stack, "--dry-run")
    finally:
        stack.aws.sqs.purge_queue(QueueUrl=stack.outputs["FailureQueueUrl"])


def test_what_has_been_dealt_with_is_not_sent_twice(stack, device):
    thing = device()
    execute = {"operation": "execute", "keys": ["Test object.0.Execute"]}
    version = stack.aws.request(thing, execute)
    answer = stack.aws.last_word(thing, version, ("SCHEDULED",))
    function = stack.outputs["OperationRequestFunction"]
    event = execute | {"thingName": thing, "version": version, "redriven": True}
    done = stack.aws.lambda_.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    assert json.loads(done["Payload"].read())["reason"]["code"] == "DUPLICATE"
    assert stack.aws.answers(thing)[str(version)] == answer
    assert len(stack.coiote.tasks(thing)) == 1


def test_the_alarm_looks_at_this_queue(stack):
    [alarm] = stack.aws.cloudwatch.describe_alarms(AlarmNames=[f"{STACK_NAME}-failures"])["MetricAlarms"]
    queue = stack.outputs["FailureQueueUrl"].rsplit("/", 1)[1]
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": queue}]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
