"""AWS IoT Jobs carry LwM2M operations, through the deployed template."""

import itertools
import json
import re
import socket
import subprocess
import time

import pytest

from command_line import LWM2M
from job_requests import (
    BATTERY, FOREIGN, READ, REBOOT, WRITE, delete_execution, elsewhere, invoke_operation_request,
    notification, outcome_of, report_removal, run_count, start_job,
)
from stack.aws import base_environment
from stack.aws_between import BROKEN, DENIED, THROTTLED, Answer, Refuse
from stack.deployment import STACK_NAME
from stack.local_stack import ROOT
from stack.processes import wait_for


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    "request_",
    [
        READ,
        WRITE,
        REBOOT,
        {"operation": "observe", "keys": [BATTERY], "attributes": [{"pmin": 5}]},
        {"operation": "create", "keys": ["Portfolio.3.Identity.0"], "values": ["AVS"]},
    ],
    ids=lambda request_: request_["operation"],
)
def test_an_execution_ends_with_what_the_device_did(stack, jobs, device, request_):
    thing = device()
    job = jobs.run([thing], request_)
    execution = jobs.end_of(job, thing)
    assert execution["status"] == "SUCCEEDED", execution
    assert execution["details"]["operation"] == request_["operation"]
    assert [run["failed"] for run in stack.coiote.runs(thing, execution["details"]["taskId"])] == [[]]
    assert jobs.counts(job) == {"SUCCEEDED": 1}
    assert jobs.describe(job)["status"] == "COMPLETED"


def test_the_report_is_in_the_details(jobs, device):
    thing = device()
    execution = jobs.end_of(jobs.run([thing], {"operation": "discover", "keys": ["Device.0"]}), thing)
    assert "</3/0" in json.loads(execution["details"]["properties"])["Device.0"]


def test_an_execution_that_the_device_refuses_has_failed_with_its_message(stack, jobs, device):
    thing = device()
    stack.coiote.refuse(thing, {"Device.0.Reboot": "4.05 Method Not Allowed"})
    execution = jobs.end_of(jobs.run([thing], REBOOT), thing)
    assert (execution["status"], execution["details"]["code"]) == ("FAILED", "DEVICE_REFUSED"), execution
    assert "4.05" in execution["details"]["message"]


def test_a_request_of_a_job_stands_among_the_devices_others(stack, jobs, device):
    thing = device("sleeping")
    job = jobs.run([thing], READ)
    jobs.status_of(job, thing, "IN_PROGRESS")
    name = f"job:{job}:1"
    wait_for("its copy", lambda: outcome_of(stack, thing, job)[0] == "SCHEDULED")
    assert stack.aws.answers(thing)[name]["operation"] == "read"
    # It can be canceled as they can.
    version = stack.aws.request(thing, {"operation": "cancelRequest", "requests": [name]})
    assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
    execution = jobs.end_of(job, thing)
    assert (execution["status"], execution["details"]["code"]) == ("FAILED", "CANCELED")
    assert run_count(stack, thing) == 0


# ---------------------------------------------------------------- sleeping devices


def test_a_sleeping_devices_execution_is_in_progress_until_it_wakes(stack, jobs, device):
    thing = device("sleeping")
    job = jobs.run([thing], WRITE)
    execution = jobs.status_of(job, thing, "IN_PROGRESS")
    # The details say that Coiote has the task.
    wait_for("the task", lambda: jobs.execution(job, thing)["details"].get("taskId"))
    assert run_count(stack, thing) == 0 and "code" not in execution["details"]
    stack.coiote.set_state(thing, "online")
    assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"


def test_the_jobs_timeout_cancels_the_request(stack, jobs, device):
    thing = device("sleeping")
    job = jobs.run([thing], REBOOT, timeoutConfig={"inProgressTimeoutInMinutes": 1})
    assert jobs.end_of(job, thing)["status"] == "TIMED_OUT"
    wait_for("the request to be taken back", lambda: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))
    stack.coiote.set_state(thing, "online")
    # The next operation shows that the reboot is gone.
    assert jobs.end_of(jobs.run([thing], READ), thing)["status"] == "SUCCEEDED"
    assert run_count(stack, thing) == 1


