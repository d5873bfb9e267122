"""The operator's view: log lines of a request, metrics of a run, and the metrics and fields that alarms, dashboard and queries use."""

import itertools
import json
import re
import time

import pytest

from stack.aws_between import ACCESS_DENIED, CONFLICT, DENIED, LEDGER_THROTTLED, TOO_LARGE
from deployed_template import of_type
from embedded_metrics import Metric, metrics
from passing_time import let_time_pass
from scripted_coiote import CREATE, HEALTHY, LOST, SEARCH, SESSION, SLOW, scripted_coiote
from stack.deployment import STACK_NAME
from stack.local_stack import ROOT, SECRET_NAME
from stack.processes import free_port

READ = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
ALL = {"operation": "read", "keys": ["/"]}
REBOOT = {"operation": "execute", "keys": ["Device.0.Reboot"]}
SCHEDULED, FOLDED, WRITTEN = "request scheduled", "result folded", "copies written"
# Further messages of a request at debug
STEPS = ["request claimed", "task created", "session started"]

# Fields of every line of an invocation
FIELDS_OF_EVERY_LINE = {"timestamp", "level", "message", "name", "request_id"}

# Metrics of AWS: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html,
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html,
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html,
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CloudWatch-Logs-Monitoring-CloudWatch-Metrics.html
AWS_METRICS = {
    "AWS/Lambda": (
        "FunctionName",
        "AWS::Lambda::Function",
        {
            "Errors", "Throttles", "Duration", "ConcurrentExecutions", "AsyncEventAge", "DestinationDeliveryFailures", "Invocations",
            "IteratorAge",
        },
    ),
    "AWS/SQS": (
        "QueueName",
        "AWS::SQS::Queue",
        {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    ),
    "AWS/DynamoDB": (
        "TableName",
        "AWS::DynamoDB::Table",
        {"ReadThrottleEvents", "WriteThrottleEvents", "ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"},
    ),
    "AWS/Logs": ("LogGroupName", "AWS::Logs::LogGroup", {"IncomingLogEvents"}),
}

# https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
RULE_ERROR_FIELDS = {"ruleName", "topic", "cloudwatchTraceId", "clientId", "base64OriginalPayload", "failures.0.errorMessage"}

# https://docs.aws.amazon.com/iot/latest/developerguide/cwl-format.html
AWS_IOT_LOG_FIELDS = {"eventType", "status", "traceId", "deviceShadowName", "topicName", "details"}


def log_messages(lines: list[dict]) -> list[dict]:
    """Lines that are more than metrics."""
    return [line for line in lines if "message" in line]


# ---------------------------------------------------------------- logs


def test_one_client_token_leads_through_every_line_to_the_answer(stack, device):
    thing, token = device(), "follow-me"
    version = stack.aws.request(thing, READ, client_token=token)
    answer = stack.aws.last_word(thing, version)
    groups = [stack.outputs[name] for name in ("OperationRequestLogGroup", "OperationResponseLogGroup")]
    stack.aws.log_line(groups[0], SCHEDULED, client_token=token)
    stack.aws.log_line(groups[1], FOLDED, client_token=token)

    request, response = ([line for line in stack.aws.log_lines(group) if line.get("thing") == thing] for group in groups)
    # One line for an invocation where nothing is wrong.
    assert [line["message"] for line in request] == [SCHEDULED]
    assert [line["message"] for line in response] == [FOLDED]
    for line in request + response:
        assert FIELDS_OF_EVERY_LINE <= line.keys(), line
        assert (line["client_token"], line["version"], line["operation"]) == (token, version, "read")
        assert (line["task_id"], line["level"]) == (answer["taskId"], "INFO")
        assert line["duration_ms"] > 0
        assert "UTC Offset" not in json.dumps(line), "no payload above debug"
    [request], [response] = request, response
    # Device and template, and the times of the steps
    assert request["template"] == "AWSreadCertAuth" and request["device_id"]
    for step in ("claim_ms", "find_device_ms", "create_task_ms", "start_session_ms"):
        assert 0 < request[step] <= request["duration_ms"], step
    assert 0 < response["fold_ms"] <= response["duration_ms"] and response["resources"] == 1
    assert response["result_version"] > version
    assert (request["status"], response["status"]) == ("SCHEDULED", "SUCCEEDED")
    # The task at Coiote
    assert [task["id"] for task in stack.coiote.tasks(thing)] == [answer["taskId"]]
    assert answer["clientToken"] == token
    # Answers logs this thing, too, because its invocation was about this thing alone.
    written = stack.aws.log_line(stack.outputs["AnswersLogGroup"], WRITTEN, thing=thing)
    assert FIELDS_OF_EVERY_LINE <= written.keys()
    assert (written["level"], written["things"], written["updated"], written["delayed"]) == ("INFO", 1, 1, 0)


def test_a_request_that_waited_is_logged_as_any_other(stack, device, environment_of):
    thing, now = device(), int(time.time())
    away = environment_of("OperationRequest", COIOTE_URL=f"https://localhost:{free_port()}")
    event = READ | {"thingName": thing, "version": 55, "timestamp": now, "clientToken": "later"}
    assert away.invoke(event)["status"] == "IN_PROGRESS"
    back = environment_of("OperationRequest")
    # The event of reconcile
    assert back.invoke({"thingName": thing, "due": "55"})["status"] == "SCHEDULED"
    [line] = [line for line in log_messages(back.log_lines()) if "status" in line]
    assert line["message"] == SCHEDULED
    assert (line["thing"], line["version"], line["client_token"], line["operation"]) == (thing, 55, "later", "read")
    assert line["task_id"] and line["template"] == "AWSreadCertAuth"
    found = metrics(back.log_lines(), "coiote-aws-iot")
    [waited] = found[Metric.of("TimeToSchedule")]
    assert waited > 0, "from the update of the shadow on"


@pytest.mark.parametrize("level", ["debug", "error"])
def test_each_step_is_a_line_at_debug_and_lines_of_every_level_say_what_they_are_about(device, environment_of, level):
    thing = device()
    function = environment_of("OperationRequest", RUST_LOG=level)
    assert function.invoke(READ | {"thingName": thing, "version": 56, "clientToken": "t"})["status"] == "SCHEDULED"
    nobody = f"nobody-at-{level}"
    function.invoke(READ | {"thingName": nobody, "version": 57, "clientToken": "t"})
    lines = log_messages(function.log_lines())
    if level == "debug":
        messages = [line["message"] for line in lines if line.get("thing") == thing]
        assert [message for message in messages if message in [*STEPS, SCHEDULED]] == [*STEPS, SCHEDULED]
    else:
        [line] = lines
        assert (line["thing"], line["version"], line["client_token"]) == (nobody, 57, "t")
        assert (line["status"], line["code"]) == ("FAILED", "DEVICE_UNKNOWN")


def test_every_line_has_the_trace_that_lambda_gives(stack, device, environment_of):
    thing = device()
    events = {
        "OperationRequest": READ | {"thingName": thing, "version": 50},
        "OperationResponse": {"operation": "execute", "thingName": thing, "version": 51, "result": {}},
        "CreateThing": {"coioteDeviceId": thing, "coioteDeviceType": "a.b"},
    }
    for name, event in events.items():
        function = environment_of(name)
        for _ in range(2):
            invocation = function.begin(event)
            function.result(invocation)
            about = [line for line in log_messages(function.log_lines()) if line.get("request_id") == invocation.request_id]
            root = invocation.trace.split(";")[0].removeprefix("Root=")
            assert about and {line["trace_id"] for line in about} == {root}, name
            assert {line["thing"] for line in about} == {thing}, name


def test_levels_say_who_has_to_act(stack, device, environment_of):
    """INFO: as it should be. WARN: it recovers by itself, or its author has the answer. ERROR: the operator has to act."""
    thing = device()
    function = environment_of("OperationRequest", COIOTE_URL=f"https://localhost:{free_port()}")

    def levels(event: dict, request_id: str) -> list[tuple]:
        function.invoke({"thingName": thing, "version": 60} | event, request_id, seconds=4)
        ended = [line for line in log_messages(function.log_lines()) if line.get("request_id") == request_id and "status" in line]
        return [(line["level"], line["status"], line["code"]) for line in ended[-1:]]

    assert levels({"operation": "read"}, "a") == [("WARN", "REJECTED", "KEYS_MISSING")]
    # It waits in the ledger, and is handed over later.
    assert levels(READ | {"version": 61}, "b") == [("WARN", "IN_PROGRESS", "COIOTE_UNREACHABLE")]
    assert levels(READ | {"thingName": "no name"}, "c") == [("ERROR", "REJECTED", "EVENT_INVALID")]
    # Its author has the answer.
    assert levels({"operation": "cancelRequest", "requests": [1], "version": 62}, "d") == [("WARN", "FAILED", "NOTHING_TO_CANCEL")]
    function = environment_of("OperationRequest")
    assert levels(READ | {"thingName": "nobody-knows-it"}, "e") == [("ERROR", "FAILED", "DEVICE_UNKNOWN")]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_values_written_to_a_device_are_in_no_line_above_debug(stack, device, environment_of, level):
    thing, value = device(), "+07:31"
    function = environment_of("OperationRequest", RUST_LOG=level)
    write = {"operation": "write", "keys": ["Device.0.UTC Offset"], "values": [value], "thingName": thing}
    assert function.invoke(write | {"version": 70})["status"] == "SCHEDULED"
    function.invoke(write | {"version": 71, "keys": ["Device.0.Battery Level"]})
    log = function.log.read_text()
    assert (value in log) == (level == "debug")
    secret = json.loads(stack.aws.secrets.get_secret_value(SecretId=SECRET_NAME)["SecretString"])
    for line in secret["privateKey"].splitlines()[1:-1]:
        assert line not in log


# ---------------------------------------------------------------- metrics


def test_the_metrics_of_a_run_count_its_requests(stack, device, environment_of):
    thing, now = device(), int(time.time())
    created, started = HEALTHY[CREATE], HEALTHY[SESSION]
    answers = {
        CREATE: [*[created] * 4, (503, {"message": "busy"}), created],
        SESSION: [*[started] * 5, (409, {"message": "no"})],
    }
    with scripted_coiote(stack.authority, answers) as script:
        function = environment_of("OperationRequest", COIOTE_URL=script.url)

        def invoke(event: dict, version: int) -> dict:
            return function.invoke(event | {"thingName": thing, "version": version, "timestamp": now}, seconds=4)

        for version in (100, 101, 102):
            assert invoke(READ, version)["status"] == "SCHEDULED"
        assert invoke(READ, 102)["status"] == "IGNORED"
        assert invoke(REBOOT, 103)["status"] == "SCHEDULED"
        assert invoke({"operation": "read"}, 104)["status"] == "REJECTED"
        assert invoke({"operation": "what I like"}, 105)["status"] == "REJECTED"
        assert invoke(READ, 106)["status"] == "SCHEDULED"
        assert invoke(READ, 107)["reason"]["code"] == "SESSION_NOT_STARTED"
    found = metrics(function.log_lines(), "coiote-aws-iot")

    def total(name: str, **dimensions: str) -> float:
        return sum(found.pop(Metric.of(name, **dimensions)))

    assert total("Requests", operation="read", status="SCHEDULED") == 5
    assert total("Requests", operation="execute", status="SCHEDULED") == 1
    assert total("Requests", operation="read", status="REJECTED") == 1
    assert total("Requests", operation="unknown", status="REJECTED") == 1
    assert total("Failures", code="KEYS_MISSING") == 1
    assert total("Failures", code="OPERATION_UNKNOWN") == 1
    assert total("DuplicatesDropped") == 1
    assert total("CoioteRetries") == 1
    assert len(found.pop(Metric.of("TimeToSchedule"))) == 6
    for name, call in (("FindDeviceTime", SEARCH), ("CreateTaskTime", CREATE), ("StartSessionTime", SESSION)):
        assert len(found.pop(Metric.of(name))) == sum(asked.startswith(call) for asked in script.asked) > 0
    # The test's certificate is valid for a day or two.
    assert set(found.pop(Metric.of("ClientCertificateDaysLeft"))) <= {0.0, 1.0, 2.0}
    assert found == {}, "nothing else is measured, and no thing is a dimension"


def test_durations_begin_with_the_shadow_update(stack, device):
    thing = device()
    version = stack.aws.request(thing, ALL)
    stack.aws.last_word(thing, version)
    group = stack.outputs["OperationResponseLogGroup"]
    request_id = stack.aws.log_line(group, "result folded", thing=thing)["request_id"]
    [line] = [line for line in stack.aws.log_lines(group) if line.get("request_id") == request_id]
    found = metrics([line], STACK_NAME)
    assert set(found) == {Metric.of("Results", operation="read", status="SUCCEEDED"), Metric.of("TimeToResult")}
    [milliseconds] = found[Metric.of("TimeToResult")]
    assert 0 <= milliseconds < 30_000, "a shadow knows its time to the second"


def test_the_metrics_of_results_and_things(stack, device, environment_of, aws_between):
    thing = device()
    function = environment_of("OperationResponse", AWS_ENDPOINT_URL=aws_between.endpoint)

    def result(version: int, **fields) -> dict:
        event = {"thingName": thing, "operation": "read", "version": version, "timestamp": int(time.time())}
        return function.invoke(event | {"result": {"Device": {"0": {"UTC Offset": "+01:00"}}}} | fields)

    assert result(10)["status"] == "SUCCEEDED"
    assert result(11, failedKeys=["Device.0.X"])["status"] == "FAILED"
    assert result(12, operation="execute")["status"] == "IGNORED"
    # Objects are folded onto the datamodel shadow as it is read; one write conflicts.
    aws_between.once("update datamodel", CONFLICT)
    assert result(13, result={"Device": {"0": {"Error Code": {"0": "0"}}}})["status"] == "SUCCEEDED"
    assert metrics(function.log_lines(), "coiote-aws-iot") == {
        Metric.of("Results", operation="read", status="SUCCEEDED"): [1, 1],
        Metric.of("Results", operation="read", status="FAILED"): [1],
        Metric.of("Failures", code="DEVICE_FAILED_KEYS"): [1],
        Metric.of("FoldingConflicts"): [1],
    }

    function = environment_of("CreateThing")
    for name in ("metered-1", "metered-2", "metered-2"):
        function.invoke({"coioteDeviceId": name, "coioteDeviceType": "metered.type"})
    function.invoke({"coioteDeviceId": "no name", "coioteDeviceType": "metered.type"})
    assert metrics(function.log_lines(), "coiote-aws-iot") == {
        Metric.of("ThingsCreated"): [1, 1],
        Metric.of("Failures", code="NAME_INVALID"): [1],
    }


# ---------------------------------------------------------------- uses of metrics and logs


def own_metric(resources: dict, namespace: object, name: str, dimensions: list[dict]) -> Metric | None:
    """The metric, if it is one of the stack; checks those of AWS."""
    if namespace == {"Ref": "AWS::StackName"}:
        return Metric.of(name, **{dimension["Name"]: dimension["Value"] for dimension in dimensions})
    by, kind, names = AWS_METRICS[namespace]
    dimension, *index = dimensions
    assert name in names and dimension["Name"] == by, (name, dimension)
    for more in index:
        indexes = {index["IndexName"] for index in resources["RequestsTable"]["Properties"]["GlobalSecondaryIndexes"]}
        assert more["Name"] == "GlobalSecondaryIndexName" and more["Value"] in indexes
    of = dimension["Value"].get("Ref") or dimension["Value"]["Fn::GetAtt"][0]
    assert resources[of]["Type"] == kind, of
    return None


def metrics_of_alarms(resources: dict) -> dict[str, set[Metric]]:
    asked = {}
    for alarm_name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        found = {
            own_metric(resources, metric["Namespace"], metric["MetricName"], metric.get("Dimensions", []))
            for metric in [
                *([alarm] if "MetricName" in alarm else []),
                *(query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query),
            ]
        }
        assert found, f"{alarm_name} asks for no metric"
        asked[alarm_name] = found - {None}
    return asked


@pytest.fixture(scope="module")
def causes(stack):
    """Causes of each code of operation-request that an alarm uses: environment, and answers of Coiote.

    The last code needs no cause: it follows when the others have failed in a row.
    """
    without_root = json.loads(stack.secret(stack.client))
    del without_root["caPem"]
    secrets = {"not-trusted": json.dumps(without_root), "invalid": "{}"}
    for name, value in secrets.items():
        stack.aws.secrets.create_secret(Name=name, SecretString=value)
    yield {
        "COIOTE_UNREACHABLE": ({"COIOTE_URL": f"https://localhost:{free_port()}"}, {}),
        "COIOTE_TIMED_OUT": ({}, {SEARCH: SLOW}),
        "COIOTE_INTERRUPTED": ({}, {SEARCH: LOST}),
        "COIOTE_UNAVAILABLE": ({}, {SEARCH: (503, {"message": "no"})}),
        "COIOTE_UNAUTHORIZED": ({}, {SEARCH: (403, {"message": "no"})}),
        "COIOTE_URL_INVALID": ({"COIOTE_URL": "https://localhost/with/a/path"}, {}),
        "COIOTE_UNEXPECTED_ANSWER": ({}, {SEARCH: (200, b"garbage")}),
        "COIOTE_NOT_TRUSTED": ({"COIOTE_SECRET_ID": "not-trusted"}, {}),
        "SECRET_UNAVAILABLE": ({"COIOTE_SECRET_ID": "nobody"}, {}),
        "SECRET_INVALID": ({"COIOTE_SECRET_ID": "invalid"}, {}),
    }
    for name in secrets:
        stack.aws.secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def reconcile_without_a_result(stack, environment_of, ledger, thing: str) -> list[dict]:
    """Ends a read that the device has done, but whose result has not come within a minute; returns reconcile's log lines."""
    done = {"taskId": "d:task:1", "deviceId": thing, "status": "Success", "startTime": "2100-01-01T00:00:00Z"}
    reports = {"GET /taskReports/findSince": (200, [done | {"lastUpdateTime": "2026-01-01T00:00:00Z"}])}
    with scripted_coiote(stack.authority, reports) as script:
        variables = {"COIOTE_URL": script.url, **ledger.environment}
        event = READ | {"thingName": thing, "version": 1, "timestamp": int(time.time())}
        assert environment_of("OperationRequest", **variables).invoke(event)["status"] == "SCHEDULED"
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)
        reconcile.invoke({})
        let_time_pass(stack, thing, 61, ledger.table)
        assert reconcile.invoke({})["ended"] == 1
    return reconcile.log_lines()


