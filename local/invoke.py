"""Runs one function on a sample event, in a container of `sam local invoke`, against the local stack of `make demo KEEP=1`.

Inside a container, localhost is the container itself. Therefore the local stack is called by the name host.docker.internal,
which its certificates have, too. It listens on loopback only: while the invocation lasts, connections from the containers' own
network are forwarded to it.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from stack.aws import REGION, own_version
from stack.deployment import STACK_NAME, Deployment
from stack.local_stack import HOST_OF_CONTAINERS, ROOT
from stack.processes import Failure, run_command

# ioctl for the address of a network interface (netdevice(7))
SIOCGIFADDR = 0x8915
# Names of this machine for itself
LOCAL_HOSTS = ("localhost", "127.0.0.1")
NONE_IS_RUNNING = "No local stack is running. Start one: make demo KEEP=1"
# A field of the event, in the SELECT of a rule's SQL
SELECTED = re.compile(r"\bAS\s+(\w+)")


class KeptStack:
    """The local stack that was left running."""

    def __init__(self, name: str = "demo"):
        self.run = ROOT / ".local" / "run" / name
        kept = self.run / "deployed.json"
        if not kept.exists():
            raise Failure(NONE_IS_RUNNING)
        self.environment = json.loads(kept.read_text())["environment"]
        self.endpoint = self.environment["AWS_ENDPOINT_URL"]

        def client(service: str):
            secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
            return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **secrets)

        try:
            listed = client("cloudformation").describe_stack_resources(StackName=STACK_NAME)["StackResources"]
            self._resources = {resource["LogicalResourceId"]: resource for resource in listed}
            self._lambda = client("lambda")
            self._iot = client("iot")
            self.iot_data = client("iot-data")
        except (BotoCoreError, ClientError) as error:
            raise Failure(f"The local stack does not answer ({error}). Start it anew: make demo KEEP=1") from error

    def functions(self) -> dict[str, str]:
        """Names of the deployed functions, by their names in the template."""
        return self._of_type("AWS::Lambda::Function")

    def variables(self, function: str) -> dict[str, str]:
        """The environment that the function was deployed with."""
        config = self._lambda.get_function_configuration(FunctionName=self.functions()[function])
        return config.get("Environment", {}).get("Variables", {})

    def function_for(self, event: object) -> str:
        """Finds the function whose rule makes events like this one: it selects all of the event's fields, and the fewest others."""
        fields = set(event) if isinstance(event, dict) else set()
        names = {physical: logical for logical, physical in self.functions().items()}
        found: list[tuple[int, str]] = []
        for rule_name in self._of_type("AWS::IoT::TopicRule").values():
            rule = self._iot.get_topic_rule(ruleName=rule_name)["rule"]
            selected = set(SELECTED.findall(rule["sql"]))
            for action in rule["actions"]:
                function = names.get(action.get("lambda", {}).get("functionArn", "").rpartition(":")[2])
                # One that selects everything comes last.
                if function and (not selected or fields <= selected):
                    found.append((len(selected) or sys.maxsize, function))
        if not found:
            raise Failure(f"No rule passes on events with {', '.join(sorted(fields))}. Name the function: FUNCTION=…")
        return min(found)[1]

    def write_env_vars(self, *functions: str) -> Path:
        """Writes the file for `sam local` with the variables that connect the functions to this stack."""
        variables = {
            function: {name: as_containers_see(value) for name, value in self.variables(function).items()}
            for function in functions
        }
        path = self.run / f"env-vars-{'-'.join(functions)}.json"
        path.write_text(json.dumps(variables, indent=2) + "\n")
        return path

    def ports(self, function: str) -> set[int]:
        """The ports of this machine that the function's variables lead to."""
        urls = (urllib.parse.urlsplit(value) for value in self.variables(function).values() if "://" in value)
        return {url.port for url in urls if url.hostname in LOCAL_HOSTS and url.port}

    def _of_type(self, kind: str) -> dict[str, str]:
        resources = self._resources.items()
        return {name: r["PhysicalResourceId"] for name, r in resources if r["ResourceType"] == kind}


def as_containers_see(value: str) -> str:
    """Replaces this machine's name in a URL by the one that containers have for it."""
    url = urllib.parse.urlsplit(value)
    if url.hostname not in LOCAL_HOSTS:
        return value
    port = f":{url.port}" if url.port else ""
    return url._replace(netloc=f"{HOST_OF_CONTAINERS}{port}").geturl()


