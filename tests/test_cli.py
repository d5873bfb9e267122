"""The command line `lwm2m`, through its binary: requests and their answers, devices, values, jobs, and the doctor."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from command_line import LWM2M, closed_pipe, lwm2m, run, start
from stack.aws import CREDENTIALS, base_environment
from stack.aws_between import DENIED, Answer, Call, LoseAnswer
from stack.deployment import STACK_NAME
from stack.local_stack import ROOT, SECRET_NAME
from stack.processes import PATIENCE, wait_for

DONE, WRONG, NO_COMMAND, NOT_VALID, REJECTED, FAILED, TIMED_OUT, CANCELED, OPEN = range(9)
REBOOT = "Device.0.Reboot"
OFFSET = "Device.0.UTC Offset"

# Subcommands that are operations, each with paths and the fields of the request that it makes
OPERATIONS = {
    "read": ([OFFSET, "/1/1/1"], {"keys": [OFFSET, "/1/1/1"]}),
    "write": (
        ["LwM2M Server.1.Lifetime=68", f"{OFFSET}=+02:00"],
        {"keys": ["LwM2M Server.1.Lifetime", OFFSET], "values": ["68", "+02:00"]},
    ),
    "execute": (["Device.0.Reboot"], {"keys": ["Device.0.Reboot"]}),
    "observe": (
        ["Device.0.Battery Level=pmin=5,pmax=,gt=20.5", OFFSET],
        {"keys": ["Device.0.Battery Level", OFFSET], "attributes": [{"pmin": 5, "pmax": "", "gt": 20.5}, {}]},
    ),
    "cancel-observe": (["/"], {"keys": ["/"]}),
    "write-attributes": (
        ["Device.0.Battery Level=pmin=5,pmax="],
        {"keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5, "pmax": ""}]},
    ),
    "discover": (["Device.0"], {"keys": ["Device.0"]}),
    "create": (["Portfolio.3.Identity.0=AVS"], {"keys": ["Portfolio.3.Identity.0"], "values": ["AVS"]}),
    "delete": (["Portfolio.5"], {"keys": ["Portfolio.5"]}),
    "read-composite": ([OFFSET], {"keys": [OFFSET]}),
    "write-composite": ([f"{OFFSET}=+02:00"], {"keys": [OFFSET], "values": ["+02:00"]}),
    "observe-composite": ([OFFSET], {"keys": [OFFSET]}),
    "cancel-observe-composite": (["all"], {"keys": ["all"]}),
}


def camel_case(subcommand: str) -> str:
    first, *others = subcommand.split("-")
    return first + "".join(word.capitalize() for word in others)


def as_json(stack, *arguments: str, status: int = DONE, **environment: str) -> dict | list:
    ended = run(stack, "--json", *arguments, **environment)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


# ---------------------------------------------------------------- requests


@pytest.fixture(scope="module")
def all_operations(stack):
    """All operations, started concurrently, each on a device of its own: they mostly wait."""
    started = {}
    for subcommand, (paths, _) in OPERATIONS.items():
        thing = f"urn:cli:{subcommand}"
        stack.coiote.add_device(thing, state="online")
        stack.add_thing(thing)
        started[subcommand] = thing, start(stack, "--json", subcommand, thing, *paths)
    yield started
    for _, command in started.values():
        command.kill()
        command.wait()


@pytest.mark.parametrize("subcommand", OPERATIONS)
def test_every_operation_is_made_and_its_outcome_shown(stack, all_operations, subcommand):
    _, fields = OPERATIONS[subcommand]
    thing, command = all_operations[subcommand]
    told, beside = command.communicate(timeout=PATIENCE)
    assert command.returncode == DONE, told + beside
    shown = json.loads(told)
    assert shown["status"] == "SUCCEEDED"
    assert (shown["thing"], shown["operation"]) == (thing, camel_case(subcommand))
    desired = stack.aws.shadow(thing, "operation")["state"]["desired"]
    assert desired == {"operation": camel_case(subcommand)} | fields
    assert stack.aws.answers(thing)[str(shown["request"])]["clientToken"] == shown["clientToken"]


def test_values_that_were_read_and_written_are_shown_at_their_paths(stack, device):
    thing = device()
    assert as_json(stack, "write", thing, f"{OFFSET}=+02:00", "/1/1/1=68")["values"] == {
        "LwM2M Server.1.Lifetime": "68",
        OFFSET: "+02:00",
    }
    shown = lwm2m(stack, "read", thing, "Test object.0.Integer array", OFFSET)
    assert re.match(rf"SUCCEEDED  read, request \d+ of {thing}, \d+\.\d s\n", shown)
    assert re.search(r"^PATH +VALUE$", shown, re.MULTILINE)
    assert re.search(rf"^{re.escape(OFFSET)} +\+02:00$", shown, re.MULTILINE)
    assert re.search(r"^Test object\.0\.Integer array\.0 +\S+$", shown, re.MULTILINE)
    assert "</3/0/14>" in lwm2m(stack, "discover", thing, "Device.0")


def test_progress_is_shown_on_standard_error(stack, device):
    ended = run(stack, "execute", device(), REBOOT)
    lines = ended.stderr.splitlines()
    assert "waiting for the function to take it" in lines[0] and lines[-1].endswith("SUCCEEDED")
    assert len(lines) == len(set(lines)), "each is told once"


INVALID = {
    "an unknown resource": (["read", "thing", "Device.0.UTC Ofset"], "RESOURCE_UNKNOWN", 'did you mean "UTC Offset"?'),
    "a value of another type": (["write", "thing", "/1/1/1=soon"], "VALUE_TYPE", "values[0]"),
    "a value out of range": (["write", "thing", f"{OFFSET}=+02:00", "/1/1/1=60", "/5/0/1=x" * 200], "VALUE_RANGE", "values[2]"),
    "no value": (["write", "thing", OFFSET], "VALUES_MISSING", "values: missing"),
    "a resource that is not executed": (["execute", "thing", OFFSET], "NOT_ALLOWED", "keys[0]"),
    "two resources": (["execute", "thing", REBOOT, "Device.0.Factory Reset"], "KEY_COUNT", "one"),
    "an unknown attribute": (["observe", "thing", "Device.0.Battery Level=max=5"], "ATTRIBUTE_UNKNOWN", "attributes[0]"),
    "an attribute without a value": (["observe", "thing", "Device.0.Battery Level=pmin"], "ATTRIBUTES_INVALID", "pmin=30"),
    "a path that is none": (["read", "thing", "Device/0/UTC Offset"], "PATH_INVALID", "Device.0.UTC Offset"),
    "a level that it does not address": (["delete", "thing", "Device.0.UTC Offset"], "PATH_LEVEL", "delete addresses"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_request_is_reported_before_aws_is_connected_to(case):
    """There is no region, and no AWS that could be called."""
    arguments, code, part = INVALID[case]
    environment = {name: value for name, value in base_environment().items() if name not in CREDENTIALS}
    ended = subprocess.run([LWM2M, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == NOT_VALID, ended.stderr
    assert f"{code}  " in ended.stderr and part in ended.stderr
    assert "nothing was sent" in ended.stderr and ended.stdout == ""
    told = subprocess.run([LWM2M, "--json", *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert code in {finding["code"] for finding in json.loads(told.stdout)["findings"]}


def test_the_findings_are_those_of_the_function(stack, device, functions):
    thing = device()
    paths = ["Device.0.UTC Ofset=+02:00", "LwM2M Server.1.Lifetime=soon", "Device.0.Battery Level=5"]
    ended = run(stack, "--json", "write", thing, *paths)
    assert ended.returncode == NOT_VALID
    told = json.loads(ended.stdout)["findings"]
    keys, values = zip(*(path.split("=") for path in paths), strict=True)
    event = {"thingName": thing, "operation": "write", "keys": keys, "values": values, "version": 1}
    assert stack.aws.shadow(thing, "operation").get("state", {}) == {}, "nothing was sent"
    reason = functions["OperationRequest"].invoke(event)["reason"]
    assert reason == {"code": told[0]["code"], "message": "; ".join(finding["message"] for finding in told)}


def test_each_outcome_has_its_exit_status(stack, device):
    thing, sleeper = device(), device("sleeping")
    stack.coiote.refuse(thing, {REBOOT: "4.05 Method Not Allowed"})
    refused = run(stack, "execute", thing, REBOOT)
    assert (refused.returncode, refused.stdout.split()[0]) == (FAILED, "FAILED")
    assert "DEVICE_REFUSED: " in refused.stdout
    # With a mistake by the objects' descriptions, it is sent, and the function rejects it.
    rejected = run(stack, "read", thing, "Device.0.UTC Ofset", "--object-checks=notice")
    assert (rejected.returncode, rejected.stdout.split()[0]) == (REJECTED, "REJECTED")
    assert "RESOURCE_UNKNOWN  " in rejected.stderr, "the notice"
    in_json = as_json(stack, "read", thing, "Device.0.UTC Ofset", "--object-checks=notice", status=REJECTED)
    assert [notice["code"] for notice in in_json["notices"]] == ["RESOURCE_UNKNOWN"]
    waiting = run(stack, "execute", sleeper, REBOOT, "--timeout", "2")
    assert (waiting.returncode, waiting.stdout.split()[0]) == (OPEN, "SCHEDULED")
    assert f"lwm2m cancel {sleeper}" in waiting.stderr
    assert run(stack, "write-to", thing).returncode == NO_COMMAND
    assert run(stack, "read", "no name", "Device").returncode == NO_COMMAND
    assert run(stack, "read", thing, "Device", "--client-token", "x" * 65).returncode == NO_COMMAND
    nowhere = run(stack, "read", thing, "Device", AWS_ENDPOINT_URL="http://localhost:1")
    assert nowhere.returncode == WRONG and "not known whether the request was made" in nowhere.stderr
    assert run(stack, "redrive", "--stack", "nobody-s").returncode == WRONG


def test_a_request_whose_time_is_over_has_its_exit_status(stack, device):
    """The test writes the answer, because the shortest lifetime of a request is an hour."""
    sleeper = device("sleeping")
    command = start(stack, "read", sleeper, "Device.0")
    version = wait_for("the request", lambda: next(iter(stack.aws.answers(sleeper)), None))
    stack.aws.last_word(sleeper, int(version), ("SCHEDULED",))
    over = {"operation": "read", "status": "TIMED_OUT", "reason": {"code": "LIFETIME_OVER", "message": "its lifetime is over"}}
    stack.aws.update_shadow(sleeper, "operation", {"reported": {"requests": {version: over}}})
    shown, _ = command.communicate(timeout=PATIENCE)
    assert (command.returncode, shown.split()[0]) == (TIMED_OUT, "TIMED_OUT")


def test_an_unread_output_does_not_change_the_exit_status(stack, device):
    """Behind `head`, say. Nothing is said about it either."""
    thing = device()
    for arguments, status in [
        (["--json", "read", thing, "Device.0.UTC Ofset"], NOT_VALID),
        (["read", thing, "Device.0.UTC Ofset", "--object-checks=notice"], REJECTED),
        (["read", thing, OFFSET], DONE),
    ]:
        with closed_pipe() as unread:
            ended = run(stack, *arguments, stdout=unread)
        assert ended.returncode == status and "standard output" not in ended.stderr, ended.stderr


def test_an_output_that_cannot_be_written_is_reported(stack, device):
    with open("/dev/full", "w") as full:
        ended = run(stack, "read", device(), OFFSET, stdout=full)
    assert ended.returncode == WRONG and "could not write to standard output: No space left on device" in ended.stderr


def test_a_request_need_not_be_waited_for(stack, device):
    thing = device("sleeping")
    made = as_json(stack, "execute", thing, REBOOT, "--no-wait", "--client-token", "mine")
    assert made == {"thing": thing, "request": made["request"], "operation": "execute", "clientToken": "mine"}
    assert stack.aws.last_word(thing, made["request"], ("SCHEDULED",))["clientToken"] == "mine"


def test_an_interrupted_wait_says_that_the_request_goes_on(stack, device):
    thing = device("sleeping")
    waiting = start(stack, "execute", thing, REBOOT)
    version = wait_for("the request", lambda: next(iter(stack.aws.answers(thing)), None))
    # It handles the signal as soon as it waits.
    assert "waiting for the function" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, told = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 128 + signal.SIGINT
    assert f"The request goes on. lwm2m requests {thing}" in told and f"lwm2m cancel {thing} {version}" in told


def test_json_names_the_request_even_if_its_answer_is_unknown(stack, device, aws_between):
    thing = device("sleeping")
    between = {"AWS_ENDPOINT_URL": aws_between.endpoint}
    aws_between.once("get operation", DENIED)
    unread = run(stack, "--json", "execute", thing, REBOOT, **between)
    assert unread.returncode == WRONG
    told = json.loads(unread.stdout)
    assert "could not read the operation shadow" in told["error"]
    assert stack.aws.last_word(thing, told["request"], ("SCHEDULED",))["clientToken"] == told["clientToken"]

    aws_between.once("update operation", LoseAnswer())
    unknown = run(stack, "--json", "discover", thing, "Device.0", **between)
    assert unknown.returncode == WRONG
    told = json.loads(unknown.stdout)
    assert "not known whether the request was made" in told["error"] and "request" not in told
    listed = wait_for("the request", lambda: [r for r in as_json(stack, "requests", thing) if r.get("clientToken") == told["clientToken"]])
    assert [request["operation"] for request in listed] == ["discover"]


def test_requests_are_canceled_by_version_and_by_token(stack, device):
    thing = device("sleeping")
    waiting = start(stack, "read", thing, "Device.0")
    version = wait_for("the request", lambda: next(iter(stack.aws.answers(thing)), None))
    lwm2m(stack, "read", thing, OFFSET, "--no-wait", "--client-token", "second")
    shown = lwm2m(stack, "cancel", thing, version, "second")
    assert "CANCEL_DONE: " in shown and f"{version}: CANCELED" in shown
    told, _ = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, told.split()[0]) == (CANCELED, "CANCELED")
    nothing = run(stack, "cancel", thing, "12345")
    assert nothing.returncode == FAILED and "NOTHING_TO_CANCEL" in nothing.stdout


# ---------------------------------------------------------------- credentials


def test_a_profile_that_is_named_goes_before_credentials_in_the_environment(stack, tmp_path):
    config, credentials, used = tmp_path / "config", tmp_path / "credentials", tmp_path / "used"
    keys = json.dumps({"Version": 1, "AccessKeyId": "of-profile", "SecretAccessKey": "s"})
    (tmp_path / "keys.sh").write_text(f"touch '{used}'\necho '{keys}'\n")
    config.write_text(f"[profile named]\ncredential_process = sh {tmp_path / 'keys.sh'}\n")
    credentials.touch()
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    lwm2m(stack, "devices", **files)
    assert not used.exists()
    lwm2m(stack, "--profile", "named", "devices", **files)
    assert used.exists()
    misspelt = run(stack, "--profile", "name", "devices", **files)
    assert misspelt.returncode == WRONG and re.fullmatch(r"could not [^\n]+: no AWS credentials: [^\n]+\n", misspelt.stderr)


def test_without_credentials_nothing_was_sent(stack, device):
    thing, nowhere = device(), {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true"}
    environment = {name: value for name, value in (base_environment() | stack.aws.environment).items() if name not in CREDENTIALS}
    command, before = [LWM2M, "--region", "us-east-1", "execute", thing, REBOOT], stack.aws.shadow(thing, "operation")
    ended = subprocess.run(command, env=environment | nowhere, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == WRONG
    assert re.fullmatch(rf"could not write the operation shadow of {thing}: no AWS credentials: [^\n]+\n", ended.stderr)
    assert stack.aws.shadow(thing, "operation") == before


# ---------------------------------------------------------------- lists


def test_requests_are_listed_newest_first(stack, device):
    thing = device("sleeping")
    first = as_json(stack, "execute", thing, REBOOT, "--no-wait")["request"]
    lwm2m(stack, "cancel", thing, str(first))
    second = as_json(stack, "read", thing, OFFSET, "--no-wait", "--client-token", "second")["request"]
    stack.aws.last_word(thing, second, ("SCHEDULED",))

    listed = as_json(stack, "requests", thing)
    assert [(r["operation"], r["status"]) for r in listed] == [
        ("read", "SCHEDULED"),
        ("cancelRequest", "SUCCEEDED"),
        ("execute", "CANCELED"),
    ]
    assert (listed[0]["request"], listed[0]["keys"], listed[0]["clientToken"]) == (second, [OFFSET], "second")
    assert listed[2]["reason"]["code"] == "CANCELED"
    # Those that are open are listed in any case.
    assert [request["status"] for request in as_json(stack, "requests", thing, "--most", "1")] == ["SCHEDULED", "SUCCEEDED"]
    assert [request["status"] for request in as_json(stack, "requests", thing, "--most", "0")] == ["SCHEDULED"]
    of_shadow = as_json(stack, "requests", thing, "--most", "0", "--stack", "nobody-s")
    assert [request["status"] for request in of_shadow] == ["SCHEDULED"]
    table = lwm2m(stack, "requests", thing).splitlines()
    assert table[0].split() == ["REQUEST", "OPERATION", "PATHS", "STATUS", "REASON", "SINCE", "CLIENT", "TOKEN"]
    assert re.fullmatch(rf"{second} +read +{OFFSET} +SCHEDULED +- +\S+Z +second", table[1])
    # Without rights on the stack, the requests in the shadow are listed.
    of_shadow = run(stack, "requests", thing, "--stack", "nobody-s")
    assert of_shadow.returncode == DONE and "Only those that the operation shadow shows" in of_shadow.stderr
    assert [line.split()[0] for line in of_shadow.stdout.splitlines()] == [line.split()[0] for line in table]


def test_older_requests_than_those_in_the_shadow_are_listed(stack, device):
    thing = device()
    stack.aws.dynamodb.put_item(
        TableName=stack.outputs["RequestsTable"],
        Item={
            "thing": {"S": thing},
            "entry": {"S": "request#000000000007"},
            "operation": {"S": "write"},
            "status": {"S": "FAILED"},
            "code": {"S": "DEVICE_REFUSED"},
            "message": {"S": "it said no"},
            "keys": {"L": [{"S": OFFSET}]},
            "updatedAt": {"S": "2026-01-01T00:00:00Z"},
        },
    )
    [listed] = as_json(stack, "requests", thing)
    assert listed == {
        "request": 7,
        "operation": "write",
        "status": "FAILED",
        "updatedAt": "2026-01-01T00:00:00Z",
        "reason": {"code": "DEVICE_REFUSED", "message": "it said no"},
        "keys": [OFFSET],
    }


def test_devices_are_listed_with_their_last_contact(stack, device):
    thing, silent = device("sleeping"), device()
    connection = {"lwm2mLastUpOp": "Update", "lwm2mLastUpOpTime": "2020-01-02T03:04:05Z", "registeredQueueMode": "true"}
    stack.aws.update_shadow(thing, None, {"reported": connection})
    devices = {listed["thing"]: listed for listed in as_json(stack, "devices")}
    assert devices[thing]["lastContact"] == "2020-01-02T03:04:05Z" and devices[thing]["connection"] == connection
    assert devices[silent]["lastContact"] is None
    shown = lwm2m(stack, "devices")
    assert re.search(rf"^{thing} +- +\d+ days ago +Update +queue mode$", shown, re.MULTILINE)
    assert re.search(rf"^{silent} +- +never +- +-$", shown, re.MULTILINE)
    names = list(devices)
    assert names.index(thing) < names.index(silent), "those first that were heard of last"


def test_the_data_model_is_shown_whole_and_in_part(stack, device):
    thing = device()
    nothing = run(stack, "datamodel", thing)
    assert nothing.returncode == DONE and nothing.stdout == "" and "holds nothing" in nothing.stderr
    lwm2m(stack, "read", thing, "Device.0", "LwM2M Server.1")
    whole = as_json(stack, "datamodel", thing)
    reported = stack.aws.reported(thing, "datamodel")
    assert whole[OFFSET] == reported["Device"]["0"]["UTC Offset"]
    assert whole["LwM2M Server.1.Lifetime"] == reported["LwM2M Server"]["1"]["Lifetime"]
    assert as_json(stack, "datamodel", thing, "/3/0/14") == {OFFSET: whole[OFFSET]}
    assert re.fullmatch(rf"PATH +VALUE\n{OFFSET} +\S+\n", lwm2m(stack, "datamodel", thing, OFFSET))
    assert run(stack, "datamodel", thing, "Device/0").returncode == NOT_VALID


# ---------------------------------------------------------------- documentation


def test_every_subcommand_and_option_is_documented():
    page = (ROOT / "docs" / "command-line.md").read_text()
    listed = subprocess.run([LWM2M, "--help"], check=True, capture_output=True, text=True).stdout
    subcommands = set(re.findall(r"^  ([a-z-]+)  ", listed.partition("Commands:")[2], re.MULTILINE)) - {"help"}
    assert len(subcommands) > len(OPERATIONS)
    # The options of these are on the page about operation.
    operating = {"doctor", "redrive", "rewrite-answers"}
    pages = {name: page + (ROOT / "docs" / "operations.md").read_text() if name in operating else page for name in subcommands}
    for name, text in pages.items():
        assert re.search(rf"`(lwm2m )?{name}[` ]", text), name
        options = set(re.findall(r"--[a-z][a-z-]+", all_help_of(name))) - {"--help", "--version"}
        assert [option for option in options if not re.search(rf"{option}(?![a-z-])", text)] == [], name


def all_help_of(*words: str) -> str:
    """Help of a subcommand and of its own subcommands."""
    shown = subprocess.run([LWM2M, *words, "--help"], check=True, capture_output=True, text=True).stdout
    below = re.findall(r"^  ([a-z-]+)  ", shown.partition("Commands:")[2], re.MULTILINE)
    return shown + "".join(all_help_of(*words, name) for name in below if name != "help")


# ---------------------------------------------------------------- completion


def completions(*words: str) -> list[str]:
    """Completions of bash for the last word."""
    script = """
        source <(COMPLETE=bash "$LWM2M")
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        _clap_complete_lwm2m "$1" "${!#}" ""
        printf '%s\\n' ${COMPREPLY[@]+"${COMPREPLY[@]}"} | sed '/^$/d'
    """
    environment = os.environ | {"LWM2M": str(LWM2M), "PATH": f"{LWM2M.parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-c", script, "bash", *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_shell_completes_the_paths_of_described_objects():
    assert "Device.0." in completions("lwm2m", "read", "thing", "Dev")
    assert completions("lwm2m", "read", "thing", "Device.0.UTC") == [OFFSET]
    assert completions("lwm2m", "read", "thing", r"LwM2M\ Server.1.Life") == ["LwM2M Server.1.Lifetime"]
    assert completions("lwm2m", "execute", "thing", "Device.0.Re") == [REBOOT, "Device.0.Reset Error Code"]
    assert completions("lwm2m", "write", "thing", "/", "Device.0.Battery L") == [], "it cannot be written"
    assert completions("lwm2m", "datamodel", "thing", "Device.0.UTC") == [OFFSET]
    assert "write-attributes" in completions("lwm2m", "wr")


# ---------------------------------------------------------------- jobs


def test_a_job_is_made_for_a_group_and_watched_to_its_end(stack, device):
    things = [device(), device()]
    stack.coiote.refuse(things[1], {REBOOT: "4.05 Method Not Allowed"})
    stack.aws.iot.create_thing_group(thingGroupName="cli-group")
    for thing in things:
        stack.aws.iot.add_thing_to_thing_group(thingGroupName="cli-group", thingName=thing)
    made = as_json(stack, "job", "create", "cli-reboot", "execute", REBOOT, "--group", "cli-group", "--per-minute", "1000")
    assert made == {"job": "cli-reboot", "document": {"lwm2m": {"operation": "execute", "keys": [REBOOT]}}}
    watched = as_json(stack, "job", "watch", "cli-reboot", "--timeout", "90", status=FAILED)
    assert watched["status"] == "COMPLETED"
    ended = {status: number for status, number in watched["executions"].items() if number}
    assert ended == {"SUCCEEDED": 1, "FAILED": 1}


def test_a_job_of_a_sleeping_device_is_still_open_when_the_watch_times_out(stack, device):
    thing = device("sleeping")
    options = ["--thing", thing, "--continuous", "--abort-at", "10", "--timeout-minutes", "60"]
    lwm2m(stack, "job", "create", "cli-sleeper", "read", OFFSET, *options)
    job = stack.aws.iot.describe_job(jobId="cli-sleeper")["job"]
    assert (job["targetSelection"], job["timeoutConfig"]["inProgressTimeoutInMinutes"]) == ("CONTINUOUS", 60)
    assert job["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 10
    assert run(stack, "job", "watch", "cli-sleeper", "--timeout", "0").returncode == OPEN
    stack.aws.iot.cancel_job(jobId="cli-sleeper", force=True)
    assert run(stack, "job", "watch", "cli-sleeper").returncode == CANCELED


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["write", "Device.0.UTC Ofset=+01:00", "--thing", "any"], NOT_VALID, 'did you mean "UTC Offset"'),
        (["execute", REBOOT], NOT_VALID, "a job needs a --thing or a --group"),
        (["execute", REBOOT, "--group", "no-such-group"], WRONG, "could not find the group no-such-group"),
        (["dance", REBOOT, "--thing", "any"], NO_COMMAND, "one of read, write,"),
    ],
    ids=["not valid", "no target", "unknown group", "unknown operation"],
)
def test_a_job_that_cannot_be_made_is_reported_and_not_made(stack, arguments, status, message):
    ended = run(stack, "job", "create", "cli-no-job", *arguments)
    assert ended.returncode == status and message in ended.stderr, ended.stderr
    assert "cli-no-job" not in [job["jobId"] for job in stack.aws.iot.list_jobs()["jobs"]]


# ---------------------------------------------------------------- doctor


# The only thing that is wrong with this stack: certificates of the tests are valid for two days.
SHORT_LIVED = f"client certificate for Coiote (secret {SECRET_NAME})"


def other_errors(stack, **environment: str) -> dict[str, dict]:
    """Errors that the doctor reports, except for the short-lived certificate, by subject."""
    found = {finding["subject"]: finding for finding in as_json(stack, "doctor", status=WRONG, **environment)}
    assert re.fullmatch(r"valid for \d days? only", found.pop(SHORT_LIVED)["told"])
    return {subject: finding for subject, finding in found.items() if finding["state"] == "wrong"}


@pytest.fixture
def healthy(stack):
    """The stack with an empty failure queue."""
    stack.aws.sqs.purge_queue(QueueUrl=stack.outputs["FailureQueueUrl"])
    return stack


def test_the_doctor_lists_its_checks(healthy):
    assert other_errors(healthy) == {}
    ended = run(healthy, "doctor")
    assert ended.returncode == WRONG
    shown = ended.stdout
    for part in (
        f"ok      rule {healthy.outputs['CreateThingRule']}: enabled, and may invoke",
        f"WRONG   {SHORT_LIVED}: valid for",
        # Its secret is one of its own, which a CertificateRotation does not renew.
        '        → put a new one into the secret: docs/deploy.md, "Renew the certificates", A secret of your own',
        f"ok      Coiote at {healthy.coiote.url}: it answers, and takes the client certificate",
        "unsure  certificate of Coiote: the stack has not made it",
        "ok      failure queue: empty",
    ):
        assert f"\n{part}" in f"\n{shown}"
    # Other tests decide whether reports were read lately.
    assert re.search(r"^ok      reconcile: it runs: |^unsure  reconcile: no look at a device is overdue", shown, re.MULTILINE)
    # Another test may have updated the stack.
    assert re.search(rf"^ok      stack {STACK_NAME}: (CREATE|UPDATE)_COMPLETE$", shown, re.MULTILINE)
    assert re.search(r"^Wrong: 1 of \d+\.$", shown, re.MULTILINE)


def test_the_doctor_reports_a_rule_that_does_not_fire(healthy):
    stack, rule = healthy, healthy.outputs["OperationRequestRule"]
    stack.aws.iot.disable_topic_rule(ruleName=rule)
    try:
        [(subject, found)] = other_errors(stack).items()
        assert subject == f"rule {rule}" and found["advice"] == f"aws iot enable-topic-rule --rule-name {rule}"
    finally:
        stack.aws.iot.enable_topic_rule(ruleName=rule)


@pytest.mark.parametrize("rule", ["operationRequest", "operationResponse"])
def test_the_doctor_reports_a_rule_of_avsystems_own_stack_unless_it_is_disabled(healthy, rule):
    iot = healthy.aws.iot
    iot.create_topic_rule(ruleName=rule, topicRulePayload={"sql": "SELECT * FROM 'a/topic'", "actions": []})
    try:
        [(subject, found)] = other_errors(healthy).items()
        assert subject == f"rule {rule}" and found["advice"] == f"aws iot disable-topic-rule --rule-name {rule}"
        iot.disable_topic_rule(ruleName=rule)
        assert other_errors(healthy) == {}
    finally:
        iot.delete_topic_rule(ruleName=rule)


@pytest.mark.parametrize(("output", "rules"), [("OperationRequestFunction", 3), ("OperationResponseFunction", 1)])
def test_the_doctor_reports_rules_that_may_not_invoke_their_function(healthy, output, rules):
    stack, function = healthy, healthy.outputs[output]
    statements = json.loads(stack.aws.lambda_.get_policy(FunctionName=function)["Policy"])["Statement"]
    of_rules = [statement for statement in statements if statement["Principal"]["Service"] == "iot.amazonaws.com"]
    assert len(of_rules) == rules
    for statement in of_rules:
        stack.aws.lambda_.remove_permission(FunctionName=function, StatementId=statement["Sid"])
    added = []
    try:
        errors = other_errors(stack).values()
        assert [found["told"] for found in errors] == [f"it may not invoke {function}"] * rules
        # The commands in their advice repair it.
        for found in errors:
            words = found["advice"].split()[3:]
            arguments = dict(zip(words[::2], words[1::2], strict=True))
            stack.aws.lambda_.add_permission(
                FunctionName=arguments["--function-name"],
                StatementId=arguments["--statement-id"],
                Action=arguments["--action"],
                Principal=arguments["--principal"],
                SourceArn=arguments["--source-arn"],
            )
            added.append(arguments["--statement-id"])
        assert other_errors(stack) == {}
    finally:
        for statement_id in added:
            stack.aws.lambda_.remove_permission(FunctionName=function, StatementId=statement_id)
        for statement in of_rules:
            stack.aws.lambda_.add_permission(
                FunctionName=function,
                StatementId=statement["Sid"],
                Action=statement["Action"],
                Principal=statement["Principal"]["Service"],
                SourceArn=statement["Condition"]["ArnLike"]["AWS:SourceArn"],
                SourceAccount=statement["Condition"]["StringEquals"]["AWS:SourceAccount"],
            )


def test_the_doctor_reports_a_coiote_that_is_not_reached_or_refuses(healthy):
    stack = healthy
    good = stack.secret(stack.client)
    subject = f"Coiote at {stack.coiote.url}"
    for secret, code in [
        (stack.secret(stack.authority.server("a-stranger")), "COIOTE_UNAUTHORIZED"),
        (json.dumps(json.loads(good) | {"caPem": ""}), "COIOTE_NOT_TRUSTED"),
    ]:
        stack.aws.secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=secret)
        try:
            found = other_errors(stack)[subject]
            assert found["told"].startswith(f"{code}: ") and code in found["advice"]
        finally:
            stack.aws.secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=good)


def test_the_doctor_reports_events_and_requests_that_are_stuck(healthy, device):
    stack, thing = healthy, device()
    table = stack.outputs["RequestsTable"]
    stack.aws.sqs.send_message(QueueUrl=stack.outputs["FailureQueueUrl"], MessageBody="no event")
    # As long as a request waits for a Coiote that refuses it, the circuit stays open.
    stack.coiote.set_faults({"rate": 1.0, "kinds": ["unavailable"]})
    version = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0"]})

    def waits() -> bool:
        answer = stack.aws.answers(thing).get(str(version), {})
        return answer.get("reason", {}).get("code") == "COIOTE_UNAVAILABLE"

    try:
        wait_for("the request to wait for Coiote", waits)
        circuit = {"thing": {"S": "#coiote"}, "entry": {"S": "circuit"}, "failures": {"N": "3"}, "openSince": {"N": "1000"}}
        stack.aws.dynamodb.put_item(TableName=table, Item=circuit)
        found = other_errors(stack)
        assert found["failure queue"]["told"] == "1 messages wait in it" and "lwm2m redrive" in found["failure queue"]["advice"]
        assert "away since" in found["Coiote as the functions see it"]["told"]
    finally:
        stack.coiote.set_faults({})
        stack.aws.sqs.purge_queue(QueueUrl=stack.outputs["FailureQueueUrl"])
        stack.aws.forget_outages(table)


@pytest.mark.parametrize("rule", ["JobRequestRule", "JobOverRule", "JobCanceledRule"])
def test_the_doctor_reports_a_rule_of_jobs_that_does_not_fire(healthy, rule):
    name = healthy.outputs[rule]
    healthy.aws.iot.disable_topic_rule(ruleName=name)
    try:
        assert list(other_errors(healthy)) == [f"rule {name}"]
    finally:
        healthy.aws.iot.enable_topic_rule(ruleName=name)


@pytest.mark.parametrize(
    ("function", "reader", "afterwards"),
    [("AnswersFunction", "answers", "lwm2m rewrite-answers"), ("JobExecutionsFunction", "job-executions", "--enabled")],
)
def test_the_doctor_reports_a_disabled_stream(healthy, function, reader, afterwards):
    stack = healthy
    listed = stack.aws.lambda_.list_event_source_mappings(FunctionName=stack.outputs[function])
    [mapping] = [m["UUID"] for m in listed["EventSourceMappings"] if ":dynamodb:" in m["EventSourceArn"]]
    stack.aws.lambda_.update_event_source_mapping(UUID=mapping, Enabled=False)
    try:
        found = other_errors(stack)[f"the ledger's stream to {reader}"]
        assert mapping in found["advice"] and afterwards in found["advice"]
    finally:
        stack.aws.lambda_.update_event_source_mapping(UUID=mapping, Enabled=True)


@pytest.mark.parametrize(
    ("function", "service", "subject", "afterwards"),
    [
        ("AnswersFunction", "dynamodb", "the ledger's stream to answers", "; after more than a day also lwm2m rewrite-answers"),
        ("AnswersFunction", "sqs", "the answers queue", ""),
        ("JobExecutionsFunction", "dynamodb", "the ledger's stream to job-executions", ""),
    ],
)
def test_the_doctor_reports_a_deleted_event_source_mapping(healthy, aws_between, function, service, subject, afterwards):
    name = healthy.outputs[function]
    listed = healthy.aws.lambda_.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    others = [
        {"UUID": mapping["UUID"], "EventSourceArn": mapping["EventSourceArn"], "State": mapping["State"]}
        for mapping in listed
        if f":{service}:" not in mapping["EventSourceArn"]
    ]
    assert len(others) < len(listed)

    def without_it(call: Call) -> Answer | None:
        return Answer({"EventSourceMappings": others}) if call.query.get("FunctionName") == [name] else None

    aws_between.always("GET /2015-03-31", without_it)
    [(found_subject, found)] = other_errors(healthy, AWS_ENDPOINT_URL=aws_between.endpoint).items()
    assert found_subject == subject and "was deleted" in found["told"]
    restored = 'revert the drift of the stack: docs/operations.md, "Restore what was changed by hand"'
    assert found["advice"] == restored + afterwards


def test_the_doctor_is_unsure_about_coiote_if_it_may_not_decrypt_where_it_is(healthy, aws_between):
    """AWS answers with an error in the place of the variables, for a user without the permission for KmsKeyArn."""
    why = "Lambda was unable to decrypt your environment variables because the KMS access was denied."
    encrypted = {"Error": {"ErrorCode": "AccessDeniedException", "Message": why}}

    def without_variables(call: Call) -> Answer | None:
        is_asked = call.path.endswith("/configuration")
        return Answer({"State": "Active", "Environment": encrypted}) if is_asked else None

    aws_between.always("GET /2015-03-31", without_variables)
    shown = as_json(healthy, "doctor", AWS_ENDPOINT_URL=aws_between.endpoint)
    [found] = [finding for finding in shown if finding["subject"] == "Coiote"]
    assert found["state"] == "unsure" and why in found["told"]


def in_hours(hours: float) -> int:
    return int((time.time() + 3600 * hours) * 1000)


def hours_ago(hours: float) -> int:
    return in_hours(-hours) // 1000


class FakeLedger:
    """Open requests of many devices, which the doctor reads by way of a proxy."""

    def __init__(self, between):
        self._looks: list[tuple[int, str]] = []
        self._states: dict[str, dict] = {}
        between.always("Query", self._query)
        between.always("GetItem", self._item)

    def add(self, thing: str, due_in: float, **fields) -> None:
        """Adds a device with a request, at which `reconcile` looks in so many hours."""
        record = {"n": 1, "o": "read", "s": "S", "i": "task", "z": 1, "l": in_hours(167)} | fields
        self._states[thing] = {"o": [record]}
        self._looks.append((in_hours(due_in), thing))

    def _query(self, call: Call) -> Answer:
        """All of them are in one shard."""
        query = call.json()
        shard, begin, end = (query["ExpressionAttributeValues"][name] for name in (":shard", ":from", ":to"))
        due = sorted(look for look in self._looks if shard == {"S": "0"} and int(begin["N"]) <= look[0] <= int(end["N"]))
        items = [{"lookAt": {"N": str(at)}, "thing": {"S": thing}} for at, thing in due[: query["Limit"]]]
        return Answer({"Items": items, "Count": len(items)})

    def _item(self, call: Call) -> Answer | None:
        state = self._states.get(call.json()["Key"]["thing"]["S"])
        item = {"state": {"S": json.dumps(state)}, "version": {"N": "1"}}
        return Answer({"Item": item}) if state else None


@pytest.fixture
def oldest_request(healthy, aws_between):
    """Finds what the doctor says of the oldest open request."""

    def look() -> dict:
        found = as_json(healthy, "doctor", status=WRONG, AWS_ENDPOINT_URL=aws_between.endpoint)
        [oldest] = [finding for finding in found if finding["subject"] == "oldest open request"]
        return oldest

    return look


def test_the_doctor_finds_an_old_request_behind_many_new_ones(aws_between, oldest_request):
    ledger = FakeLedger(aws_between)
    for number in range(150):
        ledger.add(f"new-{number}", due_in=0.5 + number / 1000, q=hours_ago(0.2))
    # No report of theirs is requested any more: they are looked at when their lifetimes end.
    ledger.add("sleeps", due_in=67, q=hours_ago(101), l=in_hours(67))
    ledger.add("sleeps-as-well", due_in=68, q=hours_ago(100), l=in_hours(68))
    found = oldest_request()
    assert found["told"] == "read 1 of sleeps, SCHEDULED, made 4 days ago (of the first 102 devices)"
    assert found["state"] == "wrong" and found["advice"] == "its device sleeps or is gone; lwm2m cancel sleeps 1 takes it back"


def test_the_doctor_finds_a_request_behind_those_of_a_large_job(aws_between, oldest_request):
    ledger = FakeLedger(aws_between)
    for number in range(300):
        ledger.add(f"of-a-job-{number}", due_in=20 + number / 1000, n="job:large:1", q=hours_ago(148))
    waits = {"s": "W", "i": None, "e": {"code": "COIOTE_UNAVAILABLE"}}
    ledger.add("waits", due_in=67, q=hours_ago(101), l=in_hours(67), **waits)
    found = oldest_request()
    assert found["told"] == "read 1 of waits, IN_PROGRESS, made 4 days ago"
    assert found["state"] == "wrong" and "docs/errors.md says what to do about COIOTE_UNAVAILABLE" in found["advice"]


def test_the_doctor_says_how_many_devices_it_has_read_for_the_oldest_request(aws_between, oldest_request):
    ledger = FakeLedger(aws_between)
    for number in range(1_001):
        ledger.add(f"of-a-job-{number}", due_in=20 + number / 1000, n="job:large:1", q=hours_ago(148))
    found = oldest_request()
    assert (found["state"], found["told"]) == ("ok", "there is none (of the first 1000 devices)")