# ---------------------------------------------------------------- targets


def test_a_job_reaches_things_groups_and_groups_in_them(jobs, device, group):
    alone, outer, inner, both = (device() for _ in range(4))
    parent, parent_arn = group(outer, both)
    group(inner, both, parent=parent)
    job = jobs.run([alone, parent_arn], WRITE)
    for thing in (alone, outer, inner, both):
        assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"
    assert jobs.counts(job) == {"SUCCEEDED": 4}


def test_a_device_that_joins_later_gets_a_continuous_job(stack, jobs, device, group):
    first, later = device(), device()
    name, arn = group(first)
    job = jobs.run([arn], WRITE, targetSelection="CONTINUOUS")
    assert jobs.end_of(job, first)["status"] == "SUCCEEDED"
    stack.aws.iot.add_thing_to_thing_group(thingGroupName=name, thingName=later)
    assert jobs.end_of(job, later)["status"] == "SUCCEEDED"
    assert (run_count(stack, first), run_count(stack, later)) == (1, 1)
    # A device that comes back gets it once more, as another execution.
    stack.aws.iot.remove_thing_from_thing_group(thingGroupName=name, thingName=later)
    stack.aws.iot.add_thing_to_thing_group(thingGroupName=name, thingName=later)
    wait_for("the second execution", lambda: jobs.execution(job, later)["executionNumber"] == 2)
    assert jobs.end_of(job, later)["status"] == "SUCCEEDED"
    assert run_count(stack, later) == 2
    stack.aws.iot.cancel_job(jobId=job)


def test_a_rollout_has_the_pace_that_the_job_sets(stack, jobs, device, group):
    things = [device() for _ in range(3)]
    job = jobs.run([group(*things)[1]], WRITE, jobExecutionsRolloutConfig={"maximumPerMinute": 1})
    for thing in things:
        wait_for("its turn", lambda thing=thing: run_count(stack, thing) == 1)
    began = sorted(jobs.execution(job, thing)["queuedAt"] for thing in things)
    # A minute takes five seconds here; times are in whole seconds.
    assert all((later - earlier).total_seconds() >= 4 for earlier, later in itertools.pairwise(began)), began
    wait_for("all to end", lambda: jobs.counts(job) == {"SUCCEEDED": 3})


