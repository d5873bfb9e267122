"""What each function's role allows, and what the functions called: as IAM would compare them."""

import fnmatch
import json
import re
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stack.deployment import STACK_NAME
from stack.local_stack import LocalStack

ACCOUNT = "000000000000"

# Of calls by REST: method and path → IAM's action, and the resource with what the path names in its place.
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
REST = [
    (r"GET /things/([^/]+)/shadow", "iot:GetThingShadow", "iot thing/{0}{shadow}"),
    (r"POST /things/([^/]+)/shadow", "iot:UpdateThingShadow", "iot thing/{0}{shadow}"),
    (r"DELETE /things/([^/]+)/shadow", "iot:DeleteThingShadow", "iot thing/{0}{shadow}"),
    (r"GET /things/([^/]+)/jobs", "iotjobsdata:GetPendingJobExecutions", "iot thing/{0}"),
    (r"GET /things/([^/]+)/jobs/[^/]+", "iotjobsdata:DescribeJobExecution", "iot thing/{0}"),
    (r"POST /things/([^/]+)/jobs/[^/]+", "iotjobsdata:UpdateJobExecution", "iot thing/{0}"),
    (r"GET /jobs", "iot:ListJobs", "*"),
    (r"GET /jobs/([^/]+)", "iot:DescribeJob", "iot job/{0}"),
    (r"GET /jobs/([^/]+)/job-document", "iot:GetJobDocument", "iot job/{0}"),
    (r"GET /jobs/([^/]+)/things", "iot:ListJobExecutionsForJob", "iot job/{0}"),
    (r"GET /things/([^/]+)", "iot:DescribeThing", "iot thing/{0}"),
    (r"POST /things/([^/]+)", "iot:CreateThing", "iot thing/{0}"),
    (r"PATCH /things/([^/]+)", "iot:UpdateThing", "iot thing/{0}"),
    (r"GET /thing-types/([^/]+)", "iot:DescribeThingType", "iot thingtype/{0}"),
    (r"POST /thing-types/([^/]+)", "iot:CreateThingType", "iot thingtype/{0}"),
    (r"POST /keys-and-certificate", "iot:CreateKeysAndCertificate", "*"),
    (r"PUT /target-policies/[^/]+", "iot:AttachPolicy", "{target}"),
    (r"POST /target-policies/[^/]+", "iot:DetachPolicy", "{target}"),
    (r"POST /policy-targets/([^/]+)", "iot:ListTargetsForPolicy", "iot policy/{0}"),
    (r"GET /policies/([^/]+)/version", "iot:ListPolicyVersions", "iot policy/{0}"),
    (r"DELETE /policies/([^/]+)/version/[^/]+", "iot:DeletePolicyVersion", "iot policy/{0}"),
    (r"DELETE /policies/([^/]+)", "iot:DeletePolicy", "iot policy/{0}"),
    (r"PUT /certificates/([^/]+)", "iot:UpdateCertificate", "iot cert/{0}"),
    (r"DELETE /certificates/([^/]+)", "iot:DeleteCertificate", "iot cert/{0}"),
    (r"POST /2015-03-31/functions/([^/]+)/invocations", "lambda:InvokeFunction", "lambda function:{0}"),
]
SERVICES = {"secretsmanager": "secretsmanager", "DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs"}
# What a part of a DynamoDB transaction asks for
PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
# What CloudFormation gives a name of its own to
NAMED = {"AWS::Lambda::Function", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::IoT::Policy"}
# What the tests name themselves where they start a function by hand
NAMED_BY_TESTS = re.compile(r":(secret:|policy/|table/|function:)")


class Use(NamedTuple):
    """One permission that a call needs."""

    function: str
    action: str
    resource: str
    # Whether a test started the function, with names of its own for secret, policy and so on
    is_by_hand: bool


class Statement:
    def __init__(self, statement: dict):
        self.actions = as_list(statement["Action"])
        self.resources = as_list(statement["Resource"])
        # The local AWS does not know whether a condition holds. It only ever makes a statement narrower.
        self.condition = json.dumps(statement.get("Condition", {}))

    def allows(self, use: Use) -> bool:
        return any(like(use.action, action) for action in self.actions) and any(
            like(use.resource, resource) or (use.is_by_hand and kind(resource) == kind(use.resource) is not None)
            for resource in self.resources
        )


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def like(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def kind(resource: str) -> str | None:
    found = NAMED_BY_TESTS.search(resource)
    return found[1] if found else None


class Records:
    """What a run of the tests leaves behind: a file for each kind, which all of its processes append lines to."""

    def __init__(self, folder: Path):
        self.calls = folder / "calls.jsonl"
        self._deployed = folder / "deployed.jsonl"
        self._collected = folder / "collected.jsonl"
        self._ran = folder / "ran.jsonl"

    def begin(self) -> None:
        self.calls.parent.mkdir(parents=True, exist_ok=True)
        for file in (self.calls, self._deployed, self._collected, self._ran):
            file.write_text("")

    def remember(self, stack: LocalStack) -> None:
        """What the roles allow as they are deployed now."""
        aws, functions, roles = stack.aws, {}, {}
        listed = aws.cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
        # A queue's id is its URL.
        names = {r["PhysicalResourceId"].rpartition("/")[2]: r["LogicalResourceId"] for r in listed if r["ResourceType"] in NAMED}
        for resource in listed:
            if resource["ResourceType"] != "AWS::Lambda::Function":
                continue
            logical, physical = resource["LogicalResourceId"], resource["PhysicalResourceId"]
            functions[physical[:50]] = logical
            role = aws.lambda_.get_function_configuration(FunctionName=physical)["Role"].rpartition("/")[2]
            documents = [
                aws.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                for name in aws.iam.list_role_policies(RoleName=role)["PolicyNames"]
            ]
            roles[logical] = [statement for document in documents for statement in document["Statement"]]
        append(self._deployed, {"names": names, "functions": functions, "roles": roles})

    def tests(self, ids: Iterable[str]) -> None:
        """Tests that there are, whether they are to be run or not."""
        append(self._collected, sorted(ids))

    def ran(self, test: str) -> None:
        append(self._ran, test)

    def permissions(self) -> "Permissions":
        return Permissions(lines(self._deployed), lines(self.calls))

    def files_left_out(self) -> set[str]:
        """Of the tests' files, those of which not every test was run."""
        ran, collected = set(lines(self._ran)), {test for tests in lines(self._collected) for test in tests}
        files = {file.name for file in Path(__file__).parent.glob("test_*.py")} - {"test_permissions.py"}
        return (files - {file_of(test) for test in collected}) | {file_of(test) for test in collected - ran}


class Permissions:
    """What is deployed and called bears the names of the template here, so that it is one for all stacks of a run."""

    def __init__(self, deployed: list[dict], calls: list[dict]):
        # The longest first: one name may be the beginning of another one.
        self._names = sorted({n: l for d in deployed for n, l in d["names"].items()}.items(), key=lambda n: -len(n[0]))
        # By the name that its calls bear
        self._functions = {name: logical for d in deployed for name, logical in d["functions"].items()}
        # By a function's name in the template, what its role has allowed, by the policy's text
        self.allowed: dict[str, dict[str, Statement]] = {}
        for role in (role for d in deployed for role in d["roles"].items()):
            for statement in role[1]:
                text = self._by_the_template(json.dumps(statement, sort_keys=True))
                self.allowed.setdefault(role[0], {})[text] = Statement(json.loads(text))
        self._calls = calls

    def uses(self) -> set[Use]:
        """Every permission that the functions' calls have needed."""
        return {
            Use(
                self._functions.get(call["function"], call["function"]),
                action,
                self._by_the_template(resource),
                call["function"] not in self._functions,
            )
            for call in self._calls
            for action, resource in needed(call)
        }

    def _by_the_template(self, text: str) -> str:
        for name, logical in self._names:
            text = text.replace(name, logical)
        return text


def file_of(test: str) -> str:
    return Path(test.partition("::")[0]).name


def append(file: Path, line: object) -> None:
    # In one piece: other processes append at the same time.
    with file.open("ab", buffering=0) as opened:
        opened.write(json.dumps(line).encode() + b"\n")


def lines(file: Path) -> list:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def needed(call: dict) -> list[tuple[str, str]]:
    service, _, operation = call["target"].partition(".")
    if operation:
        return needed_by_json(SERVICES[service], operation, call["body"])
    path = f"{call['method']} {call['path'].rstrip('/')}"
    for pattern, action, resource in REST:
        found = re.fullmatch(pattern, path)
        if found:
            shadow = call["query"].get("name")
            names = [urllib.parse.unquote(name) for name in found.groups()]
            more = {"shadow": f"/{as_list(shadow)[0]}" if shadow else "", "target": call["body"].get("target", "")}
            return [(action, arn(resource.format(*names, **more)))]
    raise AssertionError(f"{path}: which IAM action this call needs has to be added to REST")


def needed_by_json(service: str, operation: str, body: dict) -> list[tuple[str, str]]:
    if service == "secretsmanager":
        named = body.get("SecretId") or body.get("Name", "")
        secret = named if named.startswith("arn:") else arn(f"secretsmanager secret:{named}-AbCdEf")
        tagging = [("secretsmanager:TagResource", secret)] if operation == "CreateSecret" and body.get("Tags") else []
        return [(f"secretsmanager:{operation}", secret), *tagging]
    if service == "sqs":
        return [(f"sqs:{operation}", arn(f"sqs {body['QueueUrl'].rpartition('/')[2]}"))]
    if operation in ("TransactWriteItems", "TransactGetItems"):
        return [(f"dynamodb:{PARTS.get(kind, 'GetItem')}", arn(f"dynamodb table/{table}")) for kind, table in body["parts"]]
    tables = body.get("tables") or [body["TableName"]]
    index = f"/index/{body['IndexName']}" if body.get("IndexName") else ""
    return [(f"dynamodb:{operation}", arn(f"dynamodb table/{table}{index}")) for table in tables]


def arn(resource: str) -> str:
    """`iot thing/a` → `arn:aws:iot:us-east-1:000000000000:thing/a`."""
    if resource == "*" or resource.startswith("arn:"):
        return resource
    service, _, name = resource.partition(" ")
    return f"arn:aws:{service}:us-east-1:{ACCOUNT}:{name}"
