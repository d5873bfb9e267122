"""operation-response: what the datamodel shadow holds after results that follow each other."""

import http.server
import threading

import pytest


def respond(functions, thing: str, result: object, operation: str = "read", failed_keys: list[str] | None = None):
    event = {"operation": operation, "failedKeys": failed_keys or [""], "result": result}
    return functions["OperationResponse"].invoke(event | {"thingName": thing, "version": 3, "timestamp": 1795370400})


def test_results_add_up(stack, functions, device):
    thing = device()
    respond(functions, thing, {"Device": {"0": {"UTC Offset": "+01:00", "Battery Level": "97"}}})
    respond(functions, thing, {"Device": {"0": {"UTC Offset": "+02:00"}}}, "write")
    respond(functions, thing, {"LwM2M Server": {"1": {"Lifetime": 68}}}, "readComposite")
    assert stack.aws.reported(thing, "datamodel") == {
        "Device": {"0": {"UTC Offset": "+02:00", "Battery Level": "97"}},
        "LwM2M Server": {"1": {"Lifetime": "68"}},
    }


def test_a_value_and_no_value_replace_each_other(stack, functions, device):
    thing = device()

    def is_now(value: object) -> None:
        respond(functions, thing, {"Test object": {"0": {"Integer array": value}}})
        assert stack.aws.reported(thing, "datamodel")["Test object"]["0"]["Integer array"] == value

    for value in ({"noValue": True}, {"0": "6", "1": "7"}, {"noValue": True}, "plain", {"0": "6"}, {}, {"4": "5"}, "plain"):
        is_now(value)


def test_reading_one_resource_instance_leaves_the_others(stack, functions, device):
    thing = device()
    respond(functions, thing, {"Test object": {"0": {"Integer array": {"0": "6", "4": "255"}}}})
    respond(functions, thing, {"Test object": {"0": {"Integer array": {"4": "256"}}}})
    array = stack.aws.reported(thing, "datamodel")["Test object"]["0"]["Integer array"]
    assert array == {"0": "6", "4": "256"}


@pytest.mark.parametrize("operation", ["execute", "observe", "discover", "Read", ""])
def test_other_operations_are_left_alone_and_said_so(stack, functions, device, operation):
    thing = device()
    answer = respond(functions, thing, {"Device": {"0": {"UTC Offset": "+02:00"}}}, operation)
    assert (answer["status"], answer["reason"]["code"]) == ("IGNORED", "NOTHING_TO_FOLD")
    assert stack.aws.shadow(thing, "datamodel") == {}
    lines = [line for line in functions["OperationResponse"].log_lines() if line["span"].get("thing") == thing]
    assert [line["message"] for line in lines] == ["result left alone"]


def test_failed_keys_are_named(functions, device):
    answer = respond(functions, device(), {}, "read", ["Device.0.Reboot", "Portfolio.7"])
    assert answer["status"] == "FAILED"
    assert "Device.0.Reboot, Portfolio.7" in answer["reason"]["message"]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (413, "RequestEntityTooLargeException", "DATAMODEL_TOO_LARGE"),
        (400, "InvalidRequestException", "DATAMODEL_REFUSED"),
    ],
)
def test_what_aws_iot_will_not_take_is_not_tried_again(device, emulate, status, error, code):
    # The local AWS has no limit on a shadow's size, so something else has to say no.
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("x-amzn-errortype", error)
            self.end_headers()
            self.wfile.write(b'{"message": "no"}')

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        function = emulate("OperationResponse", AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}")
        answer = respond({"OperationResponse": function}, device(), {"Device": {"0": {"UTC Offset": "+02:00"}}})
        server.shutdown()
    assert (answer["status"], answer["reason"]["code"]) == ("FAILED", code)


def test_an_unreachable_aws_is_an_error_that_lambda_tries_again(stack, device, emulate):
    function = emulate("OperationResponse", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    event = {"operation": "read", "failedKeys": [""], "result": {"Device": {"0": {"UTC Offset": "+02:00"}}}}
    answer = function.invoke(event | {"thingName": device(), "version": 3})
    assert answer["errorType"] == "DATAMODEL_NOT_UPDATED"
