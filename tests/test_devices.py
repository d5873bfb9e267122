"""A stack that makes its own certificates: the integration is created, renewed and deleted with it, and devices announce themselves."""

import contextlib
import hashlib
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from command_line import run
from stack.aws_between import (
    ACCESS_DENIED,
    BROKEN,
    DENIED,
    REGISTRY_DENIED,
    STILL_ATTACHED,
    STILL_DELETED,
    THROTTLED,
    AwsBetween,
    Call,
    LoseAnswer,
    Refuse,
)
from stack.loopback import Handler, serving
from runtime_api import Function
from scripted_coiote import LOST, SLOW, scripted_coiote
from stack.deployment import STACK_NAME
from stack.local_stack import COIOTE_USER, SECRET_NAME, USER_SECRET_NAME, LocalStack
from stack.processes import Failure, wait_for

TYPE = "acme.thermo"
AWS_TYPE = "acme:thermo"


@pytest.fixture(scope="module")
def undeployed(stack):
    """A local stack without certificates, not deployed yet. `stack` has built everything."""
    with LocalStack("test-devices", makes_certificates=True) as undeployed:
        undeployed.start()
        yield undeployed


def fingerprint(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def certificates_at_iot(stack) -> dict[str, str]:
    return {c["certificateId"]: c["status"] for c in stack.aws.iot.list_certificates()["certificates"]}


def policies_at_iot(stack) -> list[str]:
    return [policy["policyName"] for policy in stack.aws.iot.list_policies()["policies"]]


def client_secret(stack, name: str = SECRET_NAME) -> dict | None:
    try:
        return json.loads(stack.aws.secrets.get_secret_value(SecretId=name)["SecretString"])
    except stack.aws.secrets.exceptions.ResourceNotFoundException:
        return None


def assert_nothing_is_left(stack) -> None:
    assert_no_certificate_is_left(stack)
    assert policies_at_iot(stack) == []


def assert_no_certificate_is_left(stack) -> None:
    integration = stack.coiote.integration()
    assert (integration["externalCertificate"], integration["clientCertificates"]) == (None, [])
    assert (certificates_at_iot(stack), client_secret(stack)) == ({}, None)


def assert_integrated(stack, secret_name: str = SECRET_NAME) -> tuple[str, str]:
    """Checks that each side has one certificate that the other side knows; returns their fingerprints."""
    integration = stack.coiote.integration()
    [(certificate_id, status)] = certificates_at_iot(stack).items()
    assert status == "ACTIVE" and integration["externalCertificate"] == certificate_id
    secret = client_secret(stack, secret_name)
    assert set(secret) == {"certificatePem", "privateKey", "caPem"}
    assert integration["clientCertificates"] == [fingerprint(secret["certificatePem"])]
    targets = stack.aws.iot.list_targets_for_policy(policyName=stack.outputs["CoiotePolicyName"])["targets"]
    assert [target.rsplit("/", 1)[1] for target in targets] == [certificate_id]
    wait_for("Coiote to be connected", lambda: stack.coiote.integration()["connected"])
    return certificate_id, fingerprint(secret["certificatePem"])


def describe_thing(stack, name: str) -> dict | None:
    try:
        described = stack.aws.iot.describe_thing(thingName=name)
        return {key: value for key, value in described.items() if key != "ResponseMetadata"}
    except stack.aws.iot.exceptions.ResourceNotFoundException:
        return None


def wait_for_thing(stack, name: str) -> dict:
    """Waits for the thing and its three shadows; returns the thing."""
    wait_for(f"thing {name}", lambda: describe_thing(stack, name))
    wait_for(f"the operation shadow of {name}", lambda: "version" in stack.aws.shadow(name, "operation"))
    wait_for(f"the datamodel shadow of {name}", lambda: stack.aws.reported(name, "datamodel"))
    wait_for(f"the classic shadow of {name}", lambda: stack.aws.reported(name, None))
    return describe_thing(stack, name)


# ---------------------------------------------------------------- stacks that cannot be made


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("POST /auth/certificates", "registering the client certificate at Coiote"),
        ("POST /awsIntegration/auth/externalCertificate", "giving Coiote the certificate of IoT Core"),
    ],
)
@pytest.mark.parametrize("status", [401, 503])
def test_a_stack_that_cannot_be_made_leaves_nothing(undeployed, fault, status, says):
    undeployed.coiote.set_faults({"routes": {fault: status}})
    try:
        with pytest.raises(Failure):
            undeployed.deploy()
        assert says in failure_reasons(undeployed) and str(status) in failure_reasons(undeployed)
        delete_stack(undeployed)
        assert_nothing_is_left(undeployed)
    finally:
        undeployed.coiote.set_faults({})


def test_a_secret_that_is_somebody_elses_is_left_alone(undeployed):
    undeployed.aws.secrets.create_secret(Name=SECRET_NAME, SecretString="theirs")
    with pytest.raises(Failure):
        undeployed.deploy()
    assert f"secret {SECRET_NAME} exists and is not this stack's" in failure_reasons(undeployed)
    delete_stack(undeployed)
    assert undeployed.aws.secrets.get_secret_value(SecretId=SECRET_NAME)["SecretString"] == "theirs"
    undeployed.aws.secrets.delete_secret(SecretId=SECRET_NAME, ForceDeleteWithoutRecovery=True)
    assert_nothing_is_left(undeployed)


# ---------------------------------------------------------------- events of CloudFormation, sent by the test


@contextlib.contextmanager
def answer_server():
    """Server that takes the answers for CloudFormation; yields its URL and the list of the answers."""
    answers = []

    class Answer(Handler):
        def do_PUT(self) -> None:
            answers.append(json.loads(self.body()))
            self.reply(200)

    with serving(Answer) as server:
        yield f"http://127.0.0.1:{server.server_port}/answer?signature=s3cret", answers


class CustomResource:
    """A custom resource whose events are sent by the test, with the function that answers them."""

    def __init__(self, function: Function, create: dict, answers: list[dict]):
        self._function, self._create, self._answers = function, create, answers
        self.properties = create["ResourceProperties"]
        self._id: str | None = None

    def create(self, seconds: float = 60) -> dict:
        return self._send({}, seconds)

    def update(self, new: dict, old: dict, seconds: float = 60) -> dict:
        return self._send({"RequestType": "Update", "ResourceProperties": new, "OldResourceProperties": old}, seconds)

    def delete(self, seconds: float = 60, **properties: str) -> dict:
        return self._send({"RequestType": "Delete", "ResourceProperties": self.properties | properties}, seconds)

    def log_lines(self) -> list[dict]:
        return self._function.log_lines()

    def _send(self, what: dict, seconds: float) -> dict:
        of_this = {"PhysicalResourceId": self._id} if self._id else {}
        self._function.invoke(self._create | of_this | what, seconds=seconds)
        answer = self._answers[-1]
        assert answer["Status"] == "FAILED" or "Reason" not in answer, "not even as null"
        self._id = answer["PhysicalResourceId"]
        return answer


@pytest.fixture
def custom_resource(undeployed, policy):
    """Starts functions to which the test sends the events of CloudFormation, for a Coiote, an AWS and the id of a stack."""
    with contextlib.ExitStack() as ending:

        def start(
            coiote_url: str = undeployed.coiote.url, endpoint: str = undeployed.aws.endpoint, uuid: str = "0001"
        ) -> CustomResource:
            url, answers = ending.enter_context(answer_server())
            function = Function(undeployed, "IntegrationCertificates", {"AWS_ENDPOINT_URL": endpoint})
            ending.callback(function.stop)
            create = creation_event(undeployed, url, coiote_url)
            create["StackId"] = create["StackId"].replace("0001", uuid)
            return CustomResource(function, create, answers)

        yield start


def creation_event(stack, url: str, coiote_url: str) -> dict:
    properties = {"CoioteUrl": coiote_url, "UserSecret": USER_SECRET_NAME, "ClientSecret": SECRET_NAME}
    properties |= {"PolicyName": "by-hand", "KeyType": "EC_P256", "ValidityDays": "30"}
    return {
        "RequestType": "Create",
        "ResponseURL": url,
        "StackId": "arn:aws:cloudformation:us-east-1:000000000000:stack/by-hand/0001",
        "RequestId": "request-1",
        "ResourceType": "Custom::CoioteIntegration",
        "LogicalResourceId": "Integration",
        "ResourceProperties": properties,
    }


