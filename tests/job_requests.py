"""Requests that AWS IoT jobs carry, as the tests make them and look at them."""

import contextlib
import json
import time

from answers import status_and_code

OFFSET = "Device.0.UTC Offset"
BATTERY = "Device.0.Battery Level"
REBOOT = {"operation": "execute", "keys": ["Device.0.Reboot"]}
WRITE = {"operation": "write", "keys": [OFFSET], "values": ["+02:00"]}
READ = {"operation": "read", "keys": ["Device.0"]}
FOREIGN = {"steps": ["a document of somebody else"]}


def run_count(stack, thing: str) -> int:
    """Number of operations that the device has run."""
    return len(stack.coiote.runs(thing))


def notification(thing: str, job: str, execution: dict, request: object) -> dict:
    """The event that the rule makes of the message on notify-next."""
    event = {"thingName": thing, "jobId": job, "executionNumber": execution["executionNumber"]}
    fields = request if isinstance(request, dict) else {}
    return event | {"timestamp": int(execution["queuedAt"].timestamp())} | fields


def invoke_operation_request(stack, event: dict) -> dict:
    """Invokes operation-request as the rule does; returns its result."""
    answer = stack.aws.lambda_.invoke(FunctionName=stack.outputs["OperationRequestFunction"], Payload=json.dumps(event))
    return json.loads(answer["Payload"].read())


def outcome_of(stack, thing: str, job: str, number: int = 1) -> tuple[str | None, str | None]:
    return status_and_code(stack.aws.answers(thing).get(f"job:{job}:{number}", {}))


def delete_execution(stack, jobs, thing: str, job: str) -> None:
    stack.aws.iot.delete_job_execution(jobId=job, thingName=thing, executionNumber=1, force=True)


def report_removal(stack, jobs, thing: str, job: str) -> None:
    """Sends the event of a removed execution, which the local AWS lacks for one that is in progress."""
    event = {"thingArn": jobs.arn(thing), "jobId": job, "executionNumber": 1, "jobOver": "removed"}
    invoke_operation_request(stack, event | {"timestamp": int(time.time())})


def start_job(jobs, group, things: list[str]) -> str:
    """Creates a job for the things, and waits until all executions are claimed."""
    job = jobs.run([group(*things)[1]], REBOOT)
    for thing in things:
        jobs.status_of(job, thing, "IN_PROGRESS")
    return job


@contextlib.contextmanager
def elsewhere(stack, aws_between):
    """Has the deployed function update executions through the proxy."""
    function = stack.outputs["JobExecutionsFunction"]
    configured = stack.aws.lambda_.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    through = configured | {"AWS_ENDPOINT_URL_IOT_JOBS_DATA_PLANE": aws_between.endpoint}
    stack.aws.lambda_.update_function_configuration(FunctionName=function, Environment={"Variables": through})
    try:
        yield
    finally:
        stack.aws.lambda_.update_function_configuration(FunctionName=function, Environment={"Variables": configured})
