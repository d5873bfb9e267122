"""The local AWS behaves as AWS, where the project relies on it: streams, queues, schedules, tables, jobs."""

import io
import itertools
import json
import socket
import sys
import time
import uuid
import zipfile
from pathlib import Path

import pytest

from stack.aws import LocalAws
from stack.local_stack import ROOT
from stack.processes import PATIENCE, free_port, listens, wait_for

ROLE = "arn:aws:iam::000000000000:role/function"
_numbers = itertools.count(1)

# A function that records its events, and runs the `handle` of the test.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, time, urllib.request
from pathlib import Path

API = f"http://{{os.environ['AWS_LAMBDA_RUNTIME_API']}}/2018-06-01/runtime/invocation/"
FOLDER = Path(os.environ["FOLDER"])
healed = (FOLDER / "healed").exists

def images(event):
    return [record["dynamodb"].get("NewImage", {{}}) for record in event["Records"]]

HANDLE

while True:
    with urllib.request.urlopen(API + "next") as answer:
        event, request_id = json.load(answer), answer.headers["Lambda-Runtime-Aws-Request-Id"]
    with (FOLDER / "seen").open("a") as seen:
        seen.write(json.dumps([request_id, event]) + "\\n")
    try:
        path, result = "response", handle(event)
    except Exception as error:
        path, result = "error", {{"errorType": type(error).__name__, "errorMessage": str(error)}}
    urllib.request.urlopen(urllib.request.Request(f"{{API}}{{request_id}}/{{path}}", json.dumps(result).encode()))
"""
SUCCEEDS = "def handle(event): pass"
FAILS = "def handle(event): assert healed()"


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    aws = LocalAws(ROOT, tmp_path_factory.mktemp("local-aws"), LOCAL_SCHEDULE_SECONDS="1", LOCAL_TTL_SECONDS="0.5")
    try:
        aws.start()
        yield aws
    finally:
        aws.stop()


def test_other_ports_are_chosen_if_one_of_them_is_taken_meanwhile(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([free_port(), taken.getsockname()[1]])
        monkeypatch.setattr("stack.aws.free_port", lambda preferred=None: next(ports, None) or free_port())
        aws = LocalAws(ROOT, tmp_path)
        try:
            aws.start()
            assert aws.mqtt_port != taken.getsockname()[1] and listens(aws.mqtt_port)
        finally:
            aws.stop()


class Function:
    """A function that records its events. `create` creates it, or a template does."""

    def __init__(self, folder: Path, handle: str):
        self.name = f"function-{next(_numbers)}"
        self._folder = folder / self.name
        self._folder.mkdir()
        self.variables = {"FOLDER": str(self._folder)}
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as files:
            bootstrap = zipfile.ZipInfo("bootstrap")
            bootstrap.external_attr = 0o755 << 16
            files.writestr(bootstrap, BOOTSTRAP.replace("HANDLE", handle))
        self.package = archive.getvalue()

    def create(self, aws: LocalAws) -> "Function":
        self.arn = aws.lambda_.create_function(
            FunctionName=self.name,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Role=ROLE,
            Code={"ZipFile": self.package},
            Timeout=30,
            Environment={"Variables": self.variables},
        )["FunctionArn"]
        return self

    def heal(self) -> None:
        """Tells the handler that it may succeed from now on."""
        (self._folder / "healed").touch()

    def invocations(self) -> list[tuple[str, dict]]:
        """Request id and event of each invocation, oldest first."""
        seen = self._folder / "seen"
        # Lines are written whole.
        return [tuple(json.loads(line)) for line in seen.read_text().splitlines()] if seen.exists() else []

    def batches(self) -> list[list[str]]:
        """Values `v` of the new images in each batch."""
        return [[new_image(r).get("v", {}).get("S") for r in event["Records"]] for _, event in self.invocations()]

    def values(self) -> list[str]:
        return [value for batch in self.batches() for value in batch]

    def wait_for_invocations(self, count: int, seconds: float = PATIENCE) -> list[tuple[str, dict]]:
        """Waits for so many invocations; returns them."""
        def look():
            return self.invocations() if len(self.invocations()) >= count else None

        return wait_for(f"{count} invocations of {self.name}", look, seconds)


def new_image(record: dict) -> dict:
    return record["dynamodb"].get("NewImage", {})


@pytest.fixture
def function(aws, tmp_path):
    return lambda handle=SUCCEEDS: Function(tmp_path, handle).create(aws)


@pytest.fixture
def table(aws):
    """A table with a stream."""
    name = f"table-{next(_numbers)}"
    aws.dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return name


@pytest.fixture
def mapped(aws, table):
    """Maps the table's stream to functions; returns ids of mappings."""
    source = aws.dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    made = []

    def create(function: Function, **settings) -> str:
        mapping = aws.lambda_.create_event_source_mapping(
            EventSourceArn=source, FunctionName=function.name, StartingPosition="TRIM_HORIZON", **settings
        )
        made.append(mapping["UUID"])
        return mapping["UUID"]

    yield create
    for mapping in made:
        aws.lambda_.delete_event_source_mapping(UUID=mapping)


