"""Event source mappings from DynamoDB streams to functions, with behaviour that MiniStack 1.5 lacks.

A stream has `SHARDS` shards, as that of a table on demand has at first, and an item's partition key determines the shard of its
records. A mapping processes each shard by itself, with `ParallelizationFactor` batches of it at a time: records of one key
stay in order, and a batch that fails delays only the records after it in its part of its shard. Each batch runs in a thread of
its own, so a slow function delays neither other mappings nor queues.

https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
"""

import json
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ministack.core.arn import parse_arn
from ministack.core.concurrency import esm_wake, spawn_background
from ministack.core.responses import request_scope
from ministack.services import dynamodb, eventbridge, lambda_svc
from ministack.services.cloudformation import provisioners

SHARDS = 4
# The shard that DescribeStream lists: MiniStack shows only one, in which records of a batch that was given up are read.
SHARD_ID = "shardId-00000000000000000000-00000000"
# Most bytes of the records of an invocation: its payload, less their frame
LARGEST_BATCH = 6 * 1024 * 1024 - 1024
BATCH_SIZE = 100
# Seconds before a batch is tried again: the first pause, doubled up to the last one. On AWS they grow to minutes.
FIRST_PAUSE = 0.2
LAST_PAUSE = 2.0
# A throttled invocation has not reached the function, and is no attempt.
THROTTLED_PAUSE = 0.1


@dataclass
class Batch:
    """Records that are given to a function in one invocation."""

    records: list[dict]
    # Failed attempts
    failures: int = 0


@dataclass
class Lane:
    """A part of a shard that is processed in order: one of `ParallelizationFactor`."""

    # Records that have not been tried, each with its size and the time when it came
    waiting: deque[tuple[dict, int, float]] = field(default_factory=deque)
    # Batches to be retried, before the waiting records
    retries: deque[Batch] = field(default_factory=deque)
    busy: bool = False
    not_before: float = 0.0
    failed_in_a_row: int = 0


