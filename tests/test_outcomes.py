"""Everything that happens by the clock: outcomes by Coiote's reports, timeouts, canceling, and recovery from an outage of Coiote.

Through the deployed template; `reconcile` runs by its schedule.
"""

import itertools
import json
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from urllib.parse import parse_qs, unquote

import pytest

from embedded_metrics import Metric, metrics
from passing_time import let_time_pass
from scripted_coiote import CREATE, SEARCH, SESSION, scripted_coiote
from stack.aws_between import Answer
from stack.deployment import STACK_NAME
from stack.processes import PATIENCE, wait_for

REBOOT = {"operation": "execute", "keys": ["Device.0.Reboot"]}
LIFETIME = "LwM2M Server.1.Lifetime"
HOUR = 3600


def final_answer(stack, thing: str, desired: dict, token: str | None = None) -> dict:
    return stack.aws.last_word(thing, stack.aws.request(thing, desired, token))


def open_request(stack, thing: str, desired: dict, status: str, token: str | None = None) -> int:
    version = stack.aws.request(thing, desired, token)
    stack.aws.last_word(thing, version, (status,))
    return version


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    "desired",
    [
        REBOOT,
        {"operation": "observe", "keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5}]},
        {"operation": "writeAttributes", "keys": ["Device.0.Battery Level"], "attributes": [{"pmin": 5}]},
        {"operation": "create", "keys": ["Portfolio.3.Identity.0"], "values": ["AVS"]},
        {"operation": "writeComposite", "keys": [LIFETIME], "values": [68]},
        {"operation": "observeComposite", "keys": ["Device.0.Battery Level"]},
        {"operation": "cancelObserveComposite", "keys": ["all"]},
    ],
    ids=lambda desired: desired["operation"],
)
def test_an_operation_without_a_result_succeeds_when_the_device_did_it(stack, device, desired):
    thing = device()
    answer = final_answer(stack, thing, desired)
    assert answer["status"] == "SUCCEEDED", answer
    assert [run["failed"] for run in stack.coiote.runs(thing, answer["taskId"])] == [[]]


def test_the_links_of_a_discover_are_in_its_answer(stack, device):
    thing = device()
    answer = final_answer(stack, thing, {"operation": "discover", "keys": ["Device.0"]})
    assert answer["status"] == "SUCCEEDED"
    assert "</3/0" in answer["properties"]["Device.0"], answer


def test_a_request_that_the_device_refuses_has_failed_with_its_message(stack, device):
    thing = device()
    stack.coiote.refuse(thing, {"Device.0.Reboot": "4.05 Method Not Allowed"})
    for desired, words in ((REBOOT, "4.05"), ({"operation": "observe", "keys": ["Portfolio.9"], "attributes": [{}]}, "no such object instance")):
        answer = final_answer(stack, thing, desired)
        assert (answer["status"], answer["reason"]["code"]) == ("FAILED", "DEVICE_REFUSED"), answer
        assert words in answer["reason"]["message"]


def test_deleted_instances_are_removed_from_the_datamodel_shadow(stack, device):
    thing = device()
    assert final_answer(stack, thing, {"operation": "read", "keys": ["Portfolio"]})["status"] == "SUCCEEDED"
    assert "5" in stack.aws.reported(thing, "datamodel")["Portfolio"]
    assert final_answer(stack, thing, {"operation": "delete", "keys": ["Portfolio.5"]})["status"] == "SUCCEEDED"
    wait_for("the instance to go", lambda: "5" not in stack.aws.reported(thing, "datamodel").get("Portfolio", {}))


def test_equal_tasks_share_an_id_and_each_request_has_its_own_report(stack, device):
    thing = device("sleeping")
    first = open_request(stack, thing, REBOOT, "SCHEDULED")
    stack.coiote.set_state(thing, "online")
    answer = stack.aws.last_word(thing, first)
    stack.coiote.set_state(thing, "sleeping")
    stack.coiote.refuse(thing, {"Device.0.Reboot": "4.05 Method Not Allowed"})
    second = open_request(stack, thing, REBOOT, "SCHEDULED")
    again = stack.aws.answers(thing)[str(second)]
    assert again["taskId"] == answer["taskId"], "Coiote runs the equal task again"
    # The report of the first request stays in the list.
    wait_for_looks(stack, 2)
    assert stack.aws.answers(thing)[str(second)]["status"] == "SCHEDULED"
    stack.coiote.set_state(thing, "online")
    assert stack.aws.last_word(thing, second)["reason"]["code"] == "DEVICE_REFUSED"
    assert stack.aws.answers(thing)[str(first)]["status"] == "SUCCEEDED"


def wait_for_looks(stack, number: int) -> None:
    """Waits until reconcile has run so many more times."""

    def looks() -> int:
        return sum(line.get("message") == "reconciled" for line in stack.aws.log_lines(stack.outputs["ReconcileLogGroup"]))

    seen = looks()
    wait_for("reconcile to look again", lambda: looks() >= seen + number)


