"""Makes the pictures of the docs: of `make demo` and of `lwm2m` in a terminal, and of the dashboard as the template lays it out."""

import argparse
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.sax.saxutils import escape

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from demo import THING
from stack.aws import base_environment
from stack.deployment import Deployment
from stack.local_stack import ROOT, LocalStack
from stack.processes import Failure, run_command

PICTURES = ROOT / "docs" / "pictures"
COLUMNS = 132
# Pixels of a unit of a dashboard's grid, which is 24 units wide: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
UNIT_WIDTH, UNIT_HEIGHT, GAP = 46, 34, 4
LABELS_OF_A_WIDGET = 6
# Beginnings of the parts of the demo that its picture has
SHOWN_OF_THE_DEMO = ("THE DEVICE APPEARS", "WRITE", "OUTCOMES", "A DEVICE THAT SLEEPS", "A JOB FOR A FLEET", "sam delete has left nothing")
# Commands of the picture of `lwm2m`, each with its exit status
COMMANDS = {
    "lwm2m devices": 0,
    f"lwm2m read {THING} Device.0": 0,
    f"lwm2m write {THING} /3/0/14=+01:00 'LwM2M Server.1.Lifetime=86400'": 0,
    f"lwm2m write {THING} 'Device.0.UTC Ofset=+01:00'": 3,
    f"lwm2m execute {THING} Device.0.Reboot": 0,
    f"lwm2m observe {THING} 'Device.0.Battery Level=pmin=5,lt=20'": 0,
    f"lwm2m requests {THING}": 0,
}


def terminal(title: str, text: str) -> str:
    """Draws the contents of a terminal as SVG, in the viewer's own monospaced font: nothing is loaded from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    # Long lines are cut.
    console.print(Text.from_ansi(text), no_wrap=True, overflow="ellipsis")
    code_format = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=code_format, unique_id="terminal")


def demo_picture() -> str:
    demo = subprocess.run([sys.executable, ROOT / "local" / "demo.py"], stdout=subprocess.PIPE, text=True)
    if demo.returncode:
        raise Failure(f"The demo failed:\n{demo.stdout}")
    shown = [part for part in demo.stdout.split("\n\n") if part.startswith(SHOWN_OF_THE_DEMO)]
    if len(shown) < len(SHOWN_OF_THE_DEMO):
        raise Failure(f"The demo has no longer all of {SHOWN_OF_THE_DEMO}:\n{demo.stdout}")
    return terminal("make demo", "\n\n".join(shown))


def command_line_picture() -> str:
    with LocalStack("pictures", makes_certificates=True) as stack:
        stack.deployment.build("lwm2m")
        stack.start()
        stack.deploy()
        stack.aws.log_line(stack.outputs["CreateThingLogGroup"], "the thing is there", thing=THING)
        path = f"{ROOT / 'target' / 'debug'}{os.pathsep}{os.environ['PATH']}"
        environment = base_environment() | stack.aws.environment | {"PATH": path, "COLUMNS": str(COLUMNS)}
        shown = []
        for command, status in COMMANDS.items():
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            ended = subprocess.run(["bash", "-c", command], env=environment, timeout=120, **pipes)
            if ended.returncode != status:
                raise Failure(f"{command} ended with {ended.returncode}:\n{ended.stdout}")
            shown.append(f"$ {command}\n{ended.stdout}")
    return terminal("lwm2m", "\n".join(shown))


def dashboard_widgets(deployment: Deployment) -> list[dict]:
    """Reads the widgets from the template, without the names that CloudFormation inserts: the picture is of no single stack."""
    resources = deployment.template()["Resources"].values()
    [body] = (r["Properties"]["DashboardBody"] for r in resources if r["Type"] == "AWS::CloudWatch::Dashboard")
    text, conditional = body["Fn::Sub"]
    # With everything that can be switched on
    for name, choice in conditional.items():
        _, shown, _ = choice["Fn::If"]
        text = text.replace(f"${{{name}}}", shown["Fn::Sub"])
    numbers = re.sub(r"(?<=: )\$\{(?!!)[^}]*\}", "0", text)
    return json.loads(re.sub(r"\$\{(?!!)[^}]*\}", "…", numbers))["widgets"]


def labels(widget: dict) -> list[str]:
    properties = widget["properties"]
    if "alarms" in properties:
        return ["  ".join(arn.rpartition("alarm:…-")[2] for arn in properties["alarms"])]
    return [re.sub(r"\$\{!?[^}]*\}", "each", label_of(metric)) for metric in properties.get("metrics", [])]


def label_of(metric: list) -> str:
    """The label that CloudWatch shows of [namespace, name, dimensions…, options]."""
    options = metric[-1] if isinstance(metric[-1], dict) else {}
    return options.get("label") or (metric[1] if len(metric) > 1 else options["expression"])


def dashboard_picture(widgets: list[dict]) -> str:
    height = max(widget["y"] + widget["height"] for widget in widgets) * UNIT_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * UNIT_WIDTH} {height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#f2f3f3"/>',
    ]
    for widget in widgets:
        x, y = widget["x"] * UNIT_WIDTH + GAP, widget["y"] * UNIT_HEIGHT + GAP
        width, tall = widget["width"] * UNIT_WIDTH - 2 * GAP, widget["height"] * UNIT_HEIGHT - 2 * GAP
        lines.append(f'<rect x="{x}" y="{y}" width="{width}" height="{tall}" rx="6" fill="#fff" stroke="#aab7b8"/>')
        title = textwrap.shorten(widget["properties"].get("title", ""), width // 8, placeholder=" …")
        lines.append(f'<text x="{x + 10}" y="{y + 22}" font-size="13" font-weight="bold">{escape(title)}</text>')
        shown = labels(widget)
        rows = [line for label in shown[:LABELS_OF_A_WIDGET] for line in wrapped(label, width // 7)]
        rows += [f"and {len(shown) - LABELS_OF_A_WIDGET} more"] if len(shown) > LABELS_OF_A_WIDGET else []
        for number, row in enumerate(rows):
            lines.append(f'<text x="{x + 10}" y="{y + 46 + 20 * number}" font-size="13" fill="#545b64">{escape(row)}</text>')
    return "\n".join([*lines, "</svg>\n"])


def wrapped(text: str, columns: int) -> list[str]:
    rows = [""]
    for word in text.split("  "):
        if rows[-1] and len(rows[-1]) + len(word) > columns:
            rows.append("")
        rows[-1] += f"{'   ' if rows[-1] else ''}{word}"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("demo", "command-line", "dashboard"))
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    makers = {
        "dashboard": lambda: dashboard_picture(dashboard_widgets(Deployment(ROOT, ROOT / ".local" / "run"))),
        "demo": demo_picture,
        "command-line": command_line_picture,
    }
    for name, make in makers.items():
        if arguments.only in (None, name):
            path: Path = PICTURES / f"{name}.svg"
            path.write_text(make())
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    run_command(main)
