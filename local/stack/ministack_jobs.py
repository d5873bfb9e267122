"""AWS IoT Jobs, with behaviour that MiniStack 1.5 lacks:

- executions time out by themselves, and not only when they are read;
- failed and timed out executions are retried as often as the job's `jobExecutionsRetryConfig` says, as other executions;
- a job for a thing group reaches the groups in it;
- pending executions of a thing are found without looking at those of all others.

A minute of a timeout or of a rollout takes as long as one of a schedule: `LOCAL_SCHEDULE_SECONDS`.

https://docs.aws.amazon.com/iot/latest/developerguide/jobs-configurations-details.html
"""

import asyncio
from collections.abc import Iterator

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import iot

# Seconds between two looks at executions
TICK = 0.5

create_job = iot._create_job
maybe_complete = iot._jobs_maybe_complete
notify_thing = iot.jobs_notify_thing
resolve_target = iot._job_target_resolve
joined_group = iot._jobs_thing_joined_group
_watched: dict[tuple[str, str], asyncio.Task] = {}
# Retries whose thing has not been notified: its next job may have the same name as before.
_retries: set[tuple[str, str, int]] = set()
_minute_ms = 60_000


async def create_and_watch(job_id: str, payload: dict) -> tuple:
    created = await create_job(job_id, payload)
    scope = (get_account_id(), get_region())
    if scope not in _watched:
        _watched[scope] = asyncio.get_running_loop().create_task(watch(*scope))
    return created


async def watch(account_id: str, region: str) -> None:
    while True:
        await asyncio.sleep(TICK)
        async with iot.publishing_events():
            with request_scope(account_id, region):
                late = [execution for execution in list(iot._job_executions.values()) if is_late(execution)]
                fronts = {execution["thingName"]: iot.jobs_first_pending_job_id(execution["thingName"]) for execution in late}
                for execution in late:
                    time_out(execution)
            for thing, front in fronts.items():
                await iot.jobs_notify_thing(account_id, region, thing, front)
            for job_id in {execution["jobId"] for execution in late}:
                await iot.jobs_abort_if_met(account_id, region, job_id)


def is_late(execution: dict) -> bool:
    if execution["status"] != "IN_PROGRESS":
        return False
    minutes = iot._jobs_timeout_minutes(execution, iot._jobs.get(execution["jobId"]))
    started = execution.get("timeoutStartedAt") or execution.get("startedAt")
    return bool(minutes and started and iot._jobs_now_ms() - started > minutes * _minute_ms)


def time_out(execution: dict) -> None:
    execution["status"] = "TIMED_OUT"
    execution["lastUpdatedAt"] = iot._jobs_now_ms()
    execution["versionNumber"] += 1
    iot._job_execution_event(execution)
    iot._jobs_maybe_complete(execution["jobId"])


def retry_or_complete(job_id: str) -> None:
    """Replaces the check for a job's completion, which follows every end of an execution: retries it, if it may be."""
    job = iot._jobs.get(job_id)
    criteria = ((job or {}).get("jobExecutionsRetryConfig") or {}).get("criteriaList") or []
    if criteria and job["status"] == "IN_PROGRESS":
        retries = {criterion["failureType"]: int(criterion["numberOfRetries"]) for criterion in criteria}
        for execution in list(iot._job_executions.values()):
            attempt = execution.get("retryAttempt", 0)
            allowed = retries.get(execution["status"], retries.get("ALL", 0))
            if execution["jobId"] == job_id and execution["status"] in ("FAILED", "TIMED_OUT") and attempt < allowed:
                thing = execution["thingName"]
                iot._jobs_queue_execution(thing, job_id, iot._jobs_now_ms())
                again = iot._job_executions[(thing, job_id)]
                again["retryAttempt"] = attempt + 1
                _retries.add((thing, job_id, again["executionNumber"]))
    maybe_complete(job_id)


async def notify_of_retries_too(account_id: str, region: str, thing: str, front: str | None) -> None:
    with request_scope(account_id, region):
        execution = iot.jobs_start_next_execution(thing, peek=True)
    retry = (thing, execution["jobId"], execution["executionNumber"]) if execution else None
    if retry in _retries:
        _retries.discard(retry)
        front = None
    await notify_thing(account_id, region, thing, front)


def pending_for_thing(thing: str) -> list[dict]:
    """Copies of the thing's executions that are queued or in progress, oldest first."""
    pending = []
    for job_id, job in list(iot._jobs.items()):
        if job.get("targetSelection") == "CONTINUOUS":
            iot._jobs_materialize_executions(job_id)
        execution = iot._job_executions.get((thing, job_id))
        if execution and execution["status"] in ("QUEUED", "IN_PROGRESS"):
            pending.append(dict(execution))
    return sorted(pending, key=lambda execution: execution["queuedAt"])


def members(arn: str) -> list[str] | None:
    """The things of a target, including those of groups in a group."""
    things = resolve_target(arn)
    kind, _, name = arn.rpartition(":")[2].partition("/")
    if things is None or kind != "thinggroup":
        return things
    for child in groups_in(name):
        things.extend(iot._thing_groups[child].get("things", []))
    return list(dict.fromkeys(things))


def groups_in(name: str) -> Iterator[str]:
    for child, group in list(iot._thing_groups.items()):
        if parent_of(group) == name:
            yield child
            yield from groups_in(child)


def parent_of(group: dict) -> str | None:
    return (group.get("thingGroupMetadata") or {}).get("parentGroupName")


def joined_group_and_those_around_it(thing: str, arn: str) -> bool:
    is_queued, name = False, arn.rpartition("/")[2]
    while name:
        is_queued |= joined_group(thing, iot._thing_group_arn(name))
        name = parent_of(iot._thing_groups.get(name) or {})
    return is_queued


def install(minute: float) -> None:
    """Replaces functions of MiniStack; fails if one of them does not exist."""
    global _minute_ms
    _minute_ms = minute * 1000
    _ = (iot._JOB_ROLLOUT_INTERVAL_MS, iot._jobs_apply_timeout, iot.jobs_pending_for_thing)
    iot._JOB_ROLLOUT_INTERVAL_MS = int(_minute_ms)
    # Reads do not change the status.
    iot._jobs_apply_timeout = lambda execution: execution
    iot.jobs_pending_for_thing = pending_for_thing
    iot._create_job = create_and_watch
    iot._jobs_maybe_complete = retry_or_complete
    iot.jobs_notify_thing = notify_of_retries_too
    iot._job_target_resolve = members
    iot._jobs_thing_joined_group = joined_group_and_those_around_it