def test_a_missing_result_is_in_the_answer_a_minute_after_the_report(stack, device):
    thing = device()
    stack.coiote.set_faults({"results": {"lost": 1.0}})
    try:
        version = open_request(stack, thing, {"operation": "read", "keys": ["Device.0"]}, "SCHEDULED")
        wait_for("the report to be known", lambda: '"g":' in state_in_ledger(stack, thing))
    finally:
        stack.coiote.set_faults({})
    let_time_pass(stack, thing, 61)
    answer = stack.aws.last_word(thing, version)
    assert (answer["status"], answer["reason"]["code"]) == ("FAILED", "RESULT_NOT_STORED")


def state_in_ledger(stack, thing: str) -> str:
    key = {"thing": {"S": thing}, "entry": {"S": "device"}}
    item = stack.aws.dynamodb.get_item(TableName=stack.outputs["RequestsTable"], Key=key, ConsistentRead=True)
    return item.get("Item", {}).get("state", {}).get("S", "").replace('": ', '":')


# ---------------------------------------------------------------- timeouts and canceling


def test_a_request_that_no_device_ran_in_its_lifetime_is_timed_out_and_its_task_gone(stack, device):
    thing = device("sleeping")
    version = open_request(stack, thing, REBOOT, "SCHEDULED")
    task = stack.aws.answers(thing)[str(version)]["taskId"]
    let_time_pass(stack, thing, 168 * HOUR + 1)
    assert stack.aws.last_word(thing, version)["status"] == "TIMED_OUT"
    stack.coiote.set_state(thing, "online")
    assert task not in [t["id"] for t in stack.coiote.tasks(thing) if t["status"] != "removed"]
    # A later request is run, so this one would have been, too.
    assert final_answer(stack, thing, {"operation": "read", "keys": [LIFETIME]})["status"] == "SUCCEEDED"
    assert [part["key"] for run in stack.coiote.runs(thing) for part in run["done"]] == [LIFETIME], "the read alone"


def test_a_lost_report_is_requested_on_its_own(stack, device):
    thing = device()
    stack.coiote.set_faults({"reports": {"unlisted": 1.0}})
    try:
        version = open_request(stack, thing, REBOOT, "SCHEDULED")
        wait_for("the device to have run it", lambda: stack.coiote.runs(thing))
        let_time_pass(stack, thing, 61)
        assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
    finally:
        stack.coiote.set_faults({})


def test_a_device_that_could_not_be_woken_is_woken_a_minute_later(stack, device):
    thing = device()
    with_attributes = {"operation": "observeComposite", "keys": [LIFETIME], "attributes": [{"pmin": 5}]}
    stack.coiote.set_faults({"routes": {"POST /sessions/{deviceId}/allow-deregistered": 503}})
    try:
        versions = [open_request(stack, thing, desired | {"attributes": desired.get("attributes")}, "SCHEDULED") for desired in (REBOOT, with_attributes)]

        def are_told() -> list[str] | None:
            answers = stack.aws.answers(thing)
            codes = [answers[str(version)].get("reason", {}).get("code") for version in versions]
            return codes if all(codes) else None

        assert wait_for("the authors to be told", are_told) == ["SESSION_NOT_STARTED", "ATTRIBUTES_IGNORED"]
        assert stack.coiote.runs(thing) == []
    finally:
        stack.coiote.set_faults({})
    let_time_pass(stack, thing, 61)
    rebooted, observed = [stack.aws.last_word(thing, version) for version in versions]
    assert (rebooted["status"], rebooted.get("reason")) == ("SUCCEEDED", None)
    assert (observed["status"], observed["reason"]["code"]) == ("SUCCEEDED", "ATTRIBUTES_IGNORED")
    assert len(stack.coiote.runs(thing)) == 2, "each ran once"


def test_a_device_that_is_quicker_than_coiotes_201_has_done_it(stack, device):
    thing = device("sleeping")
    stack.coiote.set_faults({"slowBy": 2.1, "routes": {"POST /tasksFromTemplates/device/{deviceId}": "slow"}})
    try:
        version = stack.aws.request(thing, REBOOT)
        wait_for("Coiote to have the task", lambda: stack.coiote.tasks(thing))
        # It runs the task a second and more before the `Date` of the 201.
        stack.coiote.set_state(thing, "online")
        [run] = wait_for("the device to have run it", lambda: stack.coiote.runs(thing))
        assert str(version) not in stack.aws.answers(thing) or stack.aws.answers(thing)[str(version)]["status"] == "IN_PROGRESS"
        assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
        assert run["done"] and stack.aws.answers(thing)[str(version)]["taskId"] == run["taskId"]
    finally:
        stack.coiote.set_faults({})


BROKEN, AWAY = (500, {"message": "broken", "code": 5000}), (503, {"message": "maintenance", "code": 5030})
NOT_RUN, GONE = (404, {"message": "it has not run", "code": 4041}), (204, None)


def scheduled(function, thing: str) -> None:
    request = {"operation": "discover", "keys": [LIFETIME], "thingName": thing, "version": 1, "timestamp": int(time.time())}
    assert function.invoke(request)["status"] == "SCHEDULED"