class Mapping:
    """A mapping's settings, read anew each time: they can be updated."""

    def __init__(self, esm: dict):
        self.esm = esm
        self.id: str = esm["UUID"]
        self.enabled = is_true(esm.get("Enabled", True))
        self.batch_size = int(esm.get("BatchSize") or BATCH_SIZE)
        self.window = float(esm.get("MaximumBatchingWindowInSeconds") or 0)
        self.parts = int(esm.get("ParallelizationFactor") or 1)
        self.bisects = is_true(esm.get("BisectBatchOnFunctionError", False))
        self.reports_failures = "ReportBatchItemFailures" in (esm.get("FunctionResponseTypes") or [])
        # -1 stands for no limit.
        self.max_retries = int(esm.get("MaximumRetryAttempts", -1))
        self.max_age = float(esm.get("MaximumRecordAgeInSeconds") or -1)
        self.destination = ((esm.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")

    def lane_of(self, record: dict) -> int:
        """By the partition key, which is the first of the keys."""
        key = json.dumps(next(iter(record["dynamodb"]["Keys"].values())), sort_keys=True).encode()
        hashed = zlib.crc32(key)
        return hashed % SHARDS * self.parts + hashed // SHARDS % self.parts


def is_true(value: object) -> bool:
    """Parses a boolean; CloudFormation passes them on as texts, too."""
    return str(value).lower() == "true"


class Lanes:
    """All lanes, with the records that each mapping has read and not finished."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, dict[int, Lane]] = {}
        self._wake_at = 0.0

    def forget(self, mapping_id: str) -> None:
        with self._lock:
            self._of.pop(mapping_id, None)

    def poll(self) -> bool:
        """Reads new records, and starts batches that are due. MiniStack's poller calls it; if true is returned, again at once."""
        now, due = time.time(), []
        for account, region, esm in lambda_svc._iter_all_esms():
            with request_scope(account, region):
                due.extend(self._poll_mapping(Mapping(esm), now))
        later = [at for at in due if at > now]
        if later:
            self._wake(min(later))
        return len(later) < len(due)

    def _poll_mapping(self, mapping: Mapping, now: float) -> Iterator[float]:
        """Starts the batches that are due; yields the times at which lanes were or will be due."""
        spec = parse_arn(mapping.esm["EventSourceArn"])
        found = lambda_svc._dynamodb_stream_table_from_arn_spec(spec)
        if not mapping.enabled or found is None:
            return
        table = dynamodb._tables.get(found[0])
        if not table or table.get("LatestStreamArn") != mapping.esm["EventSourceArn"]:
            return
        function, _ = lambda_svc._get_func_record_for_qualifier(mapping.esm["FunctionName"], mapping.esm.get("Qualifier"))
        if function is None:
            return
        with self._lock:
            lanes = self._of.setdefault(mapping.id, {})
            self._read(mapping, found[0], lanes)
            for lane in lanes.values():
                if lane.busy or not (lane.retries or lane.waiting):
                    continue
                due = self._due(mapping, lane)
                yield due
                if due > now:
                    continue
                batch = lane.retries.popleft() if lane.retries else self._gather(mapping, lane)
                lane.busy = True
                spawn_background(self._run, mapping, function, lane, batch, thread_name="stream-batch")

    def _read(self, mapping: Mapping, table: str, lanes: dict[int, Lane]) -> None:
        with lambda_svc._dynamodb_stream_positions_lock:
            positions = lambda_svc._dynamodb_stream_positions
            if mapping.id not in positions:
                from_the_start = mapping.esm.get("StartingPosition") == "TRIM_HORIZON"
                start = dynamodb.stream_start_position if from_the_start else dynamodb.stream_end_position
                positions[mapping.id] = start(table)
            begin = max(positions[mapping.id], dynamodb.stream_start_position(table))
            new = list(dynamodb.stream_records_since(table, begin, 10_000))
            positions[mapping.id] = begin + len(new)
        now = time.time()
        for record in lambda_svc._apply_filter_criteria(new, mapping.esm):
            lane = lanes.setdefault(mapping.lane_of(record), Lane())
            lane.waiting.append((record, len(json.dumps(record)), now))

    @staticmethod
    def _due(mapping: Mapping, lane: Lane) -> float:
        full = len(lane.waiting) >= mapping.batch_size or sum(size for _, size, _ in lane.waiting) >= LARGEST_BATCH
        begins = 0.0 if lane.retries or full else lane.waiting[0][2] + mapping.window
        return max(begins, lane.not_before)

    @staticmethod
    def _gather(mapping: Mapping, lane: Lane) -> Batch:
        records, total = [], 0
        while lane.waiting and len(records) < mapping.batch_size:
            record, size, _ = lane.waiting[0]
            if records and total + size > LARGEST_BATCH:
                break
            lane.waiting.popleft()
            records.append(record)
            total += size
        return Batch(records)

    def _wake(self, due: float) -> None:
        """Wakes the poller at this time, if nothing wakes it before."""
        now = time.time()
        if now < self._wake_at <= due:
            return
        self._wake_at = due
        timer = threading.Timer(max(0.0, due - now), esm_wake.set)
        timer.daemon = True
        timer.start()

    def _run(self, mapping: Mapping, function: dict, lane: Lane, batch: Batch) -> None:
        try:
            self._try(mapping, function, lane, batch)
        except BaseException:
            # A fault of the local AWS itself; no record may be lost by that.
            lane.retries.appendleft(batch)
            lane.not_before = time.time() + LAST_PAUSE
            raise
        finally:
            lane.busy = False
            esm_wake.set()

    def _try(self, mapping: Mapping, function: dict, lane: Lane, batch: Batch) -> None:
        too_old = [record for record in batch.records if is_older(record, mapping.max_age)]
        if too_old:
            give_up(mapping, function, Batch(too_old, batch.failures), {}, "RecordAgeExceeded")
            batch.records = [record for record in batch.records if not is_older(record, mapping.max_age)]
        if not batch.records:
            return
        result = lambda_svc._execute_function(function, {"Records": batch.records})
        if result.get("throttle"):
            lane.retries.appendleft(batch)
            lane.not_before = time.time() + THROTTLED_PAUSE
            return
        first_failed = 0 if result.get("error") else failed_record(mapping, batch, result.get("body"))
        if first_failed is None:
            lane.failed_in_a_row = 0
            mapping.esm["LastProcessingResult"] = "OK"
            return
        mapping.esm["LastProcessingResult"] = "PROBLEM: Function call failed"
        lane.not_before = time.time() + min(FIRST_PAUSE * 2**lane.failed_in_a_row, LAST_PAUSE)
        lane.failed_in_a_row += 1
        rest = batch.records[first_failed:]
        if mapping.bisects and len(batch.records) > 1:
            # Splitting is no attempt. If the function says which record failed, it is split there.
            middle = 0 if first_failed else (len(rest) + 1) // 2
            halves = [Batch(half, batch.failures) for half in (rest[:middle], rest[middle:]) if half]
            lane.retries.extendleft(reversed(halves))
            return
        tried = Batch(rest, batch.failures + 1)
        if 0 <= mapping.max_retries < tried.failures:
            lane.failed_in_a_row = 0
            give_up(mapping, function, tried, result, "RetryAttemptsExhausted")
        else:
            lane.retries.appendleft(tried)


def is_older(record: dict, seconds: float) -> bool:
    return 0 < seconds < time.time() - record["dynamodb"]["ApproximateCreationDateTime"]


def failed_record(mapping: Mapping, batch: Batch, body: object) -> int | None:
    """Index of the first record that failed, by the function's answer; 0 if the answer is not valid.

    https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
    """
    if not mapping.reports_failures:
        return None
    if isinstance(body, (str, bytes)):
        try:
            body = json.loads(body or "null")
        except ValueError:
            return 0
    if not body:
        return None
    failures = body.get("batchItemFailures") if isinstance(body, dict) else [body]
    numbers = {record["dynamodb"]["SequenceNumber"]: index for index, record in enumerate(batch.records)}
    named = [failure.get("itemIdentifier") if isinstance(failure, dict) else None for failure in failures or []]
    return min((numbers.get(name, 0) for name in named), default=None)


def give_up(mapping: Mapping, function: dict, batch: Batch, result: dict, condition: str) -> None:
    """Sends a note without the records to the failure destination: which part of the stream was given up."""
    if not mapping.destination:
        return
    first, last = batch.records[0]["dynamodb"], batch.records[-1]["dynamodb"]
    message = {
        "requestContext": {
            "requestId": lambda_svc.new_uuid(),
            "functionArn": (function.get("config") or function).get("FunctionArn", ""),
            "condition": condition,
            "approximateInvokeCount": batch.failures,
        },
        "version": "1.0",
        "timestamp": iso(time.time()),
        "DDBStreamBatchInfo": {
            "shardId": SHARD_ID,
            "startSequenceNumber": first["SequenceNumber"],
            "endSequenceNumber": last["SequenceNumber"],
            "approximateArrivalOfFirstRecord": iso(first["ApproximateCreationDateTime"]),
            "approximateArrivalOfLastRecord": iso(last["ApproximateCreationDateTime"]),
            "batchSize": len(batch.records),
            "streamArn": mapping.esm["EventSourceArn"],
        },
    }
    if result:
        error = result.get("function_error") or "Unhandled"
        message["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}
    eventbridge._dispatch_to_sqs(parse_arn(mapping.destination), json.dumps(message))


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


lanes = Lanes()
create_mapping = lambda_svc._create_esm
create_mapping_of_template = provisioners._lambda_esm_create
release = lambda_svc._release_esm_poll_state


def with_defaults(properties: dict) -> dict:
    return {"BatchSize": BATCH_SIZE, **properties} if ":dynamodb:" in str(properties.get("EventSourceArn")) else properties


def release_all(mapping_id: str) -> None:
    lanes.forget(mapping_id)
    release(mapping_id)


def install() -> None:
    """Replaces functions of MiniStack; fails if one of them does not exist."""
    # Read first, because an assignment to an attribute that does not exist would not fail.
    _ = lambda_svc._poll_dynamodb_streams
    lambda_svc._poll_dynamodb_streams = lanes.poll
    lambda_svc._release_esm_poll_state = release_all
    lambda_svc._create_esm = lambda data: create_mapping(with_defaults(data))
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    handlers["create"] = lambda logical_id, props, stack: create_mapping_of_template(logical_id, with_defaults(props), stack)
