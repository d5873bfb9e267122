"""Demo of the whole chain on this machine: a device appears; a write and a read, with evidence of each of their eight steps; a
notification; outcomes that a device decides; a request that is canceled; a job over a group of devices; and at the end nothing is
left."""

import argparse
import json
import os
import time
from datetime import datetime, timezone

from stack.aws import LAST_WORDS
from stack.deployment import STACK_NAME
from stack.local_stack import ROOT, USER_SECRET_NAME, LocalStack
from stack.processes import Failure, run_command, wait_for

THING = "demo-thermometer"
WRITTEN = {"LwM2M Server.1.Lifetime": 68, "Device.0.UTC Offset": "+02:00"}
WRITE = {"operation": "write", "keys": list(WRITTEN), "values": list(WRITTEN.values())}
READ = {"operation": "read", "keys": list(WRITTEN)}
REBOOT = {"operation": "execute", "keys": ["Device.0.Reboot"]}
SLEEPER = "demo-sleeper"
REFUSER = "demo-valve"
GROUP = "demo-fleet"
OFFSET = "Device.0.UTC Offset"
BATTERY = "Device.0.Battery Level"
OBSERVE = {"operation": "observe", "keys": [BATTERY], "attributes": [{"lt": 20}]}


def client_token(desired: dict) -> str:
    return f"demo-{desired['operation']}"


def invocation_began(last_line: dict) -> float:
    """Time at which the invocation began, by its last log line."""
    ended = datetime.fromisoformat(last_line["timestamp"].replace("Z", "+00:00")).timestamp()
    return ended - last_line["duration_ms"] / 1000


