"""Requests of a device as the ledger has them."""

import json
from collections import Counter

from stack.local_stack import LocalStack

# Codes of the statuses in a device's item
STATUSES = {"H": "HELD", "W": "IN_PROGRESS", "S": "SCHEDULED"}


def ended_requests(stack: LocalStack, thing: str) -> dict[int, dict]:
    """The items of the device's requests that have ended, by version."""
    pages = stack.aws.dynamodb.get_paginator("query").paginate(
        TableName=stack.outputs["RequestsTable"],
        KeyConditionExpression="#thing = :thing AND begins_with(entry, :request)",
        ExpressionAttributeNames={"#thing": "thing"},
        ExpressionAttributeValues={":thing": {"S": thing}, ":request": {"S": "request#"}},
        ConsistentRead=True,
    )
    items = (item for page in pages for item in page["Items"])
    return {
        int(item["entry"]["S"].removeprefix("request#")): {name: next(iter(value.values())) for name, value in item.items()}
        for item in items
    }


def requests_by_status(stack: LocalStack, thing: str) -> Counter:
    """Counts the requests in the device's item: the open ones by status, and those that ended lately as `ended`."""
    key = {"thing": {"S": thing}, "entry": {"S": "device"}}
    item = stack.aws.dynamodb.get_item(TableName=stack.outputs["RequestsTable"], Key=key).get("Item", {})
    state = json.loads(item.get("state", {}).get("S", "{}"))
    counts = Counter(STATUSES.get(record["s"], record["s"]) for record in state.get("o", []))
    # Claims that the next write of the item takes into its state: of requests that wait from the start.
    appended = (json.loads(event["S"]) for event in item.get("events", {}).get("L", []))
    counts += Counter("IN_PROGRESS" for event in appended if "claim" in event)
    return counts + Counter(ended=len(state.get("e", [])))