def test_a_report_that_coiote_fails_to_give_is_requested_again_a_minute_later(stack, device, environment_of, own_ledger):
    thing = device("sleeping")
    done = {"taskId": "d:task:1", "deviceId": "d:1", "status": "Success", "startTime": "2100-01-01T00:00:00Z"}
    # A call is tried three times.
    single = [BROKEN] * 3 + [(200, done)]
    with scripted_coiote(stack.authority, {"GET /taskReports/findSince": (200, []), "GET /taskReports/": single}) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        scheduled(environment_of("OperationRequest", **variables), thing)
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)
        for ended in (0, 1):
            let_time_pass(stack, thing, 61, own_ledger.table)
            assert reconcile.invoke({})["ended"] == ended


@pytest.mark.parametrize(
    ("report", "removal", "runs"),
    [
        ((400, {"message": "no such thing", "code": 4000}), GONE, 1),
        (BROKEN, GONE, 3),
        (NOT_RUN, BROKEN, 3),
        (BROKEN, BROKEN, 5),
    ],
    ids=["report refused", "no report", "no removal", "neither"],
)
def test_a_task_at_which_coiote_always_fails_ends_with_its_lifetime(stack, device, environment_of, own_ledger, report, removal, runs):
    thing = device("sleeping")
    answers = {"GET /taskReports/findSince": (200, []), "GET /taskReports/": report, "DELETE /tasks/": removal}
    with scripted_coiote(stack.authority, answers) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        scheduled(environment_of("OperationRequest", **variables), thing)
        let_time_pass(stack, thing, 168 * HOUR, own_ledger.table)
        reconcile, ended = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables), []
        for _ in range(runs):
            ended.append(reconcile.invoke({})["ended"])
            let_time_pass(stack, thing, 61, own_ledger.table)
    assert ended == [0] * (runs - 1) + [1]


def test_a_device_is_woken_once_for_all_its_requests(stack, device, environment_of, own_ledger):
    thing = device("sleeping")
    answers = {"GET /taskReports/findSince": (200, []), "GET /taskReports/": NOT_RUN, SESSION: (409, {"message": "no", "code": 4090})}
    with scripted_coiote(stack.authority, answers) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        function = environment_of("OperationRequest", **variables)
        for version in (1, 2, 3):
            request = {"operation": "discover", "keys": [f"Portfolio.{version}"], "thingName": thing, "version": version}
            answer = function.invoke(request | {"timestamp": int(time.time())})
            assert answer["reason"]["code"] == "SESSION_NOT_STARTED"
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)

        def sessions_after(seconds: float) -> list[str]:
            before = len(script.asked)
            let_time_pass(stack, thing, seconds, own_ledger.table)
            reconcile.invoke({})
            return [asked for asked in script.asked[before:] if asked.startswith("POST /sessions/")]

        def reasons() -> list[str | None]:
            key = {"thing": {"S": thing}, "entry": {"S": "device"}}
            item = stack.aws.dynamodb.get_item(TableName=own_ledger.table, Key=key, ConsistentRead=True)["Item"]
            return [record.get("e", {}).get("code") for record in json.loads(item["state"]["S"])["o"]]

        assert sessions_after(61) == [SESSION]
        # It was removed and added again with another id, and the call for that one fails as often as it is tried.
        again = SESSION.replace("d%3A1", "d%3A2")
        script.answers.update({SESSION: NOT_RUN, SEARCH: (200, ["d:2"]), again: AWAY})
        first, *tries = sessions_after(10 * 60)
        assert first == SESSION and tries and set(tries) == {again}
        assert reasons() == ["SESSION_NOT_STARTED"] * 3
        script.answers[again] = (200, None)
        assert sessions_after(50 * 60) == [again]
        assert reasons() == [None] * 3


def test_devices_whose_session_calls_always_fail_take_no_wake_up_from_others(stack, device, environment_of, own_ledger):
    *failing, other = things = [device("sleeping") for _ in range(3)]
    ids = {thing: f"d:{number}" for number, thing in enumerate(things, 1)}
    sessions = {thing: f"POST /sessions/d%3A{number}/" for number, thing in enumerate(things, 1)}

    def found() -> tuple[int, list[str]]:
        return 200, [device_id for thing, device_id in ids.items() if thing in unquote(script.asked[-1])]

    answers = {SEARCH: found, "POST /tasksFromTemplates/": (201, "d:task:1"), "GET /taskReports/findSince": (200, []), "GET /taskReports/": NOT_RUN}
    with scripted_coiote(stack.authority, answers | dict.fromkeys(sessions.values(), AWAY)) as script:
        del script.answers[SESSION]
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        function = environment_of("OperationRequest", **variables)
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", REQUEST_CONCURRENCY="1", **variables)

        def is_told_that_it_sleeps(thing: str, version: int) -> bool:
            request = {"operation": "discover", "keys": [f"Portfolio.{version}"], "thingName": thing, "version": version}
            return function.invoke(request | {"timestamp": int(time.time())})["reason"]["code"] == "SESSION_NOT_STARTED"

        def woken_after(times: dict[str, float]) -> list[str]:
            """Runs reconcile when these times have passed, and returns the things that it tried to wake, each once."""
            before = len(script.asked)
            for thing, seconds in times.items():
                let_time_pass(stack, thing, seconds, own_ledger.table)
            reconcile.invoke({})
            tried = (thing for asked in script.asked[before:] for thing, session in sessions.items() if asked.startswith(session))
            return list(dict.fromkeys(tried))

        assert all(is_told_that_it_sleeps(thing, 1) for thing in failing)
        for version, minutes in enumerate((1, 10, 50), 1):
            script.answers[sessions[other]] = AWAY
            assert is_told_that_it_sleeps(other, version)
            script.answers[sessions[other]] = (200, None)
            # Those that fail are due before the other one.
            tried = woken_after({thing: 60 * minutes + 30 for thing in failing} | {other: 61})
            if version < 3:
                assert tried == failing
                assert woken_after({other: 301}) == [other], "its call was not made, so it is still due"
            else:
                assert tried == things, "Coiote fails at these alone"