def test_a_job_stops_when_too_many_fail(stack, jobs, device, group):
    things = [device() for _ in range(4)]
    for thing in things:
        stack.coiote.refuse(thing, {"Device.0.Reboot": "4.05 Method Not Allowed"})
    criterion = {"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 50.0, "minNumberOfExecutedThings": 1}
    job = jobs.run(
        [group(*things)[1]],
        REBOOT,
        jobExecutionsRolloutConfig={"maximumPerMinute": 1},
        abortConfig={"criteriaList": [criterion]},
    )
    wait_for("the job to be canceled", lambda: jobs.describe(job)["status"] == "CANCELED")
    assert jobs.describe(job)["reasonCode"] == "ABORT_CANCEL"
    # The next one may have begun before AWS knew of the failure.
    assert 1 <= jobs.counts(job)["FAILED"] <= sum(run_count(stack, thing) for thing in things) < len(things)


def test_several_jobs_of_a_thing_run_one_after_the_other(stack, jobs, device):
    thing = device("sleeping")
    offsets = ["+01:00", "+02:00", "+03:00"]
    of_thing = [jobs.run([thing], WRITE | {"values": [offset]}) for offset in offsets]
    jobs.status_of(of_thing[0], thing, "IN_PROGRESS")
    assert [jobs.execution(job, thing)["status"] for job in of_thing[1:]] == ["QUEUED", "QUEUED"]
    stack.coiote.set_state(thing, "online")
    for job in of_thing:
        assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"
    assert [run["done"][0]["value"] for run in stack.coiote.runs(thing)] == offsets


# ---------------------------------------------------------------- retries


def test_a_retry_of_the_job_runs_an_execute_again_and_a_second_notification_does_not(stack, jobs, device):
    thing = device()
    stack.coiote.refuse(thing, {"Device.0.Reboot": "5.00 Internal Server Error"})
    job = jobs.run(
        [thing], REBOOT, jobExecutionsRetryConfig={"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 2}]}
    )
    wait_for("the third execution", lambda: jobs.execution(job, thing)["executionNumber"] == 3)
    last = jobs.end_of(job, thing)
    assert last["status"] == "FAILED" and run_count(stack, thing) == 3
    for number in (1, 2, 3):
        execution = jobs.execution(job, thing, number)
        assert execution["details"]["code"] == "DEVICE_REFUSED"
        answer = invoke_operation_request(stack, notification(thing, job, execution, REBOOT))
        assert (answer["status"], answer["reason"]["code"]) == ("IGNORED", "DUPLICATE"), answer
    assert run_count(stack, thing) == 3


def test_late_and_repeated_notifications_run_once(stack, jobs, device):
    """They run once also when the request is no longer in the device's item."""
    thing = device()
    job = jobs.run([thing], REBOOT)
    execution = jobs.end_of(job, thing)
    event = notification(thing, job, execution, REBOOT)
    assert invoke_operation_request(stack, event)["status"] == "IGNORED"
    table = stack.outputs["RequestsTable"]
    stack.aws.dynamodb.delete_item(TableName=table, Key={"thing": {"S": thing}, "entry": {"S": "device"}})
    assert invoke_operation_request(stack, event)["status"] == "IGNORED"
    assert run_count(stack, thing) == 1
    # A job that was deleted and made again with the same name, a minute later, is another one.
    stack.aws.iot.delete_job(jobId=job)
    again = event | {"timestamp": event["timestamp"] + 60}
    assert invoke_operation_request(stack, again)["status"] == "SCHEDULED"
    wait_for("the second run", lambda: run_count(stack, thing) == 2)
    for repeated in (again, event):
        assert invoke_operation_request(stack, repeated)["status"] == "IGNORED"
    assert run_count(stack, thing) == 2


# ---------------------------------------------------------------- canceling


def test_the_request_of_a_canceled_execution_is_canceled(stack, jobs, device):
    thing = device("sleeping")
    job = jobs.run([thing], REBOOT)
    jobs.status_of(job, thing, "IN_PROGRESS")
    stack.aws.iot.cancel_job_execution(jobId=job, thingName=thing, force=True)
    wait_for("the request to be taken back", lambda: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))
    assert jobs.execution(job, thing)["status"] == "CANCELED", "it is left as AWS has ended it"
    stack.coiote.set_state(thing, "online")
    assert jobs.end_of(jobs.run([thing], READ), thing)["status"] == "SUCCEEDED"
    assert run_count(stack, thing) == 1


def test_a_running_execution_goes_on_when_its_job_is_canceled_without_force(stack, jobs, device, group):
    sleeper, behind = device("sleeping"), device()
    foreign = jobs.create([behind], FOREIGN)
    job = jobs.run([group(sleeper, behind)[1]], REBOOT)
    jobs.status_of(job, sleeper, "IN_PROGRESS")
    stack.aws.iot.cancel_job(jobId=job)
    assert jobs.status_of(job, behind, "CANCELED")["status"] == "CANCELED"
    # The log says when its event has been handled.
    stack.aws.log_line(stack.outputs["JobExecutionsLogGroup"], "looked for executions", job=job)
    assert outcome_of(stack, sleeper, job)[0] == "SCHEDULED"
    stack.coiote.set_state(sleeper, "online")
    assert jobs.end_of(job, sleeper)["status"] == "SUCCEEDED"
    assert (run_count(stack, sleeper), run_count(stack, behind)) == (1, 0)
    stack.aws.iot.cancel_job(jobId=foreign)


@pytest.mark.parametrize("end", [delete_execution, report_removal])
def test_the_request_of_a_removed_execution_is_canceled(stack, jobs, device, end):
    thing = device("sleeping")
    job = jobs.run([thing], REBOOT)
    jobs.status_of(job, thing, "IN_PROGRESS")
    end(stack, jobs, thing, job)
    wait_for("the request to be taken back", lambda: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))
    stack.coiote.set_state(thing, "online")
    assert stack.aws.last_word(thing, stack.aws.request(thing, READ))["status"] == "SUCCEEDED"
    assert run_count(stack, thing) == 1