def test_a_request_that_reconcile_ends_has_failed_in_a_line_of_its_own(stack, device, environment_of, own_ledger):
    thing = device("sleeping")
    lines = reconcile_without_a_result(stack, environment_of, own_ledger, thing)
    [line] = [line for line in lines if line.get("message") == "request failed"]
    found = {name: line[name] for name in ("level", "thing", "operation", "version", "task_id", "status", "code")}
    assert found == {
        "level": "WARN", "thing": thing, "operation": "read", "version": 1, "task_id": "d:task:1", "status": "FAILED",
        "code": "RESULT_NOT_STORED",
    }
    assert line["reason"]


def test_every_metric_of_an_alarm_is_emitted_under_its_name(stack, resources, device, environment_of, aws_between, own_ledger, causes):
    asked = metrics_of_alarms(resources)
    ours = set().union(*asked.values())
    assert {name for name, found in asked.items() if found} == {
        "CoioteUnreachableAlarm",
        "CoioteRefusesAlarm",
        "CertificateExpiryAlarm",
        "ReconcileAlarm",
        "OldestRequestAlarm",
        "JobsNotLookedAtAlarm",
        "AnswersQueueAlarm",
        "ReportsUnreadAlarm",
        "ResultsMissingAlarm",
    }
    emitted: set[Metric] = set()
    thing = device()
    for number, (environment, plan) in enumerate([({}, {}), *causes.values()]):
        stack.aws.forget_outages(stack.outputs["RequestsTable"])
        with scripted_coiote(stack.authority, plan) as script:
            function = environment_of("OperationRequest", **{"COIOTE_URL": script.url} | environment)
            function.invoke(READ | {"thingName": thing, "version": 200 + number}, seconds=4)
            emitted |= metrics(function.log_lines(), "coiote-aws-iot").keys()
    for number in range(4):
        function = environment_of("OperationRequest", **causes["COIOTE_UNREACHABLE"][0])
        function.invoke(READ | {"thingName": device(), "version": 220 + number}, seconds=4)
        emitted |= metrics(function.log_lines(), "coiote-aws-iot").keys()
    stack.aws.forget_outages(stack.outputs["RequestsTable"])
    reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", COIOTE_SECRET_ID="nobody")
    reconcile.invoke({})
    emitted |= metrics(reconcile.log_lines(), "coiote-aws-iot").keys()
    lines = reconcile_without_a_result(stack, environment_of, own_ledger, device("sleeping"))
    emitted |= metrics(lines, "coiote-aws-iot").keys()
    aws_between.always("GET /jobs", DENIED)
    executions = environment_of("JobExecutions", AWS_ENDPOINT_URL=aws_between.endpoint)
    executions.invoke({"source": "aws.events"})
    emitted |= metrics(executions.log_lines(), "coiote-aws-iot").keys()
    answers = environment_of("Answers", AWS_ENDPOINT_URL=aws_between.endpoint)
    for fault in (DENIED, TOO_LARGE):
        aws_between.always("update operation", fault)
        answers.invoke({"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": thing}]})
    emitted |= metrics(answers.log_lines(), "coiote-aws-iot").keys()
    assert ours <= emitted, ours - emitted


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *itertools.product(["OperationRequest", "OperationResponse", "Reconcile"], ["LEDGER_UNAVAILABLE", "LEDGER_REFUSED"]),
        # Reconcile goes on with other devices when one fails.
        *itertools.product(["OperationRequest", "OperationResponse"], ["LEDGER_UNREADABLE"]),
    ],
)
def test_an_alarm_counts_failures_because_of_the_ledger(stack, resources, environment_of, aws_between, own_ledger, name, code):
    thing = f"not-in-the-ledger-{name}-{code}"
    stack.add_thing(thing)
    event = READ | {"thingName": thing, "version": 5, "timestamp": int(time.time()), "result": {"Device": {"0": {"UTC Offset": "Z"}}}}
    if code == "LEDGER_UNREADABLE":
        item = {"thing": {"S": thing}, "entry": {"S": "device"}, "state": {"S": "of another version"}, "version": {"N": "1"}}
        stack.aws.dynamodb.put_item(TableName=own_ledger.table, Item=item)
    else:
        fault = {"LEDGER_UNAVAILABLE": LEDGER_THROTTLED, "LEDGER_REFUSED": ACCESS_DENIED}[code]
        for call in ("GetItem", "PutItem", "Query", "UpdateItem"):
            aws_between.always(call, fault)
    environment = own_ledger.environment | {"AWS_ENDPOINT_URL": aws_between.endpoint, "RECONCILE_SECONDS": "1"}
    function = environment_of(name, **environment)
    result = function.invoke(event, seconds=10)
    # An error of the function, which Lambda's metric counts.
    assert result["errorType"] == code
    assert sum(metrics(function.log_lines(), "coiote-aws-iot")[Metric.of("Failures", code=code)]) >= 1
    alarms = of_type(resources, "AWS::CloudWatch::Alarm").values()
    of_function = [{"Name": "FunctionName", "Value": {"Ref": name}}]
    [alarm] = [a for a in alarms if a.get("MetricName") == "Errors" and a["Dimensions"] == of_function]
    assert (alarm["Namespace"], alarm["Statistic"]) == ("AWS/Lambda", "Sum")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert "code" in alarm["AlarmDescription"], "by which it is found in docs/errors.md"