def test_the_last_look_before_a_removal_is_at_the_device_as_it_is_now(stack, device, environment_of, own_ledger):
    thing = device("sleeping")
    done = {"taskId": "d:task:1", "deviceId": "d:2", "status": "Success", "startTime": "2100-01-01T00:00:00Z"}
    reports = {"GET /taskReports/findSince": (200, []), "GET /taskReports/d%3Atask%3A1/d%3A2": (200, done), "GET /taskReports/": NOT_RUN}
    with scripted_coiote(stack.authority, reports | {"DELETE /tasks/": GONE}) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        scheduled(environment_of("OperationRequest", **variables), thing)
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)
        let_time_pass(stack, thing, 61, own_ledger.table)
        assert reconcile.invoke({})["ended"] == 0
        # The device was removed and added again meanwhile, and has done it.
        script.answers[SEARCH] = (200, ["d:2"])
        let_time_pass(stack, thing, 168 * HOUR, own_ledger.table)
        assert reconcile.invoke({})["ended"] == 1
        assert not any(asked.startswith("DELETE") for asked in script.asked)


def test_an_outage_ends_no_request_and_delays_none_when_it_is_over(stack, device, environment_of, own_ledger):
    over, canceled, *others = things = [device("sleeping") for _ in range(5)]
    answers = {"GET /taskReports/findSince": (200, []), "GET /taskReports/": NOT_RUN, "DELETE /tasks/": GONE}
    with scripted_coiote(stack.authority, answers) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        function = environment_of("OperationRequest", **variables)
        for thing in things:
            scheduled(function, thing)
        cancel = {"operation": "cancelRequest", "requests": [1], "thingName": canceled, "version": 2, "timestamp": int(time.time())}
        assert function.invoke(cancel)["status"] == "IN_PROGRESS"
        let_time_pass(stack, over, 168 * HOUR, own_ledger.table)
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)

        def reconcile_after(minutes: int) -> dict:
            for thing in things:
                let_time_pass(stack, thing, 60 * minutes + 1, own_ledger.table)
            return reconcile.invoke({})

        healthy = dict(script.answers)
        script.answers.update(dict.fromkeys(healthy, AWAY))
        for _ in range(6):
            assert reconcile_after(minutes=1)["ended"] == 0
        script.answers.update(healthy)
        before = len(script.asked)
        # The cancelRequest ends as well.
        assert reconcile_after(minutes=5)["ended"] == 3
        asked = Counter(asked.partition("/d%3A")[0] for asked in script.asked[before:] if "findSince" not in asked)
        assert (asked["GET /taskReports"], asked["DELETE /tasks"]) == (len(things), 2), asked


def test_a_device_whose_report_takes_long_delays_no_other(stack, device, environment_of, own_ledger):
    things = [device("sleeping") for _ in range(4)]
    # It lets all through at once, or none.
    together, outcomes = threading.Barrier(len(things), timeout=20), []

    def no_report() -> tuple[int, dict]:
        try:
            together.wait()
        except threading.BrokenBarrierError:
            return 503, {"message": "not together", "code": 5030}
        outcomes.append(404)
        return 404, {"message": "it has not run", "code": 4041}

    answers = {"GET /taskReports/findSince": (200, []), "GET /taskReports/": no_report}
    with scripted_coiote(stack.authority, answers) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        function = environment_of("OperationRequest", **variables)
        for thing in things:
            request = {"operation": "read", "keys": [LIFETIME], "thingName": thing, "version": 1, "timestamp": int(time.time())}
            assert function.invoke(request)["status"] == "SCHEDULED"
            let_time_pass(stack, thing, 61, own_ledger.table)
        assert environment_of("Reconcile", RECONCILE_SECONDS="1", **variables).invoke({})["lookedAt"] == len(things)
    assert outcomes == [404] * len(things), "they were asked for one after the other"


