"""The local stack: the local AWS, the local Coiote connected to it, and the deployed template."""

import contextlib
import json
import secrets
import shutil
import signal
from pathlib import Path

from stack import certificates
from stack.aws import LocalAws
from stack.coiote import LocalCoiote
from stack.deployment import Deployment
from stack.jobs import Jobs

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET_NAME = "coioteDMcert"
# Coiote user that sets the integration up
COIOTE_USER = "integration@example.com"
USER_SECRET_NAME = "coiote-user"
# Name of this machine in containers; see local/invoke.py
HOST_OF_CONTAINERS = "host.docker.internal"
# A device of each kind: it answers at once, it sleeps (queue mode), it has deregistered.
DEVICES = {"demo-thermometer": "online", "demo-sleeper": "sleeping", "demo-retired": "deregistered"}


def coiote_policy(arn_prefix: str) -> dict:
    """Policy of the certificate that Coiote connects to AWS with: only the topics of shadows."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{arn_prefix}:client/coiote*"},
            {
                "Effect": "Allow",
                "Action": ["iot:Publish", "iot:Receive"],
                "Resource": f"{arn_prefix}:topic/$aws/things/*/shadow/*",
            },
            {
                "Effect": "Allow",
                "Action": "iot:Subscribe",
                "Resource": f"{arn_prefix}:topicfilter/$aws/things/*/shadow/*",
            },
        ],
    }


class LocalStack:
    """A local stack, as a context: everything that it starts ends with it, unless `keep` was called.

    With `makes_certificates` the deployed stack makes the certificates between Coiote and AWS itself, and devices announce
    themselves. Otherwise they are there before it is deployed, and so are the things. With `optimized` the functions are built
    as for Lambda, and the local Coiote for speed, which takes minutes more. With `usual_ports` the local AWS is where
    its users look for it, if these ports are free. `settings` are environment variables of the local AWS.
    """

    def __init__(
        self,
        run_name: str,
        makes_certificates: bool = False,
        optimized: bool = False,
        usual_ports: bool = False,
        **settings: str,
    ):
        self.makes_certificates = makes_certificates
        self.run = ROOT / ".local" / "run" / run_name
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir(parents=True)
        # A minute of AWS's schedules is five seconds here.
        self.aws = LocalAws(ROOT, self.run, usual_ports, **({"LOCAL_SCHEDULE_SECONDS": "5"} | settings))
        self.deployment = Deployment(ROOT, self.run, optimized)
        self.coiote = LocalCoiote(self.deployment.local_coiote, self.run)
        # Set by `start`
        self.jobs: Jobs
        self.authority = certificates.Authority()
        self.client = certificates.client("coiote-aws-iot")
        self._password = secrets.token_urlsafe()
        self._kept = False
        # Outputs of the deployed template
        self.outputs: dict[str, str] = {}

    def __enter__(self) -> "LocalStack":
        return self

    def __exit__(self, *_) -> None:
        if not self._kept:
            self.stop()

    def stop(self) -> None:
        # A second Ctrl-C must not leave half of it running.
        with contextlib.ExitStack() as steps:
            for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                steps.callback(signal.signal, sign, signal.signal(sign, signal.SIG_IGN))
            # Neither keys nor the data of the local AWS outlive the run.
            steps.callback(shutil.rmtree, self.run / "aws", ignore_errors=True)
            steps.callback(shutil.rmtree, self.run / "keys", ignore_errors=True)
            steps.callback(self.aws.stop)
            steps.callback(self.coiote.stop)

    def keep(self) -> None:
        """Leaves everything running; `make stop` ends it."""
        processes = {p.name: p.pid for p in (self.aws.process, self.coiote.process) if p}
        (self.run / "processes.json").write_text(json.dumps(processes))
        self._kept = True

    def start(self) -> None:
        self.aws.start()
        self.jobs = Jobs(self.aws)
        self._start_coiote()
        if self.makes_certificates:
            user = {"username": COIOTE_USER, "password": self._password, "caPem": self.authority.pem}
            self.aws.secrets.create_secret(Name=USER_SECRET_NAME, SecretString=json.dumps(user))
            return
        self.aws.secrets.create_secret(Name=SECRET_NAME, SecretString=self.secret(self.client))
        for thing in DEVICES:
            self.add_thing(thing)

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of the template for this machine."""
        parameters = {
            "CoioteUrl": self.coiote.url,
            "AwsEndpointUrl": self.aws.endpoint,
            "AnswerWindow": "0",
            "ReportInterval": "1",
        }
        return parameters | ({"CoioteUserSecretName": USER_SECRET_NAME} if self.makes_certificates else {})

    @property
    def function_environment(self) -> dict[str, str]:
        """Variables of the functions in the template, for functions that a test starts itself; before deployment without the ledger."""
        outputs = {"REQUESTS_TABLE": "RequestsTable", "ANSWERS_QUEUE_URL": "AnswersQueueUrl"}
        coiote = {"COIOTE_URL": self.coiote.url, "COIOTE_SECRET_ID": SECRET_NAME}
        return coiote | {name: self.outputs[output] for name, output in outputs.items() if output in self.outputs}

    def deploy(self, package: Path | None = None, **parameters: str) -> None:
        """Deploys the template with the functions that were built last, or a package of `make package`."""
        self.deployment.deploy(self.aws, self.parameters | parameters, package=package)
        self.outputs = self.deployment.outputs(self.aws)
        # Read by local/invoke.py
        (self.run / "deployed.json").write_text(json.dumps({"environment": self.aws.environment}))

    def delete(self) -> None:
        self.deployment.delete(self.aws)

    def secret(self, client: certificates.Certificate) -> str:
        return json.dumps(
            {
                "certificatePem": client.certificate_pem,
                "privateKey": client.private_key_pem,
                "caPem": self.authority.pem,
            }
        )

    def add_thing(self, name: str) -> None:
        """Creates a thing, with an operation shadow."""
        self.aws.iot.create_thing(thingName=name, attributePayload={"attributes": {"protocol": "LwM2M"}})
        self.aws.update_shadow(name, "operation", {})

    def _start_coiote(self) -> None:
        keys = self.run / "keys"
        keys.mkdir(mode=0o700)
        tls_certificate, tls_key = self.authority.server("localhost", HOST_OF_CONTAINERS).write(keys, "coiote")
        iot_root = certificates.private_file(keys / "iot-root.pem", self.aws.iot_root())
        arguments = [
            *("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"),
            *("--tls-cert", tls_certificate, "--tls-key", tls_key),
            *("--iot-endpoint", f"localhost:{self.aws.mqtt_port}", "--iot-ca", iot_root),
        ]
        if self.makes_certificates:
            password = certificates.private_file(keys / "password", self._password)
            arguments += ["--user", COIOTE_USER, "--password-file", password, "--announce"]
        else:
            client_certificate = certificates.private_file(keys / "client.pem", self.client.certificate_pem)
            iot_certificate, iot_key = self._coiote_at_aws(keys)
            arguments += ["--client-cert", client_certificate, "--iot-cert", iot_certificate, "--iot-key", iot_key]
        for endpoint, state in DEVICES.items():
            arguments += ["--device", f"endpoint={endpoint},state={state}"]
        self.coiote.start(arguments)

    def _coiote_at_aws(self, keys: Path) -> tuple[Path, Path]:
        """Creates the certificate that Coiote connects to AWS IoT with; returns the paths of certificate and key."""
        created = self.aws.iot.create_keys_and_certificate(setAsActive=True)
        policy = coiote_policy(created["certificateArn"].partition(":cert/")[0])
        self.aws.iot.create_policy(policyName="coiote", policyDocument=json.dumps(policy))
        self.aws.iot.attach_policy(policyName="coiote", target=created["certificateArn"])
        iot = certificates.Certificate(created["certificatePem"], created["keyPair"]["PrivateKey"])
        return iot.write(keys, "iot")