def test_the_alarms_are_there_and_say_what_to_do(stack, resources):
    """Alarms with metric math exist only on AWS; the local stack has the others."""
    made = {alarm["AlarmName"] for alarm in stack.aws.cloudwatch.describe_alarms()["MetricAlarms"]}
    of_aws_only = {name for name, resource in resources.items() if resource.get("Condition") == "OnAws"}
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        alarm_name = alarm["AlarmName"]["Fn::Sub"].replace("${AWS::StackName}", STACK_NAME)
        assert (alarm_name in made) == (name not in of_aws_only), name
        assert ("Metrics" in alarm) == (name in of_aws_only), f"{name}: only what the local stack refuses is left out"
        # AWS takes at most 1,024 characters.
        assert 100 < len(alarm["AlarmDescription"]) <= 1_024, f"{name}: says what to do"
        for actions in ("AlarmActions", "OKActions"):
            assert alarm[actions]["Fn::If"][:2] == ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}]], name


def test_the_metrics_of_the_dashboard_exist(stack, resources):
    body = json.loads(stack.aws.cloudwatch.get_dashboard(DashboardName=STACK_NAME)["DashboardBody"])
    metering = (ROOT / "shared" / "lambda-support" / "src" / "metering.rs").read_text()
    lists = re.findall(r"const (?:TIMES|SECONDS|PERCENTAGES|COUNTS): .*?\];", metering, re.DOTALL)
    measured = {name for names in lists for name in re.findall(r'"(\w+)"', names)}
    assert len(lists) == 4 and {"TimeToSchedule", "OldestOpenRequestAge", "Requests"} <= measured
    alarms, shown = [], set()
    for widget in body["widgets"]:
        if widget["type"] == "alarm":
            alarms = [arn.rpartition(":")[2] for arn in widget["properties"]["alarms"]]
        for row in widget["properties"].get("metrics", []):
            if isinstance(row[0], dict):
                namespace, name = re.findall(r'\{"([^"]+)",|MetricName="([^"]+)"', row[0]["expression"])[:2]
                assert namespace[0] == STACK_NAME
                shown.add(name[1])
            elif row[0] == STACK_NAME:
                shown.add(row[1])
            elif row[0] != "...":
                assert row[1] in AWS_METRICS[row[0]][2], row
    assert shown == measured, "all that is measured is shown, and nothing else"
    assert body["widgets"][0]["type"] == "alarm", "what is looked at first"
    names = {alarm["AlarmName"]["Fn::Sub"] for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()}
    assert {f"${{AWS::StackName}}-{alarm.removeprefix(STACK_NAME + '-')}" for alarm in alarms} == names