class Story:
    """Prints the steps of one request as they happen, with the time since the request was written."""

    def __init__(self, stack: LocalStack):
        self._stack = stack
        self._started = 0.0

    def show(self, title: str, desired: dict) -> None:
        stack, outputs = self._stack, self._stack.outputs
        print(f"\n{title}")
        self._started = time.time()
        version = stack.aws.request(THING, desired, client_token=client_token(desired))
        self._step(1, "The request is in the operation shadow", self._started)
        self._evidence("desired", json.dumps(desired))
        self._evidence("shadow version", version)

        created = stack.aws.log_line(outputs["OperationRequestLogGroup"], "request scheduled", version=version)
        self._step(2, f"Rule {outputs['OperationRequestRule']} invokes Lambda, which claims it in the ledger", invocation_began(created))
        self._evidence("function", outputs["OperationRequestFunction"])
        self._evidence("invocation", created["request_id"])

        self._step(3, "The function hands it to Coiote, which schedules a task and starts a session", created)
        self._evidence("task template", created["template"])
        self._evidence("task", created["task_id"])

        task = stack.coiote.task(THING, created["task_id"])
        report = task["report"]
        self._step(4, "Coiote talks to the device", report["startTime"])
        for parameter in task["parameters"]:
            self._evidence(parameter["name"], parameter["value"])
        self._step(5, "The device answers", report["finishTime"])
        self._evidence("task report", f"{report['status']}: {report['summary']}")

        update = wait_for("AWS to accept Coiote's report", lambda: self._accepted_update(created["task_id"]))
        self._step(6, "Coiote writes the result into the operation shadow", update.get("at"))
        self._evidence("reported", json.dumps(update["payload"]["state"]["reported"]))
        self._evidence("shadow version", update["version"])

        group = outputs["OperationResponseLogGroup"]
        folded = stack.aws.log_line(group, "result folded", result_version=update["version"])
        self._step(7, f"Rule {outputs['OperationResponseRule']} invokes Lambda", folded)
        self._evidence("function", outputs["OperationResponseFunction"])
        self._evidence("invocation", folded["request_id"])

        answer = stack.aws.last_word(THING, version)
        datamodel = stack.aws.shadow(THING, "datamodel")
        self._step(8, "The datamodel shadow holds the result", folded)
        self._evidence("reported", json.dumps(datamodel["state"]["reported"]))
        self._evidence("shadow version", datamodel["version"])
        self._evidence("and the request's answer", json.dumps(answer))

    def _accepted_update(self, task_id: str) -> dict | None:
        update = self._stack.coiote.task(THING, task_id)["shadowUpdate"]
        if update["status"] == "rejected":
            raise Failure(f"AWS IoT did not accept the result: {update['message']}")
        return update if update["status"] == "accepted" else None

    def _step(self, number: int, what: str, when: float | str | dict | None) -> None:
        print(f"  {number}. {self._elapsed(when):>8}  {what}", flush=True)

    def _elapsed(self, when: float | str | dict | None) -> str:
        if isinstance(when, dict):
            when = when["timestamp"]
        if isinstance(when, str):
            when = datetime.fromisoformat(when.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp()
        return f"{max(0, (when or time.time()) - self._started) * 1000:.0f} ms"

    @staticmethod
    def _evidence(name: str, value: object) -> None:
        print(f"                 {name}: {value}")


def show_the_new_thing(stack: LocalStack) -> None:
    """Shows the thing of a device that Coiote has announced, with the certificate that the stack gave it."""
    print("\nTHE DEVICE APPEARS")
    integration = stack.coiote.integration()
    print(f"  Coiote connects to IoT Core with the certificate {integration['externalCertificate']}")
    group = stack.outputs["CreateThingLogGroup"]
    line = stack.aws.log_line(group, "the thing is there", thing=THING)
    thing = stack.aws.iot.describe_thing(thingName=THING)
    print(f"  thing        {thing['thingName']}, {line['status']} by {stack.outputs['CreateThingFunction']}")
    print(f"  thing type   {thing['thingTypeName']}")
    print(f"  attributes   {json.dumps(thing['attributes'])}")
    for name in (None, "operation", "datamodel"):
        shadow = wait_for(f"the {name or 'classic'} shadow", lambda name=name: shadow_if_there(stack, name))
        print(f"  {name or 'classic':<12} {json.dumps(shadow.get('state', {}).get('reported', {}))}")


def shadow_if_there(stack: LocalStack, name: str | None) -> dict | None:
    shadow = stack.aws.shadow(THING, name)
    # The operation shadow is empty to begin with.
    return shadow if shadow and (name == "operation" or "state" in shadow) else None


def show_a_notification(stack: LocalStack) -> None:
    print("\nOBSERVE")
    answer = show_an_outcome(stack, THING, OBSERVE)
    if answer["status"] != "SUCCEEDED":
        raise Failure(f"the device was not observed: {json.dumps(answer)}")
    print("  the battery of the device drains")
    stack.coiote.set_values(THING, {BATTERY: "25"})
    stack.coiote.set_values(THING, {BATTERY: "19"})

    def notified() -> bool:
        return stack.aws.reported(THING, "datamodel").get("Device", {}).get("0", {}).get("Battery Level") == "19"

    wait_for("the notification to be in the datamodel shadow", notified)
    print(f"  and below 20 a notification is in the datamodel shadow: {BATTERY} 19")


def show_an_outcome(stack: LocalStack, thing: str, desired: dict, words: tuple[str, ...] = LAST_WORDS) -> dict:
    print(f"  {thing}, desired: {json.dumps(desired)}", flush=True)
    answer = stack.aws.last_word(thing, stack.aws.request(thing, desired), words)
    print(f"    answer: {json.dumps(answer)}", flush=True)
    return answer


def show_outcomes(stack: LocalStack) -> None:
    """Shows the outcomes, by Coiote's reports, of requests whose results are in no shadow."""
    print("\nOUTCOMES")
    print("  the links of a discover")
    expect(show_an_outcome(stack, THING, {"operation": "discover", "keys": ["Device.0"]}), "SUCCEEDED")
    print("  a device that refuses")
    stack.coiote.refuse(THING, {"Device.0.Reboot": "4.05 Method Not Allowed"})
    expect(show_an_outcome(stack, THING, REBOOT), "FAILED")
    stack.coiote.refuse(THING, {})
    print("\nA DEVICE THAT SLEEPS")
    version = stack.aws.request(SLEEPER, REBOOT)
    print(f"  {SLEEPER}, desired: {json.dumps(REBOOT)}")
    print(f"    answer: {json.dumps(stack.aws.last_word(SLEEPER, version, ('SCHEDULED',)))}")
    print("  it is taken back before the device has run it")
    expect(show_an_outcome(stack, SLEEPER, {"operation": "cancelRequest", "requests": [version]}), "SUCCEEDED")
    expect(stack.aws.answers(SLEEPER)[str(version)], "CANCELED")
    print("  another one waits until the device wakes")
    version = stack.aws.request(SLEEPER, READ)
    print(f"  {SLEEPER}, desired: {json.dumps(READ)}")
    print(f"    answer: {json.dumps(stack.aws.last_word(SLEEPER, version, ('SCHEDULED',)))}")
    stack.coiote.set_state(SLEEPER, "online")
    answer = stack.aws.last_word(SLEEPER, version)
    print(f"  it wakes\n    answer: {json.dumps(answer)}")
    expect(answer, "SUCCEEDED")


def show_a_job(stack: LocalStack) -> None:
    """Shows a job that writes to a group of devices, of which one is asleep and one refuses the value."""
    print("\nA JOB FOR A FLEET")
    jobs = stack.jobs
    jobs.switch_events_on()
    stack.coiote.add_device(REFUSER)
    stack.aws.log_line(stack.outputs["CreateThingLogGroup"], "the thing is there", thing=REFUSER)
    stack.coiote.refuse(REFUSER, {OFFSET: "4.00 Bad Request"})
    stack.coiote.set_state(SLEEPER, "sleeping")
    things = [THING, SLEEPER, REFUSER]
    document = {"lwm2m": {"operation": "write", "keys": [OFFSET], "values": ["+01:00"]}}
    target = jobs.group(GROUP, things)
    print(f"  thing group {GROUP}: {', '.join(things)}\n  job document: {json.dumps(document)}")
    job, started, shown = jobs.create([target], document), time.time(), None

    def show_until(counts: dict[str, int]) -> None:
        def is_there() -> bool:
            nonlocal shown
            if (now := jobs.counts(job)) != shown:
                print(f"    {(time.time() - started) * 1000:>6.0f} ms  {json.dumps(now)}", flush=True)
                shown = now
            return now == counts

        wait_for(f"the job's executions to be {counts}", is_there)

    show_until({"IN_PROGRESS": 1, "SUCCEEDED": 1, "FAILED": 1})
    print(f"  {SLEEPER} wakes", flush=True)
    stack.coiote.set_state(SLEEPER, "online")
    show_until({"SUCCEEDED": 2, "FAILED": 1})
    for thing in things:
        execution = jobs.execution(job, thing)
        print(f"  {thing:<17} {execution['status']:<10} {json.dumps(execution['details'])}")
    print(f"  the job is {wait_for('the job to end', lambda: final_status(jobs.describe(job)))}")


def final_status(job: dict) -> str | None:
    return job["status"] if job["status"] != "IN_PROGRESS" else None


def expect(answer: dict, status: str) -> None:
    if answer["status"] != status:
        raise Failure(f"{status} was expected: {json.dumps(answer)}")


# Fields of log lines that all lines of an invocation have, or that are of no use to a reader
FIELDS_NOT_SHOWN = {"timestamp", "level", "message", "name", "request_id", "thing", "version", "client_token", "operation"}


def show_the_story(stack: LocalStack, desired: dict) -> None:
    """Shows the log lines of one request, as an operator finds them by its client token."""
    token = client_token(desired)
    groups = [stack.outputs[f"{function}LogGroup"] for function in ("OperationRequest", "OperationResponse")]
    for group, last in zip(groups, ("request scheduled", "result folded"), strict=True):
        stack.aws.log_line(group, last, client_token=token)
    lines = [(group, line) for group in groups for line in stack.aws.log_lines(group) if line.get("client_token") == token]
    print(f"\nTHE STORY OF ONE REQUEST, as the logs tell it: client_token = {token}")
    of_request = lines[0][1]
    print(f"  thing {of_request['thing']}, version {of_request['version']}, operation {of_request['operation']}")
    for group, line in sorted(lines, key=lambda found: found[1]["timestamp"]):
        hidden = FIELDS_NOT_SHOWN | metrics_in(line)
        more = " ".join(f"{name}={value}" for name, value in line.items() if name not in hidden)
        print(f"  {line['timestamp'][11:23]} {line['level']:<5} {group.rpartition('/')[2]:<33} {line['message']:<26} {more}")


def metrics_in(line: dict) -> set[str]:
    """Fields of a log line that are metrics, or describe them."""
    described = line.get("_aws", {}).get("CloudWatchMetrics", [])
    return {"_aws"} | {metric["Name"] for metrics in described for metric in metrics["Metrics"]}


def delete(stack: LocalStack) -> None:
    """Deletes the stack, which has to remove everything that it made, at AWS and at Coiote."""
    stack.delete()
    integration = stack.coiote.integration()
    left = {
        "certificates at IoT Core": stack.aws.iot.list_certificates()["certificates"],
        "policies at IoT Core": stack.aws.iot.list_policies()["policies"],
        "rules": stack.aws.iot.list_topic_rules()["rules"],
        "job templates": stack.aws.iot.list_job_templates()["jobTemplates"],
        "functions": stack.aws.lambda_.list_functions()["Functions"],
        "log groups": [g for g in stack.aws.logs.describe_log_groups()["logGroups"] if STACK_NAME in g["logGroupName"]],
        "alarms": stack.aws.cloudwatch.describe_alarms()["MetricAlarms"],
        "dashboards": stack.aws.cloudwatch.list_dashboards()["DashboardEntries"],
        "queues": stack.aws.sqs.list_queues().get("QueueUrls", []),
        "tables": stack.aws.dynamodb.list_tables()["TableNames"],
        "secrets": [s["Name"] for s in stack.aws.secrets.list_secrets()["SecretList"] if s["Name"] != USER_SECRET_NAME],
        "certificates at Coiote": [c for c in integration["clientCertificates"] + [integration["externalCertificate"]] if c],
    }
    for what, found in left.items():
        if found:
            raise Failure(f"sam delete has left {what}: {json.dumps(found, default=str)}")
    print(f"\nsam delete has left nothing: no {', no '.join(left)}.")


def verify(stack: LocalStack) -> None:
    """Checks that the datamodel shadow and the device hold the written values."""
    for where, datamodel in (
        ("the datamodel shadow", stack.aws.reported(THING, "datamodel")),
        ("the device", stack.coiote.datamodel(THING)),
    ):
        for key, value in WRITTEN.items():
            object_name, instance, resource = key.split(".")
            found = datamodel.get(object_name, {}).get(instance, {}).get(resource)
            if found != str(value):
                raise Failure(f"{where} holds {found!r} for {key}; {str(value)!r} was written")


def show_how_to_go_on(stack: LocalStack) -> None:
    environment = " ".join(f"{name}={value}" for name, value in stack.aws.environment.items())
    path = f"{ROOT / 'target' / 'debug'}:{stack.deployment.environment['PATH'].split(os.pathsep)[0]}:$PATH"
    logs = stack.outputs["OperationRequestLogGroup"]
    print(f"""
It is still running. To go on by hand, in another terminal or this one:

  export {environment} PATH={path}

  lwm2m read {THING} Device.0
  lwm2m write {THING} "LwM2M Server.1.Lifetime=70" "Device.0.UTC Offset=+01:00"
  lwm2m requests {THING}

  # the log lines of the function, and of the local Coiote
  aws logs filter-log-events --log-group-name {logs} --query 'events[].[message]' --output text
  tail -f {stack.coiote.process.log}

  # a function on a sample event, without the rule, in a container as sam local invoke makes it (needs Docker)
  make invoke EVENT=events/read.json

  # the devices {", ".join(stack_devices(stack))} of the local Coiote; wake the sleeping one
  curl {stack.coiote.control}/devices
  curl -X POST {stack.coiote.control}/devices/demo-sleeper/state -H 'Content-Type: application/json' -d '{{"state": "online"}}'

  make stop    # ends it
""")


def stack_devices(stack: LocalStack) -> list[str]:
    return [device["endpoint"] for device in stack.coiote.devices()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end (make stop ends it)")
    parser.add_argument("--name", default="demo", help="names the folder below .local/run that it works in")
    arguments = parser.parse_args()

    started = time.monotonic()
    with LocalStack(arguments.name, makes_certificates=True, usual_ports=True) as stack:
        # The command line is for going on by hand: it takes longer to build than the demo takes to run.
        stack.deployment.build(*(["lwm2m"] if arguments.keep else []))
        stack.start()
        print("The local AWS and the local Coiote are running", flush=True)
        stack.deploy()
        show_the_new_thing(stack)
        story = Story(stack)
        story.show("WRITE", WRITE)
        story.show("READ", READ)
        verify(stack)
        show_a_notification(stack)
        show_outcomes(stack)
        print("\nBoth shadows at the end")
        for name in ("operation", "datamodel"):
            print(f"  {name}: {json.dumps(stack.aws.shadow(THING, name).get('state'), indent=2)}".replace("\n", "\n  "))
        show_the_story(stack, WRITE)
        show_a_job(stack)
        if not arguments.keep:
            delete(stack)
        print(f"\nThe datamodel shadow held what was written. The whole demo took {time.monotonic() - started:.0f} s.")
        if arguments.keep:
            show_how_to_go_on(stack)
            stack.keep()


if __name__ == "__main__":
    run_command(main)