def test_a_cancel_request_cancels_requests_that_no_device_has_run_and_lists_each(stack, device):
    thing = device("sleeping")
    first = open_request(stack, thing, REBOOT, "SCHEDULED", "reboot it")
    second = open_request(stack, thing, {"operation": "write", "keys": [LIFETIME], "values": [99]}, "SCHEDULED")
    rejected = stack.aws.request(thing, {"operation": "read", "keys": ["Device.0.UTC Ofset"]})
    assert stack.aws.last_word(thing, rejected)["status"] == "REJECTED"
    version = stack.aws.request(thing, {"operation": "cancelRequest", "requests": ["reboot it", second, rejected, 999_999]})
    answer = stack.aws.last_word(thing, version)
    assert (answer["status"], answer["reason"]["code"]) == ("SUCCEEDED", "CANCEL_DONE"), answer
    assert f"{first}: CANCELED" in answer["reason"]["message"]
    assert f"{second}: CANCELED" in answer["reason"]["message"]
    assert f"{rejected}: keeps its word, REJECTED" in answer["reason"]["message"]
    assert "999999: not among" in answer["reason"]["message"]
    for canceled in (first, second):
        assert stack.aws.last_word(thing, canceled)["status"] == "CANCELED"
    group = stack.outputs["OperationRequestLogGroup"]
    waits = stack.aws.log_line(group, "request waits", thing=thing, version=version)
    of_invocation = [line for line in stack.aws.log_lines(group) if line.get("request_id") == waits["request_id"]]
    counted = {metric.name for metric in metrics(of_invocation, STACK_NAME)}
    assert (waits["level"], counted & {"Requests", "Failures"}) == ("INFO", {"Requests"}), "waiting for Coiote is no failure"
    stack.coiote.set_state(thing, "online")
    assert final_answer(stack, thing, {"operation": "read", "keys": [LIFETIME]})["status"] == "SUCCEEDED"
    assert [part["key"] for run in stack.coiote.runs(thing) for part in run["done"]] == [LIFETIME], "the read alone"


def test_a_number_names_a_version_and_a_text_a_client_token(stack, device):
    thing = device("sleeping")
    first = open_request(stack, thing, REBOOT, "SCHEDULED")
    second = open_request(stack, thing, REBOOT, "SCHEDULED", str(first))
    answer = final_answer(stack, thing, {"operation": "cancelRequest", "requests": [str(first)]})
    assert (answer["status"], answer["reason"]["message"]) == ("SUCCEEDED", f"{second}: CANCELED")
    stack.aws.last_word(thing, first, ("SCHEDULED",))
    answer = final_answer(stack, thing, {"operation": "cancelRequest", "requests": [first]})
    assert (answer["status"], answer["reason"]["message"]) == ("SUCCEEDED", f"{first}: CANCELED")


def test_a_request_that_a_device_has_run_keeps_its_status(stack, device):
    thing = device()
    ran = stack.aws.request(thing, {"operation": "read", "keys": [LIFETIME]})
    assert stack.aws.last_word(thing, ran)["status"] == "SUCCEEDED"
    answer = final_answer(stack, thing, {"operation": "cancelRequest", "requests": [ran]})
    assert f"{ran}: keeps its word, SUCCEEDED" in answer["reason"]["message"]


@pytest.mark.parametrize("requests", [None, [], [1.5], "17"])
def test_a_cancel_request_without_requests_is_rejected(stack, device, requests):
    answer = final_answer(stack, device(), {"operation": "cancelRequest"} | ({} if requests is None else {"requests": requests}))
    assert (answer["status"], answer["reason"]["code"]) == ("REJECTED", "REQUESTS_INVALID")


# ---------------------------------------------------------------- an outage


def last_metrics(stack) -> Counter:
    """Last values of reconcile's metrics, by name and dimensions."""
    found = metrics(stack.aws.log_lines(stack.outputs["ReconcileLogGroup"]), STACK_NAME)
    return Counter({" ".join([metric.name, *(value for _, value in metric.dimensions)]): values[-1] for metric, values in found.items()})


def test_requests_wait_while_coiote_is_away_and_are_handed_over_in_order_when_it_is_back(stack, device):
    things = [device() for _ in range(3)]
    stack.coiote.set_faults({"rate": 1.0, "kinds": ["unavailable"]})
    try:
        waiting = {
            thing: [open_request(stack, thing, {"operation": "write", "keys": [LIFETIME], "values": [value]}, "IN_PROGRESS")
                    for value in (1, 2, 3)]
            for thing in things
        }
        canceled = open_request(stack, things[0], REBOOT, "IN_PROGRESS", "never mind")
        final_answer(stack, things[0], {"operation": "cancelRequest", "requests": ["never mind"]})
        assert stack.aws.last_word(things[0], canceled)["status"] == "CANCELED"

        def reasons() -> set | None:
            codes = {stack.aws.answers(thing)[str(v)].get("reason", {}).get("code") for thing in things for v in waiting[thing]}
            # One that is being handed over, as a probe, has none.
            return None if None in codes else codes

        codes = wait_for("all to say what they wait for", reasons)
        assert codes <= {"COIOTE_UNAVAILABLE", "COIOTE_AWAY", "WAITS_FOR_OLDER_WRITE"}
        seen = wait_for("reconcile to count them", lambda: last_metrics(stack) if last_metrics(stack)["WaitingRequests"] >= len(things) else None)
        assert seen["ThingsWithOpenRequests"] >= seen["WaitingRequests"]
        assert seen["OldestOpenRequestAge"] >= seen["OldestOpenRequestAge IN_PROGRESS"] > 0
    finally:
        stack.coiote.set_faults({})
    wait_for("nothing to wait any more", lambda: last_metrics(stack)["WaitingRequests"] == 0)
    for thing, versions in waiting.items():
        for version in versions:
            assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"
        written = [part["value"] for run in stack.coiote.runs(thing) for part in run["done"]]
        assert written == ["1", "2", "3"]
        assert stack.aws.reported(thing, "datamodel")["LwM2M Server"]["1"]["Lifetime"] == "3"