@pytest.fixture
def policy(undeployed):
    undeployed.aws.iot.create_policy(policyName="by-hand", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    yield
    # The function deletes it with everything that it made.
    with contextlib.suppress(undeployed.aws.iot.exceptions.ResourceNotFoundException):
        undeployed.aws.iot.delete_policy(policyName="by-hand")


@pytest.mark.parametrize("step", ["CreateSecret", "POST /keys-and-certificate", "PUT /target-policies", "PUT /certificates"])
def test_a_step_that_aws_refuses_undoes_those_before_it(undeployed, policy, step):
    with AwsBetween(undeployed).serve() as between, answer_server() as (url, answers):
        between.once(step, DENIED)
        function = Function(undeployed, "IntegrationCertificates", {"AWS_ENDPOINT_URL": between.endpoint})
        try:
            function.invoke(creation_event(undeployed, url, undeployed.coiote.url))
        finally:
            function.stop()
    [answer] = answers
    assert (answer["Status"], answer["RequestId"], answer["LogicalResourceId"]) == ("FAILED", "request-1", "Integration")
    assert "ForbiddenException" in answer["Reason"] and "could not all be undone" not in answer["Reason"]
    assert_no_certificate_is_left(undeployed)
    assert "s3cret" not in function.log.read_text()

    # The Delete that follows has nothing to remove, and succeeds also where AWS cannot be reached.
    with answer_server() as (url, answers):
        function = Function(undeployed, "IntegrationCertificates", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
        try:
            delete = {"RequestType": "Delete", "PhysicalResourceId": answer["PhysicalResourceId"]}
            function.invoke(creation_event(undeployed, url, undeployed.coiote.url) | delete)
        finally:
            function.stop()
        assert [answer["Status"] for answer in answers] == ["SUCCESS"]


def test_a_replaced_certificate_that_cannot_be_removed_is_in_the_log(undeployed, policy):
    key = "arn:aws:kms:us-east-1:000000000000:key/mine"
    with AwsBetween(undeployed).serve() as between, answer_server() as (url, answers):
        function = Function(undeployed, "IntegrationCertificates", {"AWS_ENDPOINT_URL": between.endpoint})
        try:
            create = creation_event(undeployed, url, undeployed.coiote.url)
            create["ResourceProperties"]["KmsKey"] = key
            function.invoke(create)
            assert undeployed.aws.secrets.describe_secret(SecretId=SECRET_NAME)["KmsKeyId"] == key

            old = create["ResourceProperties"]
            again = create | {"PhysicalResourceId": answers[0]["PhysicalResourceId"], "OldResourceProperties": old}
            between.always("DELETE /certificates", DENIED)
            function.invoke(again | {"RequestType": "Update", "ResourceProperties": old | {"Rotation": "1"}})
            [line] = [line for line in function.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
            assert line["level"] == "ERROR" and "ForbiddenException" in line["reason"]
            [left] = [id for id, status in certificates_at_iot(undeployed).items() if status == "INACTIVE"]
            assert left in line["reason"]

            between.heal()
            function.invoke(again | {"RequestType": "Delete"})
        finally:
            function.stop()
    assert [answer["Status"] for answer in answers] == ["SUCCESS"] * 3
    integration = undeployed.coiote.integration()
    assert (integration["externalCertificate"], integration["clientCertificates"]) == (None, [])
    assert (certificates_at_iot(undeployed), client_secret(undeployed)) == ({}, None), "also what was left the last time"


# ---------------------------------------------------------------- updates that fail


def calls_of_setup(stack) -> dict[str, int]:
    return {call: count for call, count in stack.coiote.stats()["requests"].items() if "ertificate" in call}


def test_an_update_that_failed_goes_back_without_coiote(undeployed, custom_resource):
    cloudformation = custom_resource()
    old = cloudformation.properties
    new = old | {"Rotation": "1", "KeyType": "EC_P384"}
    assert cloudformation.create()["Status"] == "SUCCESS"
    before = undeployed.coiote.integration(), client_secret(undeployed)
    for route in ("POST /auth/certificates", "POST /awsIntegration/auth/externalCertificate"):
        undeployed.coiote.set_faults({"routes": {route: 503}})
        assert "503" in cloudformation.update(new, old)["Reason"]
        asked = calls_of_setup(undeployed)
        # The old and new properties are swapped, so CloudFormation's state is in force already.
        assert cloudformation.update(old, new)["Status"] == "SUCCESS"
        assert calls_of_setup(undeployed) == asked, "Coiote was not asked"
        undeployed.coiote.set_faults({})
        integration = undeployed.coiote.integration()
        assert (integration["clientCertificates"], client_secret(undeployed)) == (before[0]["clientCertificates"], before[1])

    # After an update that succeeded, the new state is in force, and going back makes new certificates.
    assert cloudformation.update(new, old)["Status"] == "SUCCESS"
    after = client_secret(undeployed)
    assert cloudformation.update(new, old)["Status"] == "SUCCESS" and client_secret(undeployed) == after != before[1]
    assert cloudformation.update(old, new)["Status"] == "SUCCESS" and client_secret(undeployed) != after
    assert cloudformation.delete()["Status"] == "SUCCESS"
    assert (certificates_at_iot(undeployed), client_secret(undeployed)) == ({}, None)


OTHER_SECRET = "by-hand/another-name"

# Tag with the fingerprint of the properties in force
IN_FORCE = "coiote-aws-iot:in-force"


@pytest.fixture
def created(undeployed, custom_resource):
    """A custom resource that was created, with AWS between, and its properties with another name of the secret."""
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)
        cloudformation.create()
        yield cloudformation, between, cloudformation.properties | {"ClientSecret": OTHER_SECRET}


def test_a_change_of_the_secrets_name_that_failed_goes_back_without_coiote(undeployed, created):
    cloudformation, between, new = created
    old, before = cloudformation.properties, client_secret(undeployed)
    undeployed.coiote.set_faults({"routes": {f"POST {EXTERNAL}": 503}})
    # The secret with the new name cannot be deleted yet.
    between.once("DeleteSecret", ACCESS_DENIED)
    reason = cloudformation.update(new, old)["Reason"]
    assert "503" in reason and f"deleting secret {OTHER_SECRET}" in reason
    assert client_secret(undeployed, OTHER_SECRET), "it is left"
    asked = calls_of_setup(undeployed)
    assert cloudformation.update(old, new)["Status"] == "SUCCESS"
    assert calls_of_setup(undeployed) == asked, "Coiote was not asked"
    assert (client_secret(undeployed), client_secret(undeployed, OTHER_SECRET)) == (before, None)
    undeployed.coiote.set_faults({})
    assert undeployed.coiote.integration()["clientCertificates"] == [fingerprint(before["certificatePem"])]
    cloudformation.delete()


def test_an_earlier_secret_that_the_role_may_not_see_is_in_the_log(undeployed, created):
    """On AWS the role may see a secret with an earlier name only by its tag, which may have been removed."""

    def of_the_old_name(call: Call) -> object:
        return ACCESS_DENIED if call.json()["SecretId"] == SECRET_NAME else None

    cloudformation, between, new = created
    old = cloudformation.properties
    for call in ("DescribeSecret", "GetSecretValue", "DeleteSecret"):
        between.always(call, of_the_old_name)
    assert cloudformation.update(new, old)["Status"] == "SUCCESS"
    [line] = [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
    assert line["level"] == "ERROR" and f"secret {SECRET_NAME}: " in line["reason"] and "AccessDenied" in line["reason"]
    assert client_secret(undeployed), "it is left"
    registered = undeployed.coiote.integration()["clientCertificates"]
    assert fingerprint(client_secret(undeployed, OTHER_SECRET)["certificatePem"]) in registered
    # When the role may see it again, the removal under each name removes everything.
    between.heal()
    assert cloudformation.delete(ClientSecret=OTHER_SECRET)["Status"] == "SUCCESS"
    assert cloudformation.delete()["Status"] == "SUCCESS"
    integration = undeployed.coiote.integration()
    assert (integration["externalCertificate"], integration["clientCertificates"]) == (None, [])
    assert (client_secret(undeployed), client_secret(undeployed, OTHER_SECRET)) == (None, None)


def test_an_own_secret_whose_key_the_role_may_not_use_is_kept(undeployed, created):
    """Secrets Manager refuses to give a value that the role may not decrypt in the same way as a secret that it may not see."""

    def of_the_old_name(call: Call) -> object:
        return Refuse(400, "AccessDeniedException", "Access to KMS is not allowed") if call.json()["SecretId"] == SECRET_NAME else None

    cloudformation, between, new = created
    old, before = cloudformation.properties, client_secret(undeployed)
    between.always("GetSecretValue", of_the_old_name)
    assert cloudformation.update(new, old)["Status"] == "SUCCESS"
    [line] = [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
    assert f"secret {SECRET_NAME}: AccessDeniedException" in line["reason"] and client_secret(undeployed) == before
    assert f"secret {SECRET_NAME}: AccessDeniedException" in cloudformation.delete()["Reason"]
    assert client_secret(undeployed) == before
    assert fingerprint(before["certificatePem"]) in undeployed.coiote.integration()["clientCertificates"]
    between.heal()
    assert cloudformation.delete(ClientSecret=OTHER_SECRET)["Status"] == "SUCCESS"
    assert cloudformation.delete()["Status"] == "SUCCESS"
    assert undeployed.coiote.integration()["clientCertificates"] == []
    assert (client_secret(undeployed), client_secret(undeployed, OTHER_SECRET)) == (None, None)


def test_an_earlier_secret_that_cannot_be_read_now_fails_the_change(undeployed, created):
    def of_the_old_name(call: Call) -> object:
        return BROKEN if call.json()["SecretId"] == SECRET_NAME else None

    cloudformation, between, new = created
    old, before = cloudformation.properties, client_secret(undeployed)
    between.always("GetSecretValue", of_the_old_name)
    reason = cloudformation.update(new, old)["Reason"]
    assert f"secret {SECRET_NAME}: {BROKEN.code}" in reason and "could not all be undone" not in reason
    between.heal()
    assert (client_secret(undeployed), client_secret(undeployed, OTHER_SECRET)) == (before, None)
    assert undeployed.coiote.integration()["clientCertificates"] == [fingerprint(before["certificatePem"])]
    assert cloudformation.delete()["Status"] == "SUCCESS"


def test_a_change_that_broke_off_does_not_count_as_the_state_before(undeployed, custom_resource):
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)
        old = cloudformation.properties
        new = old | {"Rotation": "1"}
        cloudformation.create()
        # The new value is written, and the old one cannot be restored.
        between.once("PutSecretValue", None, *[DENIED] * 3)
        between.always("POST /keys-and-certificate", DENIED)
        assert "may have the new value" in cloudformation.update(new, old)["Reason"]
        between.heal()
        integration = undeployed.coiote.integration()
        assert fingerprint(client_secret(undeployed)["certificatePem"]) in integration["clientCertificates"]
        # The state of the secret is not known, so certificates are made anew.
        before = client_secret(undeployed)
        assert cloudformation.update(old, new)["Status"] == "SUCCESS" and client_secret(undeployed) != before
        assert len(certificates_at_iot(undeployed)) == 1
        registered = undeployed.coiote.integration()["clientCertificates"]
        assert registered == [fingerprint(client_secret(undeployed)["certificatePem"])], "and what was there before is gone"
        cloudformation.delete()


def test_a_certificate_of_iot_core_whose_answer_is_lost_is_not_active(undeployed, custom_resource):
    iot = undeployed.aws.iot
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)
        # A second call would make a second certificate.
        between.once("POST /keys-and-certificate", LoseAnswer())
        answer = cloudformation.create()
        assert answer["Status"] == "FAILED" and "creating a certificate at IoT Core" in answer["Reason"]
        assert between.calls.count("POST /keys-and-certificate") == 1
        [(lost, status)] = certificates_at_iot(undeployed).items()
        assert status == "INACTIVE"
        iot.delete_certificate(certificateId=lost)
        cloudformation.delete()


def test_what_a_failed_creation_left_is_removed_by_the_deletion_that_follows(undeployed, custom_resource):
    """The rollback of CloudFormation deletes a resource by the id that its failed creation answered with."""
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)
        between.always("DELETE /certificates", DENIED)
        undeployed.coiote.set_faults({"routes": {f"POST {EXTERNAL}": 500, f"DELETE {CLIENT}": 503}})
        try:
            answer = cloudformation.create()
        finally:
            undeployed.coiote.set_faults({})
        assert answer["Status"] == "FAILED" and "could not all be undone" in answer["Reason"]
        assert len(certificates_at_iot(undeployed)) == 1
        registered = undeployed.coiote.integration()["clientCertificates"]
        assert registered == [fingerprint(client_secret(undeployed)["certificatePem"])], "the secret tells of it"
        between.heal()
        # Twice: CloudFormation may repeat it.
        assert [cloudformation.delete()["Status"] for _ in range(2)] == ["SUCCESS"] * 2
    assert_no_certificate_is_left(undeployed)


@pytest.mark.parametrize("ended_by", ["renewal", "deletion"])
def test_what_failed_updates_left_at_coiote_is_removed_later(undeployed, custom_resource, ended_by):
    cloudformation = custom_resource()
    old = cloudformation.properties
    cloudformation.create()
    before = client_secret(undeployed)
    undeployed.coiote.set_faults({"routes": {f"POST {EXTERNAL}": 503, f"DELETE {CLIENT}": 503}})
    try:
        for change in ({"Rotation": "1"}, {"ClientSecret": OTHER_SECRET}):
            new = old | change
            assert "may still be registered at Coiote" in cloudformation.update(new, old)["Reason"]
            assert cloudformation.update(old, new)["Status"] == "SUCCESS", "the old state is in force"
    finally:
        undeployed.coiote.set_faults({})
    assert len(undeployed.coiote.integration()["clientCertificates"]) == 3
    assert before.items() <= client_secret(undeployed).items() and client_secret(undeployed, OTHER_SECRET) is None
    if ended_by == "renewal":
        assert cloudformation.update(old | {"Rotation": "3"}, old)["Status"] == "SUCCESS"
        renewed = client_secret(undeployed)
        assert undeployed.coiote.integration()["clientCertificates"] == [fingerprint(renewed["certificatePem"])]
        assert set(renewed) == {"certificatePem", "privateKey", "caPem"}
    assert cloudformation.delete()["Status"] == "SUCCESS"
    assert undeployed.coiote.integration()["clientCertificates"] == [] and client_secret(undeployed) is None


def test_a_certificate_whose_registration_nobody_confirmed_is_removed_later(undeployed, custom_resource):
    answers = ACCEPTS_ALL | {f"POST {CLIENT}": [(200, None), LOST, (200, None)], f"DELETE {CLIENT}": [(503, None), (200, None)]}
    with scripted_coiote(undeployed.authority, answers) as script:
        cloudformation = custom_resource(script.url)
        old = cloudformation.properties
        cloudformation.create()
        assert "may still be registered at Coiote" in cloudformation.update(old | {"Rotation": "1"}, old)["Reason"]
        assert cloudformation.delete()["Status"] == "SUCCESS"

        def certificates(method: str) -> list[str]:
            return list(dict.fromkeys(body["certificatePem"] for asked, body in script.bodies if asked == f"{method} {CLIENT}"))

        assert len(certificates("POST")) == 2 and set(certificates("DELETE")) == set(certificates("POST"))


@pytest.mark.parametrize("change", [{}, {"ClientSecret": OTHER_SECRET}], ids=["same secret", "other secret"])
@pytest.mark.parametrize("ended_by", ["renewal", "deletion", "deletion without it"])
def test_what_a_failed_move_left_at_the_other_coiote_is_removed_later(undeployed, custom_resource, ended_by, change):
    answers = ACCEPTS_ALL | {f"POST {EXTERNAL}": (503, None), f"DELETE {CLIENT}": (503, None)}
    with scripted_coiote(undeployed.authority, answers) as script:
        cloudformation = custom_resource()
        old = cloudformation.properties
        cloudformation.create()
        before, new = client_secret(undeployed), old | {"CoioteUrl": script.url} | change
        assert "may still be registered at Coiote" in cloudformation.update(new, old)["Reason"]
        left = last_registered(script)
        asked = len(script.asked)
        assert cloudformation.update(old, new)["Status"] == "SUCCESS", "the old state is in force"
        assert len(script.asked) == asked and client_secret(undeployed, OTHER_SECRET) is None
        assert client_secret(undeployed) == before | {"notRemoved": [{"certificatePem": left, "coioteUrl": script.url}]}
        assert undeployed.coiote.integration()["clientCertificates"] == [fingerprint(before["certificatePem"])]
        if ended_by != "deletion without it":
            script.answers[f"DELETE {CLIENT}"] = (200, None)
        if ended_by == "renewal":
            assert cloudformation.update(old | {"Rotation": "1"}, old)["Status"] == "SUCCESS"
            assert set(client_secret(undeployed)) == {"certificatePem", "privateKey", "caPem"}
        else:
            assert cloudformation.delete()["Status"] == "SUCCESS"
        assert [body["certificatePem"] for _, body in script.bodies[asked:]] == [left]
    lines = [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
    assert [script.url in line["reason"] for line in lines] == [True] * (ended_by == "deletion without it")
    cloudformation.delete()
    assert_no_certificate_is_left(undeployed)


# ---------------------------------------------------------------- the same Coiote by another URL


def certificates_at_coiote(stack) -> tuple[str, list[str]]:
    integration = stack.coiote.integration()
    return integration["externalCertificate"], integration["clientCertificates"]


def test_another_spelling_of_the_url_is_the_same_coiote(undeployed, custom_resource):
    cloudformation = custom_resource()
    old = cloudformation.properties
    cloudformation.create()
    before = certificates_at_coiote(undeployed)
    new = old | {"CoioteUrl": old["CoioteUrl"].replace("localhost", "LocalHost") + "/"}
    assert cloudformation.update(new, old)["Status"] == "SUCCESS"
    assert certificates_at_coiote(undeployed) == before, "there was nothing to do"
    assert cloudformation.update(new | {"Rotation": "1"}, old)["Status"] == "SUCCESS"
    [certificate_id] = certificates_at_iot(undeployed)
    after = certificates_at_coiote(undeployed)
    assert after == (certificate_id, [fingerprint(client_secret(undeployed)["certificatePem"])]) and after != before
    cloudformation.delete()


def in_force(stack) -> str:
    tags = stack.aws.secrets.describe_secret(SecretId=SECRET_NAME)["Tags"]
    return next(tag["Value"] for tag in tags if tag["Key"] == IN_FORCE)


def test_what_version_0_1_0_has_noted_of_another_spelling_is_in_force(undeployed, custom_resource):
    cloudformation = custom_resource(undeployed.coiote.url.replace("localhost", "LocalHost"))
    old = cloudformation.properties
    cloudformation.create()
    # It took the fingerprint of the URL as it was given.
    fields = [old["CoioteUrl"], USER_SECRET_NAME, SECRET_NAME, "", old["PolicyName"], "EcP256", old["ValidityDays"], ""]
    noted = hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()
    now, normal = in_force(undeployed), old | {"CoioteUrl": undeployed.coiote.url}
    assert now != noted

    def goes_back_without_coiote(state: dict) -> bool:
        undeployed.coiote.set_faults({"routes": {f"POST {CLIENT}": 503}})
        try:
            assert "503" in cloudformation.update(state | {"Rotation": "1"}, state)["Reason"]
            asked = calls_of_setup(undeployed)
            assert cloudformation.update(state, state | {"Rotation": "1"})["Status"] == "SUCCESS"
            return calls_of_setup(undeployed) == asked
        finally:
            undeployed.coiote.set_faults({})

    for correction in ([], [normal]):
        undeployed.aws.secrets.tag_resource(SecretId=SECRET_NAME, Tags=[{"Key": IN_FORCE, "Value": noted}])
        for new in correction:
            assert cloudformation.update(new, old)["Status"] == "SUCCESS"
            assert in_force(undeployed) == now
        assert goes_back_without_coiote([old, *correction][-1])
        assert in_force(undeployed) == now
    cloudformation.delete()


def test_another_name_of_the_same_coiote_leaves_it_the_new_certificates(undeployed, custom_resource):
    cloudformation = custom_resource()
    old = cloudformation.properties
    cloudformation.create()
    new = old | {"CoioteUrl": old["CoioteUrl"].replace("localhost", "127.0.0.1")}
    assert cloudformation.update(new, old)["Status"] == "SUCCESS"
    [certificate_id] = certificates_at_iot(undeployed)
    client = fingerprint(client_secret(undeployed)["certificatePem"])
    assert certificates_at_coiote(undeployed) == (certificate_id, [client])
    cloudformation.delete()


# ---------------------------------------------------------------- states that have to be waited for or cleared


def test_the_name_of_a_secret_that_is_still_being_deleted_is_waited_for(undeployed, custom_resource):
    undeployed.aws.secrets.create_secret(Name=SECRET_NAME, SecretString="of a stack before")
    undeployed.aws.secrets.delete_secret(SecretId=SECRET_NAME, RecoveryWindowInDays=7)
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)

        def is_deleted_now() -> None:
            undeployed.aws.secrets.delete_secret(SecretId=SECRET_NAME, ForceDeleteWithoutRecovery=True)

        between.once("DescribeSecret", None, is_deleted_now)
        between.once("CreateSecret", STILL_DELETED, STILL_DELETED)
        assert cloudformation.create()["Status"] == "SUCCESS"
        assert (between.calls.count("DescribeSecret"), between.calls.count("CreateSecret")) == (2, 3)
        cloudformation.delete()


def test_a_policy_that_aws_does_not_let_go_yet_is_waited_for(undeployed, custom_resource):
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)
        cloudformation.create()
        document = '{"Version": "2012-10-17", "Statement": []}'
        undeployed.aws.iot.create_policy_version(policyName="by-hand", policyDocument=document, setAsDefault=True)
        # More often than usual retries; the first call deletes the earlier version.
        between.once("DELETE /policies", None, *[STILL_ATTACHED] * 4)
        assert cloudformation.delete()["Status"] == "SUCCESS"
        assert between.calls.count("DELETE /policies") == 6 and policies_at_iot(undeployed) == []


