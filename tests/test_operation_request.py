"""operation-request and its neighbours: the connection it keeps, the secret it reads, and what each fault is called."""

import contextlib
import socket
import ssl
import threading

import pytest

from stack import certificates
from stack.local_stack import SECRET_NAME
from scripted_coiote import scripted_coiote

READ = {"operation": "read", "keys": ["Device.0.UTC Offset"]}


def read(thing: str) -> dict:
    return READ | {"thingName": thing, "version": 5}


def counts(stack) -> dict[str, int]:
    stats = stack.coiote.stats()
    return {"handshakes": stats["tlsHandshakes"], **stats["requests"]}


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def secret_reads(emulator) -> int:
    return sum(line["message"] == "secret read" for line in emulator.log_lines())


def reason(answer: dict) -> tuple:
    return answer["status"], answer["reason"]["code"]


def test_a_warm_request_needs_two_calls_on_the_kept_connection(stack, device, emulate):
    thing = device()
    function = emulate("OperationRequest")

    before = counts(stack)
    assert function.invoke(read(thing))["status"] == "SCHEDULED"
    first = counts(stack)
    assert difference(before, first) == {
        "handshakes": 1,
        "GET /devices": 1,
        "POST /tasksFromTemplates/device/{deviceId}": 1,
        "POST /sessions/{deviceId}/allow-deregistered": 1,
    }

    for _ in range(3):
        assert function.invoke(read(thing))["status"] == "SCHEDULED"
    assert difference(first, counts(stack)) == {
        "POST /tasksFromTemplates/device/{deviceId}": 3,
        "POST /sessions/{deviceId}/allow-deregistered": 3,
    }
    assert secret_reads(function) == 1


def test_a_connection_that_coiote_has_closed_meanwhile_is_replaced(stack, device, emulate):
    thing = device()
    with scripted_coiote(stack.authority, {}, idle_seconds=0.3) as (url, asked, closed):
        function = emulate("OperationRequest", COIOTE_URL=url)
        for _ in range(3):
            assert function.invoke(read(thing))["status"] == "SCHEDULED"
            assert closed.wait(timeout=10)
            closed.clear()
    assert len(asked) == 1 + 3 * 2


def test_a_device_that_was_removed_and_added_again_is_found_under_its_new_id(stack, device, emulate):
    thing = device()
    function = emulate("OperationRequest")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"

    stack.coiote.remove_device(thing)
    assert reason(function.invoke(read(thing))) == ("FAILED", "DEVICE_UNKNOWN")
    stack.coiote.add_device(thing, id="d:another:id/1")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"

    # Straight from one id to another, while the old one is still remembered
    stack.coiote.remove_device(thing)
    stack.coiote.add_device(thing, id="d:yet another")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"


def test_a_rotated_certificate_is_picked_up_when_coiote_refuses_the_old_one(stack, device, emulate):
    thing = device()
    function = emulate("OperationRequest")
    assert function.invoke(read(thing))["status"] == "SCHEDULED"

    rotated = certificates.client("rotated")
    try:
        stack.coiote.accept_client_certificates(rotated.certificate_pem)
        # Coiote refuses and the secret is still the old one
        assert reason(function.invoke(read(thing))) == ("FAILED", "COIOTE_UNAUTHORIZED")
        assert secret_reads(function) == 2

        stack.aws.secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=stack.secret(rotated))
        assert function.invoke(read(thing))["status"] == "SCHEDULED"
        assert function.invoke(read(thing))["status"] == "SCHEDULED"
        assert secret_reads(function) == 3
    finally:
        stack.coiote.accept_client_certificates(stack.client.certificate_pem)
        stack.aws.secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=stack.secret(stack.client))


def test_a_missing_template_is_named(stack, device, functions):
    thing = device()
    stack.coiote.remove_template("AWSdiscoverCertAuth")
    try:
        event = {"operation": "discover", "keys": ["Device.0"], "thingName": thing, "version": 1}
        answer = functions["OperationRequest"].invoke(event)
        assert reason(answer) == ("FAILED", "TEMPLATE_MISSING")
        assert "AWSdiscoverCertAuth" in answer["reason"]["message"]
    finally:
        stack.coiote.add_template("AWSdiscoverCertAuth")


CREATE = "POST /tasksFromTemplates/device/d%3A1"
SESSION = "POST /sessions/d%3A1/allow-deregistered"


def says(message: str) -> dict:
    return {"message": message, "code": 1}