@pytest.fixture
def queue(aws):
    def create(**attributes: str) -> tuple[str, str]:
        url = aws.sqs.create_queue(QueueName=f"queue-{next(_numbers)}", Attributes=attributes)["QueueUrl"]
        arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    return create


def put(aws, table: str, key: str, *values: str) -> None:
    for value in values:
        aws.dynamodb.put_item(TableName=table, Item={"k": {"S": key}, "v": {"S": value}})


def message(aws, url: str, seconds: float = PATIENCE) -> dict:
    def look():
        found = aws.sqs.receive_message(QueueUrl=url, VisibilityTimeout=600).get("Messages")
        return found and json.loads(found[0]["Body"])

    return wait_for("a message", look, seconds)


# ---------------------------------------------------------------- streams


def test_the_records_of_a_key_come_in_order_and_no_batch_is_larger_than_asked_for(aws, table, function, mapped):
    reader = function()
    for number in range(12):
        for key in "abcd":
            put(aws, table, key, f"{key}{number:02}")
    mapped(reader, BatchSize=5, ParallelizationFactor=2)

    wait_for("all records", lambda: len(reader.values()) == 48)
    for key in "abcd":
        assert [v for v in reader.values() if v.startswith(key)] == [f"{key}{n:02}" for n in range(12)]
    assert max(map(len, reader.batches())) == 5


def test_a_batch_waits_until_its_window_ends_or_it_is_full(aws, table, function, mapped):
    begun = time.monotonic()
    put(aws, table, "a", "0")
    patient, full = function(), function()
    mapped(patient, BatchSize=100, MaximumBatchingWindowInSeconds=1)
    patient.wait_for_invocations(1)
    assert patient.batches() == [["0"]] and time.monotonic() - begun >= 1

    mapped(full, BatchSize=100, MaximumBatchingWindowInSeconds=300)
    put(aws, table, "a", *map(str, range(1, 100)))
    full.wait_for_invocations(1)
    assert full.batches() == [list(map(str, range(100)))]


