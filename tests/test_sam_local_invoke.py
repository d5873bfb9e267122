"""`make invoke`: a function with a sample event, in a container of `sam local invoke`."""

import contextlib
import http.client
import ipaddress
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.parse
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

import invoke
from stack.aws import REGION
from stack.local_stack import HOST_OF_CONTAINERS
from stack.loopback import Handler, serving
from stack.processes import Process, free_port, listens, wait_for
from test_events import ANNOUNCED, ERRORS, EVENTS, FOLDED, REFUSED, SENT

needs_engine = pytest.mark.skipif(not invoke.has_docker_engine(), reason="no Docker engine answers here")

# One event of each function runs in a container of its own, as by `make invoke`, which takes many seconds. The others share
# containers that are kept; with ALL_EVENTS=1 each has its own.
INVOKED = ["read", "response-read", "device-announced"]
EVERY_EVENT = sorted(path.stem for path in EVENTS.glob("*.json"))
if os.environ.get("ALL_EVENTS"):
    INVOKED = EVERY_EVENT


@pytest.fixture(scope="module")
def kept(stack):
    return invoke.KeptStack(stack.run.name)


def function_of(name: str) -> str:
    if name in ERRORS:
        return ERRORS[name][0]
    return "OperationResponse" if name in FOLDED else "CreateThing" if name in ANNOUNCED else "OperationRequest"


def expected_answer(name: str) -> dict:
    """Fields of the function's answer, by the file's name."""
    if name in ERRORS:
        return {"errorType": ERRORS[name][1]}
    if name in ANNOUNCED:
        return {"thingName": ANNOUNCED[name][0]}
    if name in SENT:
        return {"status": "SCHEDULED"}
    status, code = (REFUSED.get(name) or FOLDED[name])[:2]
    return {"status": status} | ({"reason": code} if code else {})


@pytest.mark.parametrize("name", EVERY_EVENT)
def test_an_event_is_for_the_function_whose_rule_passes_it_on(kept, name):
    assert kept.function_for(json.loads((EVENTS / f"{name}.json").read_text())) == function_of(name)


def is_as_expected(name: str, answer: dict) -> bool:
    answer = answer | ({"reason": answer["reason"]["code"]} if "reason" in answer else {})
    return expected_answer(name).items() <= answer.items()


def test_each_file_is_a_request_of_its_own_and_again_a_second_delivery(kept, functions):
    """Files have the same outcome in any order, and when they are invoked once more."""

    def sent(event: Path) -> dict:
        return functions[function_of(event.stem.removeprefix("event-"))].invoke(json.loads(event.read_text()))

    # In another order than that of their versions
    answers = {path.stem: sent(invoke.as_of_now(kept, path)) for path in sorted(EVENTS.glob("*.json"), reverse=True)}
    assert {name: answer for name, answer in answers.items() if not is_as_expected(name, answer)} == {}
    for name in ("read", "write", "execute", "create", "delete"):
        again = sent(invoke.as_last_time(kept, EVENTS / f"{name}.json"))
        assert (again["status"], again["reason"]["code"]) == ("IGNORED", "DUPLICATE")
        anew = sent(invoke.as_of_now(kept, EVENTS / f"{name}.json"))
        assert is_as_expected(name, anew), anew


# ---------------------------------------------------------------- the way from a container to the local stack


def test_a_container_is_given_every_address_under_the_name_that_it_has_for_this_machine(kept):
    for function in kept.functions():
        deployed = kept.variables(function)
        [given] = json.loads(kept.write_env_vars(function).read_text()).values()
        addresses = {name for name, value in deployed.items() if "://" in value}
        assert "AWS_ENDPOINT_URL" in addresses
        for name in addresses:
            before, after = urllib.parse.urlsplit(deployed[name]), urllib.parse.urlsplit(given[name])
            assert (after.hostname, after.port) == (HOST_OF_CONTAINERS, before.port), name
            assert after._replace(netloc=before.netloc) == before and before.port in kept.ports(function), name
        assert {name: value for name, value in given.items() if name not in addresses} == {
            name: value for name, value in deployed.items() if name not in addresses
        }


def test_coiotes_certificate_is_valid_for_the_name_that_containers_have_for_this_machine(stack):
    context = ssl.create_default_context(cadata=stack.authority.pem)
    address = ("127.0.0.1", urllib.parse.urlsplit(stack.coiote.url).port)

    def handshake(name: str) -> None:
        with socket.create_connection(address, timeout=10) as connection, context.wrap_socket(connection, server_hostname=name):
            pass

    handshake(HOST_OF_CONTAINERS)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake("another.example")


def opened_by(pid: int) -> set[str]:
    """Files and sockets that a process and its children have opened; children may end at any time."""
    opened: set[str] = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                opened.add(os.readlink(link))
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    opened |= opened_by(int(child))
    return opened