@pytest.mark.parametrize(
    ("answers", "code", "message"),
    [
        ({"GET /devices": (200, [])}, "DEVICE_UNKNOWN", "no device"),
        ({"GET /devices": (200, ["d:1", "d:2"])}, "DEVICE_AMBIGUOUS", "2 devices"),
        ({"GET /devices": (200, {"ids": []})}, "COIOTE_UNEXPECTED_ANSWER", "array of device ids"),
        ({"GET /devices": (200, b"<html>")}, "COIOTE_UNEXPECTED_ANSWER", "array of device ids"),
        ({"GET /devices": (302, None)}, "COIOTE_REFUSED", "302"),
        ({CREATE: (200, "d:task:1")}, "COIOTE_UNEXPECTED_ANSWER", "200"),
        ({CREATE: (400, says("values: 2 for\n1 keys"))}, "COIOTE_REFUSED", "values: 2 for 1 keys"),
        ({CREATE: (409, says("conflict"))}, "COIOTE_REFUSED", "conflict"),
        ({CREATE: (403, says("no right to"))}, "COIOTE_UNAUTHORIZED", "no right to"),
        ({CREATE: (201, None)}, "COIOTE_UNEXPECTED_ANSWER", "id of the task"),
        ({CREATE: (201, b"<html>")}, "COIOTE_UNEXPECTED_ANSWER", "id of the task"),
        ({CREATE: (400, says("Template AWSreadCertAuth does not exist"))}, "TEMPLATE_MISSING", "does not exist"),
        ({CREATE: (404, says("no such device"))}, "DEVICE_UNKNOWN", "no device"),
        ({CREATE: (404, says("No Template of this name"))}, "TEMPLATE_MISSING", "AWSreadCertAuth"),
        ({CREATE: (429, says("slow down"))}, "COIOTE_THROTTLED", "slow down"),
        ({CREATE: (500, b"<html>")}, "COIOTE_UNAVAILABLE", "500"),
        ({CREATE: (503, says("maintenance"))}, "COIOTE_UNAVAILABLE", "maintenance"),
    ],
)
def test_what_coiote_answers_instead(stack, device, emulate, answers, code, message):
    with scripted_coiote(stack.authority, answers) as (url, asked, _):
        answer = emulate("OperationRequest", COIOTE_URL=url).invoke(read(device()))
        assert reason(answer) == ("FAILED", code)
        assert message in answer["reason"]["message"] and "\n" not in answer["reason"]["message"]
        assert SESSION not in asked


def test_a_device_that_cannot_be_woken_is_a_notice(stack, device, emulate):
    with scripted_coiote(stack.authority, {SESSION: (503, says("no connector"))}) as (url, _, _):
        answer = emulate("OperationRequest", COIOTE_URL=url).invoke(read(device()))
    assert reason(answer) == ("SCHEDULED", "SESSION_NOT_STARTED")
    assert answer["taskId"] == "d:task:1"
    assert "no connector" in answer["reason"]["message"]


@pytest.mark.parametrize(("checks", "status"), [("reject", "REJECTED"), ("notice", "SCHEDULED"), ("", "REJECTED")])
def test_how_strict_the_objects_descriptions_are_taken(device, emulate, checks, status):
    function = emulate("OperationRequest", OBJECT_CHECKS=checks)
    event = {"operation": "read", "keys": ["Device.0", "Device.0.Own Resource"], "thingName": device(), "version": 1}
    assert reason(function.invoke(event)) == (status, "RESOURCE_UNKNOWN")
    # The form is checked in any case.
    assert reason(function.invoke(event | {"keys": ["Device..0"]})) == ("REJECTED", "PATH_INVALID")


def test_every_path_of_a_devices_data_model_passes(stack, device, functions):
    thing = device()
    paths = [
        f"{name}.{instance}.{resource}"
        for name, instances in stack.coiote.datamodel(thing).items()
        for instance, resources in instances.items()
        for resource in resources
    ]
    assert len(paths) > 60
    for path in paths:
        event = {"operation": "read", "keys": [path], "thingName": thing, "version": 1}
        answer = functions["OperationRequest"].invoke(event)
        assert answer["status"] == "SCHEDULED" and "reason" not in answer, answer


def test_no_root_for_coiotes_certificate(stack, device, emulate):
    other = certificates.Authority("another root")
    document = stack.secret(stack.client).replace(
        stack.authority.pem.replace("\n", "\\n"), other.pem.replace("\n", "\\n")
    )
    stack.aws.secrets.create_secret(Name="other-root", SecretString=document)
    function = emulate("OperationRequest", COIOTE_SECRET_ID="other-root")
    answer = function.invoke(read(device()))
    assert reason(answer) == ("FAILED", "COIOTE_NOT_TRUSTED")


def test_a_certificate_for_another_name(stack, device, emulate):
    with tls_server(stack.authority.server("not-localhost")) as port:
        # The certificate names 127.0.0.1 beside it, so localhost is the name that does not fit.
        function = emulate("OperationRequest", COIOTE_URL=f"https://localhost:{port}")
        assert reason(function.invoke(read(device()))) == ("FAILED", "COIOTE_NOT_TRUSTED")


def test_nobody_listens(stack, device, emulate):
    with socket.socket() as held:
        # Bound but not listening: nobody else gets the port, and connections to it are refused.
        held.bind(("127.0.0.1", 0))
        function = emulate("OperationRequest", COIOTE_URL=f"https://localhost:{held.getsockname()[1]}")
        assert reason(function.invoke(read(device()))) == ("FAILED", "COIOTE_UNREACHABLE")


