"""Sends the events in the failure queue through again.

Every event there has failed three times, or has expired in Lambda's own queue, mostly without ever having run. It is given to
its own function once more, marked as redriven: what ended without a word goes on where it stopped, and what has been dealt
with meanwhile is not sent twice. An event leaves the queue when its function's queue has it; if it fails again, it comes back.

The queue may also hold names of things whose answers could not be written for hours, and notes that Lambda gave up a part of the
ledger's stream. A thing's name goes back to where it came from, so that its answers are written anew. The stream's records are
not in such a note: `make rewrite-answers` writes all answers anew, and with --discard-stream-notes they are deleted then.

What is left in the queue, and why, is said at the end. A message that is none of these stays there.
"""

import argparse
import contextlib
import json
import re
import sys
import time
from collections import Counter

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# No operation at all: it would fail again.
INVALID = "EVENT_INVALID"
THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
# What an asynchronous invocation takes, in bytes
LARGEST_EVENT = 1024 * 1024
# What comes into the queue after this began has failed again, and would do so for ever. Clocks differ by so many seconds.
CLOCKS_DIFFER = 2
# Seconds, if this ends without `release`
HIDDEN_FOR = 900


class Left(Exception):
    """Why a message stays in the queue."""


class Queue:
    def __init__(self, stack_name: str):
        cloudformation = boto3.client("cloudformation")
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        self._url, self._answers_url = outputs["FailureQueueUrl"], outputs.get("AnswersQueueUrl")
        self._functions = {value for key, value in outputs.items() if key.endswith("Function")}
        self._sqs, self._lambda = boto3.client("sqs"), boto3.client("lambda")
        self._began = time.time()
        self._hidden: dict[str, str] = {}

    def messages(self):
        """Each message that was there at the beginning, once. What is left stays hidden until `release`."""
        seen, empty = set(), 0
        while empty < 2:
            received = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["SentTimestamp"]
            ).get("Messages", [])
            empty = 0 if received else empty + 1
            for message in received:
                sent = int(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
                if message["MessageId"] in seen or sent > self._began + CLOCKS_DIFFER:
                    self.leave(message)
                    continue
                seen.add(message["MessageId"])
                yield message

    def leave(self, message: dict) -> None:
        """Keeps it out of the way of those behind it."""
        self._hidden[message["MessageId"]] = message["ReceiptHandle"]
        self._hide(message["ReceiptHandle"], HIDDEN_FOR)

    def _hide(self, receipt: str, seconds: int) -> None:
        self._sqs.change_message_visibility(QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=seconds)

    def send_again(self, record: dict) -> None:
        function = record["requestContext"]["functionArn"]
        # arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]
        if [*function.split(":"), *[""] * 7][6] not in self._functions:
            raise Left(f"{function} is no function of this stack")
        payload = json.dumps(record["requestPayload"] | {"redriven": True}).encode()
        if len(payload) > LARGEST_EVENT:
            raise Left("it is too large for an asynchronous invocation")
        self._lambda.invoke(FunctionName=function, InvocationType="Event", Payload=payload)

    def write_anew(self, thing: str) -> None:
        if not self._answers_url:
            raise Left("the stack has no AnswersQueueUrl")
        self._sqs.send_message(QueueUrl=self._answers_url, MessageBody=thing)

    def delete(self, message: dict) -> None:
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def release(self) -> None:
        """Others can see at once what was left."""
        for receipt in self._hidden.values():
            # One that nobody can hide any more is to be seen.
            with contextlib.suppress(ClientError):
                self._hide(receipt, 0)


class Message:
    """What stands in the queue: a record of a failed invocation, a thing's name, or something else."""

    def __init__(self, body: str):
        try:
            record = json.loads(body)
        except ValueError:
            record = None
        self.record = record if isinstance(record, dict) else {}
        self.thing = body if record is None and THING_NAME.fullmatch(body) else None
        context = self.record.get("requestContext")
        self.context = context if isinstance(context, dict) else {}
        self.is_event = isinstance(self.record.get("requestPayload"), dict) and isinstance(self.context.get("functionArn"), str)
        self.is_stream_note = "DDBStreamBatchInfo" in self.record
        error = self.record.get("responsePayload")
        self.error = error.get("errorType") if isinstance(error, dict) else None

    def __str__(self) -> str:
        if self.thing:
            return f"{self.thing} (its answers)"
        if self.is_stream_note:
            batch = self.record["DDBStreamBatchInfo"]
            size = batch.get("batchSize") if isinstance(batch, dict) else None
            return f"a part of the ledger's stream ({size} records)"
        if not self.is_event:
            return "no event"
        event = self.record["requestPayload"]
        parts = [event.get("thingName"), event.get("operation"), event.get("version"), self.expiry() or self.error]
        return " ".join(str(part) if part is not None else "-" for part in parts)

    def expiry(self) -> str | None:
        """What became of an event that waited in Lambda's own queue for as long as it may: most have never run."""
        if self.context.get("condition") != "EventAgeExceeded":
            return None
        attempts = self.context.get("approximateInvokeCount")
        return f"expired after {attempts} attempts" if attempts else "never ran (expired)"


def deal_with(queue: Queue, message: Message, arguments: argparse.Namespace) -> str:
    """What was done with it; afterwards it can be deleted."""
    if message.thing:
        queue.write_anew(message.thing)
        return "written anew"
    if message.is_stream_note:
        if not arguments.discard_stream_notes:
            raise Left("make rewrite-answers writes all answers anew")
        return "discarded"
    if not message.is_event:
        raise Left("neither an event nor a thing's name")
    if message.error == INVALID:
        if not arguments.discard_invalid:
            raise Left("it is no operation at all, and would fail again")
        return "discarded"
    queue.send_again(message.record)
    return "sent again"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack-name", default="coiote-aws-iot")
    parser.add_argument("--dry-run", action="store_true", help="only show what is in the queue")
    parser.add_argument("--discard-invalid", action="store_true", help="delete events that are no operation at all")
    parser.add_argument("--discard-stream-notes", action="store_true", help="delete notes of parts of the stream that were given up")
    arguments = parser.parse_args()

    queue = Queue(arguments.stack_name)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    try:
        for raw in queue.messages():
            message = Message(raw["Body"])
            try:
                why = ""
                if arguments.dry_run:
                    done = "waits"
                    queue.leave(raw)
                else:
                    done = deal_with(queue, message, arguments)
                    queue.delete(raw)
            except Left as left:
                queue.leave(raw)
                done, why = "left", f" ({left})"
                reasons[str(left)] += 1
            except ClientError as error:
                # Of this one; the others may go.
                queue.leave(raw)
                done, why = "left", f" ({error})"
                reasons[error.response.get("Error", {}).get("Code", str(error))] += 1
            counts[done] += 1
            print(f"{done}: {message}{why}", flush=True)
    finally:
        queue.release()
    print(", ".join(f"{count} {done}" for done, count in counts.items()) or "The failure queue is empty.")
    for why, count in reasons.most_common():
        print(f"  {count} left: {why}")


if __name__ == "__main__":
    try:
        main()
    except (BotoCoreError, ClientError, ValueError) as error:
        sys.exit(f"{error}")
