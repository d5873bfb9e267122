"""Every sample event, through the function's binary, with its answer and the task at Coiote."""

import json
import time
from pathlib import Path

import pytest

from stack.aws import LAST_WORDS, own_version

# File → thing and its type
ANNOUNCED = {
    "device-announced": ("urn:dev:sample", "anjay:demo_client"),
    "device-announced-type-with-blanks": ("urn:dev:blanks", "Nordic_Semiconductor_ASA:thingy91_nrf9160"),
}

EVENTS = Path(__file__).parent.parent / "events"

FIVE_OBSERVED = (
    "Connectivity Monitoring.0.Radio Signal Strength,Device.0.UTC Offset,LwM2M Server.1.Lifetime,"
    "Portfolio.11.Identity.1,Portfolio.5.Identity.1,Test object.0.Integer array"
)
IN_GIVEN_ORDER = (
    "Connectivity Monitoring.0.Radio Signal Strength,LwM2M Server.1.Lifetime,Portfolio.11.Identity.1,"
    "Portfolio.5.Identity.1,Device.0.UTC Offset,Test object.0.Integer array"
)

# File → template and parameters of the task at Coiote
SENT = {
    "read": (
        "AWSreadCertAuth",
        {
            "keys": "Device.0.UTC Offset,LwM2M Server.1.Lifetime,Portfolio.11.Identity.1,Portfolio.5.Identity.1,"
            "Test object.0.Integer array.4"
        },
    ),
    "read-all": ("AWSreadCertAuth", {"keys": ""}),
    "read-from-sleeping-device": ("AWSreadCertAuth", {"keys": "Device.0.Battery Level"}),
    "write": ("AWSwriteCertAuth", {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset", "values": "68,+02:00"}),
    "observe": (
        "AWSobserveCertAuth",
        {
            "keys": FIVE_OBSERVED,
            "attributes": "[{'epmin':5,'gt':-65.5,'lt':-105.5,'st':4.0},{},{'pmin':30,'pmax':35},{},{'epmax':40},"
            "{'pmax':20}]",
        },
    ),
    "cancel-observe": ("AWScancelObserveCertAuth", {"keys": IN_GIVEN_ORDER}),
    "cancel-observe-all": ("AWScancelObserveCertAuth", {"keys": "all"}),
    "execute": ("AWSexecuteCertAuth", {"keys": "Device.0.Reboot"}),
    "execute-with-arguments": ("AWSexecuteCertAuth", {"keys": "Test object.0.Execute", "arguments": "0='abc',1"}),
    "write-attributes": (
        "AWSwriteAttributesCertAuth",
        {
            "keys": IN_GIVEN_ORDER,
            "attributes": "[{'epmin':5,'gt':-65.5,'lt':-105.5,'st':4,'con':1},{'pmin':30,'pmax':35,'con':''},{},"
            "{'epmax':40},{'con':''},{'pmax':20}]",
        },
    ),
    "discover": ("AWSdiscoverCertAuth", {"keys": "Device.0,Test object.0.Integer array"}),
    "create": ("AWScreateCertAuth", {"keys": "Portfolio.3", "values": ""}),
    "create-with-values": (
        "AWScreateCertAuth",
        {"keys": "Portfolio.4.Identity.0,Portfolio.4.Identity.1", "values": "AVS,your_ID"},
    ),
    "create-device-chooses-the-id": ("AWScreateCertAuth", {"keys": "Portfolio", "values": ""}),
    "create-optional-resource": (
        "AWScreateCertAuth",
        {"keys": "LWM2M Bearer Selection.0.Acceptable RSSI (GSM)", "values": "-90"},
    ),
    "create-single-object": ("AWScreateCertAuth", {"keys": "LWM2M Bearer Selection", "values": ""}),
    "execute-of-older-version": ("AWSexecuteCertAuth", {"keys": "RDB.0.Persistent"}),
    "read-of-older-version": ("AWSreadCertAuth", {"keys": "LWM2M Cellular Connectivity.0.PSM Timer (1)"}),
    "read-by-number-without-slash": ("AWSreadCertAuth", {"keys": "Device.0.UTC Offset"}),
    # With the blanks of the registered name
    "read-blanks-count-as-one": ("AWSreadCertAuth", {"keys": "WLAN connectivity.0.Multicast Packets  Received"}),
    "write-hexadecimal": ("AWSwriteCertAuth", {"keys": "BinaryAppDataContainer.0.Data.0", "values": "0x0102"}),
    "delete": ("AWSdeleteCertAuth", {"keys": "Portfolio.11"}),
    "delete-resource-instance": ("AWSdeleteCertAuth", {"keys": "Portfolio.5.Identity.3"}),
    "write-as-coiote-shows-it": (
        "AWSwriteCertAuth",
        {"keys": "Device.0.Current Time,LwM2M Server.1.Lifetime", "values": "2022-10-07T13:33:22Z,68"},
    ),
    "read-composite": ("AWSreadCompositeCertAuth", {"keys": FIVE_OBSERVED}),
    "write-composite": (
        "AWSwriteCompositeCertAuth",
        {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset", "values": "68,+02:00"},
    ),
    "observe-composite": ("AWSobserveCompositeCertAuth", {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset"}),
    "observe-composite-with-attributes": (
        "AWSobserveCompositeCertAuth",
        {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset"},
    ),
    "cancel-observe-composite": (
        "AWScancelObserveCompositeCertAuth",
        {"keys": "LwM2M Server.1.Lifetime,Device.0.UTC Offset"},
    ),
    "read-by-number": ("AWSreadCertAuth", {"keys": "Device.0,LwM2M Server.1.Lifetime"}),
    "object-nobody-described": ("AWSreadCertAuth", {"keys": "Boiler Controller.0"}),
    "without-version": ("AWSreadCertAuth", {"keys": "Device.0"}),
}

# File → code of the notice with SCHEDULED
NOTICES = {
    "observe-composite-with-attributes": "ATTRIBUTES_IGNORED",
    "execute-of-older-version": "NAME_OF_NEWEST_VERSION",
    "write-hexadecimal": "VALUE_IS_BASE64",
}

# File → status, code and part of the message; no task is created.
REFUSED = {
    "removed-request": ("IGNORED", None, None),
    "job-over": ("IGNORED", None, None),
    "mistake-job-without-operation": ("REJECTED", "OPERATION_MISSING", "operation: missing; one of: read,"),
    "mistake-execute-without-version": ("REJECTED", "VERSION_MISSING", "version: missing; the rule has to pass version"),
    "cancel-request": ("FAILED", "NOTHING_TO_CANCEL", "1000000: not among this device's open requests; my-token: not among"),
    "mistake-cancel-without-requests": ("REJECTED", "REQUESTS_INVALID", "requests: expected an array of shadow versions"),
    "unknown-device": ("FAILED", "DEVICE_UNKNOWN", "endpoint name nobody-knows-me"),
    "mistake-no-operation": ("REJECTED", "OPERATION_MISSING", "operation: missing; one of: read,"),
    "mistake-unknown-operation": ("REJECTED", "OPERATION_UNKNOWN", 'no operation "Read"; did you mean "read"?'),
    "mistake-no-keys": ("REJECTED", "KEYS_MISSING", "keys: missing; an array"),
    "mistake-object-instance-is-a-letter": ("REJECTED", "PATH_INVALID", 'did you mean "Device.0.UTC Offset"?'),
    "mistake-object-instance-is-negative": ("REJECTED", "PATH_INVALID", "has to be a number from 0 to 65534"),
    "mistake-keys-not-an-array": ("REJECTED", "KEYS_INVALID", "keys: expected an array of paths, found a string"),
    "mistake-key-is-no-path": ("REJECTED", "PATH_INVALID", 'keys[0]: "Device..UTC Offset": an empty name'),
    "mistake-slashes-between-names": ("REJECTED", "PATH_INVALID", '(did you mean "Device.0.Battery Level"?)'),
    "mistake-write-without-values": ("REJECTED", "VALUES_MISSING", "values: missing; an array with one value"),
    "mistake-fewer-values-than-keys": ("REJECTED", "VALUE_COUNT", "values: 1 for 2 keys"),
    "mistake-value-with-comma": ("REJECTED", "VALUE_NOT_ENCODABLE", "values[0]: a value that holds a comma"),
    "mistake-write-an-object-instance": ("REJECTED", "PATH_LEVEL", 'keys[0]: "Device.0": write addresses a resource'),
    "mistake-same-key-twice": ("REJECTED", "KEY_DUPLICATE", "keys[1]:"),
    "mistake-observe-without-attributes": ("REJECTED", "ATTRIBUTES_MISSING", "attributes: missing"),
    "mistake-execute-two-keys": ("REJECTED", "KEY_COUNT", "keys: execute takes exactly one key, found 2"),
    "mistake-arguments-not-lwm2m": ("REJECTED", "ARGUMENTS_INVALID", "arguments: at character 0"),
    "mistake-delete-a-resource": (
        "REJECTED",
        "PATH_LEVEL",
        "delete addresses an object instance or a resource instance, this is a resource",
    ),
    "mistake-create-in-two-instances": ("REJECTED", "KEY_COUNT", "lies in another object instance than keys[0]"),
    "mistake-no-such-resource": (
        "REJECTED",
        "RESOURCE_UNKNOWN",
        'keys[1]: "Device.0.UTC Ofset": no such resource in Device (did you mean "UTC Offset"?)',
    ),
    "mistake-write-what-is-only-read": ("REJECTED", "NOT_ALLOWED", "Manufacturer can only be read"),
    "mistake-value-of-another-type": ("REJECTED", "VALUE_TYPE", "values[0]: Lifetime is an Integer"),
    "mistake-execute-what-is-not-executable": ("REJECTED", "NOT_ALLOWED", "UTC Offset can only be read and written"),
    "mistake-unknown-attribute": ("REJECTED", "ATTRIBUTE_UNKNOWN", 'attributes[0]: no attribute "pminimum"; one of: pmin,'),
    "mistake-attributes-contradict": ("REJECTED", "ATTRIBUTES_CONTRADICT", "pmin (60) has to be at most pmax (30)"),
}

# File → function and its error, where there is no shadow for an answer
ERRORS = {
    "mistake-no-thing-name": ("OperationRequest", "EVENT_INVALID", "thingName: missing"),
    "mistake-job-without-number": ("OperationRequest", "EVENT_INVALID", "executionNumber: missing"),
    "mistake-announced-name": ("CreateThing", "NAME_INVALID", "' ' at character 1 is not allowed in a thing's name"),
}

# File → status, code, a path, and its value in the datamodel shadow afterwards
FOLDED = {
    "response-read": ("SUCCEEDED", None, "LwM2M Server.1.Lifetime", "68"),
    "response-read-multiple-resource": ("SUCCEEDED", None, "Test object.0.Integer array", {"0": "6", "4": "256"}),
    "response-read-no-value": ("SUCCEEDED", None, "Device.0.Current Time", {"noValue": True}),
    "response-in-part": ("SUCCEEDED", "RESULT_IN_PART", "Device.0.Error Code", {"0": {"noValue": True}}),
    "response-write": ("SUCCEEDED", None, "Device.0.UTC Offset", "+02:00"),
    "response-read-composite": ("SUCCEEDED", None, "Portfolio.5.Identity", {"1": "AVS"}),
    "response-failed-keys": ("FAILED", "DEVICE_FAILED_KEYS", "Device.0.UTC Offset", "+02:00"),
    "response-all-keys-failed": ("FAILED", "DEVICE_FAILED_KEYS", None, None),
    "response-of-execute": ("IGNORED", "NOTHING_TO_FOLD", None, None),
    "mistake-response-result-not-an-object": ("FAILED", "RESULT_INVALID", None, None),
}


def sample_of(name: str) -> dict:
    return json.loads((EVENTS / f"{name}.json").read_text())


def event(stack, name: str, thing: str | None = None) -> dict:
    """The sample as a new event, with the time of now and a version of its own."""
    event = sample_of(name) | ({"thingName": thing} if thing else {})
    event |= {"timestamp": int(time.time())} if "timestamp" in event else {}
    if "version" in event and "thingName" in event:
        event["version"] = own_version(stack.aws.iot_data, event["thingName"])
    return event


def test_every_sample_event_is_run_here():
    assert {path.stem for path in EVENTS.glob("*.json")} == set(SENT) | set(REFUSED) | set(ERRORS) | set(FOLDED) | set(ANNOUNCED)


def test_no_two_samples_are_one_request():
    samples = [sample_of(path.stem) for path in EVENTS.glob("*.json")]
    names = [(sample.get("thingName"), sample["version"]) for sample in samples if "version" in sample]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def holds_null(value: object) -> bool:
    return value is None or any(map(holds_null, parts_of(value)))


def parts_of(value: object) -> list:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def arrays_in(value: object) -> list[list]:
    return [*([value] if isinstance(value, list) else []), *(array for part in parts_of(value) for array in arrays_in(part))]


def test_no_sample_has_null_within_an_array():
    """A shadow's array cannot hold null, and for objects in it that is not documented: "" unsets an attribute."""
    found = [path.name for path in EVENTS.glob("*.json") if any(map(holds_null, arrays_in(sample_of(path.stem))))]
    assert found == []


@pytest.mark.parametrize("name", SENT)
def test_a_valid_request_reaches_coiote_as_its_template_takes_it(stack, functions, name):
    sample = event(stack, name)
    thing = sample["thingName"]
    already = len(stack.coiote.tasks(thing))

    answer = functions["OperationRequest"].invoke(sample)

    assert answer["status"] == "SCHEDULED", answer
    assert answer.get("reason", {}).get("code") == NOTICES.get(name)
    assert (answer["operation"], answer["thingName"]) == (sample["operation"], thing)
    assert answer["request"] == sample.get("version", answer["requestId"])
    assert answer.get("clientToken") == sample.get("clientToken")
    # By now the device may have run or refused it.
    shown = stack.aws.last_word(thing, answer["request"], ("SCHEDULED", *LAST_WORDS))
    for field in ("operation", "taskId", "clientToken"):
        assert shown.get(field) == answer.get(field)
    [task] = stack.coiote.tasks(thing)[already:]
    template, parameters = SENT[name]
    assert (task["id"], task["template"]) == (answer["taskId"], template)
    assert {p["name"]: p["value"] for p in task["parameters"]} == parameters


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_request_is_refused_with_a_reason_and_not_sent(stack, functions, name):
    sample = event(stack, name)
    # Only the tasks of this device: waiting requests of others may be handed over meanwhile. An event about a job has no thing.
    tasks = lambda: len(stack.coiote.tasks(sample["thingName"])) if "thingName" in sample else 0
    already = tasks()
    answer = functions["OperationRequest"].invoke(sample)

    status, code, says = REFUSED[name]
    assert (answer["status"], answer.get("reason", {}).get("code")) == (status, code)
    message = answer.get("reason", {}).get("message", "")
    assert says is None or says in message
    assert "\n" not in message
    assert tasks() == already
    if status != "IGNORED":
        written = stack.aws.answer_as(sample["thingName"], answer)
        assert (written["status"], written["reason"]["code"]) == (status, code)


@pytest.mark.parametrize("name", ERRORS)
def test_an_event_without_an_operation_is_an_error(stack, functions, name):
    function, code, says = ERRORS[name]
    answer = functions[function].invoke(event(stack, name))
    assert answer["errorType"] == code and says in answer["errorMessage"]


@pytest.mark.parametrize("name", FOLDED)
def test_a_result_is_folded_into_the_datamodel_shadow(stack, functions, device, name):
    thing = device()

    answer = functions["OperationResponse"].invoke(event(stack, name, thing))

    status, code, place, value = FOLDED[name]
    assert (answer["status"], answer.get("reason", {}).get("code")) == (status, code)
    found = stack.aws.reported(thing, "datamodel")
    if place is None:
        assert found == {}
    else:
        object_name, instance, resource = place.split(".")
        assert found[object_name][instance][resource] == value


@pytest.mark.parametrize("name", ANNOUNCED)
def test_an_announced_device_becomes_a_thing(stack, functions, name):
    thing, thing_type = ANNOUNCED[name]
    assert functions["CreateThing"].invoke(event(stack, name))["thingName"] == thing
    made = stack.aws.iot.describe_thing(thingName=thing)
    assert (made["thingTypeName"], made["attributes"]) == (thing_type, {"protocol": "LwM2M"})
    assert "version" in stack.aws.shadow(thing, "operation")