def cancel_job(stack, job: str, things: list[str]) -> None:
    """Cancels the job, and waits until its requests are canceled."""
    stack.aws.iot.cancel_job(jobId=job, force=True)
    for thing in things:
        wait_for("it to be taken back", lambda thing=thing: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))


def test_the_requests_of_a_canceled_job_are_canceled_for_all_things(stack, jobs, device, group):
    things = [device("sleeping") for _ in range(3)]
    job = start_job(jobs, group, things)
    cancel_job(stack, job, things)
    for thing in things:
        stack.coiote.set_state(thing, "online")
        assert jobs.end_of(jobs.run([thing], READ), thing)["status"] == "SUCCEEDED"
        assert run_count(stack, thing) == 1


def test_the_event_of_the_job_alone_cancels_its_requests(stack, jobs, device, group):
    """Events of executions are switched off."""
    things = [device("sleeping") for _ in range(2)]
    job = start_job(jobs, group, things)
    stack.aws.iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": False}})
    try:
        cancel_job(stack, job, things)
    finally:
        jobs.switch_events_on()


def test_an_execution_that_was_canceled_before_it_was_claimed_is_not_run(stack, jobs, device):
    """Its notification was on its way: AWS refuses IN_PROGRESS, and the request is canceled."""
    thing = device("sleeping")
    blocking = jobs.create([thing], FOREIGN)
    job = jobs.run([thing], REBOOT)
    execution = jobs.execution(job, thing)
    stack.aws.iot.cancel_job_execution(jobId=job, thingName=thing)
    assert invoke_operation_request(stack, notification(thing, job, execution, REBOOT))["status"] == "SCHEDULED"
    wait_for("the request to be taken back", lambda: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))
    assert jobs.execution(job, thing)["status"] == "CANCELED"
    stack.aws.iot.cancel_job(jobId=blocking)
    assert run_count(stack, thing) == 0


# ---------------------------------------------------------------- throttling and outages


def test_a_request_that_waits_says_so_and_is_done_when_coiote_is_back(stack, jobs, device):
    thing = device()
    stack.coiote.set_faults({"routes": {"POST /tasksFromTemplates/device/{deviceId}": 503}})
    try:
        job = jobs.run([thing], READ)
        waiting = wait_for("it to say so", lambda: e if (e := jobs.execution(job, thing))["details"].get("code") else None)
        assert waiting["status"] == "IN_PROGRESS" and waiting["details"]["code"].startswith("COIOTE_"), waiting
    finally:
        stack.coiote.set_faults({})
    done = jobs.end_of(job, thing)
    assert done["status"] == "SUCCEEDED" and "code" not in done["details"], done


def stream_event(stack, thing: str) -> dict:
    """The event of the stream for the device's item, as if it were new."""
    key = {"thing": {"S": thing}, "entry": {"S": "device"}}
    item = stack.aws.dynamodb.get_item(TableName=stack.outputs["RequestsTable"], Key=key, ConsistentRead=True)["Item"]
    return {"Records": [{"eventSource": "aws:dynamodb", "dynamodb": {"Keys": key, "NewImage": item}}]}


