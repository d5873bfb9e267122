"""DynamoDB tables as a template describes them: MiniStack 1.5 lacks their time to live, backups and encryption.

Expired items are removed with a record in the stream, as on AWS: a REMOVE by the service.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html
"""

import os
import threading
import time

from ministack.core.responses import request_scope
from ministack.services import dynamodb
from ministack.services.cloudformation import provisioners

# Seconds between two looks; on AWS expired items are removed within a few days.
SWEEP_SECONDS = float(os.environ.get("LOCAL_TTL_SECONDS", "60"))
# MiniStack's own thread, which removes expired items without a record in the stream
MINISTACKS_SWEEP = "dynamodb-ttl-reaper"

create = provisioners._ddb_create
update = provisioners._ddb_update
delete = provisioners._ddb_delete
remove_item = dynamodb._remove_item
build_record = dynamodb._build_change_record
_sweeping = threading.local()


def create_with_settings(logical_id: str, props: dict, stack_name: str) -> tuple:
    name, attributes = create(logical_id, props, stack_name)
    apply_settings(name, props)
    return name, attributes


def update_with_settings(physical_id: str, old: dict, new: dict, stack_name: str, logical_id: str | None = None) -> tuple:
    name, attributes = update(physical_id, old, new, stack_name, logical_id)
    apply_settings(name, new)
    return name, attributes


def delete_with_settings(physical_id: str, props: dict) -> None:
    delete(physical_id, props)
    dynamodb._ttl_settings.pop(physical_id, None)
    dynamodb._pitr_settings.pop(physical_id, None)


def apply_settings(name: str, props: dict) -> None:
    """Applies time to live, backups and encryption."""
    time_to_live = props.get("TimeToLiveSpecification")
    if time_to_live:
        enabled = str(time_to_live.get("Enabled", False)).lower() == "true"
        specification = {"AttributeName": time_to_live.get("AttributeName", ""), "Enabled": enabled}
        refuse_errors(dynamodb._update_ttl({"TableName": name, "TimeToLiveSpecification": specification}))
    else:
        dynamodb._ttl_settings.pop(name, None)
    recovery = props.get("PointInTimeRecoverySpecification") or {}
    dynamodb._pitr_settings[name] = str(recovery.get("PointInTimeRecoveryEnabled", False)).lower() == "true"
    encryption = props.get("SSESpecification")
    if encryption:
        # SSEEnabled of a template is Enabled of the API.
        encryption = {**encryption, "Enabled": str(encryption.get("SSEEnabled", False)).lower() == "true"}
        encryption.pop("SSEEnabled", None)
    dynamodb._tables[name]["SSEDescription"] = dynamodb._sse_description_from_spec(encryption)


def refuse_errors(answer: tuple) -> None:
    if answer[0] >= 400:
        raise ValueError(f"AWS::DynamoDB::Table: {answer[2]!r}")


def remove_unless_by_ministacks_sweep(table: dict, partition: str, sort: str) -> dict | None:
    if threading.current_thread().name == MINISTACKS_SWEEP:
        return None
    return remove_item(table, partition, sort)


def record_with_identity(*arguments: object) -> dict:
    record = build_record(*arguments)
    if getattr(_sweeping, "now", False):
        record["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    return record


def sweep_for_ever() -> None:
    _sweeping.now = True
    while True:
        time.sleep(SWEEP_SECONDS)
        for (account, region, name), setting in list(dynamodb._ttl_settings.all_items()):
            if setting.get("TimeToLiveStatus") == "ENABLED":
                with request_scope(account, region), dynamodb._lock:
                    sweep(name, setting["AttributeName"])


def sweep(name: str, attribute: str) -> None:
    table = dynamodb._tables.get(name)
    if not table:
        return
    now = time.time()
    for partition, items in list(table["items"].items()):
        for sort, item in list(items.items()):
            # DynamoDB leaves attributes that are no numbers, and times more than five years ago.
            expires = (item.get(attribute) or {}).get("N")
            if expires is not None and now - 5 * 365 * 86_400 < float(expires) <= now:
                removed = remove_item(table, partition, sort)
                dynamodb._emit_stream_event(name, "REMOVE", removed, None)


def install() -> None:
    """Replaces functions of MiniStack; fails if one of them does not exist."""
    dynamodb._remove_item = remove_unless_by_ministacks_sweep
    dynamodb._build_change_record = record_with_identity
    handlers = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
    handlers.update(create=create_with_settings, update=update_with_settings, delete=delete_with_settings)
    threading.Thread(target=sweep_for_ever, daemon=True, name="time-to-live").start()
