"""Time that passes for a device's requests, without waiting for it."""

import json
import time


def let_time_pass(stack, thing: str, seconds: float, table: str | None = None) -> None:
    """Makes all times in the device's item older, as if that time had passed."""
    table, key = table or stack.outputs["RequestsTable"], {"thing": {"S": thing}, "entry": {"S": "device"}}
    while True:
        item = stack.aws.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
        if "events" in item:
            # A function is about to write it.
            time.sleep(0.05)
            continue
        state = json.loads(item["state"]["S"])
        for record in state.get("o", []) + state.get("e", []):
            for field in ("u", "g", "z", "l", "v"):
                if record.get(field):
                    record[field] -= int(seconds * 1000)
        names = {"#state": "state", "#version": "version"}
        values = {":state": {"S": json.dumps(state)}, ":known": item["version"], ":next": {"N": str(int(item["version"]["N"]) + 1)}}
        sets = ["#state = :state", "#version = :next"]
        for shard, at in (("look", "lookAt"), ("handOver", "handOverAt")):
            if at in item:
                names[f"#{at}"] = at
                values[f":{at}"] = {"N": str(int(item[at]["N"]) - int(seconds * 1000))}
                sets.append(f"#{at} = :{at}")
        try:
            stack.aws.dynamodb.update_item(
                TableName=table, Key=key, UpdateExpression="SET " + ", ".join(sets),
                ConditionExpression="#version = :known AND attribute_not_exists(events)",
                ExpressionAttributeNames=names, ExpressionAttributeValues=values,
            )
            return
        except stack.aws.dynamodb.exceptions.ConditionalCheckFailedException:
            continue
