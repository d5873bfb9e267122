"""The local AWS, which is MiniStack, with the calls that the demo and the tests make."""

import json
import os
import time
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

from stack.processes import PATIENCE, Failure, Process, free_port, wait_for

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def base_environment() -> dict[str, str]:
    """The caller's environment without variables that could lead to a real AWS account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_"))}
    return kept | CREDENTIALS | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def own_version(iot_data, thing: str) -> int:
    """Makes a new version of the thing's operation shadow that carries nothing, so that a test has it for itself."""
    answer = iot_data.update_thing_shadow(thingName=thing, shadowName="operation", payload=b'{"state": {}}')
    return json.loads(answer["payload"].read())["version"]


LAST_WORDS = ("REJECTED", "FAILED", "SUCCEEDED", "TIMED_OUT", "CANCELED")


class LocalAws:
    """MiniStack as a process, and clients of it. `settings` are environment variables of ministack_as_aws.py."""

    def __init__(self, root: Path, run: Path, usual_ports: bool = False, **settings: str):
        self._root = root
        self._run = run
        self._usual_ports = usual_ports
        self._settings = settings
        self.process: Process | None = None
        self.port = 0
        self.mqtt_port = 0

    @property
    def endpoint(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a program that calls this AWS."""
        return CREDENTIALS | {"AWS_ENDPOINT_URL": self.endpoint}

    def start(self) -> None:
        # Another process may take a port between choosing it and using it; then others are chosen.
        for attempt in range(3):
            try:
                return self._start(usual_ports=self._usual_ports and attempt == 0)
            except Failure:
                self.stop()
                if attempt == 2:
                    raise

    def _start(self, usual_ports: bool) -> None:
        self.port = free_port(4566 if usual_ports else None)
        self.mqtt_port = free_port(8883 if usual_ports else None)
        temporary = self._run / "aws"
        temporary.mkdir(exist_ok=True)
        environment = base_environment() | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_PORT": str(self.mqtt_port),
            "S3_DATA_DIR": str(temporary / "s3"),
            "STATE_DIR": str(temporary / "state"),
            "TMPDIR": str(temporary),
        }
        environment |= self._settings
        python = self._root / ".local" / "aws" / "bin" / "python"
        server = Path(__file__).with_name("ministack_as_aws.py")
        self.process = Process("The local AWS", [python, server], self._run / "aws.log", environment)
        wait_for("the local AWS to start", self._is_healthy, alive=[self.process])

        def client(service: str):
            # Without retries: a throttled or lost call is a finding here.
            return boto3.client(
                service,
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 1}, tcp_keepalive=True, max_pool_connections=50),
            )

        self.iam = client("iam")
        self.iot = client("iot")
        self.iot_data = client("iot-data")
        self.iot_jobs_data = client("iot-jobs-data")
        self.logs = client("logs")
        self.secrets = client("secretsmanager")
        self.cloudformation = client("cloudformation")
        self.cloudwatch = client("cloudwatch")
        self.sqs = client("sqs")
        self.lambda_ = client("lambda")
        self.dynamodb = client("dynamodb")
        self.streams = client("dynamodbstreams")
        self.events = client("events")
        self.scheduler = client("scheduler")
        self.s3 = client("s3")

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2) as answer:
                mqtt = json.load(answer)["iot_mtls"]
        except OSError:
            return False
        if mqtt == "degraded":
            raise Failure(f"the local AWS cannot listen for MQTT on port {self.mqtt_port}")
        return mqtt == "listening"

    def stop(self) -> None:
        if self.process:
            self.process.stop()
            self.process = None

    def iot_root(self) -> str:
        """The root of the MQTT broker's certificate, in place of Amazon's roots."""
        with urllib.request.urlopen(f"{self.endpoint}/_ministack/iot/ca.pem", timeout=10) as answer:
            return answer.read().decode()

    # ---------------------------------------------------------------- shadows

    def shadow(self, thing: str, name: str | None) -> dict:
        """The shadow's document; empty where there is none. The classic shadow has no name."""
        try:
            answer = self.iot_data.get_thing_shadow(thingName=thing, **({"shadowName": name} if name else {}))
        except self.iot_data.exceptions.ResourceNotFoundException:
            return {}
        return json.loads(answer["payload"].read())

    def reported(self, thing: str, name: str | None) -> dict:
        return self.shadow(thing, name).get("state", {}).get("reported", {})

    def update_shadow(self, thing: str, name: str | None, state: dict, client_token: str | None = None) -> int:
        """Updates the state of a shadow; returns its new version."""
        document = {"state": state} | ({"clientToken": client_token} if client_token else {})
        named = {"shadowName": name} if name else {}
        answer = self.iot_data.update_thing_shadow(thingName=thing, payload=json.dumps(document).encode(), **named)
        return json.loads(answer["payload"].read())["version"]

    def request(self, thing: str, desired: dict, client_token: str | None = None) -> int:
        """Writes a request into the operation shadow; returns the shadow version that carries it."""
        return self.update_shadow(thing, "operation", {"desired": desired}, client_token)

    def answers(self, thing: str) -> dict[str, dict]:
        """The answers in the operation shadow, by the versions of their requests."""
        return self.reported(thing, "operation").get("requests", {})

    def last_word(self, thing: str, version: int, words=LAST_WORDS, seconds: float = PATIENCE) -> dict:
        """Waits until the answer to the request has one of these statuses; returns it."""

        def look():
            answer = self.answers(thing).get(str(version), {})
            return answer if answer.get("status") in words else None

        return wait_for(f"the last word about request {version} of {thing}", look, seconds)

    def answer_as(self, thing: str, returned: dict, seconds: float = PATIENCE) -> dict:
        """Waits until the answer in the shadow agrees with the function's result; by then the device may have done it."""
        expected = {name: returned[name] for name in ("operation", "taskId", "clientToken", "reason") if name in returned}
        words = ("SCHEDULED", "SUCCEEDED") if returned["status"] == "SCHEDULED" else (returned["status"],)

        def look():
            answer = self.answers(thing).get(str(returned["request"]), {})
            return answer if expected.items() <= answer.items() and answer["status"] in words else None

        return wait_for(f"{expected} in the operation shadow of {thing}", look, seconds)

    # ---------------------------------------------------------------- the ledger

    def forget_outages(self, table: str) -> None:
        """Makes the ledger forget how Coiote has answered."""
        self.dynamodb.delete_item(TableName=table, Key={"thing": {"S": "#coiote"}, "entry": {"S": "circuit"}})

    # ---------------------------------------------------------------- logs

    def log_lines(self, group: str, since: float | None = None) -> list[dict]:
        """The function's own log lines, parsed and in order; with `since`, in seconds since 1970, only the later ones."""
        lines = []
        later = {} if since is None else {"startTime": int(since * 1_000)}
        for page in self.logs.get_paginator("filter_log_events").paginate(logGroupName=group, **later):
            for event in page["events"]:
                if event["message"].startswith("{"):
                    lines.append(json.loads(event["message"]))
        return sorted(lines, key=lambda line: line.get("timestamp", ""))

    def log_line(self, group: str, message: str, seconds: float = PATIENCE, **fields) -> dict:
        """Waits for a line with this message and all of `fields`; returns it."""

        since = None

        def look():
            nonlocal since
            begun = time.time()
            for line in self.log_lines(group, since):
                if line.get("message") == message and fields.items() <= line.items():
                    return line
            # Lines of one environment may arrive after newer ones of another.
            since = begun - 10
            return None

        return wait_for(f'a line "{message}" about {fields} in {group}', look, seconds)