def test_a_policy_that_aws_never_lets_go_is_left_to_cloudformation(undeployed, custom_resource):
    with AwsBetween(undeployed).serve() as between:
        cloudformation = custom_resource(endpoint=between.endpoint)
        cloudformation.create()
        between.always("DELETE /policies", STILL_ATTACHED)
        assert cloudformation.delete(seconds=8)["Status"] == "SUCCESS"
        assert between.calls.count("DELETE /policies") > 1 and policies_at_iot(undeployed) == ["by-hand"]


def test_certificates_of_a_stack_that_was_removed_by_force_are_cleared(undeployed, custom_resource):
    custom_resource().create()
    left = undeployed.coiote.integration()
    [old_certificate] = certificates_at_iot(undeployed)
    # The next stack of this name: the first one is gone without an event.
    cloudformation = custom_resource(uuid="0002")
    assert cloudformation.create()["Status"] == "SUCCESS"
    integration = undeployed.coiote.integration()
    assert integration["clientCertificates"] == [fingerprint(client_secret(undeployed)["certificatePem"])]
    assert integration["clientCertificates"] != left["clientCertificates"]
    assert old_certificate not in certificates_at_iot(undeployed), "it had the policy"
    cloudformation.delete()
    assert undeployed.coiote.integration()["clientCertificates"] == [] and client_secret(undeployed) is None


