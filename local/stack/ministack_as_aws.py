"""Starts MiniStack, with what AWS does and MiniStack 1.5 does not:

- a rule invokes its function asynchronously, so a failed invocation is made again and ends in the failure destination;
- each of these attempts has the request id of the first;
- an invocation beyond the function's reserved concurrency waits for its turn, and that is no attempt;
- a shadow holds 8 KB;
- `null` in a new part of a shadow leaves nothing behind.

Runs with the Python of .local/aws. Every function that it replaces has to be there, or it ends with an error.
"""

import contextvars
import copy
import functools
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from ministack import app
from ministack.core.responses import request_scope
from ministack.services import iot, lambda_svc

import calls_of_functions

LARGEST_SHADOW = 8 * 1024

# An execution environment is a process here: more than these at a time would only be in each other's way.
ENVIRONMENTS = 12
# After the first failure and after the second; on AWS one and two minutes.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
PAUSES = (1, 2)

_next_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("next_id", default=None)

new_uuid = lambda_svc.new_uuid
update_shadow = iot.update_thing_shadow
merge = iot._deep_merge
queue = ThreadPoolExecutor(ENVIRONMENTS, thread_name_prefix="asynchronous-invocation")


def the_same_uuid() -> str:
    chosen = _next_id.get()
    _next_id.set(None)
    return chosen or new_uuid()


def invoke_asynchronously(func: dict, event: dict) -> None:
    account_id, region = lambda_svc._account_region_from_function_config(func.get("config") or func)
    with request_scope(account_id, region):
        attempt = functools.partial(contextvars.copy_context().run, try_invocation, func, event, str(uuid.uuid4()))
    queue.submit(attempt, 0)


def try_invocation(func: dict, event: dict, request_id: str, failures: int) -> None:
    again = functools.partial(contextvars.copy_context().run, try_invocation, func, event, request_id)
    # The first thing that it does is to choose an id.
    _next_id.set(request_id)
    result = lambda_svc._execute_function(func, event)
    _next_id.set(None)
    if result.get("throttle"):
        # It waits for its turn, and that is no attempt.
        later(0.1, again, failures)
    elif result.get("error"):
        config = func.get("event_invoke_config") or (func.get("event_invoke_configs") or {}).get("$LATEST") or {}
        retries = config.get("MaximumRetryAttempts")
        if failures < (len(PAUSES) if retries is None else int(retries)):
            return later(PAUSES[failures], again, failures + 1)
        target = ((config.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        if target:
            name = (func.get("config") or func)["FunctionName"]
            lambda_svc._route_async_failure(target, name, event, result)


def later(seconds: float, attempt, failures: int) -> None:
    timer = threading.Timer(seconds, queue.submit, (attempt, failures))
    timer.daemon = True
    timer.start()


def rule_to_function(account_id: str, region: str, function_arn: str, event: object) -> None:
    func, config, _ = lambda_svc._get_func_record_for_ref_in_scope(function_arn, account_id=account_id, region=region)
    if func and config:
        invoke_asynchronously(lambda_svc._execution_record_for_config(func, config), event)
    else:
        raise RuntimeError(f"function {function_arn} not found")


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


lambda_svc.new_uuid = the_same_uuid
lambda_svc.invoke_async_with_retry = invoke_asynchronously
iot._dispatch_rule_to_lambda = rule_to_function
iot.update_thing_shadow = update_within_the_limit
iot._deep_merge = merge_without_nulls

if __name__ == "__main__":
    calls_of_functions.start(app)
    app.main()
