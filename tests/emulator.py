"""Runs a function under AWS's Runtime Interface Emulator, which SAM ships."""

import json
import platform
import shutil
import urllib.request
from pathlib import Path

import samcli.local.rapid

from stack.local_stack import LocalStack
from stack.processes import Process, free_port, listens, wait_for
from stack.aws import base_environment


class Emulator:
    """A running function."""

    def __init__(self, stack: LocalStack, logical_id: str, environment: dict[str, str]):
        self._port = free_port()
        api_port = free_port()
        machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
        shipped = Path(samcli.local.rapid.__file__ or samcli.local.rapid.__path__[0])
        shipped = (shipped if shipped.is_dir() else shipped.parent) / f"aws-lambda-rie-{machine}"
        emulator = stack.run / "aws-lambda-rie"
        if not emulator.exists():
            shutil.copy(shipped, emulator)
            emulator.chmod(0o755)
        self.log = stack.run / f"{logical_id}-{self._port}.log"
        variables = {
            "RUST_LOG": "info",
            "AWS_REGION": "us-east-1",
            "AWS_LAMBDA_FUNCTION_NAME": logical_id,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
        }
        command = [emulator, "--log-level", "error"]
        command += ["--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{api_port}"]
        command += [stack.deployment.function_binary(logical_id)]
        self._process = Process(
            logical_id, command, self.log, base_environment() | stack.aws.environment | stack.function_environment | variables | environment
        )
        wait_for(f"the emulator of {logical_id}", lambda: listens(self._port), alive=[self._process])

    def invoke(self, event: object) -> dict:
        """Invokes the function; returns its result, or `{"errorType", "errorMessage"}`."""
        return self.invoke_bytes(json.dumps(event).encode())

    def invoke_bytes(self, event: bytes) -> dict:
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        with urllib.request.urlopen(urllib.request.Request(url, data=event), timeout=40) as answer:
            return json.loads(answer.read())

    def log_lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self._process.stop()
