"""The failure queue: events whose attempts have all failed wait there, and can be redriven."""

import json
import signal
import threading
import time
from collections import Counter

import pytest

from command_line import closed_pipe, lwm2m, run, start
from stack.aws import own_version
from stack.aws_between import ACCESS_DENIED, Call, Refuse
from stack.deployment import STACK_NAME
from stack.loopback import Handler, serving
from stack.processes import wait_for


@pytest.fixture(autouse=True)
def empty_queue(stack):
    """Purges the queue before and after each test."""
    stack.aws.sqs.purge_queue(QueueUrl=stack.outputs["FailureQueueUrl"])
    yield
    stack.aws.sqs.purge_queue(QueueUrl=stack.outputs["FailureQueueUrl"])


def message_count(stack) -> int:
    attributes = stack.aws.sqs.get_queue_attributes(
        QueueUrl=stack.outputs["FailureQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def redrive(stack, *arguments: str) -> str:
    return lwm2m(stack, "redrive", *arguments)


def put(stack, body: object) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    stack.aws.sqs.send_message(QueueUrl=stack.outputs["FailureQueueUrl"], MessageBody=text)


def failure_record(stack, event: dict, code: str = "LEDGER_UNAVAILABLE", function: str = "OperationRequestFunction") -> dict:
    """The record that Lambda puts into the queue after the third failed attempt."""
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{stack.outputs[function]}:$LATEST"
    context = {"condition": "RetriesExhausted", "approximateInvokeCount": 3, "functionArn": arn}
    return {"version": "1.0", "requestContext": context, "requestPayload": event, "responsePayload": {"errorType": code}}


def request_of(stack, thing: str, request: dict) -> dict:
    """The event of a request whose attempts have left no answer: nothing is known of it."""
    return request | {"thingName": thing, "version": own_version(stack.aws.iot_data, thing), "timestamp": int(time.time())}


def test_events_come_back_out_of_the_queue(stack, device):
    execute = {"operation": "execute", "keys": ["Test object.0.Execute"]}
    read = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
    events = [request_of(stack, device(), request) for request in (execute, read)]
    for event in events:
        put(stack, failure_record(stack, event))
    # One without an operation, which Lambda itself puts there.
    stack.aws.lambda_.invoke(
        FunctionName=stack.outputs["OperationRequestFunction"], InvocationType="Event", Payload=b'{"operation": "read"}'
    )
    wait_for("the events to be in the failure queue", lambda: message_count(stack) == 3)

    listed = redrive(stack, "--dry-run")
    for event in events:
        assert f"waits: {event['thingName']} {event['operation']} {event['version']} LEDGER_UNAVAILABLE" in listed
    assert "waits: - read - EVENT_INVALID" in listed and "3 waits" in listed
    assert message_count(stack) == 3

    shown = redrive(stack)
    assert "2 sent again" in shown and "1 left: it is no operation at all" in shown
    for event in events:
        stack.aws.last_word(event["thingName"], event["version"], ("SCHEDULED", "SUCCEEDED", "FAILED"))
        assert len(stack.coiote.tasks(event["thingName"])) == 1
    assert message_count(stack) == 1
    assert "1 discarded" in redrive(stack, "--discard-invalid")
    assert redrive(stack) == "The failure queue is empty.\n"


def test_events_of_jobs_come_back_out_of_the_queue(stack, device):
    """A request of a job, the end of its execution, and a canceled job, each goes to the function that has failed on it."""
    stack.jobs.switch_events_on()
    thing = device("sleeping")
    rule = stack.outputs["JobRequestRule"]
    stack.aws.iot.disable_topic_rule(ruleName=rule)
    try:
        job = stack.jobs.run([thing], {"operation": "execute", "keys": ["Device.0.Reboot"]})
    finally:
        stack.aws.iot.enable_topic_rule(ruleName=rule)
    request = {"operation": "execute", "keys": ["Device.0.Reboot"]}
    queued = stack.jobs.execution(job, thing)["queuedAt"]
    execution = {"thingName": thing, "jobId": job, "executionNumber": 1, "timestamp": int(queued.timestamp())}
    put(stack, failure_record(stack, execution | request))
    assert f"waits: {thing} execute {job} LEDGER_UNAVAILABLE" in redrive(stack, "--dry-run")
    assert "1 sent again" in redrive(stack)
    assert stack.jobs.status_of(job, thing, "IN_PROGRESS")["status"] == "IN_PROGRESS"

    over = {"thingArn": stack.jobs.arn(thing), "jobId": job, "executionNumber": 1, "jobOver": "canceled"}
    put(stack, failure_record(stack, over | {"timestamp": int(time.time())}))
    put(stack, failure_record(stack, {"canceledJob": job}, "JOBS_NOT_LOOKED_AT", "JobExecutionsFunction"))
    assert "2 sent again" in redrive(stack)
    wait_for("its request to be taken back", lambda: stack.aws.answers(thing)[f"job:{job}:1"]["status"] == "CANCELED")
    assert stack.coiote.runs(thing) == [] and message_count(stack) == 0


def test_announcements_and_searches_are_named_and_a_search_is_not_sent_again(stack):
    device = "urn:dev:of-the-failure-queue"
    announcement = {"coioteDeviceId": device.replace(":", "%3A"), "coioteDeviceType": "AVSystem.demo"}
    put(stack, failure_record(stack, announcement, "REGISTRY_UNAVAILABLE", "CreateThingFunction"))
    search = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    put(stack, failure_record(stack, search, "JOBS_NOT_LOOKED_AT", "JobExecutionsFunction"))
    listed = redrive(stack, "--dry-run")
    assert f"waits: {device} (its announcement) REGISTRY_UNAVAILABLE" in listed
    assert "waits: a search for executions JOBS_NOT_LOOKED_AT" in listed
    shown = redrive(stack)
    assert f"sent again: {device} (its announcement)" in shown
    assert "discarded: a search for executions" in shown and "1 discarded, 1 sent again" in shown
    wait_for("the operation shadow of the announced device", lambda: "version" in stack.aws.shadow(device, "operation"))
    assert message_count(stack) == 0


def test_a_message_that_is_no_event_does_not_stop_it(stack, device):
    thing = device()
    event = request_of(stack, thing, {"operation": "read", "keys": ["Device.0.UTC Offset"]})
    note = {"version": "1.0", "requestContext": {"functionArn": "a:b"}, "DDBStreamBatchInfo": {"batchSize": 7}}
    of_jobs = {"functionArn": f"arn:aws:lambda:r:1:function:{stack.outputs['JobExecutionsFunction']}"}
    of_jobs = {"version": "1.0", "requestContext": of_jobs, "DDBStreamBatchInfo": {"batchSize": 5}}
    foreign = failure_record(stack, event) | {"requestContext": {"functionArn": "arn:aws:lambda:r:1:function:somebody-elses"}}
    strange = ["no event", "[1]", "{}", '{"requestPayload": 5}', '{"requestContext": {"functionArn": 5}, "requestPayload": {}}']
    # Names of things that are JSON as well.
    names = [thing, "356938035643809", "true", "null"]
    for body in [*strange, note, of_jobs, foreign, *names, failure_record(stack, event)]:
        put(stack, body)
    shown = redrive(stack)
    assert f"{len(strange)} left: neither an event nor a thing's name" in shown
    assert "left: a part of the ledger's stream (7 records) (lwm2m rewrite-answers" in shown
    assert "left: a part of the ledger's stream (5 records) (job-executions reports its executions within minutes" in shown
    assert "1 left: arn:aws:lambda:r:1:function:somebody-elses is no function of this stack" in shown
    assert all(f"written anew: {name} (its answers)" in shown for name in names)
    stack.aws.last_word(thing, event["version"])
    assert message_count(stack) == len(strange) + 3
    assert "2 discarded" in redrive(stack, "--discard-stream-notes")


def test_a_queue_is_emptied_although_some_come_back(stack, device):
    """Messages that come back and messages that are left delay neither the others nor the end."""
    things = [device() for _ in range(3)]
    events = [request_of(stack, things[n % 3], {"operation": "execute", "keys": ["Test object.0.Execute"]}) for n in range(60)]
    for number, event in enumerate(events):
        put(stack, failure_record(stack, event))
        if number % 4 == 0:
            put(stack, "no event")
            # It has no valid name of a thing, so it comes back each time that it is sent.
            put(stack, failure_record(stack, {"operation": "read", "thingName": "no name"}, "SOMETHING_ELSE"))
    shown = redrive(stack)
    assert "75 sent again" in shown and "15 left" in shown
    for event in events:
        group = stack.outputs["OperationRequestLogGroup"]
        stack.aws.log_line(group, "request scheduled", thing=event["thingName"], version=event["version"])
    wait_for("those that fail again to be back", lambda: message_count(stack) == 30)


class Lambda(Handler):
    """A Lambda that accepts every event, and puts those of one thing back into the failure queue at once."""

    def do_POST(self) -> None:
        event = json.loads(self.body())
        with self.server.lock:
            self.server.taken.append(event["version"])
        if event["thingName"] == "fails-again":
            put(self.server.stack, failure_record(self.server.stack, event))
        self.reply(202)


def test_a_queue_of_ten_thousand_is_emptied_although_some_come_back(stack):
    """No functions run: each event is given to its function, and the redrive ends."""
    events = [{"thingName": "fails-again" if n % 100 == 0 else "works", "operation": "read", "version": n} for n in range(10_000)]
    for begin in range(0, len(events), 10):
        bodies = [json.dumps(failure_record(stack, event)) for event in events[begin : begin + 10]]
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        sent = stack.aws.sqs.send_message_batch(QueueUrl=stack.outputs["FailureQueueUrl"], Entries=entries)
        assert not sent.get("Failed")
    with serving(Lambda, stack=stack, taken=[], lock=threading.Lock()) as server:
        shown = lwm2m(stack, "redrive", AWS_ENDPOINT_URL_LAMBDA=f"http://127.0.0.1:{server.server_port}")
        taken = Counter(server.taken)
    assert set(taken) == set(range(10_000))
    # An event that comes back within the tolerance of clocks may be sent once more.
    assert all(times == 1 for version, times in taken.items() if version % 100)
    assert f"{taken.total()} sent again" in shown
    assert message_count(stack) == 100


# ---------------------------------------------------------------- what does not go well


def test_it_goes_on_to_its_end_if_nobody_reads_its_output(stack):
    """Behind `head`, say: each message is handled, and those that are left can be received at once."""
    for n in range(30):
        put(stack, failure_record(stack, {"thingName": "works", "operation": "read", "version": n}))
        put(stack, "no event")
    with serving(Lambda, stack=stack, taken=[], lock=threading.Lock()) as server, closed_pipe() as unread:
        ended = run(stack, "redrive", stdout=unread, AWS_ENDPOINT_URL_LAMBDA=f"http://127.0.0.1:{server.server_port}")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert sorted(server.taken) == list(range(30))
    assert message_count(stack) == 30


class Refusing(Handler):
    """A service of AWS that refuses every call with the server's `code`."""

    def do_POST(self) -> None:
        self.body()
        body = json.dumps({"__type": self.server.code, "message": "no"}).encode()
        self.reply(400, body, {"x-amzn-ErrorType": self.server.code})


@pytest.mark.parametrize("code", ["AccessDeniedException", "KMSAccessDeniedException", "TooManyRequestsException"])
def test_it_fails_if_aws_refused_to_send_a_message_on(stack, code):
    put(stack, failure_record(stack, {"thingName": "a", "operation": "read", "version": 7}))
    put(stack, "no event")
    with serving(Refusing, code=code) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        assert run(stack, "redrive", "--dry-run", AWS_ENDPOINT_URL_LAMBDA=endpoint).returncode == 0
        ended = run(stack, "redrive", AWS_ENDPOINT_URL_LAMBDA=endpoint)
    assert ended.returncode == 1 and f"left: a read 7 LEDGER_UNAVAILABLE ({code}: no)" in ended.stdout, ended
    assert f"  1 left: {code}\n" in ended.stdout
    # What is left for what it is, is no failure.
    assert "1 sent again" in redrive(stack) and "1 left" in redrive(stack)


def test_a_queue_that_may_not_be_read_is_not_called_empty(stack):
    with serving(Refusing, code="AccessDeniedException") as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        ended = run(stack, "redrive", AWS_ENDPOINT_URL_SQS=endpoint)
        as_json = run(stack, "--json", "redrive", AWS_ENDPOINT_URL_SQS=endpoint)
    error = "could not read the failure queue: AccessDeniedException: no"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{error}\n")
    report = {"messages": [], "counts": {}, "left": {}, "inFlight": None}
    assert as_json.returncode == 1 and json.loads(as_json.stdout) == report | {"error": error, "findings": []}


class Silent(Handler):
    """A service of AWS that does not answer."""

    def do_POST(self) -> None:
        self.body()
        self.server.called.set()
        self.server.over.wait()


def test_a_queue_is_not_called_empty_if_it_is_interrupted_before_the_first_message(stack):
    with serving(Silent, called=threading.Event(), over=threading.Event()) as server:
        waiting = start(stack, "redrive", AWS_ENDPOINT_URL_SQS=f"http://127.0.0.1:{server.server_port}")
        assert server.called.wait(timeout=60)
        waiting.send_signal(signal.SIGINT)
        shown, told = waiting.communicate(timeout=30)
        server.over.set()
    assert (waiting.returncode, shown, told) == (128 + signal.SIGINT, "", "")


def test_a_refused_call_hides_no_other_messages(stack, aws_between):
    number, of_a_call, releasing = 15, 10, []
    for _ in range(number):
        put(stack, "no event")

    def refuse_the_first_release(call: Call) -> Refuse | None:
        releases = all(entry["VisibilityTimeout"] == 0 for entry in call.json()["Entries"])
        releasing.extend([len(call.json()["Entries"])] if releases else [])
        return ACCESS_DENIED if releases and len(releasing) == 1 else None

    aws_between.always("ChangeMessageVisibilityBatch", refuse_the_first_release)
    assert f"{number} left" in lwm2m(stack, "redrive", AWS_ENDPOINT_URL_SQS=aws_between.endpoint)
    assert releasing == [of_a_call, number - of_a_call]
    assert message_count(stack) == number - of_a_call


def test_messages_in_flight_are_counted(stack):
    """A redrive that was killed has hidden them."""
    for _ in range(3):
        put(stack, "no event")
    queue = stack.outputs["FailureQueueUrl"]
    received = stack.aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=900)["Messages"]
    assert len(received) == 3
    shown = redrive(stack)
    assert shown.startswith("No message can be received; 3 in flight") and "within 15 minutes" in shown
    assert json.loads(redrive(stack, "--json"))["inFlight"] == 3


# ---------------------------------------------------------------- answers


@pytest.fixture
def stream(stack):
    """Disables and enables the mapping from the ledger's stream to `answers`, as an operator does."""
    listed = stack.aws.lambda_.list_event_source_mappings(FunctionName=stack.outputs["AnswersFunction"])
    [mapping] = [m["UUID"] for m in listed["EventSourceMappings"] if ":dynamodb:" in m["EventSourceArn"]]

    def switch(is_on: bool) -> None:
        stack.aws.lambda_.update_event_source_mapping(UUID=mapping, Enabled=is_on)
        state = "Enabled" if is_on else "Disabled"
        wait_for(f"the mapping to be {state}", lambda: stack.aws.lambda_.get_event_source_mapping(UUID=mapping)["State"] == state)

    yield switch
    switch(True)


def make_request(stack, thing: str) -> int:
    """Makes a request, and waits until it is scheduled; returns its version."""
    version = stack.aws.request(thing, {"operation": "execute", "keys": ["Test object.0.Execute"]})
    stack.aws.log_line(stack.outputs["OperationRequestLogGroup"], "request scheduled", thing=thing, version=version)
    return version


def test_nothing_is_lost_while_the_stream_is_disabled(stack, device, stream):
    things = [device() for _ in range(3)]
    stream(False)
    versions = [make_request(stack, thing) for thing in things]
    assert all(stack.aws.answers(thing) == {} for thing in things)
    stream(True)
    for thing, version in zip(things, versions, strict=True):
        stack.aws.last_word(thing, version, ("SCHEDULED", "SUCCEEDED", "FAILED"))


def test_a_command_writes_all_answers_anew(stack, device, stream):
    things = [device() for _ in range(12)]
    stream(False)
    versions = [make_request(stack, thing) for thing in things]
    assert all(stack.aws.answers(thing) == {} for thing in things)
    shown = lwm2m(stack, "rewrite-answers")
    assert int(shown.split()[3]) >= len(things)
    # The stream is still disabled.
    for thing, version in zip(things, versions, strict=True):
        stack.aws.last_word(thing, version, ("SCHEDULED", "SUCCEEDED", "FAILED"))


# ---------------------------------------------------------------- other messages, and the alarm


@pytest.mark.parametrize(
    ("attempts", "says"),
    [(0, "never ran (expired)"), (None, "never ran (expired)"), (2, "expired after 2 attempts")],
)
def test_an_event_that_expired_is_listed_as_such(stack, attempts, says):
    context = {"condition": "EventAgeExceeded", "functionArn": "a:b:c:d:e:function:f"}
    context |= {} if attempts is None else {"approximateInvokeCount": attempts}
    expired = {"operation": "read", "thingName": "waited-too-long", "version": 7}
    put(stack, {"version": "1.0", "requestContext": context, "requestPayload": expired})
    assert f"waits: waited-too-long read 7 {says}\n" in redrive(stack, "--dry-run")


@pytest.mark.parametrize("state", ["sleeping", "online"])
@pytest.mark.parametrize("is_time_known", [True, False], ids=["as the rule sent it", "without its time"])
def test_a_request_that_was_handled_is_not_sent_twice(stack, device, state, is_time_known):
    """It is not sent while it is at Coiote, nor when it has its last word."""
    thing = device(state)
    execute = {"operation": "execute", "keys": ["Device.0.Reboot"]}
    version = stack.aws.request(thing, execute)
    word = {"sleeping": "SCHEDULED", "online": "SUCCEEDED"}[state]
    stack.aws.last_word(thing, version, (word,))
    event = execute | {"thingName": thing, "version": version, "redriven": True}
    if is_time_known:
        event["timestamp"] = stack.aws.shadow(thing, "operation")["metadata"]["desired"]["operation"]["timestamp"]
    done = stack.aws.lambda_.invoke(FunctionName=stack.outputs["OperationRequestFunction"], Payload=json.dumps(event).encode())
    answer = json.loads(done["Payload"].read())
    assert answer.get("reason", {}).get("code") == "DUPLICATE" and f"is {word}" in answer["reason"]["message"], answer
    assert len(stack.coiote.tasks(thing)) == 1


def test_the_alarm_looks_at_this_queue(stack):
    [alarm] = stack.aws.cloudwatch.describe_alarms(AlarmNames=[f"{STACK_NAME}-failures"])["MetricAlarms"]
    queue = stack.outputs["FailureQueueUrl"].rsplit("/", 1)[1]
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": queue}]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    # Events in the queue may have failed, or may never have run.
    assert "failed in every attempt" in alarm["AlarmDescription"]
    assert "or expired in Lambda's own queue" in alarm["AlarmDescription"]
