"""Results as Coiote reports them."""

import time


def report_result(stack, thing: str, result: object, operation: str = "read", failed_keys: list[str] | None = None) -> dict:
    """Writes a result into the operation shadow, and returns the event of it; the deployed function does not get one.

    The deployed rule does not fire, because operation and result come in two updates.
    """
    reported = {"operation": operation, "failedKeys": failed_keys or [""], "result": result}
    stack.aws.update_shadow(thing, "operation", {"reported": {"operation": operation}})
    version = stack.aws.update_shadow(thing, "operation", {"reported": {name: reported[name] for name in ("failedKeys", "result")}})
    return reported | {"thingName": thing, "version": version, "timestamp": int(time.time())}