def test_the_dashboard_shows_lambdas_metrics_of_every_function_but_the_one_of_deployments(stack):
    body = json.loads(stack.aws.cloudwatch.get_dashboard(DashboardName=STACK_NAME)["DashboardBody"])
    widgets = {w["properties"]["title"]: w["properties"]["metrics"] for w in body["widgets"] if w["properties"]["title"].startswith("Lambda")}
    assert len(widgets) == 5
    functions = {name for name in stack.deployment.functions.values() if name != "integration-certificates"}
    for title, rows in widgets.items():
        assert {row[-1]["label"] for row in rows} == functions, title


# Words of CloudWatch Logs Insights, and names after its `as`
KEYWORDS = set(
    "fields filter sort limit stats by as and or not in like asc desc ispresent coalesce count count_distinct earliest "
    "latest display parse".split()
)


def test_every_field_of_the_saved_queries_is_in_the_logs(stack, resources, device, environment_of):
    thing = device()
    version = stack.aws.request(thing, READ, client_token="t")
    stack.aws.last_word(thing, version)
    stack.aws.log_line(stack.outputs["OperationRequestLogGroup"], SCHEDULED, thing=thing)
    stack.aws.log_line(stack.outputs["OperationResponseLogGroup"], FOLDED, thing=thing)
    stack.aws.log_line(stack.outputs["AnswersLogGroup"], WRITTEN, thing=thing)
    lines = [
        line
        for name in ("OperationRequestLogGroup", "OperationResponseLogGroup", "AnswersLogGroup")
        for line in stack.aws.log_lines(stack.outputs[name])
        if line.get("thing") == thing
    ]
    function = environment_of("OperationRequest")
    function.invoke({"thingName": thing, "version": 80, "operation": "read"})
    function.invoke({"thingName": thing, "jobId": "j", "executionNumber": 1, "operation": "read"})
    lines += log_messages(function.log_lines())
    known = {"@timestamp"}.union(*lines) | RULE_ERROR_FIELDS | AWS_IOT_LOG_FIELDS

    queries = of_type(resources, "AWS::Logs::QueryDefinition")
    assert {query["Name"]["Fn::Sub"].rpartition("/")[2] for query in queries.values()} == {
        "story of one device",
        "story of one request",
        "failures by code",
        "slowest calls",
        "requests that wait",
    }
    for name, query in queries.items():
        text = re.sub(r'"[^"]*"|/[^/\n]*/', "", re.sub(r"(?m)^\s*#.*$", "", query["QueryString"]))
        given = set(re.findall(r"\bas (\w+)", text))
        fields = set(re.findall(r"@?[A-Za-z_][\w.]*", text)) - KEYWORDS - given
        assert fields and fields <= known, f"{name}: {fields - known}"
        groups = {group.get("Ref") or group["Fn::If"][1]["Ref"] for group in query["LogGroupNames"]}
        ours = {name for name in of_type(resources, "AWS::Logs::LogGroup") if name != "IotLogs"}
        assert groups >= ({"OperationRequestLogs", "ReconcileLogs"} if "requests that wait" in query["Name"]["Fn::Sub"] else ours), name


