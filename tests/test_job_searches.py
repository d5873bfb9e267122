"""Executions of AWS IoT jobs that are found in AWS's lists, and documents that are no requests; through the deployed template."""

import contextlib
import threading
import time

import pytest

from job_requests import (
    FOREIGN, OFFSET, READ, REBOOT, WRITE, elsewhere, invoke_operation_request, outcome_of,
    run_count, start_job,
)
from stack.aws_between import Answer, Refuse
from stack.processes import PATIENCE, wait_for


# ---------------------------------------------------------------- executions without a notification


@contextlib.contextmanager
def rule_off(stack):
    """Disables the rule that passes notifications of executions on, so that these are lost."""
    rule = stack.outputs["JobRequestRule"]
    stack.aws.iot.disable_topic_rule(ruleName=rule)
    try:
        yield
    finally:
        stack.aws.iot.enable_topic_rule(ruleName=rule)


def test_an_execution_behind_a_foreign_job_is_found(stack, jobs, device):
    thing = device()
    foreign = jobs.create([thing], FOREIGN)
    of_thing = [jobs.run([thing], WRITE | {"values": [offset]}) for offset in ("+01:00", "+02:00")]
    for job in of_thing:
        assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"
    assert [run["done"][0]["value"] for run in stack.coiote.runs(thing)] == ["+01:00", "+02:00"], "in their order"
    assert jobs.execution(foreign, thing)["status"] == "QUEUED", "it is somebody else's"
    stack.aws.iot.cancel_job(jobId=foreign)


def test_an_execution_whose_notification_was_lost_is_found(stack, jobs, device):
    thing = device()
    with rule_off(stack):
        job = jobs.run([thing], REBOOT)
        assert jobs.execution(job, thing)["status"] == "QUEUED"
    assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"
    assert run_count(stack, thing) == 1


@pytest.fixture
def look_at_once(stack, environment_of):
    """Has job-executions look for executions, also for those that AWS has just queued or updated."""
    operation_request = stack.outputs["OperationRequestFunction"]
    function = environment_of(
        "JobExecutions", OPERATION_REQUEST_FUNCTION=operation_request, JOBS_NOTIFIED_WITHIN_SECONDS="0"
    )

    def look() -> None:
        assert function.invoke({"source": "aws.events"}) is None
        assert "JOBS_NOT_LOOKED_AT" not in [line.get("code") for line in function.log_lines()]

    return look


@pytest.mark.parametrize("is_in_the_history", [False, True], ids=["in the item", "in the history"])
def test_a_job_with_the_id_of_a_deleted_one_is_not_taken_for_it(stack, jobs, device, look_at_once, is_in_the_history):
    thing = device()
    job = jobs.run([thing], REBOOT)
    first = jobs.end_of(job, thing)
    assert first["status"] == "SUCCEEDED" and run_count(stack, thing) == 1
    stack.aws.iot.delete_job(jobId=job)
    if is_in_the_history:
        stack.aws.dynamodb.delete_item(
            TableName=stack.outputs["RequestsTable"], Key={"thing": {"S": thing}, "entry": {"S": "device"}}
        )
    # AWS deletes no job in less time. Its times are in whole seconds.
    wait_for("more than rounding", lambda: time.time() >= first["queuedAt"].timestamp() + 6)
    with rule_off(stack):
        jobs.run([thing], REBOOT, job_id=job)
        again = jobs.execution(job, thing)
        assert (again["status"], again["executionNumber"]) == ("QUEUED", 1)
    look_at_once()
    assert jobs.end_of(job, thing)["status"] == "SUCCEEDED"
    assert run_count(stack, thing) == 2


def wake(stack, thing: str, job: str, deleted_at: int) -> str:
    """Has the device run what its request asks for; returns the status of that."""
    stack.coiote.set_state(thing, "online")
    return "SUCCEEDED"


def report_deletion_late(stack, thing: str, job: str, deleted_at: int) -> str:
    """Sends the event of the deleted execution; returns the status of its request."""
    event = {"thingName": thing, "jobId": job, "executionNumber": 1, "jobOver": "deleted", "timestamp": deleted_at}
    invoke_operation_request(stack, event)
    return "CANCELED"


@pytest.mark.parametrize(("end", "runs"), [(wake, 2), (report_deletion_late, 1)])
def test_the_end_of_a_deleted_jobs_request_is_not_told_to_the_execution_of_a_new_job(
    stack, jobs, device, sleeping, look_at_once, end, runs
):
    thing, job = sleeping
    queued_at = jobs.execution(job, thing)["queuedAt"].timestamp()
    stack.aws.iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": False}})
    try:
        stack.aws.iot.delete_job(jobId=job, force=True)
    finally:
        jobs.switch_events_on()
    deleted_at = int(time.time())
    # As above.
    wait_for("more than rounding", lambda: time.time() >= queued_at + 7)
    with rule_off(stack):
        jobs.run([thing], REBOOT, job_id=job)
        assert jobs.execution(job, thing)["status"] == "QUEUED"
        status = end(stack, thing, job, deleted_at)
        wait_for("the old request to end", lambda: outcome_of(stack, thing, job)[0] == status)
    # The next record in the stream has been handled.
    witness = device()
    assert jobs.end_of(jobs.run([witness], READ), witness)["status"] == "SUCCEEDED"
    look_at_once()
    stack.coiote.set_state(thing, "online")
    execution = jobs.end_of(job, thing)
    assert (execution["status"], execution["details"]["operation"]) == ("SUCCEEDED", "execute"), execution
    assert run_count(stack, thing) == runs