def test_a_failing_batch_is_split_until_the_record_that_fails_is_given_up_alone(aws, table, function, mapped, queue):
    url, arn = queue()
    reader = function('def handle(event): assert not any(i["v"]["S"] == "bad" for i in images(event))')
    put(aws, table, "a", "1", "2", "bad", "4", "5")
    destination = {"OnFailure": {"Destination": arn}}
    mapped(reader, BisectBatchOnFunctionError=True, MaximumRetryAttempts=1, DestinationConfig=destination)

    told = message(aws, url)
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert (told["requestContext"]["approximateInvokeCount"], told["DDBStreamBatchInfo"]["batchSize"]) == (2, 1)
    wait_for("the last record", lambda: "5" in [v for batch in reader.batches() if "bad" not in batch for v in batch])
    done = [value for batch in reader.batches() if "bad" not in batch for value in batch]
    assert done == ["1", "2", "4", "5"]
    assert reader.batches().count(["bad"]) == 2
    # The message says where the record is.
    shard = aws.streams.get_shard_iterator(
        StreamArn=told["DDBStreamBatchInfo"]["streamArn"],
        ShardId=told["DDBStreamBatchInfo"]["shardId"],
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        SequenceNumber=told["DDBStreamBatchInfo"]["startSequenceNumber"],
    )
    assert new_image(aws.streams.get_records(ShardIterator=shard["ShardIterator"])["Records"][0])["v"]["S"] == "bad"


@pytest.mark.parametrize(
    ("identifier", "then"),
    [('r["dynamodb"]["SequenceNumber"]', ["bad", "4"]), ('""', ["1", "2", "bad", "4"]), ('"unknown"', ["1", "2", "bad", "4"])],
    ids=["its number", "nothing", "an unknown number"],
)
def test_a_batch_goes_on_at_the_record_that_the_function_names(aws, table, function, mapped, identifier, then):
    reader = function(
        f"""def handle(event):
            bad = [r for r in event["Records"] if r["dynamodb"]["NewImage"]["v"]["S"] == "bad" and not healed()]
            return {{"batchItemFailures": [{{"itemIdentifier": {identifier}}} for r in bad]}}"""
    )
    put(aws, table, "a", "1", "2", "bad", "4")
    mapped(reader, FunctionResponseTypes=["ReportBatchItemFailures"])

    reader.wait_for_invocations(3)
    reader.heal()
    count = len(reader.invocations())
    reader.wait_for_invocations(count + 1)
    put(aws, table, "a", "5")
    wait_for("what comes after it", lambda: reader.values()[-1] == "5")
    assert reader.batches()[:3] == [["1", "2", "bad", "4"], then, then]


def test_a_failing_key_delays_neither_other_keys_nor_other_mappings(aws, table, function, mapped):
    some, all_ = function('def handle(event): assert healed() or images(event)[0]["k"]["S"] != "bad"'), function()
    mapped(some, ParallelizationFactor=10, BatchSize=1)
    mapped(all_)
    put(aws, table, "bad", "bad1", "bad2")
    others = [str(number) for number in range(20)]
    for other in others:
        put(aws, table, other, other)

    wait_for("the other mapping", lambda: {*all_.values()} >= {"bad1", "bad2", *others})
    # One of the keys could be in the same part of the same shard, but keys always are in the same parts.
    wait_for("the other keys", lambda: {*some.values()} >= {"bad1", *others})
    assert "bad2" not in some.values()
    some.heal()
    wait_for("what was held up", lambda: "bad2" in some.values())


def test_records_that_are_too_old_are_given_up(aws, table, function, mapped, queue):
    url, arn = queue()
    reader = function(FAILS)
    mapped(reader, MaximumRecordAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": arn}})
    put(aws, table, "a", "1")
    reader.wait_for_invocations(2)
    # AWS's minimum is a minute, which is too long for a test.
    [mapping] = aws.lambda_.list_event_source_mappings(FunctionName=reader.name)["EventSourceMappings"]
    aws.lambda_.update_event_source_mapping(UUID=mapping["UUID"], MaximumRecordAgeInSeconds=1)
    assert message(aws, url)["DDBStreamBatchInfo"]["batchSize"] == 1
    reader.heal()
    put(aws, table, "a", "2")
    wait_for("the next record", lambda: "2" in reader.values())
    count = reader.values().count("1")
    assert reader.values()[-1] == "2" and count >= 2


def test_only_records_that_match_a_filter_are_sent(aws, table, function, mapped):
    reader = function()
    pattern = {"eventName": ["MODIFY"], "dynamodb": {"NewImage": {"v": {"S": [{"prefix": "x"}]}}}}
    mapped(reader, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]})
    put(aws, table, "a", "x1", "y", "x2", "x3")
    wait_for("the last one", lambda: "x3" in reader.values())
    assert reader.values() == ["x2", "x3"]