@pytest.mark.parametrize("fault", [THROTTLED, BROKEN, DENIED], ids=["throttled", "broken", "denied"])
def test_an_update_that_aws_refuses_is_retried(stack, sleeping, environment_of, aws_between, fault):
    thing, _ = sleeping
    function, event = environment_of("JobExecutions", AWS_ENDPOINT_URL=aws_between.endpoint), stream_event(stack, thing)
    aws_between.always("POST /things", fault)
    assert function.invoke(event)["errorType"] == "JOB_EXECUTION_NOT_TOLD"
    [line] = [line for line in function.log_lines() if line.get("code") == "JOB_EXECUTION_NOT_TOLD" and "message" in line]
    # The query "failures by code" shows warnings without a status.
    assert (line["level"], line["thing"], "status" in line) == ("WARN", thing, False)
    aws_between.heal()
    assert function.invoke(event) is None


def test_the_status_counts_more_than_its_details(stack, jobs, sleeping, environment_of, aws_between):
    thing, job = sleeping
    function = environment_of("JobExecutions", AWS_ENDPOINT_URL=aws_between.endpoint)
    aws_between.once("POST /things", Refuse(400, "InvalidRequestException"))
    assert function.invoke(stream_event(stack, thing)) is None
    assert aws_between.nothing_is_left_of("POST /things")
    assert list(jobs.execution(job, thing)["details"]) == ["taskId"]


def test_throttling_by_aws_delays_no_answer_in_a_shadow(stack, jobs, device, aws_between):
    thing, other = device(), device()
    aws_between.always("POST /things", THROTTLED)
    with elsewhere(stack, aws_between):
        job = jobs.run([thing], READ)
        wait_for("its answer in the shadow", lambda: outcome_of(stack, thing, job)[0] == "SUCCEEDED")
        assert stack.aws.last_word(other, stack.aws.request(other, READ))["status"] == "SUCCEEDED"
        assert jobs.execution(job, thing)["status"] == "QUEUED", "AWS has not been told of anything"
        aws_between.heal()
        assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"


def test_a_request_of_a_shadow_does_not_invoke_job_executions(stack, jobs, device):
    """Without jobs, nothing is billed for them."""
    of_shadow, of_job = device(), device()
    assert stack.aws.last_word(of_shadow, stack.aws.request(of_shadow, READ))["status"] == "SUCCEEDED"
    # The next record in the stream has been handled.
    assert jobs.end_of(jobs.run([of_job], READ), of_job)["status"] == "SUCCEEDED"
    group = stack.outputs["JobExecutionsLogGroup"]
    stack.aws.log_line(group, "AWS IoT Jobs told", thing=of_job)
    assert of_shadow not in {line.get("thing") for line in stack.aws.log_lines(group)}


def test_an_update_that_aws_never_accepts_delays_no_other(stack, jobs, sleeping, environment_of, aws_between):
    thing, job = sleeping
    function = environment_of("JobExecutions", AWS_ENDPOINT_URL=aws_between.endpoint)
    refused = Refuse(400, "InvalidRequestException")
    aws_between.once("POST /things", refused, refused)
    assert function.invoke(stream_event(stack, thing)) is None, "or Lambda brings the same records for a day"
    assert aws_between.nothing_is_left_of("POST /things")
    [line] = [line for line in function.log_lines() if line.get("message") == "AWS IoT Jobs does not take the update"]
    assert line["code"] == "JOB_EXECUTION_NOT_TAKEN"
    assert (line["level"], line["thing"], line["job"]) == ("ERROR", thing, f"job:{job}:1")


@pytest.fixture
def at_the_account(stack, aws_between):
    """Environment of a function without an endpoint for all services, as in Lambda: not for the data plane of AWS IoT Jobs."""
    local = {"AWS_ENDPOINT_URL_DYNAMODB": stack.aws.endpoint, "AWS_ENDPOINT_URL_LAMBDA": stack.aws.endpoint}
    return local | {"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_IOT": aws_between.endpoint}