# ---------------------------------------------------------------- a Coiote that answers in unusual ways


EXTERNAL, CLIENT = "/awsIntegration/auth/externalCertificate", "/auth/certificates"
# Answers of a Coiote that accepts everything
ACCEPTS_ALL = {f"{method} {path}": (200, None) for method in ("POST", "DELETE") for path in (EXTERNAL, CLIENT)}


def test_the_certificate_of_another_integration_at_coiote_is_removed_first(undeployed, custom_resource):
    with scripted_coiote(undeployed.authority, ACCEPTS_ALL) as script:
        cloudformation = custom_resource(script.url)
        assert cloudformation.create()["Status"] == "SUCCESS"
        assert script.asked == [f"POST {CLIENT}", f"DELETE {EXTERNAL}", f"POST {EXTERNAL}"]
        cloudformation.delete()


def last_registered(script) -> str:
    """The client certificate that was registered last."""
    return [body["certificatePem"] for asked, body in script.bodies if asked == f"POST {CLIENT}"][-1]


# Answers to the look whether Coiote accepts the certificate that is to stay, in place of a proper one
LOOK_ANSWERS = [None, (503, {"message": "too busy"}), (502, b"a gateway")]


@contextlib.contextmanager
def coiote_that_ignores_bodies(authority, look: tuple | None, **answers: object):
    """A Coiote whose `DELETE /auth/certificates` removes all of them, whatever its body names; and its answer to the first look."""
    with scripted_coiote(authority, ACCEPTS_ALL | answers) as script:

        def find_devices() -> tuple:
            nonlocal look
            given, look = look, None
            last = [asked for asked in script.asked if asked.endswith(CLIENT)][-1]
            return given or ((200, []) if last.startswith("POST") else (401, {"message": "unknown certificate"}))

        script.answers["GET /devices"] = find_devices
        yield script


