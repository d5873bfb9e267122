"""AWS IoT jobs that carry LwM2M operations: creating and watching them."""

import itertools
import json
import uuid

from stack.aws import LocalAws
from stack.processes import PATIENCE, wait_for

TERMINAL = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED")
# AWS's names of the counts of a job's executions, by their status
COUNTS = {
    "QUEUED": "numberOfQueuedThings",
    "IN_PROGRESS": "numberOfInProgressThings",
    "SUCCEEDED": "numberOfSucceededThings",
    "FAILED": "numberOfFailedThings",
    "REJECTED": "numberOfRejectedThings",
    "TIMED_OUT": "numberOfTimedOutThings",
    "CANCELED": "numberOfCanceledThings",
    "REMOVED": "numberOfRemovedThings",
}


class Jobs:
    def __init__(self, aws: LocalAws):
        self._iot = aws.iot
        self._numbers = itertools.count(1)

    def switch_events_on(self) -> None:
        """Switches events of jobs on for the whole account, which no template can; docs/fleets.md has the command."""
        self._iot.update_event_configurations(
            eventConfigurations={"JOB": {"Enabled": True}, "JOB_EXECUTION": {"Enabled": True}}
        )

    def group(self, name: str, things: list[str], parent: str | None = None) -> str:
        """Creates a thing group with these members; returns its ARN, as a target of jobs."""
        more = {"parentGroupName": parent} if parent else {}
        arn = self._iot.create_thing_group(thingGroupName=name, **more)["thingGroupArn"]
        for thing in things:
            self._iot.add_thing_to_thing_group(thingGroupName=name, thingName=thing)
        return arn

    def arn(self, thing: str) -> str:
        return self._iot.describe_thing(thingName=thing)["thingArn"]

    def create(self, targets: list[str], document: object, job_id: str | None = None, **settings) -> str:
        """Creates a job for things by their names, and groups by their ARNs; returns its id."""
        job_id = job_id or f"job-{next(self._numbers)}-{uuid.uuid4().hex[:8]}"
        arns = [target if target.startswith("arn:") else self.arn(target) for target in targets]
        self._iot.create_job(jobId=job_id, targets=arns, document=json.dumps(document), **settings)
        return job_id

    def run(self, targets: list[str], request: dict, **settings) -> str:
        """Creates a job with an LwM2M operation; returns its id."""
        return self.create(targets, {"lwm2m": request}, **settings)

    def describe(self, job_id: str) -> dict:
        return self._iot.describe_job(jobId=job_id)["job"]

    def counts(self, job_id: str) -> dict[str, int]:
        """Counts the executions by status, without statuses that none has."""
        details = self.describe(job_id)["jobProcessDetails"]
        return {status: details[name] for status, name in COUNTS.items() if details.get(name)}

    def execution(self, job_id: str, thing: str, number: int | None = None) -> dict:
        """An execution, with its status details as `details`."""
        more = {"executionNumber": number} if number else {}
        execution = self._iot.describe_job_execution(jobId=job_id, thingName=thing, **more)["execution"]
        return execution | {"details": execution.get("statusDetails", {}).get("detailsMap", {})}

    def status_of(self, job_id: str, thing: str, *statuses: str, seconds: float = PATIENCE) -> dict:
        """Waits until the execution has one of these statuses; returns it."""

        def look():
            execution = self.execution(job_id, thing)
            return execution if execution["status"] in statuses else None

        return wait_for(f"{thing} in {job_id} to be {' or '.join(statuses)}", look, seconds)

    def end_of(self, job_id: str, thing: str, seconds: float = PATIENCE) -> dict:
        """Waits until the execution has ended; returns it."""
        return self.status_of(job_id, thing, *TERMINAL, seconds=seconds)