def test_a_mapping_that_was_disabled_goes_on_where_it_was(aws, table, function, mapped):
    reader, other = function(), function()
    mapping = mapped(reader)
    mapped(other)
    put(aws, table, "a", "1")
    wait_for("the first record", lambda: reader.values() == ["1"])
    aws.lambda_.update_event_source_mapping(UUID=mapping, Enabled=False)
    assert aws.lambda_.get_event_source_mapping(UUID=mapping)["State"] in ("Disabling", "Disabled")
    put(aws, table, "a", "2", "3")
    wait_for("the mapping beside it", lambda: other.values() == ["1", "2", "3"])
    assert reader.values() == ["1"]
    aws.lambda_.update_event_source_mapping(UUID=mapping, Enabled=True)
    wait_for("the others", lambda: reader.values() == ["1", "2", "3"])


def test_a_slow_function_on_a_stream_delays_no_queue(aws, table, function, mapped, queue):
    slow = function("def handle(event):\n    while not healed(): time.sleep(0.05)")
    quick = function()
    url, arn = queue()
    mapped(slow)
    aws.lambda_.create_event_source_mapping(EventSourceArn=arn, FunctionName=quick.name, BatchSize=1)
    put(aws, table, "a", "1")
    slow.wait_for_invocations(1)
    for number in range(3):
        aws.sqs.send_message(QueueUrl=url, MessageBody=str(number))
    quick.wait_for_invocations(3)
    slow.heal()


# ---------------------------------------------------------------- queues


def test_a_queue_keeps_reported_failures_and_moves_them_to_the_dead_letter_queue_in_the_end(aws, function, queue):
    dead, dead_arn = queue()
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, arn = queue(VisibilityTimeout="1", RedrivePolicy=redrive)
    reader = function(
        """def handle(event):
            bad = [r["messageId"] for r in event["Records"] if r["body"] == '"bad"']
            return {"batchItemFailures": [{"itemIdentifier": name} for name in bad]}"""
    )
    for text in ("good", "bad", "fine"):
        aws.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(text))
    aws.lambda_.create_event_source_mapping(
        EventSourceArn=arn, FunctionName=reader.name, FunctionResponseTypes=["ReportBatchItemFailures"]
    )

    assert message(aws, dead) == "bad"
    bodies = [record["body"] for _, event in reader.invocations() for record in event["Records"]]
    assert sorted(bodies) == ['"bad"', '"bad"', '"fine"', '"good"']


# ---------------------------------------------------------------- asynchronous invocations


def set_failure_destination(aws, function: Function, arn: str) -> None:
    aws.lambda_.put_function_event_invoke_config(
        FunctionName=function.name, DestinationConfig={"OnFailure": {"Destination": arn}}
    )


def test_an_asynchronous_invocation_is_tried_three_times_and_ends_in_the_failure_destination(aws, function, queue):
    url, arn = queue()
    failing = function(FAILS)
    set_failure_destination(aws, failing, arn)
    answer = aws.lambda_.invoke(FunctionName=failing.name, InvocationType="Event", Payload=b'{"n": 1}')
    assert answer["StatusCode"] == 202

    told = message(aws, url)
    assert told["requestContext"]["condition"] == "RetriesExhausted" and told["requestPayload"] == {"n": 1}
    assert len(failing.invocations()) == 3 and len({name for name, _ in failing.invocations()}) == 1