@pytest.mark.parametrize("kinds", [["iot:Jobs"], ["iot:Jobs", "iot:Data-ATS"]], ids=["own", "common"])
def test_the_endpoint_of_the_account_is_called(stack, sleeping, environment_of, aws_between, at_the_account, kinds):
    thing, _ = sleeping
    function, event = environment_of("JobExecutions", **at_the_account), stream_event(stack, thing)
    asked = []

    def describe(call):
        [kind] = call.query["endpointType"]
        asked.append(kind)
        # The local AWS refuses the first kind, as AWS does for some accounts.
        return Answer({"endpointAddress": f"localhost:{account.getsockname()[1]}"}) if kind == kinds[-1] else None

    with socket.create_server(("127.0.0.1", 0)) as account:
        account.settimeout(30)
        aws_between.always("GET /endpoint", describe)
        invocation = function.begin(event)
        connection, _ = account.accept()
        with connection:
            hello = connection.recv(4096)
    # A record of the TLS handshake, for that host
    assert hello[0] == 22 and b"localhost" in hello
    assert function.result(invocation)["errorType"] == "JOB_EXECUTION_NOT_TOLD"
    assert function.invoke(event)["errorType"] == "JOB_EXECUTION_NOT_TOLD"
    assert asked == kinds, "once for an execution environment"


def test_an_endpoint_that_was_not_found_is_looked_up_again(stack, sleeping, environment_of, aws_between, at_the_account):
    thing, _ = sleeping
    function, event = environment_of("JobExecutions", **at_the_account), stream_event(stack, thing)
    aws_between.once("GET /endpoint", DENIED, Answer({}))
    for reason in ("ForbiddenException", "no address"):
        failed = function.invoke(event)
        assert failed["errorType"] == "JOB_EXECUTION_NOT_TOLD" and reason in failed["errorMessage"], failed
    assert aws_between.calls == ["GET /endpoint"] * 2


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_IOT_JOBS_DATA_PLANE"])
def test_a_configured_endpoint_is_not_looked_up(stack, sleeping, environment_of, aws_between, at_the_account, variable):
    thing, _ = sleeping
    function = environment_of("JobExecutions", **at_the_account | {variable: aws_between.endpoint})
    assert function.invoke(stream_event(stack, thing)) is None
    # A request of some seconds ago is compared with its execution before.
    assert aws_between.calls in (["POST /things"], ["GET /things", "POST /things"])


def test_a_look_that_aws_does_not_answer_is_made_again_by_the_next_one(environment_of, aws_between):
    function = environment_of("JobExecutions", AWS_ENDPOINT_URL=aws_between.endpoint)
    aws_between.always("GET /jobs", DENIED)
    assert function.invoke({"source": "aws.events"}) is None
    assert function.invoke({"canceledJob": "j"})["errorType"] == "JOBS_NOT_LOOKED_AT"
    aws_between.heal()
    assert function.invoke({"canceledJob": "no-such-job"}) is None


# ---------------------------------------------------------------- job templates


@pytest.mark.parametrize(
    ("output", "operation", "keys"),
    [
        ("RebootJobTemplate", "execute", "Device.0.Reboot"),
        # The path of the whole data model is empty.
        ("ReadAllJobTemplate", "read", ""),
        ("ObserveBatteryJobTemplate", "observe", BATTERY),
        ("DailyLifetimeJobTemplate", "write", "LwM2M Server.1.Lifetime"),
    ],
)
def test_a_job_template_of_the_stack_does_what_it_says(stack, jobs, device, output, operation, keys):
    thing = device()
    template = stack.aws.iot.describe_job_template(jobTemplateId=stack.outputs[output])
    job = f"job-{time.time_ns()}"
    stack.aws.iot.create_job(jobId=job, targets=[jobs.arn(thing)], jobTemplateArn=template["jobTemplateArn"])
    execution = jobs.end_of(job, thing)
    assert (execution["status"], execution["details"]["operation"]) == ("SUCCEEDED", operation), execution
    described = jobs.describe(job)
    assert described["jobExecutionsRolloutConfig"]["maximumPerMinute"] == 50
    assert described["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 10
    task = stack.coiote.tasks(thing)[-1]
    assert {parameter["name"]: parameter["value"] for parameter in task["parameters"]}["keys"] == keys
    if operation == "write":
        assert stack.coiote.datamodel(thing)["LwM2M Server"]["1"]["Lifetime"] == "86400"


# ---------------------------------------------------------------- docs/fleets.md


def commands_of_the_page() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "fleets.md").read_text(), re.DOTALL | re.MULTILINE)


