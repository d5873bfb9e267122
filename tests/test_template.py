"""The deployed template: roles and other security, limits, and the parts that parameters switch off."""

import json
import re

import pytest

from deployed_template import of_type
from stack.local_stack import ROOT
from stack.processes import Failure

TEMPLATE = ROOT / "template.yaml"

# Actions for which IAM has no resources
WITHOUT_RESOURCE = {"iot:CreateKeysAndCertificate", "iot:DescribeEndpoint", "iot:ListJobs", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def statements(role: dict) -> list[dict]:
    """All statements that the role may have, whatever the parameters are."""
    listed = [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]
    return [statement.get("Fn::If", [None, statement])[1] for statement in listed]


def test_no_role_may_do_everything_or_act_on_everything(resources):
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role, f"{name}: managed policies allow more than is needed"
        for statement in statements(role):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action], f"{name}: {actions}"
            listed = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            assert "*" not in listed or WITHOUT_RESOURCE.issuperset(actions), f"{name}: {listed}"


# A statement that allows something, in the text of the template, with the line before it
ALLOWS = re.compile(r"^(.*)\n +- Effect: Allow\n +(\w+):(.*)$", re.MULTILINE)


def without_reason(template: str) -> list[str]:
    """Statements without a comment on their purpose, except for those that let a principal assume a role."""
    found = [found for found in ALLOWS.findall(template) if found[1] != "Principal"]
    assert found, "no statement was found"
    # This comment explains "*", but not the purpose of the statement.
    no_reason = re.compile(r"(?!#)|# IAM has no resource for these actions\.$")
    return [rest.strip() for before, _, rest in found if no_reason.match(before.strip())]


def test_every_statement_names_its_reason():
    template = TEMPLATE.read_text()
    assert without_reason(template) == []
    # A statement without its reason is found.
    [reason] = re.findall(r"^ +# Find due requests\.\n", template, re.MULTILINE)
    assert without_reason(template.replace(reason, "")) == ["dynamodb:Query"]


# Longest names of AWS, by type and property, for names that the template gives. CloudFormation gives the others.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html and API_PutQueryDefinition.html,
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html and API_PutDashboard.html,
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
LONGEST_NAMES = {
    ("AWS::Logs::LogGroup", "LogGroupName"): 512,
    ("AWS::Logs::QueryDefinition", "Name"): 255,
    ("AWS::CloudWatch::Alarm", "AlarmName"): 255,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    ("AWS::SecretsManager::Secret", "Name"): 512,
}
LONGEST_STACK_NAME = "x" * 128


def named_after_the_stack(resources: dict) -> dict[tuple[str, str], list[str]]:
    """Names of resources in a stack with the longest name, by type and property."""
    names: dict[tuple[str, str], list[str]] = {}
    for resource in resources.values():
        for key, value in resource.get("Properties", {}).items():
            if key.endswith("Name") and isinstance(value, dict) and "AWS::StackName" in json.dumps(value):
                text = value.get("Fn::Sub", "${AWS::StackName}").replace("${AWS::StackName}", LONGEST_STACK_NAME)
                names.setdefault((resource["Type"], key), []).append(text)
    return names


def test_every_name_is_short_enough_in_a_stack_with_the_longest_name(resources):
    names = named_after_the_stack(resources)
    assert set(names) == set(LONGEST_NAMES)
    for key, given in names.items():
        assert max(map(len, given)) <= LONGEST_NAMES[key], (key, max(given, key=len))


def test_the_certificates_function_has_the_time_that_aws_takes(resources):
    timeout = resources["IntegrationCertificates"]["Properties"]["Timeout"]
    # Half of the time is for one removal, and AWS may hold a policy for five minutes.
    assert timeout / 2 >= 300
    assert resources["Integration"]["Properties"]["ServiceTimeout"] > timeout


def test_only_its_own_rule_may_invoke_a_function(resources):
    for name, permission in of_type(resources, "AWS::Lambda::Permission").items():
        if name in ("ReconcileEveryMinutePermission", "JobExecutionsEveryFiveMinutesPermission"):
            # The schedule's own rule, by its ARN, because events.amazonaws.com gives no account.
            assert permission["Principal"] == "events.amazonaws.com"
            assert name.replace("Permission", "") in json.dumps(permission["SourceArn"])
            continue
        assert permission["Principal"] == "iot.amazonaws.com"
        assert permission["SourceAccount"], name
        # Its own rule: OperationRequestPermission names OperationRequestRule.
        assert name.replace("Permission", "Rule") in json.dumps(permission["SourceArn"]), name


def test_every_log_group_has_a_retention(resources):
    for name, group in of_type(resources, "AWS::Logs::LogGroup").items():
        assert group["RetentionInDays"], name