# The certificate that is to stay is registered again before anything else.
REMOVAL = [f"DELETE {CLIENT}", f"POST {CLIENT}", "GET /devices"]


@pytest.mark.parametrize("look", LOOK_ANSWERS, ids=lambda look: str(look and look[0]))
def test_a_coiote_that_removes_more_than_it_is_asked_for_does_not_lose_the_new_certificate(undeployed, custom_resource, look):
    with coiote_that_ignores_bodies(undeployed.authority, look) as script:
        cloudformation = custom_resource(script.url)
        cloudformation.create()
        script.asked.clear()
        old = cloudformation.properties
        assert cloudformation.update(old | {"Rotation": "1"}, old)["Status"] == "SUCCESS"
        assert [call.partition("?")[0] for call in script.asked] == [f"POST {CLIENT}", f"POST {EXTERNAL}", *REMOVAL]
        assert last_registered(script) == client_secret(undeployed)["certificatePem"]
        # The same Coiote by another name
        new = old | {"CoioteUrl": script.url.replace("localhost", "127.0.0.1")}
        assert cloudformation.update(new, old)["Status"] == "SUCCESS"
        assert [call.partition("?")[0] for call in script.asked][-3:] == REMOVAL
        assert last_registered(script) == client_secret(undeployed)["certificatePem"]
        assert not [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
        cloudformation.delete()


@pytest.mark.parametrize("look", LOOK_ANSWERS, ids=lambda look: str(look and look[0]))
def test_nor_does_it_lose_the_old_certificate_when_a_renewal_is_undone(undeployed, custom_resource, look):
    given = {f"POST {EXTERNAL}": [(200, None), (401, {"message": "not you"})]}
    with coiote_that_ignores_bodies(undeployed.authority, look, **given) as script:
        cloudformation = custom_resource(script.url)
        cloudformation.create()
        before = client_secret(undeployed)
        script.asked.clear()
        old = cloudformation.properties
        reason = cloudformation.update(old | {"Rotation": "1"}, old)["Reason"]
        assert "giving Coiote the certificate" in reason and "could not all be undone" not in reason
        assert [call.partition("?")[0] for call in script.asked] == [f"POST {CLIENT}", f"POST {EXTERNAL}", *REMOVAL]
        [removed] = [body["certificatePem"] for asked, body in script.bodies if asked == f"DELETE {CLIENT}"]
        assert client_secret(undeployed) == before != removed
        assert last_registered(script) == before["certificatePem"]
        cloudformation.delete()


def test_an_old_certificate_that_coiote_refuses_when_a_renewal_is_undone_is_the_reason(undeployed, custom_resource):
    answers = {
        f"POST {EXTERNAL}": [(200, None), (503, None)],
        f"POST {CLIENT}": [(200, None), (200, None), (500, None)],
        "GET /devices": (401, {"message": "no"}),
    }
    with scripted_coiote(undeployed.authority, ACCEPTS_ALL | answers) as script:
        cloudformation = custom_resource(script.url)
        cloudformation.create()
        before, old = client_secret(undeployed), cloudformation.properties
        reason = cloudformation.update(old | {"Rotation": "1"}, old)["Reason"]
        assert "Coiote may not accept the client certificate in use any more (Coiote failed: 500" in reason
        assert "may still be registered" not in reason and client_secret(undeployed) == before
        cloudformation.delete()


def test_a_coiote_may_refuse_to_register_what_it_has(undeployed, custom_resource):
    conflict = (409, {"message": "it is registered already"})
    with scripted_coiote(undeployed.authority, ACCEPTS_ALL | {f"POST {CLIENT}": [(200, None), (200, None), conflict]}) as script:
        cloudformation = custom_resource(script.url)
        cloudformation.create()
        old = cloudformation.properties
        assert cloudformation.update(old | {"Rotation": "1"}, old)["Status"] == "SUCCESS"
        assert script.asked.count(f"POST {CLIENT}") == 3
        assert not [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
        cloudformation.delete()


def test_the_certificate_of_an_earlier_coiote_user_is_in_the_log(undeployed, custom_resource):
    """Coiote keeps client certificates by user; this one's answers do not show that it has not removed it."""
    secrets = undeployed.aws.secrets
    user = {"username": "another", "password": "x", "caPem": undeployed.authority.pem}
    secrets.create_secret(Name="by-hand/another-user", SecretString=json.dumps(user))
    try:
        given = [(200, None), (401, {"message": "not you"}), (200, None)]
        with scripted_coiote(undeployed.authority, ACCEPTS_ALL | {f"POST {EXTERNAL}": given}) as script:
            cloudformation = custom_resource(script.url)
            cloudformation.create()
            old = cloudformation.properties
            new = old | {"UserSecret": "by-hand/another-user"}
            before = client_secret(undeployed)
            assert "giving Coiote the certificate" in cloudformation.update(new, old)["Reason"]
            assert client_secret(undeployed) == before
            assert last_registered(script) != before["certificatePem"], "it is not given to the other user"
            assert cloudformation.update(new, old)["Status"] == "SUCCESS"
            [line] = [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
            assert f"registered for the previous Coiote user, {COIOTE_USER}: remove it there" in line["reason"]
            # The next one is this user's.
            assert cloudformation.update(new | {"Rotation": "1"}, new)["Status"] == "SUCCESS"
            assert len([line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]) == 1
            cloudformation.delete()
    finally:
        secrets.delete_secret(SecretId="by-hand/another-user", ForceDeleteWithoutRecovery=True)


@pytest.mark.parametrize("look", [401, 503])
def test_a_certificate_that_is_refused_for_good_is_in_the_log(undeployed, custom_resource, look):
    """Registering it again may fail: then Coiote's answer to that is in the log."""
    answers = ACCEPTS_ALL | {"GET /devices": (look, {"message": "no"}), f"POST {CLIENT}": [(200, None), (200, None), (500, None)]}
    with scripted_coiote(undeployed.authority, answers) as script:
        cloudformation = custom_resource(script.url)
        cloudformation.create()
        old = cloudformation.properties
        assert cloudformation.update(old | {"Rotation": "1"}, old)["Status"] == "SUCCESS"
        [line] = [line for line in cloudformation.log_lines() if line.get("code") == "CERTIFICATE_NOT_REMOVED"]
        assert "Coiote failed: 500" in line["reason"]
        cloudformation.delete()


def test_cloudformation_is_answered_also_when_time_is_up(undeployed, policy):
    slow = ACCEPTS_ALL | {f"POST {CLIENT}": SLOW}
    with scripted_coiote(undeployed.authority, slow) as script, answer_server() as (url, answers):
        function = Function(undeployed, "IntegrationCertificates", {})
        try:
            function.invoke(creation_event(undeployed, url, script.url), seconds=6)
        finally:
            function.stop()
        [answer] = answers
        assert answer["Status"] == "FAILED" and "within the function's time" in answer["Reason"]
        assert (certificates_at_iot(undeployed), client_secret(undeployed)) == ({}, None)


def test_an_answer_that_does_not_reach_cloudformation_is_in_the_log(undeployed):
    function = Function(undeployed, "IntegrationCertificates", {})
    try:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            event = creation_event(undeployed, f"http://127.0.0.1:{held.getsockname()[1]}/answer?signature=s3cret", undeployed.coiote.url)
            # The deletion of a resource that was never created only has to be answered.
            event |= {"RequestType": "Delete", "PhysicalResourceId": "not-created-1"}
            results = [function.invoke(event), function.invoke({"no": "request"})]
    finally:
        function.stop()
    codes = ["CLOUDFORMATION_NOT_ANSWERED", "EVENT_INVALID"]
    assert [result["errorType"] for result in results] == codes
    lines = [line for line in function.log_lines() if line["level"] == "ERROR"]
    assert [line["code"] for line in lines] == codes and all(line["reason"] for line in lines)
    assert "s3cret" not in function.log.read_text()


# ---------------------------------------------------------------- whole stacks that fail, or have long names


def test_a_coiote_that_cannot_be_reached_is_the_reason(undeployed):
    with socket.socket() as held:
        # Bound but not listening: connections to it are refused.
        held.bind(("127.0.0.1", 0))
        with pytest.raises(Failure):
            undeployed.deploy(CoioteUrl=f"https://localhost:{held.getsockname()[1]}")
    assert "Coiote could not be reached" in failure_reasons(undeployed)
    delete_stack(undeployed)
    assert_nothing_is_left(undeployed)


def test_a_wrong_password_is_the_reason(undeployed):
    undeployed.aws.secrets.create_secret(
        Name="wrong-user", SecretString=json.dumps({"username": "x", "password": "s3cret", "caPem": undeployed.authority.pem})
    )
    with pytest.raises(Failure) as failed:
        undeployed.deploy(CoioteUserSecretName="wrong-user")
    assert "Coiote refused the credentials" in failure_reasons(undeployed)
    assert "s3cret" not in failure_reasons(undeployed) + str(failed.value)
    delete_stack(undeployed)
    assert_nothing_is_left(undeployed)


def test_a_stack_may_have_a_name_of_128_characters(undeployed):
    name = "long" * 32
    parameters = undeployed.parameters | {"CoioteSecretName": "of-the-long-one", "ClientKeyType": "EC_P256"}
    undeployed.deployment.deploy(undeployed.aws, parameters, stack_name=name)
    try:
        made = undeployed.aws.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        longest = {"AWS::Lambda::Function": 64, "AWS::SQS::Queue": 80, "AWS::IoT::Policy": 128, "AWS::IAM::Role": 64}
        for kind, limit in longest.items():
            names = [r["PhysicalResourceId"].rpartition("/")[2] for r in made if r["ResourceType"] == kind]
            assert names and max(map(len, names)) <= limit, names
    finally:
        delete_stack(undeployed, name)
    assert_nothing_is_left(undeployed)


def delete_stack(stack, name: str = STACK_NAME) -> None:
    """Deletes a stack as `sam delete` does, which looks only twice a minute whether it is done."""
    stack.aws.cloudformation.delete_stack(StackName=name)
    wait_for("the stack to be deleted", lambda: not stack_is_there(stack, name))


def stack_is_there(stack, name: str = STACK_NAME) -> bool:
    try:
        stacks = stack.aws.cloudformation.describe_stacks(StackName=name)["Stacks"]
    except stack.aws.cloudformation.exceptions.ClientError:
        return False
    if stacks[0]["StackStatus"] == "DELETE_FAILED":
        raise Failure(stacks[0].get("StackStatusReason", "DELETE_FAILED"))
    return True


def failure_reasons(stack) -> str:
    events = stack.aws.cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    return "\n".join(event.get("ResourceStatusReason", "") for event in events)


# ---------------------------------------------------------------- the deployed stack and its devices


@pytest.fixture(scope="module")
def deployed(undeployed):
    # With an answer to the question for a password by a user without one: the secret's name takes precedence.
    undeployed.deploy(CoioteUser="nobody", CoioteUserPassword="-")
    assert_integrated(undeployed)
    return undeployed


def test_the_client_certificate_has_the_requested_form_and_no_secret_is_logged(deployed):
    secret = client_secret(deployed)
    certificate = x509.load_pem_x509_certificate(secret["certificatePem"].encode())
    assert certificate.public_key().key_size == 2048
    assert [name.value for name in certificate.subject] == [COIOTE_USER, COIOTE_USER]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3650
    log = deployed.aws.logs.filter_log_events(logGroupName=deployed.outputs["IntegrationCertificatesLogGroup"])
    lines = "".join(event["message"] for event in log["events"])
    assert "the integration is as the stack wants it" in lines
    user = json.loads(deployed.aws.secrets.get_secret_value(SecretId=USER_SECRET_NAME)["SecretString"])
    key = secret["privateKey"].splitlines()[1]
    assert user["password"] not in lines and key not in lines and "PRIVATE KEY" not in lines and "cfn-response" not in lines


def test_the_policy_allows_shadows_and_announcements_and_nothing_else(deployed):
    policy = deployed.aws.iot.get_policy(policyName=deployed.outputs["CoiotePolicyName"])["policyDocument"]
    allowed = {}
    for statement in json.loads(policy)["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for action in actions:
            allowed.setdefault(action, []).extend(resource.split(":", 5)[-1] for resource in resources)
    shadows = "$aws/things/*/shadow/*"
    assert allowed == {
        "iot:Connect": ["client/*"],
        "iot:Publish": [f"topic/{shadows}", "topic/createThing"],
        "iot:Receive": [f"topic/{shadows}", "topic/createThing"],
        "iot:Subscribe": [f"topicfilter/{shadows}", "topicfilter/createThing"],
        "iot:GetThingShadow": ["thing/*"],
        "iot:UpdateThingShadow": ["thing/*"],
        "iot:DeleteThingShadow": ["thing/*"],
        "iot:ListNamedShadowsForThing": ["*"],
    }
    [alone] = [s for s in json.loads(policy)["Statement"] if "iot:ListNamedShadowsForThing" in s["Action"]]
    assert alone["Action"] == "iot:ListNamedShadowsForThing" and alone["Resource"] == "*"


def test_the_doctor_reports_errors_of_the_certificate_and_its_policy(deployed):
    def look() -> tuple[int, str]:
        ended = run(deployed, "doctor")
        return ended.returncode, ended.stdout

    name = deployed.outputs["CoiotePolicyName"]
    code, shown = look()
    assert code == 0 and f"ok      policy {name}: it allows what Coiote does in AWS IoT" in shown, shown
    certificate_id, _ = assert_integrated(deployed)
    assert f"ok      certificate of Coiote ({certificate_id[:8]}…): valid for" in shown
    iot = deployed.aws.iot
    [version] = iot.list_policy_versions(policyName=name)["policyVersions"]
    document = json.loads(iot.get_policy(policyName=name)["policyDocument"])
    document["Statement"].append({"Effect": "Deny", "Action": "iot:Publish", "Resource": "*"})
    narrower = iot.create_policy_version(policyName=name, policyDocument=json.dumps(document), setAsDefault=True)
    iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
    try:
        code, shown = look()
        assert code == 1 and "it does not allow iot:Publish on topic/$aws/things/" in shown
        assert f"--new-status ACTIVE --certificate-id {certificate_id}" in shown
        checks = [line for line in shown.splitlines()[:-1] if not line.startswith(" ")]
        assert shown.endswith(f"\nWrong: 2 of {len(checks)}.\n")
    finally:
        iot.update_certificate(certificateId=certificate_id, newStatus="ACTIVE")
        iot.set_default_policy_version(policyName=name, policyVersionId=version["versionId"])
        iot.delete_policy_version(policyName=name, policyVersionId=narrower["policyVersionId"])


def test_the_doctor_does_not_want_a_replaced_certificate_to_be_active_again(deployed):
    """A renewal leaves an old certificate inactive with its policy, if it cannot delete it."""
    iot, policy = deployed.aws.iot, deployed.outputs["CoiotePolicyName"]
    old = iot.create_keys_and_certificate(setAsActive=False)
    iot.attach_policy(policyName=policy, target=old["certificateArn"])
    try:
        ended = run(deployed, "doctor")
        assert ended.returncode == 0, ended.stdout
        assert f"unsure  certificate of Coiote ({old['certificateId'][:8]}…): it is INACTIVE" in ended.stdout
        assert f"aws iot delete-certificate --certificate-id {old['certificateId']}" in ended.stdout
        assert "--new-status ACTIVE" not in ended.stdout
    finally:
        iot.detach_policy(policyName=policy, target=old["certificateArn"])
        iot.delete_certificate(certificateId=old["certificateId"])


def test_a_device_appears_and_is_managed(deployed):
    name = "urn:dev:first"
    deployed.coiote.add_device(name)
    made = wait_for_thing(deployed, name)
    assert made["attributes"] == {"protocol": "LwM2M"} and ":" in made["thingTypeName"]
    classic = deployed.aws.reported(name, None)
    assert classic["endpointName"] == name and "lwm2mUri" in classic

    version = deployed.aws.request(name, {"operation": "write", "keys": ["Device.0.UTC Offset"], "values": ["+03:00"]})
    assert deployed.aws.last_word(name, version)["status"] == "SUCCEEDED"
    assert deployed.aws.reported(name, "datamodel")["Device"]["0"]["UTC Offset"] == "+03:00"
    assert deployed.coiote.datamodel(name)["Device"]["0"]["UTC Offset"] == "+03:00"


def test_notifications_and_sends_arrive_in_the_datamodel_shadow(deployed):
    name = "urn:dev:observed"
    deployed.coiote.add_device(name)
    wait_for_thing(deployed, name)
    observe = {"operation": "observe", "keys": ["Device.0.Battery Level"], "attributes": [{"gt": 50, "lt": 20}]}
    version = deployed.aws.request(name, observe)
    deployed.aws.last_word(name, version, ("SCHEDULED", "SUCCEEDED"))
    wait_for("the observe to run", lambda: all(task["status"] == "done" for task in deployed.coiote.tasks(name)))

    def known() -> str:
        return deployed.aws.reported(name, "datamodel")["Device"]["0"]["Battery Level"]

    deployed.coiote.set_values(name, {"Device.0.Battery Level": "40"})
    deployed.coiote.set_values(name, {"Device.0.Battery Level": "60"})
    wait_for("the notification that 50 was crossed", lambda: known() == "60")
    # 55 crosses nothing, and 15 does.
    deployed.coiote.set_values(name, {"Device.0.Battery Level": "55"})
    deployed.coiote.set_values(name, {"Device.0.Battery Level": "15"})
    wait_for("the notification that 20 was crossed", lambda: known() == "15")
    # 10 crosses nothing, but the device sends it.
    deployed.coiote.set_values(name, {"Device.0.Battery Level": "10"})
    deployed.coiote.send(name, "Device.0.Battery Level")
    wait_for("what the device sent", lambda: known() == "10")


def test_a_device_goes_and_comes_back(deployed):
    name = "urn:dev:comes-and-goes"
    deployed.coiote.add_device(name)
    wait_for_thing(deployed, name)

    def last(operation: str) -> bool:
        return deployed.aws.reported(name, None).get("lwm2mLastUpOp") == operation

    wait_for("the registration", lambda: last("Register"))
    deployed.coiote.set_state(name, "sleeping")
    version = deployed.aws.request(name, {"operation": "read", "keys": ["Device.0.Battery Level"]})
    deployed.aws.last_word(name, version, ("SCHEDULED",))
    deployed.coiote.set_state(name, "online")
    wait_for("the update", lambda: last("Update"))
    assert deployed.aws.last_word(name, version)["status"] == "SUCCEEDED"
    before = describe_thing(deployed, name)
    deployed.coiote.set_state(name, "deregistered")
    deployed.coiote.set_state(name, "online")
    wait_for("the registration", lambda: last("Register"))
    assert describe_thing(deployed, name) == before


def test_ten_devices_of_three_new_types_at_once(deployed):
    for number in range(10):
        deployed.coiote.add_device(f"ten-{number}", manufacturer="ten", model=f"model-{number % 3}")
    for number in range(10):
        assert wait_for_thing(deployed, f"ten-{number}")["thingTypeName"] == f"ten:model-{number % 3}"
    types = [t["thingTypeName"] for t in deployed.aws.iot.list_thing_types()["thingTypes"]]
    assert sorted(name for name in types if name.startswith("ten:")) == ["ten:model-0", "ten:model-1", "ten:model-2"]


def test_many_thing_types_already_there(deployed):
    for number in range(150):
        deployed.aws.iot.create_thing_type(thingTypeName=f"many:{number:03}")
    for number, model in enumerate(("149", "new")):
        deployed.coiote.add_device(f"many-{number}", manufacturer="many", model=model)
        assert wait_for_thing(deployed, f"many-{number}")["thingTypeName"] == f"many:{model}"


def test_the_same_announcement_five_times(deployed):
    name = "urn:dev:five-times"
    deployed.coiote.add_device(name)
    made, shadow = wait_for_thing(deployed, name), deployed.aws.shadow(name, "operation")
    for _ in range(5):
        deployed.coiote.announce(name)
    group = deployed.outputs["CreateThingLogGroup"]

    def announced() -> bool:
        lines = [line for line in deployed.aws.log_lines(group) if line.get("thing") == name]
        return [line["status"] for line in lines if line["message"] == "the thing is there"] == ["CREATED"] + ["EXISTS"] * 5

    wait_for("all six announcements to be dealt with", announced)
    assert (describe_thing(deployed, name), deployed.aws.shadow(name, "operation")["version"]) == (made, shadow["version"])


# ---------------------------------------------------------------- create-thing alone


def announcement(name: str, device_type: str = TYPE) -> dict:
    return {"coioteDeviceId": name, "coioteDeviceType": device_type}


def test_a_thing_with_another_type_moves_and_keeps_the_rest(stack, environment_of):
    stack.aws.iot.create_thing_type(thingTypeName="wrong:type")
    attributes = {"attributes": {"owner": "me"}}
    stack.aws.iot.create_thing(thingName="moves", thingTypeName="wrong:type", attributePayload=attributes)
    result = environment_of("CreateThing").invoke(announcement("moves"))
    assert (result["status"], describe_thing(stack, "moves")["thingTypeName"]) == ("CORRECTED", AWS_TYPE)
    assert describe_thing(stack, "moves")["attributes"] == {"owner": "me", "protocol": "LwM2M"}


def test_a_thing_without_a_type_gets_one(stack, environment_of):
    stack.aws.iot.create_thing(thingName="typeless")
    assert environment_of("CreateThing").invoke(announcement("typeless"))["status"] == "CORRECTED"
    assert describe_thing(stack, "typeless")["thingTypeName"] == AWS_TYPE


def test_a_deprecated_type(stack, environment_of):
    stack.aws.iot.create_thing_type(thingTypeName="old:type")
    stack.aws.iot.create_thing(thingName="has-it-already", thingTypeName="old:type")
    stack.aws.iot.deprecate_thing_type(thingTypeName="old:type")
    function = environment_of("CreateThing")
    result = function.invoke(announcement("deprecated-type", "old.type"))
    assert (result["status"], result["code"]) == ("CREATED", "THING_TYPE_DEPRECATED")
    made = describe_thing(stack, "deprecated-type")
    assert made.get("thingTypeName") is None and made["attributes"] == {"protocol": "LwM2M"}
    assert "version" in stack.aws.shadow("deprecated-type", "operation")
    [line] = [line for line in function.log_lines() if line.get("code") == "THING_TYPE_DEPRECATED"]
    assert line["level"] == "WARN" and "undo the deprecation" in line["reason"]

    assert "code" not in function.invoke(announcement("has-it-already", "old.type"))
    assert describe_thing(stack, "has-it-already")["thingTypeName"] == "old:type"

    stack.aws.iot.deprecate_thing_type(thingTypeName="old:type", undoDeprecate=True)
    assert function.invoke(announcement("deprecated-type", "old.type"))["status"] == "CORRECTED"
    assert describe_thing(stack, "deprecated-type")["thingTypeName"] == "old:type"


def test_encoded_names(stack, environment_of):
    function = environment_of("CreateThing")
    result = function.invoke(announcement("urn%3Adev%3A1", "anjay.demo_client"))
    assert (result["thingName"], result["thingType"]) == ("urn:dev:1", "anjay:demo_client")
    assert describe_thing(stack, "urn:dev:1")["thingTypeName"] == "anjay:demo_client"


@pytest.mark.parametrize(
    ("event", "code", "says"),
    [
        (announcement("bad name"), "NAME_INVALID", "' ' at character 3"),
        (announcement("x" * 129), "NAME_INVALID", "129 characters"),
        ("text", "EVENT_INVALID", "coioteDeviceId: missing"),
    ],
)
def test_names_that_aws_cannot_take(environment_of, event, code, says):
    result = environment_of("CreateThing").invoke(event)
    assert result["errorType"] == code and says in result["errorMessage"]


@pytest.mark.parametrize(
    ("call", "fault", "code"),
    [
        ("GET /things", REGISTRY_DENIED, "REGISTRY_REFUSED"),
        ("POST /things", Refuse(409, "LimitExceededException"), "REGISTRY_REFUSED"),
        ("GET /thing-types", BROKEN, "REGISTRY_UNAVAILABLE"),
        ("POST /things", THROTTLED, "REGISTRY_UNAVAILABLE"),
        ("get operation", BROKEN, "OPERATION_SHADOW_NOT_CREATED"),
        ("update operation", DENIED, "OPERATION_SHADOW_NOT_CREATED"),
    ],
)
def test_a_refusal_by_aws_iot_is_an_error_that_a_later_attempt_makes_good(
    stack, environment_of, aws_between, call, fault, code
):
    name = f"not-taken-{call}-{fault.code}".replace(" ", "-").replace("/", "")
    aws_between.always(call, fault)
    function = environment_of("CreateThing", AWS_ENDPOINT_URL=aws_between.endpoint)
    result = function.invoke(announcement(name, "not.taken"))
    assert result["errorType"] == code and fault.code in result["errorMessage"]
    assert call in aws_between.calls
    [line] = [line for line in function.log_lines() if line.get("code") == code and "message" in line]
    assert (line["level"], line["thing"]) == ("ERROR", name)
    # Lambda's retry, or a redrive
    aws_between.heal()
    assert function.invoke(announcement(name, "not.taken"))["status"] in ("CREATED", "EXISTS")
    assert describe_thing(stack, name)["thingTypeName"] == "not:taken" and "version" in stack.aws.shadow(name, "operation")


@pytest.mark.parametrize(
    ("device_type", "thing_type", "code"),
    [
        ("Nordic Semiconductor ASA.thingy91_nrf9160", "Nordic_Semiconductor_ASA:thingy91_nrf9160", "THING_TYPE_CHANGED"),
        ("anjay.", "anjay:", "THING_TYPE_INCOMPLETE"),
        ("müller_gmbh.heizung", None, "THING_TYPE_INVALID"),
        ("", None, "THING_TYPE_INVALID"),
        (".", None, "THING_TYPE_INVALID"),
        (None, None, "THING_TYPE_INVALID"),
        ("absent", None, "THING_TYPE_INVALID"),
    ],
)
def test_a_type_that_aws_cannot_take_does_not_cost_the_thing(stack, environment_of, device_type, thing_type, code):
    name = f"badly-typed-{hashlib.sha256(repr(device_type).encode()).hexdigest()[:8]}"
    event = announcement(name, device_type)
    if device_type == "absent":
        del event["coioteDeviceType"]
    function = environment_of("CreateThing")
    result = function.invoke(event)
    assert (result["status"], result["code"], result.get("thingType")) == ("CREATED", code, thing_type)
    made = describe_thing(stack, name)
    assert (made.get("thingTypeName"), made["attributes"]) == (thing_type, {"protocol": "LwM2M"})
    assert "version" in stack.aws.shadow(name, "operation")
    assert [line["level"] for line in function.log_lines() if line.get("code") == code] == ["WARN"]
    # A second announcement leaves it as it is.
    assert (function.invoke(event)["status"], describe_thing(stack, name).get("thingTypeName")) == ("EXISTS", thing_type)


@pytest.mark.parametrize(
    ("manufacturer", "thing_type"),
    [("Nordic Semiconductor ASA", "Nordic_Semiconductor_ASA:model"), ("müller_gmbh", None), ("", ":model")],
)
def test_a_device_of_any_manufacturer_appears(deployed, manufacturer, thing_type):
    name = f"made-by-{hashlib.sha256(manufacturer.encode()).hexdigest()[:8]}"
    deployed.coiote.add_device(name, manufacturer=manufacturer, model="model")
    assert wait_for_thing(deployed, name).get("thingTypeName") == thing_type


def test_bad_names_end_in_the_failure_queue(deployed):
    name = "bad name/ä"
    deployed.coiote.add_device(name)
    queue = deployed.outputs["FailureQueueUrl"]

    def received() -> dict | None:
        for message in deployed.aws.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", []):
            record = json.loads(message["Body"])
            # Messages of other tests are left alone.
            if unquote(record["requestPayload"].get("coioteDeviceId", "")) == name:
                return record
        return None

    record = wait_for("the event to be in the failure queue", received)
    assert record["responsePayload"]["errorType"] == "NAME_INVALID"
    assert "' ' at character 3" in record["responsePayload"]["errorMessage"]


# ---------------------------------------------------------------- update and delete


@contextlib.contextmanager
def requests_meanwhile(stack, name: str, request: dict):
    """Makes requests in the background, one after the other; yields the list of their answers."""
    answers, is_over = [], threading.Event()

    def make_requests() -> None:
        while not is_over.is_set():
            answers.append(stack.aws.last_word(name, stack.aws.request(name, request)))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(make_requests)
        try:
            yield answers
        finally:
            is_over.set()
        done.result()


def test_new_certificates_take_over_without_a_gap(deployed):
    name = "urn:dev:rotated"
    deployed.coiote.add_device(name)
    wait_for_thing(deployed, name)
    before = assert_integrated(deployed)
    read = {"operation": "read", "keys": ["Device.0.UTC Offset"]}
    # The function is warm, with the old certificate.
    assert deployed.aws.last_word(name, deployed.aws.request(name, read))["status"] == "SUCCEEDED"

    with requests_meanwhile(deployed, name, read) as answers:
        deployed.deploy(CertificateRotation="now", ClientKeyType="EC_P256")
        after = assert_integrated(deployed)
    assert {answer["status"] for answer in answers} == {"SUCCEEDED"}, answers
    certificate = x509.load_pem_x509_certificate(client_secret(deployed)["certificatePem"].encode())
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert not set(before) & set(after)
    answer = deployed.aws.last_word(name, deployed.aws.request(name, read))
    assert answer["status"] == "SUCCEEDED"

    # The same parameters once more change nothing.
    deployed.deploy(CertificateRotation="now", ClientKeyType="EC_P256", LogLevel="warn")
    assert assert_integrated(deployed) == after


def test_an_update_that_fails_leaves_the_old_certificates_in_use(deployed):
    before = assert_integrated(deployed)
    deployed.coiote.set_faults({"routes": {"POST /awsIntegration/auth/externalCertificate": 401}})
    try:
        with pytest.raises(Failure):
            deployed.deploy(CertificateRotation="later", ClientKeyType="EC_P256")
    finally:
        deployed.coiote.set_faults({})
    integration = deployed.coiote.integration()
    assert integration["externalCertificate"] == before[0]
    assert certificates_at_iot(deployed) == {before[0]: "ACTIVE"}
    assert integration["clientCertificates"] == [fingerprint(client_secret(deployed)["certificatePem"])] == [before[1]]


def stack_status(stack) -> str:
    return stack.aws.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]["StackStatus"]


def test_a_renewal_while_coiote_is_away_is_rolled_back(deployed):
    before = assert_integrated(deployed)
    deployed.coiote.set_faults({"routes": {f"{method} {path}": 503 for method in ("POST", "DELETE") for path in (EXTERNAL, CLIENT)}})
    try:
        with pytest.raises(Failure):
            deployed.deploy(CertificateRotation="away", ClientKeyType="EC_P256")
        wait_for("the stack to have gone back", lambda: stack_status(deployed).endswith("COMPLETE"))
    finally:
        deployed.coiote.set_faults({})
    assert stack_status(deployed) == "UPDATE_ROLLBACK_COMPLETE"
    assert assert_integrated(deployed) == before
    events = deployed.aws.cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    of_integration = [event["ResourceStatus"] for event in events if event["LogicalResourceId"] == "Integration"]
    sent_back = ["UPDATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_IN_PROGRESS"]
    assert of_integration[:4] == sent_back, "the second Update, with old and new swapped"


def test_the_secrets_name_can_be_changed(deployed):
    before = assert_integrated(deployed)
    deployed.deploy(CoioteSecretName="another/name")
    assert not set(before) & set(assert_integrated(deployed, "another/name"))
    assert client_secret(deployed) is None
    name = "urn:dev:first"
    version = deployed.aws.request(name, {"operation": "read", "keys": ["Device.0.UTC Offset"]})
    assert deployed.aws.last_word(name, version)["status"] == "SUCCEEDED"
    deployed.deploy(CoioteSecretName=SECRET_NAME)
    assert_integrated(deployed)
    assert client_secret(deployed, "another/name") is None


def test_deleting_the_stack_removes_all_of_it(deployed):
    [certificate_id] = certificates_at_iot(deployed)
    deployed.delete()
    assert_nothing_is_left(deployed)
    assert certificate_id not in certificates_at_iot(deployed)
    # The things are the user's.
    assert describe_thing(deployed, "urn:dev:first")
    assert not stack_is_there(deployed)


def test_a_stack_is_deleted_although_much_of_it_is_gone_already(deployed):
    deployed.deploy()
    certificate_id, _ = assert_integrated(deployed)
    deployed.aws.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
    deployed.aws.iot.delete_certificate(certificateId=certificate_id, forceDelete=True)
    deployed.aws.secrets.delete_secret(SecretId=SECRET_NAME, ForceDeleteWithoutRecovery=True)
    delete_stack(deployed)
    assert (certificates_at_iot(deployed), policies_at_iot(deployed), client_secret(deployed)) == ({}, [], None)
    assert deployed.coiote.integration()["externalCertificate"] is None
