"""Compares the permissions of each function's role with the calls of the functions, as IAM does."""

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

# Calls by REST: method and path → IAM's action and resource, with the names in the path in its placeholders
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
REST = [
    (r"GET /things/([^/]+)/shadow", "iot:GetThingShadow", "iot thing/{0}{shadow}"),
    (r"POST /things/([^/]+)/shadow", "iot:UpdateThingShadow", "iot thing/{0}{shadow}"),
    (r"DELETE /things/([^/]+)/shadow", "iot:DeleteThingShadow", "iot thing/{0}{shadow}"),
    (r"GET /things/([^/]+)/jobs", "iotjobsdata:GetPendingJobExecutions", "iot thing/{0}"),
    (r"GET /things/([^/]+)/jobs/[^/]+", "iotjobsdata:DescribeJobExecution", "iot thing/{0}"),
    (r"POST /things/([^/]+)/jobs/[^/]+", "iotjobsdata:UpdateJobExecution", "iot thing/{0}"),
    (r"GET /endpoint", "iot:DescribeEndpoint", "*"),
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
# Action of each kind of part of a DynamoDB transaction
PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
# Types of resources that CloudFormation names
TYPES_WITH_GENERATED_NAMES = {"AWS::Lambda::Function", "AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::IoT::Policy"}
# A generated name, which the SDK shortens. Names of a stack that failed cannot be looked up.
GENERATED_NAME = re.compile(rf"\b{STACK_NAME}-([A-Za-z]+)-[0-9A-F]{{11,13}}\b")
# Resources that the tests name themselves, where they start a function
NAMED_BY_TESTS = re.compile(r":(secret:|policy/|table/|function:)")


# A condition of a statement, as operator and key. `Statement.allows` says when it holds, which the local AWS does not evaluate.
OF_THIS_STACK = ("StringEquals", "secretsmanager:ResourceTag/coiote-aws-iot:stack")


class Use(NamedTuple):
    """A permission that a call needs."""

    function: str
    action: str
    resource: str
    # The test started the function, with names of its own for secret, policy and so on.
    is_by_hand: bool


class Statement:
    """A statement of a role's policy."""

    def __init__(self, statement: dict):
        self.actions = as_list(statement["Action"])
        self.resources = as_list(statement["Resource"])
        self.conditions = {(operator, key) for operator, keys in statement.get("Condition", {}).items() for key in keys}
        unknown = self.conditions - {OF_THIS_STACK}
        assert not unknown, f"{unknown}: when these conditions hold has to be said in Statement.allows"

    def allows(self, use: Use, tagged: set[str]) -> bool:
        """Whether it allows the use; `tagged` are the secrets that functions have tagged with their stack."""
        return (
            any(is_match(use.action, action) for action in self.actions)
            and any(
                is_match(use.resource, resource)
                or (use.is_by_hand and kind_of_test_name(resource) == kind_of_test_name(use.resource) is not None)
                for resource in self.resources
            )
            and (OF_THIS_STACK not in self.conditions or use.resource in tagged)
        )


class NotCalled(NamedTuple):
    """Permissions of roles that no function uses itself."""

    functions: set[str]
    actions: set[str]
    # User of the permissions
    why: str
    # Part of the resource, where a function itself uses the action on others
    on: str = ""


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def is_match(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def kind_of_test_name(resource: str) -> str | None:
    found = NAMED_BY_TESTS.search(resource)
    return found[1] if found else None


class Records:
    """Records of a run of the tests: a file for each kind, to which all processes append lines."""

    def __init__(self, folder: Path):
        self.calls = folder / "calls.jsonl"
        self._deployed = folder / "deployed.jsonl"
        self._collected = folder / "collected.jsonl"
        self._ran = folder / "ran.jsonl"

    def begin(self) -> None:
        """Empties the files."""
        self.calls.parent.mkdir(parents=True, exist_ok=True)
        for file in (self.calls, self._deployed, self._collected, self._ran):
            file.write_text("")

    def record_roles(self, stack: LocalStack) -> None:
        """Records the roles of a deployed stack."""
        aws, functions, roles = stack.aws, {}, {}
        listed = aws.cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
        # A queue's id is its URL.
        named = [r for r in listed if r["ResourceType"] in TYPES_WITH_GENERATED_NAMES]
        names = {r["PhysicalResourceId"].rpartition("/")[2]: r["LogicalResourceId"] for r in named}
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

    def record_tests(self, ids: Iterable[str]) -> None:
        """Records collected tests, whether they are to be run or not."""
        append(self._collected, sorted(ids))

    def record_run(self, test: str) -> None:
        append(self._ran, test)

    def permissions(self) -> "Permissions":
        return Permissions(lines(self._deployed), lines(self.calls))

    def incomplete_files(self) -> set[str]:
        """Files of tests of which not every test was run."""
        ran, collected = set(lines(self._ran)), {test for tests in lines(self._collected) for test in tests}
        files = {file.name for file in Path(__file__).parent.glob("test_*.py")} - {"test_permissions.py"}
        return (files - {file_of(test) for test in collected}) | {file_of(test) for test in collected - ran}


class Permissions:
    """Roles and calls of all stacks of a run, with the names of the template in place of the physical ones."""

    def __init__(self, deployed: list[dict], calls: list[dict]):
        # The longest first, because a name may be the beginning of another one.
        self._names = sorted({n: l for d in deployed for n, l in d["names"].items()}.items(), key=lambda n: -len(n[0]))
        # Logical ids by the names in calls
        self._functions = {name: logical for d in deployed for name, logical in d["functions"].items()}
        # Statements of each function's role, by logical id and by their text
        self.allowed: dict[str, dict[str, Statement]] = {}
        for role in (role for d in deployed for role in d["roles"].items()):
            for statement in role[1]:
                text = self._by_the_template(json.dumps(statement, sort_keys=True))
                self.allowed.setdefault(role[0], {})[text] = Statement(json.loads(text))
        self._calls = calls

    def uses(self) -> set[Use]:
        """All permissions that the functions' calls needed."""
        return {
            Use(function, action, self._by_the_template(resource), is_by_hand)
            for call in self._calls
            for function, is_by_hand in [self._function(call["function"])]
            for action, resource in needed_permissions(call)
        }

    def missing(self) -> list[str]:
        """Calls that the function's own role does not allow, and those of functions without a role."""
        uses = self.uses()
        tagged = tagged_secrets(uses)
        return sorted(
            f"{use.function}: {use.action} on {use.resource}"
            for use in uses
            if not any(statement.allows(use, tagged) for statement in self.allowed.get(use.function, {}).values())
        )

    def unused(self, not_called: list[NotCalled]) -> list[str]:
        """Permissions of roles that no call needed, without those of the list."""
        uses = self.uses()
        tagged = tagged_secrets(uses)

        def is_listed(function: str, action: str, resources: list[str]) -> bool:
            listed = [n for n in not_called if function in n.functions and action in n.actions]
            return any(all(n.on in resource for resource in resources) for n in listed)

        return sorted(
            f"{function}: {action} on {', '.join(statement.resources)}"
            for function, statements in self.allowed.items()
            for statement in statements.values()
            for action in statement.actions
            if not is_listed(function, action, statement.resources)
            and not any(use.function == function and use.action == action and statement.allows(use, tagged) for use in uses)
        )

    def _function(self, name: str) -> tuple[str, bool]:
        """Logical id of a function, and whether a test started it."""
        if name in self._functions:
            return self._functions[name], False
        given = GENERATED_NAME.fullmatch(name)
        return (given[1], False) if given else (name, True)

    def _by_the_template(self, text: str) -> str:
        for name, logical in self._names:
            text = text.replace(name, logical)
        return GENERATED_NAME.sub(r"\1", text)


def tagged_secrets(uses: set[Use]) -> set[str]:
    return {use.resource for use in uses if use.action == "secretsmanager:TagResource"}


def file_of(test: str) -> str:
    return Path(test.partition("::")[0]).name


def append(file: Path, line: object) -> None:
    # In one piece: other processes append at the same time.
    with file.open("ab", buffering=0) as opened:
        opened.write(json.dumps(line).encode() + b"\n")


def lines(file: Path) -> list:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def needed_permissions(call: dict) -> list[tuple[str, str]]:
    service, _, operation = call["target"].partition(".")
    if operation:
        return needed_permissions_of_json_call(SERVICES[service], operation, call["body"])
    path = f"{call['method']} {call['path'].rstrip('/')}"
    for pattern, action, resource in REST:
        found = re.fullmatch(pattern, path)
        if found:
            shadow = call["query"].get("name")
            names = [urllib.parse.unquote(name) for name in found.groups()]
            more = {"shadow": f"/{as_list(shadow)[0]}" if shadow else "", "target": call["body"].get("target", "")}
            return [(action, arn(resource.format(*names, **more)))]
    raise AssertionError(f"{path}: which IAM action this call needs has to be added to REST")


def needed_permissions_of_json_call(service: str, operation: str, body: dict) -> list[tuple[str, str]]:
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
