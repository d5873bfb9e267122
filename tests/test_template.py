"""The template as a security reviewer reads it."""

import json

import pytest

from stack.deployment import STACK_NAME


@pytest.fixture(scope="module")
def resources(stack) -> dict:
    """The deployed template, after SAM's own transformation."""
    template = stack.aws.cloudformation.get_template(StackName=STACK_NAME, TemplateStage="Processed")["TemplateBody"]
    return (json.loads(template) if isinstance(template, str) else template)["Resources"]


def of_type(resources: dict, kind: str) -> dict:
    found = {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}
    assert found, f"no {kind} in the template"
    return found


# IAM knows no resource for these.
WITHOUT_RESOURCE = {"iot:CreateKeysAndCertificate", "iot:ListJobs", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def statements(role: dict) -> list[dict]:
    """All that the role may be allowed, whatever the parameters are."""
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


def test_only_its_own_rule_may_invoke_a_function(resources):
    for name, permission in of_type(resources, "AWS::Lambda::Permission").items():
        if name in ("ReconcileEveryMinutePermission", "JobExecutionsEveryFiveMinutesPermission"):
            # The schedule's own rule, by its ARN; events.amazonaws.com gives no account.
            assert permission["Principal"] == "events.amazonaws.com"
            assert name.replace("Permission", "") in json.dumps(permission["SourceArn"])
            continue
        assert permission["Principal"] == "iot.amazonaws.com"
        assert permission["SourceAccount"], name
        # Its own: OperationRequestPermission names OperationRequestRule
        assert name.replace("Permission", "Rule") in json.dumps(permission["SourceArn"]), name


def test_every_log_group_forgets(resources):
    for name, group in of_type(resources, "AWS::Logs::LogGroup").items():
        assert group["RetentionInDays"], name


def test_what_fails_in_the_end_is_kept_encrypted(resources):
    queues = of_type(resources, "AWS::SQS::Queue")
    for name, queue in queues.items():
        assert queue["SqsManagedSseEnabled"] and queue["MessageRetentionPeriod"] == 14 * 24 * 60 * 60, name
    assert "FailureQueue" in json.dumps(queues["AnswersQueue"]["RedrivePolicy"])
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping")
    of_the_stream = [mapping for mapping in mappings.values() if "StreamArn" in json.dumps(mapping["EventSourceArn"])]
    assert of_the_stream and all("FailureQueue" in json.dumps(mapping["DestinationConfig"]) for mapping in of_the_stream)
    rules = json.dumps(of_type(resources, "AWS::IoT::TopicRule"))
    configs = of_type(resources, "AWS::Lambda::EventInvokeConfig")
    # CloudFormation has its answer from the first attempt; the next minute's run does what this one could not.
    once = [name for name in configs if name.startswith(("IntegrationCertificates", "Reconcile"))]
    for name in once:
        assert configs.pop(name)["MaximumRetryAttempts"] == 0, name
    assert len(once) == 2
    for name, config in configs.items():
        assert config["MaximumRetryAttempts"] == 2, name
        assert "FailureQueue" in json.dumps(config["DestinationConfig"]), name
        assert name.replace("EventInvokeConfig", "") in rules, "every function that a rule invokes, and only those"


def test_without_jobs_nothing_of_them_is_there(resources):
    """With Jobs=off nothing is left that could be billed, or that a job could reach."""
    of_jobs = {name for name, resource in resources.items() if "Job" in name or resource["Type"] == "AWS::IoT::JobTemplate"}
    without = {name for name in of_jobs if resources[name].get("Condition") != "RunsJobs"}
    assert not without and len(of_jobs) > 10
    topics = {name: resource["Properties"]["TopicRulePayload"]["Sql"] for name, resource in resources.items() if resource["Type"] == "AWS::IoT::TopicRule"}
    assert {name for name, sql in topics.items() if "job" in sql.lower()} <= of_jobs


def test_a_job_template_is_of_a_name_that_aws_takes_and_stops_when_a_tenth_fail(resources):
    templates = of_type(resources, "AWS::IoT::JobTemplate")
    assert len(templates) == 4
    for name, template in templates.items():
        assert list(json.loads(template["Document"])) == ["lwm2m"], name
        [criterion] = template["AbortConfig"]["CriteriaList"]
        assert (criterion["Action"], criterion["ThresholdPercentage"]) == ("CANCEL", 10), name
        # AWS's longest, and as long as a request lives by default
        assert template["TimeoutConfig"]["InProgressTimeoutInMinutes"] == 7 * 24 * 60, name


def test_the_password_is_in_no_environment_and_no_output(stack, resources):
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        assert "Password" not in json.dumps(function), name
    assert "Password" not in json.dumps(stack.outputs)


def test_the_functions_are_what_sam_deploys_to_aws(resources):
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        assert function["Runtime"] == "provided.al2023", name
        logging = function["LoggingConfig"]
        assert logging.pop("LogGroup"), name
        # Metrics are lines without a level, which counts as INFO: they would go with a level above that.
        assert logging == {"LogFormat": "JSON", "SystemLogLevel": "WARN", "ApplicationLogLevel": "TRACE"}, name


def test_the_ledger_is_encrypted_billed_by_use_and_forgets(resources):
    [table] = of_type(resources, "AWS::DynamoDB::Table").values()
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"]["Enabled"]
    # Without a key of one's own it is DynamoDB's, which encrypts every table.
    assert table["SSESpecification"]["Fn::If"][0] == "HasKmsKey"
    assert table["SSESpecification"]["Fn::If"][1]["KMSMasterKeyId"] == {"Ref": "KmsKeyArn"}