# Failures of requests, and of the functions: job-executions and reconcile warn without a status, and try again.
FAILURES = (
    'filter ispresent(message) and ispresent(code) and '
    '(status in ["REJECTED", "FAILED", "TIMED_OUT"] or level = "ERROR" or (level = "WARN" and not ispresent(status)))'
)


def test_query_and_dashboard_show_the_failures_that_alarms_point_to(stack, resources):
    assert FAILURES in resources["FailuresQuery"]["Properties"]["QueryString"].replace("filter (", "filter ")
    body = json.loads(stack.aws.cloudwatch.get_dashboard(DashboardName=STACK_NAME)["DashboardBody"])
    [latest] = [widget["properties"]["query"] for widget in body["widgets"] if widget["type"] == "log"]
    assert FAILURES in latest


def test_optional_parts_are_off_by_default(stack, resources):
    assert resources["IotLogging"]["Condition"] == "LogsIot"
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        assert function["TracingConfig"]["Mode"] == {"Ref": "Tracing"}, name
    configuration = stack.aws.lambda_.get_function_configuration(FunctionName=stack.outputs["OperationRequestFunction"])
    assert configuration["TracingConfig"]["Mode"] == "PassThrough"
    assert configuration["Environment"]["Variables"]["METRICS_NAMESPACE"] == STACK_NAME