def test_coiote_does_not_answer_before_the_functions_time_is_up(stack, device, emulate):
    with tls_server(stack.authority.server("localhost")) as port:
        url = f"https://localhost:{port}"
        function = emulate("OperationRequest", COIOTE_URL=url, AWS_LAMBDA_FUNCTION_TIMEOUT="4")
        assert reason(function.invoke(read(device()))) == ("FAILED", "COIOTE_TIMED_OUT")


def test_no_time_is_left_to_hand_it_over(stack, device, emulate):
    thing = device()
    function = emulate("OperationRequest", AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    assert reason(function.invoke(read(thing))) == ("FAILED", "OUT_OF_TIME")
    assert stack.coiote.tasks(thing) == []


def test_the_connection_is_lost_before_the_answer(stack, device, emulate):
    with scripted_coiote(stack.authority, {CREATE: None}) as (url, _, _):
        answer = emulate("OperationRequest", COIOTE_URL=url).invoke(read(device()))
    assert reason(answer) == ("FAILED", "COIOTE_INTERRUPTED")


@pytest.mark.parametrize(
    ("secret", "code", "says"),
    [
        (None, "SECRET_UNAVAILABLE", "ResourceNotFoundException"),
        ("not JSON, but s3cret", "SECRET_INVALID", "is not JSON"),
        ('{"certificatePem": "s3cret"}', "SECRET_INVALID", 'no string "privateKey"'),
        ('{"certificatePem": "s3cret", "privateKey": "s3cret"}', "SECRET_INVALID", "not valid PEM"),
    ],
)
def test_a_secret_that_does_not_serve(stack, device, emulate, request, secret, code, says):
    name = f"broken-{abs(hash(request.node.name))}"
    if secret is not None:
        stack.aws.secrets.create_secret(Name=name, SecretString=secret)
    function = emulate("OperationRequest", COIOTE_SECRET_ID=name, RUST_LOG="debug")
    answer = function.invoke(read(device()))
    assert reason(answer) == ("FAILED", code)
    assert name in answer["reason"]["message"] and says in answer["reason"]["message"]
    assert "s3cret" not in str(answer) + function.log.read_text()


@pytest.mark.parametrize("url", ["", "http://localhost:8088", "https://localhost:8088/api", "localhost"])
def test_a_url_that_is_none(device, emulate, url):
    answer = emulate("OperationRequest", COIOTE_URL=url).invoke(read(device()))
    assert reason(answer) == ("FAILED", "COIOTE_URL_INVALID")


def test_a_variable_that_sam_local_gives_empty_counts_as_absent(device, emulate):
    # No such region, so that nothing can be reached; the SDK itself panics on an empty endpoint.
    function = emulate("OperationRequest", AWS_ENDPOINT_URL="", AWS_REGION="nowhere-1")
    assert reason(function.invoke(read(device()))) == ("FAILED", "SECRET_UNAVAILABLE")


@pytest.mark.parametrize("event", [b"[]", b'"read"', b"5", b"null", b'{"thingName": "a/b"}', b'{"thingName": 5}', b'{"keys": ["\\ud800"]}', b"[" * 500 + b"]" * 500])
def test_an_event_that_is_none_of_the_rules(functions, event):
    assert reason(functions["OperationRequest"].invoke_bytes(event)) == ("REJECTED", "EVENT_INVALID")
    assert reason(functions["OperationResponse"].invoke_bytes(event)) == ("REJECTED", "EVENT_INVALID")


def test_a_number_reaches_coiote_with_every_digit(stack, device, functions):
    thing = device()
    event = '{"operation": "write", "keys": ["Test object.0.Integer"], "values": [9007199254740993], "thingName": "%s"}'
    assert functions["OperationRequest"].invoke_bytes((event % thing).encode())["status"] == "SCHEDULED"
    [task] = stack.coiote.tasks(thing)
    assert {"name": "values", "value": "9007199254740993"} in task["parameters"]


def test_the_private_key_is_never_logged(stack, device, emulate):
    function = emulate("OperationRequest", RUST_LOG="trace")
    assert function.invoke(read(device()))["status"] == "SCHEDULED"
    body = "".join(stack.client.private_key_pem.splitlines()[1:-1])
    log = function.log.read_text().replace("\\n", "").replace("\n", "")
    assert body not in log and "PRIVATE KEY" not in log


@contextlib.contextmanager
def tls_server(certificate: certificates.Certificate):
    """Finishes handshakes and then says nothing."""
    import tempfile
    from pathlib import Path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*certificate.write(Path(folder), "server"))
    listener = socket.create_server(("127.0.0.1", 0))
    connections = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                with contextlib.suppress(OSError):
                    connections.append(context.wrap_socket(connection, server_side=True))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)
        for connection in connections:
            connection.close()
