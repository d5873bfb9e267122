"""The local Coiote with Coiote's official client library, which is independent of this project."""

import json
import subprocess

from stack import certificates
from stack.local_stack import ROOT

# Runs in an environment of its own: the library pins versions that the other tools cannot use.
SCRIPT = """
import json, sys, time
from coiote.client import Coiote
from coiote.v3.model.task_templates import TaskTemplateConfig, TaskTemplateInvocation

url, root, certificate, key, endpoint = sys.argv[1:]
coiote = Coiote(url, auth="not used", verify_ssl=root)
coiote.session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the root given here
# The library knows passwords and tokens; a client certificate is the third way in.
coiote.session.cert = (certificate, key)
coiote.authenticator._set_headers = lambda _: coiote.session.headers.update({"Authorization": "Certificate"})

[device_id] = coiote.devices.get_all(f"properties.endpointName eq '{endpoint}'").json()
nobody = coiote.devices.get_all("properties.endpointName eq 'nobody'").json()

def run(template, **parameters):
    parameters = [{"name": name, "value": value} for name, value in parameters.items()]
    config = TaskTemplateConfig(taskName="test", parameters=parameters, isActive=True, properties={})
    return coiote.task_templates.run_on_device(device_id, TaskTemplateInvocation(template, config), False)

created = run("AWSreadCertAuth", keys="Device.0.UTC Offset,Device.0.Reboot")
task_id = created.json()
early = coiote.session.get(f"{coiote.api_url}/taskReports/{task_id}/{device_id}")
session = coiote.sessions.start_for_device(device_id, allow_deregistered=True)
deadline = time.monotonic() + 10
while coiote.session.get(f"{coiote.api_url}/taskReports/{task_id}/{device_id}").status_code == 404:
    assert time.monotonic() < deadline, "the task did not run"
report = coiote.task_reports.get_report_for_device_task(task_id, device_id)
no_template = run("AWSnonsenseCertAuth", keys="")
uneven = run("AWSwriteCertAuth", keys="Device.0.UTC Offset", values="a,b")

print(json.dumps({
    "nobody": nobody,
    "created": created.status_code,
    "early": [early.status_code, early.json()["code"]],
    "session": session.status_code,
    "report": [report.taskId == task_id, report.status.value if hasattr(report.status, "value") else report.status],
    "no template": [no_template.status_code, no_template.json()],
    "uneven": [uneven.status_code, uneven.json()["code"]],
}))
"""


# Calls that outcomes are learnt from: reports of all devices since a time, a report, a task and its removal.
OUTCOMES = """
import json, sys, time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from coiote.client import Coiote
from coiote.v3.model.task_templates import TaskTemplateConfig, TaskTemplateInvocation

url, root, certificate, key, endpoint = sys.argv[1:]
coiote = Coiote(url, auth="not used", verify_ssl=root)
coiote.session.trust_env = False
coiote.session.cert = (certificate, key)
coiote.authenticator._set_headers = lambda _: coiote.session.headers.update({"Authorization": "Certificate"})
[device_id] = coiote.devices.get_all(f"properties.endpointName eq '{endpoint}'").json()

def create(template, **parameters):
    parameters = [{"name": name, "value": value} for name, value in parameters.items()]
    config = TaskTemplateConfig(taskName="outcomes", parameters=parameters, isActive=True, properties={})
    return coiote.task_templates.run_on_device(device_id, TaskTemplateInvocation(template, config), False)

def run(template, **parameters):
    created = create(template, **parameters)
    began = parsedate_to_datetime(created.headers["Date"])
    coiote.sessions.start_for_device(device_id, allow_deregistered=True)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for report in coiote.task_reports.find_reports_since(began, device_id=device_id):
            start = report.startTime if isinstance(report.startTime, str) else report.startTime.isoformat()
            if report.taskId == created.json() and datetime.fromisoformat(start.replace("Z", "+00:00")) >= began:
                return report
    raise SystemExit("no report of " + created.json())

def value_of(report, name):
    return [p["value"] for p in report.properties if p["name"] == name]

read = run("AWSreadCertAuth", keys="Device.0.UTC Offset")
links = run("AWSdiscoverCertAuth", keys="Location.0")
refused = run("AWSobserveCertAuth", keys="Location.7", attributes="[{}]")
again = create("AWSreadCertAuth", keys="Device.0.UTC Offset")
task = coiote.tasks.get_one(read.taskId)
named = coiote.tasks.get_all("taskName eq 'outcomes'")
alone = coiote.task_reports.get_report_for_device_task(links.taskId, device_id)
removed = [coiote.session.delete(f"{coiote.api_url}/tasks/{read.taskId}").status_code for _ in range(2)]
coiote.tasks.delete_one(links.taskId)
left = coiote.tasks.get_all("taskName eq 'outcomes'")
future = coiote.task_reports.find_reports_since(datetime.now(timezone.utc) + timedelta(days=1))
foreign = coiote.task_reports.find_reports_since(datetime.now(timezone.utc) - timedelta(days=1), taskId="none")

print(json.dumps({
    "read": [read.status, value_of(read, "Device.0.UTC Offset") != []],
    "links": [links.status, value_of(links, "Location.0")[0].startswith("</6/0>"), alone.summary == links.summary],
    "refused": [refused.status, "Location.7" in refused.summary],
    "again": again.json() == read.taskId,
    "task": [task.id == read.taskId, task.config.taskName],
    "named": sorted(named) == sorted([read.taskId, links.taskId, refused.taskId]),
    "removed": removed,
    "left": left == [refused.taskId],
    "others": [len(future), len(foreign)],
}))
"""


def run_script(stack, endpoint: str, script: str) -> dict:
    """Runs a script with the official library; returns its output."""
    keys = stack.run / "keys"
    root = certificates.private_file(keys / "root.pem", stack.authority.pem)
    certificate, key = stack.client.write(keys, "library")
    python = ROOT / ".local" / "coiote" / "bin" / "python"
    arguments = [stack.coiote.url, root, certificate, key, endpoint]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_outcomes_can_be_learnt_with_the_official_client_library(stack, device):
    assert run_script(stack, device(), OUTCOMES) == {
        "read": ["Success", True],
        "links": ["Success", True, True],
        "refused": ["Error", True],
        "again": True,
        "task": [True, "outcomes"],
        "named": True,
        "removed": [204, 404],
        "left": True,
        "others": [0, 0],
    }


def test_it_can_be_used_with_the_official_client_library(stack, device):
    seen = run_script(stack, device(), SCRIPT)
    no_template = seen.pop("no template")
    assert seen == {
        "nobody": [],
        "created": 201,
        "early": [404, 4041],
        "session": 200,
        "report": [True, "Warning"],
        "uneven": [400, 4000],
    }
    assert no_template[0] == 404 and "AWSnonsenseCertAuth" in no_template[1]["message"]