def listened_on(opened: set[str]) -> set[tuple[str, int]]:
    """Addresses and ports of the opened sockets that listen, by TCP (proc(5), /proc/net/tcp)."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in opened:
                words, port = local.split(":")
                address = b"".join(struct.pack("=I", int(words[n : n + 8], 16)) for n in range(0, len(words), 8))
                found.add((str(ipaddress.ip_address(address)), int(port, 16)))
    return found


def test_nobody_reaches_the_local_stack_from_another_machine(stack):
    found = listened_on(opened_by(stack.aws.process.pid) | opened_by(stack.coiote.process.pid))
    coiote = urllib.parse.urlsplit(stack.coiote.url).port
    assert {stack.aws.port, stack.aws.mqtt_port, coiote} <= {port for _, port in found}
    assert [at for at in found if not ipaddress.ip_address(at[0]).is_loopback] == []


def test_containers_reach_a_port_for_as_long_as_an_invocation_lasts(monkeypatch):
    class Inside(Handler):
        def do_GET(self) -> None:
            self.reply(200, b"inside")

    # An address in place of this machine's on the containers' network
    monkeypatch.setattr(invoke, "gateway", lambda: "127.0.0.2")
    with serving(Inside) as server:

        def ask(connection: http.client.HTTPConnection) -> bytes:
            connection.request("GET", "/")
            return connection.getresponse().read()

        def connection() -> http.client.HTTPConnection:
            return http.client.HTTPConnection("127.0.0.2", server.server_port, timeout=10)

        with pytest.raises(ConnectionRefusedError):
            ask(connection())
        with invoke.reachable({server.server_port}):
            kept_open = connection()
            assert ask(kept_open) == b"inside"
        with pytest.raises(ConnectionError):
            ask(kept_open)
        with pytest.raises(ConnectionRefusedError):
            ask(connection())


# ---------------------------------------------------------------- in a container


@needs_engine
@pytest.mark.parametrize("name", INVOKED)
def test_a_sample_event_ends_as_its_name_says(kept, name):
    done = invoke.invoke(kept, EVENTS / f"{name}.json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180)

    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    assert is_as_expected(name, json.loads(lines[-1])), lines[-1]


@pytest.fixture(scope="module")
def containers(kept):
    """Invokes functions in containers that `sam local start-lambda` keeps: one for each function."""
    if not invoke.has_docker_engine():
        pytest.skip("no Docker engine answers here")
    functions = sorted({function_of(name) for name in EVERY_EVENT})
    port = free_port()
    what = ["start-lambda", "--port", str(port), "--warm-containers", "LAZY"]
    started = invoke.sam_local(kept, what, *functions)
    ports = set().union(*(kept.ports(function) for function in functions))
    with invoke.reachable(ports):
        process = Process("sam local start-lambda", started["args"], kept.run / "start-lambda.log", started["env"], started["cwd"])
        try:
            wait_for("sam local start-lambda", lambda: listens(port), alive=[process])
            yield boto3.client(
                "lambda",
                endpoint_url=f"http://127.0.0.1:{port}",
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 1}, read_timeout=180),
            )
        finally:
            # Removing its containers takes longer than `stop` waits.
            os.kill(process.pid, signal.SIGTERM)
            wait_for("the containers to be removed", process.has_ended, seconds=120)
            process.stop()


@needs_engine
@pytest.mark.parametrize("name", EVERY_EVENT)
def test_every_sample_event_ends_in_a_container_as_its_name_says(kept, containers, name):
    payload = invoke.as_of_now(kept, EVENTS / f"{name}.json").read_bytes()
    answer = containers.invoke(FunctionName=function_of(name), Payload=payload)
    said = answer["Payload"].read().decode()
    assert is_as_expected(name, json.loads(said)), said


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        # The values of sam where it has none
        ({"AWS_ACCESS_KEY_ID": "defaultkey", "AWS_SECRET_ACCESS_KEY": "defaultsecret"}, "AWS_ENDPOINT_URL: missing"),
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: missing"),
    ],
)
@pytest.mark.parametrize("name", ["read", "response-read", "device-announced"])
def test_without_a_local_stack_and_without_credentials_it_says_what_is_missing(environment_of, name, variables, says):
    # sam sets variables that the template leaves out to an empty text.
    function = environment_of(function_of(name), **{"AWS_ENDPOINT_URL": ""} | variables)
    begun = time.monotonic()
    result = function.invoke(json.loads((EVENTS / f"{name}.json").read_text()))
    assert time.monotonic() - begun < 5
    assert result["errorType"] == "NOT_SET_UP" and says in result["errorMessage"] and "make invoke" in result["errorMessage"]