def test_a_last_word_that_aws_has_missed_is_told_later(stack, jobs, sleeping, look_at_once, aws_between):
    thing, job = sleeping
    aws_between.always("POST /things", Refuse(400, "InvalidRequestException"))
    with elsewhere(stack, aws_between):
        stack.coiote.set_state(thing, "online")
        # The record in the stream is given up.
        log = stack.outputs["JobExecutionsLogGroup"]
        stack.aws.log_line(log, "AWS IoT Jobs does not take the update", thing=thing)
        assert outcome_of(stack, thing, job)[0] == "SUCCEEDED"
        assert jobs.execution(job, thing)["status"] == "IN_PROGRESS"
    look_at_once()
    assert jobs.execution(job, thing)["status"] == "SUCCEEDED"


@contextlib.contextmanager
def unreadable(stack, thing: str):
    """Replaces the device's item by one that no function can read; afterwards it is there again."""
    table, key = stack.outputs["RequestsTable"], {"thing": {"S": thing}, "entry": {"S": "device"}}
    item = stack.aws.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    broken = key | {"state": {"S": "of another version"}, "version": {"N": "1"}}
    stack.aws.dynamodb.put_item(TableName=table, Item=broken)
    try:
        yield
    finally:
        if item:
            stack.aws.dynamodb.put_item(TableName=table, Item=item)
        else:
            stack.aws.dynamodb.delete_item(TableName=table, Key=key)


def test_an_item_that_cannot_be_read_does_not_end_a_search(stack, jobs, device, environment_of):
    broken, thing = device(), device()
    operation_request = stack.outputs["OperationRequestFunction"]
    search = environment_of("JobExecutions", OPERATION_REQUEST_FUNCTION=operation_request, JOBS_NOTIFIED_WITHIN_SECONDS="0")
    with unreadable(stack, broken), rule_off(stack):
        of_broken, of_thing = (jobs.run([name], REBOOT) for name in (broken, thing))
        assert search.invoke({"source": "aws.events"}) is None
        assert jobs.end_of(of_thing, thing)["status"] == "SUCCEEDED"
        assert jobs.execution(of_broken, broken)["status"] == "QUEUED"
    lines = search.log_lines()
    assert [line["code"] for line in lines if line.get("thing") == broken] == ["LEDGER_UNREADABLE"]
    [last] = [line for line in lines if line.get("message") == "looked for executions"]
    assert last["failed"] == 1
    assert search.invoke({"source": "aws.events"}) is None
    assert jobs.end_of(of_broken, broken)["status"] == "SUCCEEDED"


def cancel_without_events(stack, jobs, job: str) -> None:
    stack.aws.iot.update_event_configurations(
        eventConfigurations={"JOB": {"Enabled": False}, "JOB_EXECUTION": {"Enabled": False}}
    )
    try:
        stack.aws.iot.cancel_job(jobId=job, force=True)
    finally:
        jobs.switch_events_on()


def test_an_item_that_cannot_be_read_does_not_keep_the_other_requests_of_a_canceled_job(
    stack, jobs, device, group, environment_of
):
    things = broken, thing = [device("sleeping") for _ in range(2)]
    job = start_job(jobs, group, things)
    function = environment_of("JobExecutions", OPERATION_REQUEST_FUNCTION=stack.outputs["OperationRequestFunction"])
    cancel_without_events(stack, jobs, job)
    with unreadable(stack, broken):
        assert function.invoke({"canceledJob": job})["errorType"] == "JOBS_NOT_LOOKED_AT"
        wait_for("it to be taken back", lambda: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))
    assert function.invoke({"canceledJob": job}) is None, "Lambda tries again"
    wait_for("it to be taken back", lambda: outcome_of(stack, broken, job) == ("CANCELED", "CANCELED"))