def has_docker_engine() -> bool:
    """Whether a Docker engine answers."""
    return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def gateway() -> str | None:
    """This machine's address on the containers' network; none where that network is a virtual machine's."""
    command = ["docker", "network", "inspect", "bridge", "--format", '{{index .Options "com.docker.network.bridge.name"}}']
    interface = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.contextmanager
def reachable(ports: set[int]):
    """Makes these ports of loopback reachable by containers, and by nobody else."""
    address = gateway()
    loop = asyncio.new_event_loop()
    from_outside: set[asyncio.StreamWriter] = set()

    async def serve(port: int) -> asyncio.Server:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from_outside.add(writer)
            try:
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(forward(reader, inner_writer), forward(inner_reader, writer))
            finally:
                from_outside.discard(writer)

        return await asyncio.start_server(handle, address, port)

    servers = []
    # With Docker Desktop the containers' name for this machine leads to its loopback by itself.
    for port in ports if address else ():
        try:
            servers.append(loop.run_until_complete(serve(port)))
        except OSError:
            # Another process forwards it already, or listens on all addresses.
            continue
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        for server in servers:
            server.close()
        # Containers may keep connections open; what forwards them ends when they do.
        for writer in from_outside:
            writer.transport.abort()
        if forwarding := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.gather(*forwarding, return_exceptions=True))
        loop.close()


def as_of_now(kept: KeptStack, path: Path) -> Path:
    """Writes the event as its rule would make it now to a file of the run's folder.

    Its time is now, because an event older than a request's lifetime is not sent. Its version is a new one of the thing's shadow:
    an event with a known version counts as a second delivery, and one with an older version as too late. Its client token is its
    own, so that two executes are two requests.
    """
    event = json.loads(path.read_text())
    if isinstance(event, dict):
        event |= {"timestamp": int(time.time())} if "timestamp" in event else {}
        if "version" in event and "thingName" in event:
            with contextlib.suppress(ClientError):
                # Without a valid name of a thing, no version helps.
                event["version"] = own_version(kept.iot_data, event["thingName"])
        if "version" in event and "clientToken" in event:
            event["clientToken"] += f"-{event['version']}"
    copy = kept.run / f"event-{path.name}"
    copy.write_text(json.dumps(event))
    return copy


def as_last_time(kept: KeptStack, path: Path) -> Path:
    """The file of the event as it was invoked the last time, for a second delivery."""
    copy = kept.run / f"event-{path.name}"
    if not copy.exists():
        raise Failure(f"{path.name} has not been invoked yet: leave AGAIN out")
    return copy


def invoke(kept: KeptStack, event: Path, function: str | None = None, again: bool = False, **more) -> subprocess.CompletedProcess:
    """Runs the function on the event to the end; `more` are arguments of subprocess.run."""
    function = function or kept.function_for(json.loads(event.read_text()))
    copy = as_last_time(kept, event) if again else as_of_now(kept, event)
    with reachable(kept.ports(function)):
        what = ["invoke", function, "--event", str(copy)]
        return subprocess.run(**sam_local(kept, what, function), check=False, **more)


def sam_local(kept: KeptStack, what: list[str], *functions: str) -> dict:
    """Arguments of subprocess.run for a command of `sam local` whose containers find the local stack."""
    deployment = Deployment(ROOT, kept.run)
    command = [str(deployment.sam), "local", *what, "--skip-pull-image"]
    command += ["--env-vars", str(kept.write_env_vars(*functions)), "--add-host", f"{HOST_OF_CONTAINERS}:host-gateway"]
    own = {name: value for name, value in kept.environment.items() if name != "AWS_ENDPOINT_URL"}
    return {"args": command, "env": deployment.environment | own, "cwd": ROOT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("event", type=Path, help="a file, as in events/read.json")
    parser.add_argument("--function", help="its name in the template; otherwise the one whose rule passes on such events")
    parser.add_argument("--again", action="store_true", help="the very event of the last time, as a second delivery")
    parser.add_argument("--name", default="demo", help="what the demo was named that left the stack running")
    arguments = parser.parse_args()
    if not arguments.event.is_file():
        raise Failure(f"{arguments.event}: no such file")
    # A demo that was not kept running leaves only a folder.
    if not (ROOT / ".local" / "run" / arguments.name / "processes.json").exists():
        raise Failure(NONE_IS_RUNNING)
    kept = KeptStack(arguments.name)
    if not has_docker_engine():
        raise Failure("sam local invoke needs a Docker engine, and none answers here (docker info).")
    sys.exit(invoke(kept, arguments.event.resolve(), arguments.function, arguments.again).returncode)


if __name__ == "__main__":
    run_command(main)
