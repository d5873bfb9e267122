"""Starts MiniStack, and adds behaviour of AWS that MiniStack 1.5 lacks:

- a rule, a schedule or an `Invoke` with the type `Event` invokes its function asynchronously, so a failed invocation is
  retried and ends in the failure destination, and a slow function does not delay others;
- each of these attempts has the request id of the first;
- an invocation beyond the function's reserved concurrency waits for its turn, and that is no attempt;
- the MQTT listener is at BIND_HOST, as the other one;
- a shadow holds 8 KB;
- `null` in a new part of a shadow leaves nothing behind;
- event source mappings of DynamoDB streams follow all their settings (ministack_streams.py);
- tables expire items, and have all properties of the template (ministack_tables.py);
- jobs of AWS IoT time out, are retried and reach groups in groups (ministack_jobs.py).

For tests, `LOCAL_SCHEDULE_SECONDS` is the length of a minute of a rate such as `rate(1 minute)`, or of a job's timeout, and
`LOCAL_TTL_SECONDS` the time between two looks for expired items; both default to 60. `LOCAL_RETRY_PAUSES` are the seconds before the
first and the second retry of a failed invocation (1,2).

Runs with the Python of .local/aws. Every function that it replaces has to be there, or it ends with an error.
"""

import asyncio
import contextvars
import copy
import functools
import json
import os
import signal
import threading
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import ministack_jobs
import ministack_streams
import ministack_tables
from ministack import app
from ministack.core.responses import request_scope
from ministack.services import cloudwatch_logs, eventbridge, iot, lambda_svc, scheduler

import calls_of_functions

LARGEST_SHADOW = 8 * 1024

# Most execution environments of a function. They are processes here, and more would only slow each other down.
MAX_ENVIRONMENTS = 12
# Seconds after the first failure and after the second; on AWS one and two minutes.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
PAUSES = tuple(float(pause) for pause in os.environ.get("LOCAL_RETRY_PAUSES", "1,2").split(","))
LONGEST_WAIT = 6 * 3600
MINUTE = float(os.environ.get("LOCAL_SCHEDULE_SECONDS", "60"))

_next_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("next_id", default=None)

new_uuid = lambda_svc.new_uuid
update_shadow = iot.update_thing_shadow
merge = iot._deep_merge
emit_logs = lambda_svc._emit_lambda_logs
parse_rate = eventbridge._parse_rate_seconds
queues: dict[str, ThreadPoolExecutor] = defaultdict(lambda: ThreadPoolExecutor(MAX_ENVIRONMENTS, thread_name_prefix="asynchronous"))


def uuid_or_request_id() -> str:
    """Replaces new_uuid: the id of the invocation that begins in this thread, once, and otherwise a new one."""
    chosen = _next_id.get()
    _next_id.set(None)
    return chosen or new_uuid()


def invoke_asynchronously(func: dict, event: dict) -> None:
    config = func.get("config") or func
    account_id, region = lambda_svc._account_region_from_function_config(config)
    with request_scope(account_id, region):
        invocation = Invocation(func, event)
        attempt = functools.partial(contextvars.copy_context().run, invocation.attempt)
    # One queue for each function, as on AWS: a function whose calls hang does not delay the others.
    invocation.submit = functools.partial(queues[f"{account_id} {region} {config['FunctionName']}"].submit, attempt)
    invocation.submit()


