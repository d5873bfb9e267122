"""Starts MiniStack, with what AWS does and MiniStack 1.5 does not:

- a rule invokes its function asynchronously, so a failed invocation is made again and ends in the failure destination;
- each of these attempts has the request id of the first;
- a shadow holds 8 KB;
- `null` in a new part of a shadow leaves nothing behind.

Runs with the Python of .local/aws. Every function that it replaces has to be there, or it ends with an error.
"""

import contextvars
import copy
import json
import uuid

from ministack import app
from ministack.services import iot, lambda_svc

LARGEST_SHADOW = 8 * 1024

# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
_next_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("next_id", default=None)

new_uuid = lambda_svc.new_uuid
execute = lambda_svc._execute_function
invoke_with_retry = lambda_svc.invoke_async_with_retry
update_shadow = iot.update_thing_shadow
merge = iot._deep_merge


def the_same_uuid() -> str:
    chosen = _next_id.get()
    _next_id.set(None)
    return chosen or new_uuid()


def execute_under_its_id(func: dict, event: dict) -> dict:
    # The first thing that it does is to choose an id.
    _next_id.set(_request_id.get())
    try:
        return execute(func, event)
    finally:
        _next_id.set(None)


def invoke_under_one_id(func: dict, event: dict) -> None:
    token = _request_id.set(str(uuid.uuid4()))
    try:
        # It copies the context for its thread.
        invoke_with_retry(func, event)
    finally:
        _request_id.reset(token)


def rule_to_function(account_id: str, region: str, function_arn: str, event: object) -> None:
    func, config, _ = lambda_svc._get_func_record_for_ref_in_scope(function_arn, account_id=account_id, region=region)
    if func and config:
        invoke_under_one_id(lambda_svc._execution_record_for_config(func, config), event)
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
lambda_svc._execute_function = execute_under_its_id
lambda_svc.invoke_async_with_retry = invoke_under_one_id
iot._dispatch_rule_to_lambda = rule_to_function
iot.update_thing_shadow = update_within_the_limit
iot._deep_merge = merge_without_nulls

if __name__ == "__main__":
    app.main()
