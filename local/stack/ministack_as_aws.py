"""Starts MiniStack, with what AWS does and MiniStack 1.5 does not:

- a rule, a schedule or an `Invoke` with the type `Event` invokes its function asynchronously, so a failed invocation is
  made again and ends in the failure destination; a function that is slow holds up no other;
- each of these attempts has the request id of the first;
- an invocation beyond the function's reserved concurrency waits for its turn, and that is no attempt;
- the MQTT listener is where BIND_HOST says, as the other one;
- a shadow holds 8 KB;
- `null` in a new part of a shadow leaves nothing behind;
- event source mappings of DynamoDB streams do what they are told (ministack_streams.py);
- tables expire items, and are as the template says (ministack_tables.py);
- jobs of AWS IoT time out, are tried again and reach groups in groups (ministack_jobs.py).

For tests, a minute of a rate such as `rate(1 minute)`, or of a job's timeout, can take `LOCAL_SCHEDULE_SECONDS`, and items that have expired are
looked for every `LOCAL_TTL_SECONDS`; both are 60 where they are not set. `LOCAL_RETRY_PAUSES` are the seconds before a failed
invocation is made again, the first and the second time (1,2).

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

# An execution environment is a process here: more than these of a function would only be in each other's way.
ENVIRONMENTS = 12
# After the first failure and after the second; on AWS one and two minutes.
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
queues: dict[str, ThreadPoolExecutor] = defaultdict(lambda: ThreadPoolExecutor(ENVIRONMENTS, thread_name_prefix="asynchronous"))


def the_same_uuid() -> str:
    chosen = _next_id.get()
    _next_id.set(None)
    return chosen or new_uuid()


def invoke_asynchronously(func: dict, event: dict) -> None:
    config = func.get("config") or func
    account_id, region = lambda_svc._account_region_from_function_config(config)
    with request_scope(account_id, region):
        invocation = Invocation(func, event)
        attempt = functools.partial(contextvars.copy_context().run, invocation.attempt)
    # One queue for each function, as on AWS: one whose calls hang does not keep the others from their turn.
    invocation.submit = functools.partial(queues[f"{account_id} {region} {config['FunctionName']}"].submit, attempt)
    invocation.submit()


class Invocation:
    """One event in Lambda's queue, and what has been tried with it."""

    def __init__(self, func: dict, event: dict):
        self.func = func
        self.event = event
        self.request_id = str(uuid.uuid4())
        self.failures = 0
        self.began = time.time()
        self.submit = lambda: None

    def attempt(self) -> None:
        config = self.func.get("event_invoke_config") or (self.func.get("event_invoke_configs") or {}).get("$LATEST") or {}
        # The first thing that it does is to choose an id.
        _next_id.set(self.request_id)
        result = lambda_svc._execute_function(self.func, self.event)
        _next_id.set(None)
        expired = time.time() - self.began > float(config.get("MaximumEventAgeInSeconds") or LONGEST_WAIT)
        if result.get("throttle") and not expired:
            # It waits for its turn, and that is no attempt.
            self.again_in(0.1)
        elif result.get("error"):
            retries = config.get("MaximumRetryAttempts")
            if not expired and self.failures < (len(PAUSES) if retries is None else int(retries)):
                self.failures += 1
                return self.again_in(PAUSES[self.failures - 1])
            of_function = self.func.get("config") or self.func
            target = ((config.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
            target = target or (of_function.get("DeadLetterConfig") or {}).get("TargetArn")
            if target:
                lambda_svc._route_async_failure(target, of_function["FunctionName"], self.event, result)

    def again_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self.submit)
        timer.daemon = True
        timer.start()


def rule_to_function(account_id: str, region: str, function_arn: str, event: object) -> None:
    func, config, _ = lambda_svc._get_func_record_for_ref_in_scope(function_arn, account_id=account_id, region=region)
    if func and config:
        invoke_asynchronously(lambda_svc._execution_record_for_config(func, config), event)
    else:
        raise RuntimeError(f"function {function_arn} not found")


def schedule_to_function(function_arn: str, payload: str) -> None:
    """The target of a rule of EventBridge, or of a schedule."""
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


def emit_logs_where_they_belong(func: dict, *arguments: object, **named: object) -> None:
    """A role that may not make log groups writes only into one that is there: a run that outlives its stack leaves nothing."""
    config = func.get("config") or func
    group = (config.get("LoggingConfig") or {}).get("LogGroup")
    if not group or group.startswith("/aws/lambda/" + config.get("FunctionName", "")) or group in cloudwatch_logs._log_groups:
        emit_logs(func, *arguments, **named)


async def listen_where_the_others_do() -> None:
    """MiniStack's own listens for MQTT on all addresses of the machine."""
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


lambda_svc.new_uuid = the_same_uuid
lambda_svc._emit_lambda_logs = emit_logs_where_they_belong
lambda_svc.invoke_async_with_retry = invoke_asynchronously
iot._dispatch_rule_to_lambda = rule_to_function
_ = (eventbridge._dispatch_to_lambda, eventbridge._SCHEDULER_TICK_INTERVAL, scheduler._SCHEDULE_TICK_INTERVAL)
eventbridge._dispatch_to_lambda = schedule_to_function
eventbridge._parse_rate_seconds = shortened_rate
eventbridge._SCHEDULER_TICK_INTERVAL = scheduler._SCHEDULE_TICK_INTERVAL = min(1.0, MINUTE / 10)
_ = (iot._mtls_start_locked, iot._mtls_server, iot._mtls_loop, iot._MtlsAcceptor, iot._mtls_port)
iot._mtls_start_locked = listen_where_the_others_do
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
        # Runs that are under way would be waited for.
        end_functions()
        os._exit(0)