def test_a_function_whose_calls_hang_delays_no_other(aws, function):
    hangs = function("def handle(event):\n    while not healed(): time.sleep(0.05)")
    quick = function()
    for _ in range(15):
        aws.lambda_.invoke(FunctionName=hangs.name, InvocationType="Event")
    hangs.wait_for_invocations(12)
    aws.lambda_.invoke(FunctionName=quick.name, InvocationType="Event")
    quick.wait_for_invocations(1)
    hangs.heal()
    hangs.wait_for_invocations(15)


def test_a_synchronous_invocation_answers_with_the_result(aws, function):
    asked = function('def handle(event):\n    assert event["n"]\n    return event["n"] + 1')
    answer = aws.lambda_.invoke(FunctionName=asked.name, Payload=b'{"n": 1}')
    assert json.load(answer["Payload"]) == 2 and "FunctionError" not in answer
    assert "FunctionError" in aws.lambda_.invoke(FunctionName=asked.name, Payload=b'{"n": 0}')


# ---------------------------------------------------------------- schedules


def deploy(aws, resources: dict, **more: object) -> dict[str, str]:
    """Deploys a stack; returns the physical ids of its resources."""
    name = f"stack-{next(_numbers)}"
    template = json.dumps({"Resources": resources, **more})
    aws.cloudformation.create_stack(
        StackName=name, TemplateBody=template, Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    )
    aws.cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    found = aws.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}


@pytest.mark.parametrize("kind", ["Rule", "Schedule"])
def test_a_schedule_invokes_its_function_and_failures_are_retried(aws, function, queue, kind):
    url, arn = queue()
    failing = function(FAILS)
    set_failure_destination(aws, failing, arn)
    target = {"Arn": failing.arn, "Input": '{"tick": true}'}
    of_rule = {"ScheduleExpression": "rate(1 minute)", "Targets": [target | {"Id": "function"}]}
    of_schedule = {"ScheduleExpression": "rate(1 minute)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target | {"RoleArn": ROLE}}
    resource = {
        "Rule": {"Type": "AWS::Events::Rule", "Properties": of_rule},
        "Schedule": {"Type": "AWS::Scheduler::Schedule", "Properties": of_schedule},
    }[kind]
    deploy(aws, {"Tick": resource})

    assert message(aws, url)["requestPayload"] == {"tick": True}
    by_name: dict[str, int] = {}
    for name, event in failing.invocations():
        assert event == {"tick": True}
        by_name[name] = by_name.get(name, 0) + 1
    # One invocation was tried three times, and others have begun since.
    assert max(by_name.values()) == 3 and len(by_name) > 1


def test_a_template_of_sam_connects_a_function_with_a_stream_and_schedules(aws, table, tmp_path, queue):
    url, arn = queue()
    reader = Function(tmp_path, 'def handle(event): assert "Records" not in event')
    bucket = f"bucket-{next(_numbers)}"
    aws.s3.create_bucket(Bucket=bucket)
    aws.s3.put_object(Bucket=bucket, Key="code.zip", Body=reader.package)
    stream = {
        "Stream": aws.dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"],
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 4,
        "MaximumRetryAttempts": 1,
        "MaximumRecordAgeInSeconds": 3600,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "FilterCriteria": {"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]},
        "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": arn}},
    }
    properties = {
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "CodeUri": {"Bucket": bucket, "Key": "code.zip"},
        "Environment": {"Variables": reader.variables},
        "Events": {
            "Stream": {"Type": "DynamoDB", "Properties": stream},
            "Rule": {"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)", "Input": '"rule"'}},
            "Schedule": {
                "Type": "ScheduleV2",
                "Properties": {"ScheduleExpression": "rate(1 minute)", "Input": '"schedule"'},
            },
        },
    }
    function = {"Type": "AWS::Serverless::Function", "Properties": properties}
    deploy(aws, {"Reader": function}, Transform="AWS::Serverless-2016-10-31")
    put(aws, table, "a", "1", "2")

    told = message(aws, url)
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["DDBStreamBatchInfo"]["batchSize"] == 1

    def ticks():
        return {"rule", "schedule"} <= {event for _, event in reader.invocations() if isinstance(event, str)}

    wait_for("a tick of each", ticks)
    batches = [event["Records"] for _, event in reader.invocations() if not isinstance(event, str)]
    assert [[new_image(record)["v"]["S"] for record in batch] for batch in batches] == [["1"], ["1"]]


