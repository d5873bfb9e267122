"""Sends the events in the failure queue through again.

Every event there has failed three times, or has expired in Lambda's own queue, mostly without ever having run: that one's
request has no answer yet. It is given to its own function once more, marked as redriven: a request that had
failed is taken up again then, while one that has been dealt with meanwhile is not sent twice. An event leaves the queue when
its function's queue has it; if it fails again, it comes back.
"""

import argparse
import json
import sys
from collections import Counter

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# No operation at all: it would fail again.
INVALID = "EVENT_INVALID"


class Queue:
    def __init__(self, stack_name: str):
        cloudformation = boto3.client("cloudformation")
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        self._url = outputs["FailureQueueUrl"]
        self._functions = {value for key, value in outputs.items() if key.endswith("Function")}
        self._sqs, self._lambda = boto3.client("sqs"), boto3.client("lambda")

    def messages(self):
        """Each message once, although the queue may hand one out again."""
        seen = set()
        while received := self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1
        ).get("Messages"):
            for message in received:
                if message["MessageId"] in seen:
                    return
                seen.add(message["MessageId"])
                yield message

    def send_again(self, record: dict) -> None:
        function = record["requestContext"]["functionArn"]
        # arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]
        if function.split(":")[6] not in self._functions:
            raise ValueError(f"{function} is no function of this stack")
        event = record["requestPayload"] | {"redriven": True}
        self._lambda.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event).encode())

    def delete(self, message: dict) -> None:
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def release(self, message: dict) -> None:
        """Others can see it again at once."""
        self._sqs.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )


def has_expired(record: dict) -> bool:
    """Whether the event waited in Lambda's own queue for as long as it may, and no attempt was made since its last."""
    context = record.get("requestContext")
    return isinstance(context, dict) and context.get("condition") == "EventAgeExceeded"


def described(record: dict) -> str:
    event, error = record.get("requestPayload"), record.get("responsePayload")
    event, error = (part if isinstance(part, dict) else {} for part in (event, error))
    why = "never ran (expired)" if has_expired(record) else error.get("errorType")
    parts = [event.get("thingName"), event.get("operation"), event.get("version"), why]
    return " ".join(str(part) if part is not None else "-" for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack-name", default="coiote-aws-iot")
    parser.add_argument("--dry-run", action="store_true", help="only show what is in the queue")
    parser.add_argument("--discard-invalid", action="store_true", help="delete events that are no operation at all")
    arguments = parser.parse_args()

    queue = Queue(arguments.stack_name)
    counts: Counter[str] = Counter()
    left = []
    try:
        for message in queue.messages():
            record = json.loads(message["Body"])
            error = record.get("responsePayload")
            is_invalid = isinstance(error, dict) and error.get("errorType") == INVALID
            if arguments.dry_run or (is_invalid and not arguments.discard_invalid):
                done = "waits" if arguments.dry_run else "left"
                left.append(message)
            elif is_invalid:
                done = "discarded"
                queue.delete(message)
            else:
                done = "sent again"
                queue.send_again(record)
                queue.delete(message)
            counts[done] += 1
            print(f"{done}: {described(record)}", flush=True)
    finally:
        for message in left:
            queue.release(message)
    print(", ".join(f"{count} {done}" for done, count in counts.items()) or "The failure queue is empty.")


if __name__ == "__main__":
    try:
        main()
    except (BotoCoreError, ClientError, ValueError) as error:
        sys.exit(f"{error}")
