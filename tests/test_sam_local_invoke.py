"""`make invoke`: a function on a sample event, in a container as `sam local invoke` makes it."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

import invoke
from test_events import ANNOUNCED, ERRORS, EVENTS, FOLDED, REFUSED, SENT

needs_engine = pytest.mark.skipif(not invoke.engine(), reason="no Docker engine answers here")

# One of each outcome, of each function; with ALL_EVENTS=1 all of them, a container each, which takes minutes.
INVOKED = [
    *("read", "execute", "mistake-no-keys", "unknown-device", "mistake-no-thing-name"),
    *("response-read", "response-failed-keys", "device-announced", "mistake-announced-name"),
]
if os.environ.get("ALL_EVENTS"):
    INVOKED = sorted(path.stem for path in EVENTS.glob("*.json"))


@pytest.fixture(scope="module")
def kept(stack):
    return invoke.Kept(stack.run.name)


def function_of(name: str) -> str:
    if name in ERRORS:
        return ERRORS[name][0]
    return "OperationResponse" if name in FOLDED else "CreateThing" if name in ANNOUNCED else "OperationRequest"


def promised(name: str) -> dict:
    """What the function returns, as the file's name says."""
    if name in ERRORS:
        return {"errorType": ERRORS[name][1]}
    if name in ANNOUNCED:
        return {"thingName": ANNOUNCED[name][0]}
    if name in SENT:
        return {"status": "SCHEDULED"}
    status, code = (REFUSED.get(name) or FOLDED[name])[:2]
    return {"status": status} | ({"reason": code} if code else {})


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_an_event_is_for_the_function_whose_rule_passes_it_on(kept, name):
    assert kept.function_for(json.loads((EVENTS / f"{name}.json").read_text())) == function_of(name)


def kept_to(name: str, answer: dict) -> bool:
    answer = answer | ({"reason": answer["reason"]["code"]} if "reason" in answer else {})
    return promised(name).items() <= answer.items()


def test_each_file_is_a_request_of_its_own_and_again_a_second_delivery(kept, functions):
    """What the loop over all files sends, in a process each: neither order nor a file invoked anew makes it another outcome."""

    def sent(event: Path) -> dict:
        return functions[function_of(event.stem.removeprefix("event-"))].invoke(json.loads(event.read_text()))

    # Not in the order of their versions
    answers = {path.stem: sent(invoke.as_of_now(kept, path)) for path in sorted(EVENTS.glob("*.json"), reverse=True)}
    assert {name: answer for name, answer in answers.items() if not kept_to(name, answer)} == {}
    for name in ("read", "write", "execute", "create", "delete"):
        again = sent(invoke.as_last_time(kept, EVENTS / f"{name}.json"))
        assert (again["status"], again["reason"]["code"]) == ("IGNORED", "DUPLICATE")
        anew = sent(invoke.as_of_now(kept, EVENTS / f"{name}.json"))
        assert kept_to(name, anew), anew


@needs_engine
@pytest.mark.parametrize("name", INVOKED)
def test_a_sample_event_ends_as_its_name_says(kept, name):
    done = invoke.invoke(kept, EVENTS / f"{name}.json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180)

    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    assert kept_to(name, json.loads(lines[-1])), lines[-1]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        # As sam gives them where it has none
        ({"AWS_ACCESS_KEY_ID": "defaultkey", "AWS_SECRET_ACCESS_KEY": "defaultsecret"}, "AWS_ENDPOINT_URL: missing"),
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: missing"),
    ],
)
@pytest.mark.parametrize("name", ["read", "response-read", "device-announced"])
def test_without_a_local_stack_and_without_credentials_it_says_what_is_missing(environment_of, name, variables, says):
    # sam gives what the template leaves out as an empty text.
    function = environment_of(function_of(name), **{"AWS_ENDPOINT_URL": ""} | variables)
    begun = time.monotonic()
    result = function.invoke(json.loads((EVENTS / f"{name}.json").read_text()))
    assert time.monotonic() - begun < 5
    assert result["errorType"] == "NOT_SET_UP" and says in result["errorMessage"] and "make invoke" in result["errorMessage"]