def test_reconcile_measures_the_part_of_its_lifetime_that_a_request_has_used(stack, device, environment_of, own_ledger):
    """Also if its device is not due for long, and others that only have requests of jobs are due before it."""
    of_jobs, thing = [device("sleeping"), device("sleeping")], device("sleeping")
    variables, minute, now = own_ledger.environment | {"REQUEST_LIFETIME_HOURS": "3"}, 60, int(time.time())
    function = environment_of("OperationRequest", **variables)
    for number, name in enumerate(of_jobs):
        job = {"jobId": f"lifetime-{number}", "executionNumber": 1, "timestamp": now}
        assert function.invoke(REBOOT | job | {"thingName": name})["status"] == "SCHEDULED"
        let_time_pass(stack, name, 130 * minute, own_ledger.table)
    assert function.invoke(REBOOT | {"thingName": thing, "version": 1, "timestamp": now - 100 * minute})["status"] == "SCHEDULED"
    reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)
    # The report of each task is requested twice, and then not for 50 minutes.
    for _ in range(2):
        for name in [*of_jobs, thing]:
            let_time_pass(stack, name, 11 * minute, own_ledger.table)
        assert reconcile.invoke({})["lookedAt"] == 3
    assert reconcile.invoke({})["lookedAt"] == 0
    *_, used = metrics(reconcile.log_lines(), "coiote-aws-iot")[Metric.of("LifetimeUsed")]
    # 100 of 158 minutes, and the time that the test took
    assert 63 <= used <= 67


def test_many_things_with_open_requests_are_not_counted_each_minute(stack, environment_of, aws_between, own_ledger):
    many, in_a_year, counts = 1_000, (int(time.time()) + 365 * 24 * HOUR) * 1_000, Counter()
    for first in range(0, many, 25):
        items = [
            {"thing": {"S": f"counted-{number}"}, "entry": {"S": "device"}, "look": {"S": str(number % 4)}, "lookAt": {"N": str(in_a_year)}}
            for number in range(first, first + 25)
        ]
        stack.aws.dynamodb.batch_write_item(RequestItems={own_ledger.table: [{"PutRequest": {"Item": item}} for item in items]})

    def note_count(call) -> None:
        query = call.json()
        if query.get("Select") == "COUNT":
            counts[query["IndexName"]] += 1

    aws_between.always("Query", note_count)
    with scripted_coiote(stack.authority, {"GET /taskReports/findSince": (200, [])}) as script:
        reconcile = environment_of(
            "Reconcile", COIOTE_URL=script.url, RECONCILE_SECONDS="1", AWS_ENDPOINT_URL=aws_between.endpoint, **own_ledger.environment,
        )
        for _ in range(3):
            assert "errorType" not in reconcile.invoke({})
    assert counts == {"looks": 4, "handOvers": 12}, "each index has four parts"
    measured = metrics(reconcile.log_lines(), "coiote-aws-iot")
    assert measured[Metric.of("ThingsWithOpenRequests")] == [many] * 3
    assert measured[Metric.of("WaitingRequests")] == [0] * 3


def test_requests_of_all_devices_are_handed_over_oldest_first_after_an_outage(stack, device, environment_of, aws_between, own_ledger):
    things = [device() for _ in range(8)]
    answers = {"GET /taskReports/findSince": (200, []), "GET /devices": AWAY}
    with scripted_coiote(stack.authority, answers) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        function, made_at, handed_over = environment_of("OperationRequest", **variables), int(time.time()) - len(things), []
        for number, thing in enumerate(things):
            # The last one was made first.
            read = {"operation": "read", "keys": [LIFETIME], "thingName": thing, "version": 1, "timestamp": made_at - number}
            assert function.invoke(read)["status"] == "IN_PROGRESS"
        youngest = {"operation": "read", "keys": ["Device.0"], "thingName": things[-1], "version": 2, "timestamp": made_at + 1}
        assert function.invoke(youngest)["status"] == "IN_PROGRESS"

        def hand_over(call) -> Answer:
            answer = function.invoke(call.json())
            if answer["status"] == "SCHEDULED":
                handed_over.append((answer["thingName"], answer["request"]))
            return Answer(answer)

        aws_between.always("POST /2015-03-31", hand_over)
        reconcile = environment_of(
            "Reconcile", **variables, AWS_ENDPOINT_URL=aws_between.endpoint, OPERATION_REQUEST_FUNCTION="any",
            RECONCILE_SECONDS="1", REQUEST_CONCURRENCY="1",
        )
        for _ in range(2):
            ended = reconcile.invoke({})
            assert (ended["waiting"], ended["handedOver"], ended["coioteAway"]) == (len(things), 0, True)
        script.answers["GET /devices"] = (200, ["d:1"])
        ended = reconcile.invoke({})
        assert (ended["handedOver"], ended["coioteAway"]) == (len(things) + 1, False), ended
    assert handed_over == [*((thing, 1) for thing in reversed(things)), (things[-1], 2)]