def test_the_commands_of_the_page_do_what_it_says(stack, jobs, device):
    thing, model = device(), f"model-{time.time_ns()}"
    stack.aws.iot.create_thing_type(thingTypeName=model)
    stack.aws.iot.update_thing(thingName=thing, thingTypeName=model)
    indexed, static, by_aws, by_lwm2m, watching, canceling, events = commands_of_the_page()
    assert "create-dynamic-thing-group" in indexed, "of fleet indexing, which the local AWS does not have"
    tools = f"{ROOT / '.local' / 'tools' / 'bin'}:{LWM2M.parent}"
    environment = base_environment() | stack.aws.environment
    environment["PATH"] = f"{tools}:{environment['PATH']}"

    def shell(commands: str) -> str:
        commands = commands.replace("anjay:demo_client", model).replace("my-device", f'"{thing}"')
        done = subprocess.run(["bash", "-ec", commands], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    shell(static)
    shell(by_aws)
    watched = shell(watching)
    assert '"numberOfSucceededThings": 1' in watched and '"status": "SUCCEEDED"' in watched
    assert stack.coiote.datamodel(thing)["LwM2M Server"]["1"]["Lifetime"] == "86400"
    # The same job once more.
    shell(by_lwm2m.replace("lifetime-of-a-day", "by-the-command-line"))
    assert jobs.end_of("by-the-command-line", thing)["status"] == "SUCCEEDED"
    for job in ("lifetime-of-a-day", "by-the-command-line"):
        described = jobs.describe(job)
        assert described["jobExecutionsRolloutConfig"]["maximumPerMinute"] == 50
        assert described["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 10
    stack.coiote.set_state(thing, "sleeping")
    shell(by_lwm2m.replace("lifetime-of-a-day", "to-be-canceled"))
    jobs.status_of("to-be-canceled", thing, "IN_PROGRESS")
    shell(canceling.replace("lifetime-of-a-day", "to-be-canceled"))
    assert jobs.describe("to-be-canceled")["status"] == "CANCELED"
    shell(events)
    switched = stack.aws.iot.describe_event_configurations()["eventConfigurations"]
    assert switched["JOB"]["Enabled"] and switched["JOB_EXECUTION"]["Enabled"]


# ---------------------------------------------------------------- switched off


def test_where_jobs_are_off_nothing_is_there_and_they_are_found_when_it_is_on_again(stack, jobs, device):
    thing = device()
    function = stack.outputs["JobExecutionsFunction"]
    stack.deploy(Jobs="off")
    try:
        assert not [name for name in stack.outputs if "Job" in name]
        rules = stack.aws.iot.list_topic_rules()["rules"]
        assert not [rule for rule in rules if "/jobs/" in rule["topicPattern"] or "job" in rule["topicPattern"]]
        assert function not in [found["FunctionName"] for found in stack.aws.lambda_.list_functions()["Functions"]]
        assert stack.aws.iot.list_job_templates()["jobTemplates"] == []
        dashboard = stack.aws.cloudwatch.get_dashboard(DashboardName=STACK_NAME)["DashboardBody"]
        assert json.loads(dashboard) and function not in dashboard and f"alarm:{STACK_NAME}-job" not in dashboard
        job = jobs.run([thing], REBOOT)
        version = stack.aws.request(thing, READ)
        assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED", "shadows do not need it"
        assert jobs.execution(job, thing)["status"] == "QUEUED"
    finally:
        stack.deploy(Jobs="on")
    assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"