class Invocation:
    """An event in Lambda's queue, with its attempts."""

    def __init__(self, func: dict, event: dict):
        self.func = func
        self.event = event
        self.request_id = str(uuid.uuid4())
        self.failures = 0
        self.began = time.time()
        self.submit = lambda: None

    def attempt(self) -> None:
        config = self.func.get("event_invoke_config") or (self.func.get("event_invoke_configs") or {}).get("$LATEST") or {}
        # The first id that _execute_function makes is the request id.
        _next_id.set(self.request_id)
        result = lambda_svc._execute_function(self.func, self.event)
        _next_id.set(None)
        expired = time.time() - self.began > float(config.get("MaximumEventAgeInSeconds") or LONGEST_WAIT)
        if result.get("throttle") and not expired:
            # Waiting for its turn is no attempt.
            self.retry_in(0.1)
        elif result.get("error"):
            retries = config.get("MaximumRetryAttempts")
            if not expired and self.failures < (len(PAUSES) if retries is None else int(retries)):
                self.failures += 1
                return self.retry_in(PAUSES[self.failures - 1])
            of_function = self.func.get("config") or self.func
            target = ((config.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
            target = target or (of_function.get("DeadLetterConfig") or {}).get("TargetArn")
            if target:
                lambda_svc._route_async_failure(target, of_function["FunctionName"], self.event, result)

    def retry_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self.submit)
        timer.daemon = True
        timer.start()


def invoke_by_rule(account_id: str, region: str, function_arn: str, event: object) -> None:
    func, config, _ = lambda_svc._get_func_record_for_ref_in_scope(function_arn, account_id=account_id, region=region)
    if func and config:
        invoke_asynchronously(lambda_svc._execution_record_for_config(func, config), event)
    else:
        raise RuntimeError(f"function {function_arn} not found")


def invoke_by_schedule(function_arn: str, payload: str) -> None:
    """Invokes the target of a rule of EventBridge, or of a schedule."""
    func, config, name = lambda_svc._get_func_record_for_ref(function_arn)
    if func and config:
        invoke_asynchronously(lambda_svc._execution_record_for_config(func, config), json.loads(payload))
    else:
        eventbridge.logger.warning("a schedule's function %s is not there", name)


def shortened_rate(expression: str) -> float | None:
    seconds = parse_rate(expression)
    return None if seconds is None else seconds * MINUTE / 60


def update_within_the_limit(thing: str, shadow: str, request: dict) -> tuple:
    before = copy.deepcopy(iot._shadows.get((thing, shadow)))
    status, document = update_shadow(thing, shadow, request)
    after = iot._shadows.get((thing, shadow))
    if status == 200 and len(json.dumps(after["state"], separators=(",", ":"), ensure_ascii=False).encode()) > LARGEST_SHADOW:
        if before is None:
            del iot._shadows[(thing, shadow)]
        else:
            iot._shadows[(thing, shadow)] = before
        return iot._shadow_error(413, "The payload exceeds the maximum size allowed")
    return status, document


def without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    return value


def merge_without_nulls(base: dict, patch: dict) -> dict:
    for key, value in patch.items():
        if isinstance(value, dict) and not isinstance(base.get(key), dict):
            base[key] = without_nulls(value)
        else:
            merge(base, {key: value}) if not isinstance(value, dict) else merge_without_nulls(base[key], value)
    return base


def emit_logs_to_existing_group(func: dict, *arguments: object, **named: object) -> None:
    """Writes logs only to groups that exist, or that the role may create: a run that outlives its stack leaves nothing."""
    config = func.get("config") or func
    group = (config.get("LoggingConfig") or {}).get("LogGroup")
    if not group or group.startswith("/aws/lambda/" + config.get("FunctionName", "")) or group in cloudwatch_logs._log_groups:
        emit_logs(func, *arguments, **named)


async def listen_at_bind_host() -> None:
    """Listens for MQTT at BIND_HOST; MiniStack itself listens on all addresses of the machine."""
    port = iot._mtls_port()
    if iot._mtls_server is None and port is not None:
        iot._mtls_loop = asyncio.get_running_loop()
        iot._mtls_server = await iot._mtls_loop.create_server(iot._MtlsAcceptor, host=os.environ["BIND_HOST"], port=port)


def end_functions() -> None:
    """Ends the processes of all functions."""
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
            if entry.isdigit() and parent == os.getpid():
                os.kill(int(entry), signal.SIGKILL)
        except (OSError, ValueError):
            continue


lambda_svc.new_uuid = uuid_or_request_id
lambda_svc._emit_lambda_logs = emit_logs_to_existing_group
lambda_svc.invoke_async_with_retry = invoke_asynchronously
iot._dispatch_rule_to_lambda = invoke_by_rule
_ = (eventbridge._dispatch_to_lambda, eventbridge._SCHEDULER_TICK_INTERVAL, scheduler._SCHEDULE_TICK_INTERVAL)
eventbridge._dispatch_to_lambda = invoke_by_schedule
eventbridge._parse_rate_seconds = shortened_rate
eventbridge._SCHEDULER_TICK_INTERVAL = scheduler._SCHEDULE_TICK_INTERVAL = min(1.0, MINUTE / 10)
_ = (iot._mtls_start_locked, iot._mtls_server, iot._mtls_loop, iot._MtlsAcceptor, iot._mtls_port)
iot._mtls_start_locked = listen_at_bind_host
iot.update_thing_shadow = update_within_the_limit
iot._deep_merge = merge_without_nulls
ministack_jobs.install(MINUTE)
ministack_streams.install()
ministack_tables.install()

if __name__ == "__main__":
    calls_of_functions.start(app)
    try:
        app.main()
    finally:
        # Without this, the end of running invocations would be waited for.
        end_functions()
        os._exit(0)
