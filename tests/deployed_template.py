"""Reads the template as it is deployed."""

import json

from stack.deployment import STACK_NAME
from stack.local_stack import LocalStack


def deployed_resources(stack: LocalStack) -> dict:
    """Resources of the deployed template, after SAM's own transformation."""
    template = stack.aws.cloudformation.get_template(StackName=STACK_NAME, TemplateStage="Processed")["TemplateBody"]
    return (json.loads(template) if isinstance(template, str) else template)["Resources"]


def of_type(resources: dict, kind: str) -> dict[str, dict]:
    """Properties of the resources of a type, by logical id; there has to be one."""
    found = {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}
    assert found, f"no {kind} in the template"
    return found