def test_the_requests_of_a_canceled_job_are_taken_back_at_once(stack, jobs, device, group, environment_of, aws_between):
    things = [device("sleeping") for _ in range(3)]
    job = start_job(jobs, group, things)
    function = environment_of(
        "JobExecutions",
        AWS_ENDPOINT_URL=aws_between.endpoint,
        OPERATION_REQUEST_FUNCTION=stack.outputs["OperationRequestFunction"],
    )
    invoked, all_are_invoked = set(), threading.Event()

    def wait_for_the_other_things(call):
        invoked.add(call.json()["thingName"])
        if invoked == set(things):
            all_are_invoked.set()
        return lambda: all_are_invoked.wait(PATIENCE)

    # Invocations of operation-request
    aws_between.always("POST /2015-03-31", wait_for_the_other_things)
    cancel_without_events(stack, jobs, job)
    assert function.invoke({"canceledJob": job}) is None
    for thing in things:
        wait_for("it to be taken back", lambda thing=thing: outcome_of(stack, thing, job) == ("CANCELED", "CANCELED"))


def test_executions_in_progress_are_looked_at_however_many_are_queued(stack, jobs, sleeping, environment_of, aws_between):
    thing, job = sleeping
    behind = jobs.run([thing], READ)
    assert jobs.execution(behind, thing)["status"] == "QUEUED"
    # More things than a search gets through
    arn, queued = jobs.arn(thing), {"status": "QUEUED", "executionNumber": 1, "queuedAt": 1, "lastUpdatedAt": 1}
    summaries = [{"thingArn": f"{arn}-{number}", "jobExecutionSummary": queued} for number in range(5_000)]

    def jobs_and_queued_executions(call):
        if call.query.get("status") == ["QUEUED"]:
            return Answer({"executionSummaries": summaries})
        is_list_of_jobs = "status" in call.query and "maxResults" not in call.query
        return Answer({"jobs": [{"jobId": job}, {"jobId": behind}]}) if is_list_of_jobs else None

    aws_between.always("GET /jobs", jobs_and_queued_executions)
    search = environment_of("JobExecutions", AWS_ENDPOINT_URL=aws_between.endpoint, JOBS_NOTIFIED_WITHIN_SECONDS="0")
    assert search.invoke({"source": "aws.events"}, seconds=12) is None
    [last] = [line for line in search.log_lines() if line.get("message") == "looked for executions"]
    assert (last["queued"], last["in_progress"], last["is_cut_short"]) == (5_000, 1, True), last


def test_an_execution_in_progress_whose_request_is_open_is_left_alone(jobs, sleeping, look_at_once):
    thing, job = sleeping
    before = jobs.execution(job, thing)
    look_at_once()
    assert jobs.execution(job, thing) == before


# ---------------------------------------------------------------- bad input


def test_a_document_without_an_operation_is_left_alone(stack, jobs, device):
    foreign = {}
    for document in (FOREIGN, {"lwm2m": {}}, {"lwm2m": "read"}):
        thing = device()
        foreign[thing] = jobs.create([thing], document)
    witness = device()
    # A later execution is done, so these would have been, too; and a look finds executions behind a foreign job.
    assert jobs.end_of(jobs.run([witness], READ), witness)["status"] == "SUCCEEDED"
    blocking = jobs.create([witness], FOREIGN)
    assert jobs.end_of(jobs.run([witness], READ), witness)["status"] == "SUCCEEDED"
    stack.aws.iot.cancel_job(jobId=blocking)
    for thing, job in foreign.items():
        assert jobs.execution(job, thing)["status"] == "QUEUED"
    lines = stack.aws.log_lines(stack.outputs["OperationRequestLogGroup"])
    assert not [line for line in lines if line.get("thing") in foreign]
    # Only now, because the events of it are logged, too.
    for job in foreign.values():
        stack.aws.iot.cancel_job(jobId=job)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"operation": "read", "keys": ["Device.0.UTC Ofset"]}, "RESOURCE_UNKNOWN", 'did you mean "UTC Offset"'),
        ({"operation": "write", "keys": [OFFSET]}, "VALUES_MISSING", "values"),
        ({"operation": "dance"}, "OPERATION_UNKNOWN", "dance"),
        ({"operation": None}, "OPERATION_MISSING", "operation"),
        ({"operation": "read", "keys": [f"Device.0.No\u200bthing{'é' * 100} {n}" for n in range(50)]}, "RESOURCE_UNKNOWN", "Device.0.No?thing"),
    ],
    ids=["unknown key", "no values", "unknown operation", "null", "many findings"],
)
def test_a_document_that_is_not_valid_is_rejected_with_its_findings(stack, jobs, device, request_, code, words):
    thing = device()
    execution = jobs.end_of(jobs.run([thing], request_), thing)
    assert execution["status"] == "REJECTED", execution
    assert code == execution["details"]["code"] and words in execution["details"]["message"], execution
    assert all(len(value) <= 1024 for value in execution["details"].values())
    assert run_count(stack, thing) == 0


def test_a_thing_that_is_no_device_of_coiote_has_failed_with_a_code(stack, jobs):
    thing = f"no-device-{time.time_ns()}"
    stack.aws.iot.create_thing(thingName=thing)
    execution = jobs.end_of(jobs.run([thing], READ), thing)
    assert (execution["status"], execution["details"]["code"]) == ("FAILED", "DEVICE_UNKNOWN"), execution