def test_failed_events_are_kept_encrypted(resources):
    queues = of_type(resources, "AWS::SQS::Queue")
    for name, queue in queues.items():
        assert queue["SqsManagedSseEnabled"] and queue["MessageRetentionPeriod"] == 14 * 24 * 60 * 60, name
    assert "FailureQueue" in json.dumps(queues["AnswersQueue"]["RedrivePolicy"])
    assert all("FailureQueue" in json.dumps(mapping["DestinationConfig"]) for mapping in mappings_of_the_stream(resources).values())
    rules = json.dumps(of_type(resources, "AWS::IoT::TopicRule"))
    configs = of_type(resources, "AWS::Lambda::EventInvokeConfig")
    # CloudFormation has its answer from the first attempt, and reconcile runs again in the next minute.
    once = [name for name in configs if name.startswith(("IntegrationCertificates", "Reconcile"))]
    for name in once:
        assert configs.pop(name)["MaximumRetryAttempts"] == 0, name
    assert len(once) == 2
    for name, config in configs.items():
        assert config["MaximumRetryAttempts"] == 2, name
        assert "FailureQueue" in json.dumps(config["DestinationConfig"]), name
        assert name.replace("EventInvokeConfig", "") in rules, "every function that a rule invokes, and only those"


def test_without_jobs_their_resources_are_missing(resources):
    """With Jobs=off no resource is left that is billed, or that a job could reach."""
    of_jobs = {name for name, resource in resources.items() if "Job" in name or resource["Type"] == "AWS::IoT::JobTemplate"}
    without = {name for name in of_jobs if resources[name].get("Condition") != "RunsJobs"}
    assert not without and len(of_jobs) > 10
    topics = {name: resource["Properties"]["TopicRulePayload"]["Sql"] for name, resource in resources.items() if resource["Type"] == "AWS::IoT::TopicRule"}
    assert {name for name, sql in topics.items() if "job" in sql.lower()} <= of_jobs


def test_an_execution_is_found_within_ten_minutes(resources):
    function = resources["JobExecutions"]["Properties"]
    waits = int(function["Environment"]["Variables"]["JOBS_NOTIFIED_WITHIN_SECONDS"]["Fn::If"][2])
    rules = of_type(resources, "AWS::Events::Rule")
    [schedule] = [rule["ScheduleExpression"] for name, rule in rules.items() if name.startswith("JobExecutions")]
    assert schedule == "rate(5 minutes)"
    assert waits + 5 * 60 + function["Timeout"] <= 10 * 60


def mappings_of_the_stream(resources: dict) -> dict[str, dict]:
    """Mappings of the table's stream, by the function's logical id."""
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    return {mapping["FunctionName"]["Ref"]: mapping for mapping in mappings if "StreamArn" in json.dumps(mapping["EventSourceArn"])}


def test_records_of_the_stream_are_retried_until_they_are_processed_or_the_stream_drops_them(resources):
    mappings = mappings_of_the_stream(resources)
    assert set(mappings) == {"Answers", "JobExecutions"}
    for name, mapping in mappings.items():
        assert (mapping["MaximumRetryAttempts"], mapping["BisectBatchOnFunctionError"]) == (-1, True), name


def test_job_executions_has_a_mapping_of_its_own_with_a_filter_for_jobs(resources):
    mapping = mappings_of_the_stream(resources)["JobExecutions"]
    [pattern] = [json.loads(found["Pattern"]) for found in mapping["FilterCriteria"]["Filters"]]
    assert pattern == {"dynamodb": {"NewImage": {"jobs": {"N": ["1"]}}}}


def test_the_job_templates_of_two_stacks_have_different_names_and_stop_when_a_tenth_fail(resources):
    templates = of_type(resources, "AWS::IoT::JobTemplate")
    assert len(templates) == 4
    for name, template in templates.items():
        assert list(json.loads(template["Document"])) == ["lwm2m"], name
        assert "AWS::StackId" in json.dumps(template["JobTemplateId"]), name
        [criterion] = template["AbortConfig"]["CriteriaList"]
        assert (criterion["Action"], criterion["ThresholdPercentage"]) == ("CANCEL", 10), name
        # AWS's maximum, and the default lifetime of a request
        assert template["TimeoutConfig"]["InProgressTimeoutInMinutes"] == 7 * 24 * 60, name


@pytest.mark.parametrize("parameter", ["RequestConcurrency", "ResponseConcurrency"])
def test_a_concurrency_of_zero_is_refused(stack, capfd, parameter):
    """AWS accepts it, and never runs the function."""
    with pytest.raises(Failure):
        stack.deploy(**{parameter: 0})
    assert f"With {parameter}=0 no " in "".join(capfd.readouterr())


def test_the_password_is_in_no_environment_and_no_output(stack, resources):
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        assert "Password" not in json.dumps(function), name
    assert "Password" not in json.dumps(stack.outputs)


def test_the_functions_are_what_sam_deploys_to_aws(resources):
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        assert function["Runtime"] == "provided.al2023", name
        logging = function["LoggingConfig"]
        assert logging.pop("LogGroup"), name
        # Metrics are lines without a level, which count as INFO: a level above that would drop them.
        assert logging == {"LogFormat": "JSON", "SystemLogLevel": "WARN", "ApplicationLogLevel": "TRACE"}, name


def test_an_update_never_deletes_the_ledger_and_the_removal_of_the_stack_does(resources):
    table = resources["RequestsTable"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Delete", "Retain")


def test_the_ledger_is_encrypted_billed_by_use_and_has_a_time_to_live(resources):
    [table] = of_type(resources, "AWS::DynamoDB::Table").values()
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"]["Enabled"]
    # The default is DynamoDB's own key, which encrypts every table.
    assert table["SSESpecification"]["Fn::If"][0] == "HasKmsKey"
    assert table["SSESpecification"]["Fn::If"][1]["KMSMasterKeyId"] == {"Ref": "KmsKeyArn"}