# ---------------------------------------------------------------- tables


def test_a_table_of_a_template_expires_items_and_tells_the_stream(aws, function):
    made = deploy(
        aws,
        {
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "BillingMode": "PAY_PER_REQUEST",
                    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
                    "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
                    "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
                    "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
                    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
                    "SSESpecification": {"SSEEnabled": True},
                },
            }
        },
    )["Table"]
    backups = aws.dynamodb.describe_continuous_backups(TableName=made)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    described = aws.dynamodb.describe_table(TableName=made)["Table"]
    assert described["SSEDescription"]["Status"] == "ENABLED"

    now = int(time.time())
    expiring = {"gone": {"N": str(now)}, "later": {"N": str(now + 600)}, "text": {"S": str(now)}, "ancient": {"N": "1"}}
    for key, expires in expiring.items():
        aws.dynamodb.put_item(TableName=made, Item={"k": {"S": key}, "expires": expires})
    wait_for("an item to expire", lambda: "Item" not in aws.dynamodb.get_item(TableName=made, Key={"k": {"S": "gone"}}))
    assert {item["k"]["S"] for item in aws.dynamodb.scan(TableName=made)["Items"]} == {"later", "text", "ancient"}
    by_the_service = {"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}}
    reader = function()
    aws.dynamodb.delete_item(TableName=made, Key={"k": {"S": "later"}})
    aws.lambda_.create_event_source_mapping(
        EventSourceArn=described["LatestStreamArn"],
        FunctionName=reader.name,
        StartingPosition="TRIM_HORIZON",
        FilterCriteria={"Filters": [{"Pattern": json.dumps(by_the_service)}]},
    )
    [(_, event)] = reader.wait_for_invocations(1)
    [record] = event["Records"]
    assert (record["eventName"], record["dynamodb"]["OldImage"]["k"]["S"]) == ("REMOVE", "gone")


def test_conditional_updates_return_old_and_new_items(aws, table):
    update = {"TableName": table, "Key": {"k": {"S": "a"}}}
    added = aws.dynamodb.update_item(
        **update,
        UpdateExpression="SET l = list_append(if_not_exists(l, :none), :new), n = if_not_exists(n, :zero) + :one",
        ConditionExpression="attribute_not_exists(n) OR n < :one",
        ExpressionAttributeValues={":none": {"L": []}, ":new": {"L": [{"S": "x"}]}, ":zero": {"N": "0"}, ":one": {"N": "1"}},
        ReturnValues="ALL_NEW",
    )["Attributes"]
    assert added == {"k": {"S": "a"}, "l": {"L": [{"S": "x"}]}, "n": {"N": "1"}}

    with pytest.raises(aws.dynamodb.exceptions.ConditionalCheckFailedException) as refused:
        aws.dynamodb.update_item(
            **update,
            UpdateExpression="SET n = :two",
            ConditionExpression="attribute_not_exists(n)",
            ExpressionAttributeValues={":two": {"N": "2"}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert refused.value.response["Item"] == added

    left = aws.dynamodb.update_item(**update, UpdateExpression="REMOVE l[0], n", ReturnValues="ALL_NEW")["Attributes"]
    assert left == {"k": {"S": "a"}, "l": {"L": []}}


def test_an_index_holds_only_items_that_have_its_keys(aws):
    name = f"table-{next(_numbers)}"
    types = {"k": "S", "open": "S", "due": "N"}
    aws.dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": t} for n, t in types.items()],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [{"AttributeName": "open", "KeyType": "HASH"}, {"AttributeName": "due", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    for number in range(5):
        keys = {"open": {"S": "y"}, "due": {"N": str(10 - number)}} if number else {}
        aws.dynamodb.put_item(TableName=name, Item={"k": {"S": str(number)}, "more": {"S": "x"}, **keys})
    # Without the attribute `due` it leaves the index.
    aws.dynamodb.update_item(TableName=name, Key={"k": {"S": "2"}}, UpdateExpression="REMOVE due")
    found = aws.dynamodb.query(
        TableName=name,
        IndexName="due",
        KeyConditionExpression="#o = :y AND due <= :now",
        ExpressionAttributeNames={"#o": "open"},
        ExpressionAttributeValues={":y": {"S": "y"}, ":now": {"N": "8"}},
    )["Items"]
    assert found == [{"k": {"S": key}, "open": {"S": "y"}, "due": {"N": str(10 - int(key))}} for key in ("4", "3")]


# ---------------------------------------------------------------- jobs


def job(aws, *targets: str, **settings) -> str:
    job_id = f"job-{uuid.uuid4().hex[:8]}"
    aws.iot.create_job(jobId=job_id, targets=list(targets), document="{}", **settings)
    return job_id


def thing(aws) -> tuple[str, str]:
    name = f"thing-{uuid.uuid4().hex[:8]}"
    return name, aws.iot.create_thing(thingName=name)["thingArn"]


def execution(aws, job_id: str, name: str) -> dict:
    return aws.iot.describe_job_execution(jobId=job_id, thingName=name)["execution"]


def test_an_execution_times_out_by_itself_and_is_tried_again(aws):
    name, arn = thing(aws)
    retries = {"criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]}
    timed = job(aws, arn, timeoutConfig={"inProgressTimeoutInMinutes": 1}, jobExecutionsRetryConfig=retries)
    for number in (1, 2):
        found = wait_for("the execution", lambda: e if (e := execution(aws, timed, name))["executionNumber"] == number else None)
        assert found["status"] == "QUEUED"
        aws.iot_jobs_data.update_job_execution(jobId=timed, thingName=name, status="IN_PROGRESS")
    wait_for("the last one to time out", lambda: execution(aws, timed, name)["status"] == "TIMED_OUT")
    wait_for("the job to end", lambda: aws.iot.describe_job(jobId=timed)["job"]["status"] == "COMPLETED")


def test_failed_executions_are_retried_as_often_as_the_job_says(aws):
    name, arn = thing(aws)
    tried = job(aws, arn, jobExecutionsRetryConfig={"criteriaList": [{"failureType": "ALL", "numberOfRetries": 2}]})
    for number in (1, 2, 3):
        assert execution(aws, tried, name)["executionNumber"] == number
        aws.iot_jobs_data.update_job_execution(jobId=tried, thingName=name, status="FAILED", executionNumber=number)
    assert execution(aws, tried, name)["status"] == "FAILED"
    assert aws.iot.describe_job(jobId=tried)["job"]["status"] == "COMPLETED"


def test_a_job_reaches_groups_in_a_group_and_things_that_join_one_later(aws):
    parent, child = (f"group-{uuid.uuid4().hex[:8]}" for _ in range(2))
    arn = aws.iot.create_thing_group(thingGroupName=parent)["thingGroupArn"]
    aws.iot.create_thing_group(thingGroupName=child, parentGroupName=parent)
    (first, _), (later, _) = thing(aws), thing(aws)
    aws.iot.add_thing_to_thing_group(thingGroupName=child, thingName=first)
    continuous = job(aws, arn, targetSelection="CONTINUOUS")
    assert execution(aws, continuous, first)["status"] == "QUEUED"
    aws.iot.add_thing_to_thing_group(thingGroupName=child, thingName=later)
    assert execution(aws, continuous, later)["status"] == "QUEUED"