@pytest.mark.parametrize("answer", [{"status": 403, "body": "{}"}, {"status": 404, "body": "{}"}, {"status": 200, "body": "garbage"}, {"status": 200, "body": "[{}]"}])
def test_reports_that_cannot_be_read_conclude_nothing(stack, device, answer):
    thing = device()
    stack.coiote.set_faults({"routes": {"GET /taskReports/findSince": answer}})
    try:
        version = open_request(stack, thing, REBOOT, "SCHEDULED")
        read = final_answer(stack, thing, {"operation": "read", "keys": [LIFETIME]})
        assert read["status"] == "SUCCEEDED"
        wait_for_looks(stack, 2)
        assert stack.aws.answers(thing)[str(version)]["status"] == "SCHEDULED"
    finally:
        stack.coiote.set_faults({})
    assert stack.aws.last_word(thing, version)["status"] == "SUCCEEDED"


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat().replace("+00:00", "Z")


def reports_of(seconds_ago: float, number: int = 1) -> tuple[int, list]:
    """Reports of an unknown task, all with the same time."""
    at = iso(int(time.time() - seconds_ago))
    report = {"taskId": "t", "deviceId": "nobody", "status": "Success", "startTime": at, "lastUpdateTime": at}
    return 200, [report] * number


# Most reports that Coiote returns in one call
FULL = 512


@pytest.mark.parametrize(
    # is_alarming: whether the reports of single tasks do not make up for it, so that the alarm counts it
    ("answers", "codes", "is_alarming"),
    [
        (lambda: [(403, {"message": "no", "code": 4030})], {"COIOTE_UNAUTHORIZED"}, True),
        (lambda: [(404, {"message": "no such path", "code": 4040})], {"REPORTS_NOT_FOUND"}, False),
        (lambda: [(200, b"garbage")], {"COIOTE_UNEXPECTED_ANSWER"}, True),
        (lambda: [(503, {"message": "maintenance", "code": 5030})], {"COIOTE_UNAVAILABLE"}, True),
        (lambda: [(200, [{}, *reports_of(5)[1], 7])], {"REPORT_NOT_UNDERSTOOD"}, False),
        (lambda: [(200, [{}, 7])], {"REPORT_NOT_UNDERSTOOD"}, True),
        # A full page, the same one as the next page, and the rest.
        (lambda: [reports_of(60, FULL), reports_of(60, FULL), reports_of(5)], {"REPORTS_OF_ONE_INSTANT"}, False),
        # A full page of reports that are older than requested.
        (lambda: [reports_of(3_600, FULL)], {"REPORTS_REPEATED"}, True),
        # The same page for every request.
        (lambda: [reports_of(60, FULL)], {"REPORTS_OF_ONE_INSTANT", "REPORTS_REPEATED"}, True),
        (lambda: [reports_of(60, FULL), reports_of(5)], set(), False),
    ],
    ids=[
        "forbidden", "not there", "no JSON", "away", "others among them", "no reports among them", "too many of one instant",
        "too old", "always the same", "two pages",
    ],
)
def test_reports_that_cannot_be_read_are_counted_and_logged_once_with_their_code(
    stack, environment_of, own_ledger, answers, codes, is_alarming,
):
    answers = answers()
    many = len(answers)
    with scripted_coiote(stack.authority, {"GET /taskReports/findSince": answers}) as script:
        reconcile = environment_of("Reconcile", COIOTE_URL=script.url, RECONCILE_SECONDS="1", **own_ledger.environment)
        for _ in range(2):
            assert "errorType" not in reconcile.invoke({})
        assert len(script.asked) > many, "the second run has asked as well"
    lines = reconcile.log_lines()
    logged = [line for line in lines if line.get("message", "").startswith("reports not read, or not all of them")]
    assert {line["code"] for line in logged} == codes and len(logged) == len(codes), logged
    assert all(line["level"] == "WARN" and line["reason"] for line in logged)
    # The alarm's metric has no code.
    counted = {Metric.of("ReportsUnread", code=code) for code in codes} | ({Metric.of("ReportsUnread")} if is_alarming else set())
    unread = {metric: values for metric, values in metrics(lines, "coiote-aws-iot").items() if metric.name == "ReportsUnread"}
    assert unread.keys() == counted
    if many == 1:
        assert all(len(values) == 2 for values in unread.values()), "both runs count"


