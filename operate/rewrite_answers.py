"""Writes the answers of all devices anew, from the ledger.

For when the function `answers` was away for longer than its stream keeps records (a day), when Lambda gave a part of the stream
up, or when somebody has written over answers in many shadows. It names each thing that has requests in the ledger to `answers`,
which reads what stands in the shadow and makes it say what the ledger says. It changes no request, and may be run at any time.
"""

import argparse
import sys
from collections.abc import Iterator

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# What SQS takes in one call
BATCH = 10


def things(table: str) -> Iterator[str]:
    """Names of the things that have a record of their requests."""
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(
        TableName=table,
        FilterExpression="#entry = :device",
        ProjectionExpression="#thing",
        ExpressionAttributeNames={"#entry": "entry", "#thing": "thing"},
        ExpressionAttributeValues={":device": {"S": "device"}},
    )
    for page in pages:
        yield from (item["thing"]["S"] for item in page["Items"])


def send(sqs, queue_url: str, names: list[str]) -> list[str]:
    """The names that the queue did not take."""
    entries = [{"Id": str(number), "MessageBody": name} for number, name in enumerate(names)]
    failed = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries).get("Failed", [])
    return [names[int(failure["Id"])] for failure in failed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack-name", default="coiote-aws-iot")
    arguments = parser.parse_args()
    [stack] = boto3.client("cloudformation").describe_stacks(StackName=arguments.stack_name)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    table, queue_url = outputs["RequestsTable"], outputs["AnswersQueueUrl"]
    sqs, count = boto3.client("sqs"), 0
    batch: list[str] = []
    for name in things(table):
        batch.append(name)
        count += 1
        if len(batch) == BATCH:
            # What was not taken comes first next time.
            batch = send(sqs, queue_url, batch)
            if len(batch) == BATCH:
                sys.exit("The queue takes no more names; run this again later.")
        if count % 1000 == 0:
            print(f"{count} things so far", flush=True)
    while batch:
        left = send(sqs, queue_url, batch)
        if len(left) == len(batch):
            sys.exit(f"The queue did not take {', '.join(left)}; run this again later.")
        batch = left
    print(f"The answers of {count} things are written anew; the last ones within minutes.")


if __name__ == "__main__":
    try:
        main()
    except KeyError as missing:
        sys.exit(f"The stack has no output {missing}; deploy this version first.")
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"{error}")
