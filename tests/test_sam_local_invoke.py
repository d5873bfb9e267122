"""`make invoke`: a function on a sample event, in a container as `sam local invoke` makes it."""

import json
import subprocess
import time

import pytest

import invoke
from test_events import ANNOUNCED, ERRORS, EVENTS, FOLDED, REFUSED, SENT

needs_engine = pytest.mark.skipif(not invoke.engine(), reason="no Docker engine answers here")

# One of each outcome, of each function. `for event in events/*.json; do make invoke EVENT=$event; done` runs all of them.
INVOKED = [
    *("read", "execute", "mistake-no-keys", "unknown-device", "mistake-no-thing-name"),
    *("response-read", "response-failed-keys", "device-announced", "mistake-announced-name"),
]


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


@needs_engine
@pytest.mark.parametrize("name", INVOKED)
def test_a_sample_event_ends_as_its_name_says(kept, tmp_path, name):
    event = json.loads((EVENTS / f"{name}.json").read_text())
    if "version" in event:
        # Another request than the one that other tests have made of it
        event["version"] += 10_000
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(event))

    done = invoke.invoke(kept, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180)

    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    answer = json.loads(lines[-1])
    answer |= {"reason": answer["reason"]["code"]} if "reason" in answer else {}
    assert promised(name).items() <= answer.items(), answer


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
