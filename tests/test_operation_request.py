"""operation-request: its connection, its secret, the codes of faults, and exact values."""

import itertools

import pytest

from answers import status_and_code
from stack import certificates
from stack.local_stack import SECRET_NAME
from scripted_coiote import CREATE, SEARCH, SESSION, scripted_coiote

READ = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
# Versions of requests: each has its own, as each update of a shadow has.
_versions = itertools.count(100)


def read(thing: str) -> dict:
    return READ | {"thingName": thing, "version": next(_versions)}


def secret_reads(emulator) -> int:
    return sum(line.get("message") == "secret read" for line in emulator.log_lines())


def test_a_warm_request_needs_two_calls_on_the_kept_connection(stack, device, emulate):
    thing = device()
    # A Coiote of its own: reconcile calls that of the deployed stack meanwhile.
    with scripted_coiote(stack.authority, {}) as script:
        function = emulate("OperationRequest", COIOTE_URL=script.url)
        for _ in range(4):
            assert function.invoke(read(thing))["status"] == "SCHEDULED"
    assert [asked.partition("?")[0] for asked in script.asked] == [SEARCH, *[CREATE, SESSION] * 4]
    assert len(script.connections) == 1
    assert secret_reads(function) == 1


def test_a_connection_that_coiote_has_closed_meanwhile_is_replaced(stack, device, emulate):
    thing = device()
    with scripted_coiote(stack.authority, {}, idle_seconds=0.3) as script:
        function = emulate("OperationRequest", COIOTE_URL=script.url)
        for _ in range(3):
            assert function.invoke(read(thing))["status"] == "SCHEDULED"
            assert script.closed.wait(timeout=10)
            script.closed.clear()
    assert len(script.asked) == 1 + 3 * 2


def test_a_device_that_was_removed_and_added_again_is_found_under_its_new_id(stack, device, emulate):
    thing = device()
    function = emulate("OperationRequest")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"

    stack.coiote.remove_device(thing)
    assert status_and_code(function.invoke(read(thing))) == ("FAILED", "DEVICE_UNKNOWN")
    stack.coiote.add_device(thing, id="d:another:id/1")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"

    # The id changes while the old one is still remembered.
    stack.coiote.remove_device(thing)
    stack.coiote.add_device(thing, id="d:yet another")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"


def test_a_rotated_certificate_is_picked_up_when_coiote_refuses_the_old_one(stack, device, emulate):
    thing = device()
    function = emulate("OperationRequest")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"

    rotated = certificates.client("rotated")
    try:
        stack.coiote.accept_client_certificates(rotated.certificate_pem)
        # Coiote refuses, and the secret is still the old one.
        assert status_and_code(function.invoke(read(thing))) == ("FAILED", "COIOTE_UNAUTHORIZED")
        assert secret_reads(function) == 2

        stack.aws.secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=stack.secret(rotated))
        assert function.invoke(read(thing))["status"] == "SCHEDULED"
        assert function.invoke(read(thing))["status"] == "SCHEDULED"
        assert secret_reads(function) == 3
    finally:
        stack.coiote.accept_client_certificates(stack.client.certificate_pem)
        stack.aws.secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=stack.secret(stack.client))


def test_a_missing_template_is_named(stack, device, functions):
    thing = device()
    stack.coiote.remove_template("AWSdiscoverCertAuth")
    try:
        event = {"operation": "discover", "keys": ["Device.0"], "thingName": thing, "version": 1}
        answer = functions["OperationRequest"].invoke(event)
        assert status_and_code(answer) == ("FAILED", "TEMPLATE_MISSING")
        assert "AWSdiscoverCertAuth" in answer["reason"]["message"]
    finally:
        stack.coiote.add_template("AWSdiscoverCertAuth")


@pytest.mark.parametrize(("checks", "status"), [("reject", "REJECTED"), ("notice", "SCHEDULED"), ("", "REJECTED")])
def test_how_strictly_requests_are_compared_with_the_objects_descriptions(device, emulate, checks, status):
    function = emulate("OperationRequest", OBJECT_CHECKS=checks)
    thing = device()
    assert status_and_code(function.invoke(read(thing) | {"keys": ["Device.0.Own Resource"]})) == (status, "RESOURCE_UNKNOWN")
    # The form of paths is always checked.
    assert status_and_code(function.invoke(read(thing) | {"keys": ["Device..0"]})) == ("REJECTED", "PATH_INVALID")


def test_every_path_of_a_devices_data_model_passes(stack, device, functions):
    thing = device()
    paths = [
        f"{name}.{instance}.{resource}"
        for name, instances in stack.coiote.datamodel(thing).items()
        for instance, resources in instances.items()
        for resource in resources
    ]
    assert len(paths) > 60
    for path in paths:
        answer = functions["OperationRequest"].invoke(read(thing) | {"keys": [path]})
        assert answer["status"] == "SCHEDULED" and "reason" not in answer, answer


def test_a_variable_that_sam_local_gives_empty_counts_as_absent(device, emulate):
    # This region does not exist, so that nothing is reached; the SDK itself panics on an empty endpoint.
    function = emulate("OperationRequest", AWS_ENDPOINT_URL="", AWS_REGION="nowhere-1")
    assert function.invoke(read(device()))["errorType"] == "LEDGER_UNAVAILABLE"


@pytest.mark.parametrize("event", [b"[]", b'"read"', b"5", b"null", b'{"thingName": "a/b"}', b'{"thingName": 5}', b'{"keys": ["\\ud800"]}', b"[" * 500 + b"]" * 500])
def test_an_event_that_no_rule_makes(functions, event):
    for function in functions.values():
        assert function.invoke_bytes(event)["errorType"] == "EVENT_INVALID"


def test_a_number_reaches_coiote_with_every_digit(stack, device, functions):
    thing = device()
    event = '{"operation": "write", "keys": ["Test object.0.Integer"], "values": [9007199254740993], "thingName": "%s"}'
    assert functions["OperationRequest"].invoke_bytes((event % thing).encode())["status"] == "SCHEDULED"
    [task] = stack.coiote.tasks(thing)
    assert {"name": "values", "value": "9007199254740993"} in task["parameters"]


@pytest.mark.parametrize(("value", "sent"), [("4", "4"), ('"4.0"', "4.0"), ("4.0", "4.0"), ("4.5", "4.5")])
def test_a_float_reaches_coiote_as_it_was_written(stack, device, functions, value, sent):
    """A rule's SQL passes 4.0 on as 4; a text keeps the point."""
    thing = device()
    event = '{"operation": "write", "keys": ["Set Point.0.Set Point Value"], "values": [%s], "thingName": "%s"}'
    assert functions["OperationRequest"].invoke_bytes((event % (value, thing)).encode())["status"] == "SCHEDULED"
    [task] = stack.coiote.tasks(thing)
    assert {"name": "values", "value": sent} in task["parameters"]


def test_the_private_key_is_never_logged(stack, device, emulate):
    function = emulate("OperationRequest", RUST_LOG="trace")
    assert function.invoke(read(device()))["status"] == "SCHEDULED"
    body = "".join(stack.client.private_key_pem.splitlines()[1:-1])
    log = function.log.read_text().replace("\\n", "").replace("\n", "")
    assert body not in log and "PRIVATE KEY" not in log