def test_more_reports_than_a_read_takes_are_read_to_their_end_and_across_environments(stack, device, environment_of, own_ledger):
    """In the two minutes before the position there are more reports than a read takes, and the one that matters is the last."""
    thing, pages_of_a_read, position = device("sleeping"), 50, int(time.time()) - HOUR
    key = {"thing": {"S": "#coiote"}, "entry": {"S": "reports"}}
    stack.aws.dynamodb.put_item(TableName=own_ledger.table, Item=key | {"until": {"S": iso(position)}})
    times = range(position - 119, position - 49)
    second_read = times[pages_of_a_read]
    wanted = {"taskId": "d:task:1", "deviceId": thing, "status": "Success", "startTime": "2100-01-01T00:00:00Z", "lastUpdateTime": iso(position - 48)}
    asked_since = []

    def report(at: int) -> dict:
        return {"taskId": "t", "deviceId": "nobody", "status": "Success", "startTime": iso(at), "lastUpdateTime": iso(at)}

    def find_since() -> tuple[int, object]:
        """Reports of the next second, and the first one of the second after it, as Coiote gives them."""
        asked = next(asked for asked in reversed(script.asked) if "findSince" in asked)
        since = int(datetime.fromisoformat(parse_qs(asked.partition("?")[2])["lastUpdateTime"][0]).timestamp())
        asked_since.append(since)
        if is_interrupted and since >= second_read:
            return AWAY
        left = (report(at) for at in times if at >= since for _ in range(FULL - 1))
        return 200, list(itertools.islice(itertools.chain(left, [wanted]), FULL))

    is_interrupted = True
    with scripted_coiote(stack.authority, {"GET /taskReports/findSince": find_since}) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        scheduled(environment_of("OperationRequest", **variables), thing)
        first = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)
        assert first.invoke({}, seconds=120)["ended"] == 0
        assert asked_since[-1] == second_read, "the read that was too long is followed by another one at once"
        is_interrupted = False
        asked_since.clear()
        second = environment_of("Reconcile", RECONCILE_SECONDS="1", **variables)
        assert second.invoke({}, seconds=120)["ended"] == 1
        assert asked_since[0] == second_read
    too_many = Metric.of("ReportsUnread", code="REPORTS_TOO_MANY")
    counted, later = (metrics(environment.log_lines(), "coiote-aws-iot") for environment in (first, second))
    assert sum(counted[too_many]) == 1 and too_many not in later


def test_reports_of_several_things_are_saved_at_once_and_those_of_one_thing_in_turn(stack, device, environment_of, aws_between, own_ledger):
    things = sorted(device("sleeping") for _ in range(4))
    at = iso(int(time.time()) - 5)
    report = {"status": "Success", "startTime": "2100-01-01T00:00:00Z", "lastUpdateTime": at}
    both = [(things[0], "d:task:2"), *((thing, "d:task:1") for thing in things)]
    reports = [report | {"deviceId": thing, "taskId": task} for thing, task in both]
    # In their order, each once: a call that waits for the others is given up and made again.
    saved, are_begun = {}, threading.Event()

    def save(call):
        item = call.json()["Item"]
        if not item["entry"]["S"].startswith("request#"):
            return None
        saved.setdefault((item["thing"]["S"], item["entry"]["S"]))
        if {thing for thing, _ in list(saved)} == set(things):
            are_begun.set()
        return None if are_begun.is_set() else lambda: are_begun.wait(PATIENCE)

    answers = {"GET /taskReports/findSince": (200, reports), CREATE: [(201, "d:task:2"), (201, "d:task:1")]}
    with scripted_coiote(stack.authority, answers) as script:
        variables = {"COIOTE_URL": script.url, **own_ledger.environment}
        function = environment_of("OperationRequest", **variables)
        for version, thing in enumerate([things[0], *things], 1):
            request = {"operation": "discover", "keys": [LIFETIME], "thingName": thing, "version": version, "timestamp": int(time.time())}
            assert function.invoke(request)["status"] == "SCHEDULED"
        aws_between.always("PutItem", save)
        reconcile = environment_of("Reconcile", RECONCILE_SECONDS="1", AWS_ENDPOINT_URL=aws_between.endpoint, **variables)
        summary = reconcile.invoke({}, seconds=120)
        are_begun.set()
        assert summary.get("ended") == len(reports), f"one was given up before the last one began: {summary}"
    *first, last = [thing for thing, _ in saved]
    assert (sorted(first), last) == (things, things[0])


def test_a_request_whose_body_is_missing_is_logged_and_fails_in_the_end(stack, device):
    thing = device()
    function, table = stack.outputs["OperationRequestFunction"], stack.outputs["RequestsTable"]
    stack.coiote.set_faults({"rate": 1.0, "kinds": ["unavailable"]})
    try:
        version = open_request(stack, thing, REBOOT, "IN_PROGRESS")
        key = {"thing": {"S": thing}, "entry": {"S": f"body#{version}"}}
        wait_for("its content to be kept", lambda: "Item" in stack.aws.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True))
        stack.aws.dynamodb.delete_item(TableName=table, Key=key)
        let_time_pass(stack, thing, 60)
        message = "the body of a request that waits is missing; it is left alone"
        line = stack.aws.log_line(stack.outputs["ReconcileLogGroup"], message, thing=thing)
        assert (line["code"], line["request"], line["level"]) == ("BODY_MISSING", str(version), "WARN")
    finally:
        stack.coiote.set_faults({})

    def due() -> tuple:
        event = json.dumps({"thingName": thing, "due": str(version)})
        answer = json.loads(stack.aws.lambda_.invoke(FunctionName=function, Payload=event)["Payload"].read())
        return answer["status"], answer["reason"]["code"]

    # Its event may still be delivered once more.
    assert due() == ("IGNORED", "BODY_MISSING")
    let_time_pass(stack, thing, 10 * 60)
    assert due() == ("FAILED", "BODY_MISSING")
    assert stack.aws.last_word(thing, version)["reason"]["code"] == "BODY_MISSING"
    assert stack.coiote.tasks(thing) == []
