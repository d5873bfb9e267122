"""The pictures of the docs, made from the real thing: `make demo` in a terminal, and the dashboard as the template lays it out."""

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

from stack.deployment import Deployment
from stack.local_stack import ROOT
from stack.processes import Failure, run_command

PICTURES = ROOT / "docs" / "pictures"
COLUMNS = 132
# Of a dashboard's grid, which is 24 units wide: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
UNIT_WIDTH, UNIT_HEIGHT, GAP = 46, 34, 4
LABELS_OF_A_WIDGET = 6


def terminal(title: str, text: str) -> str:
    """What a terminal shows, as SVG. The viewer's own monospaced font is used: nothing is loaded from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(text), soft_wrap=False)
    code_format = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=code_format, unique_id="terminal")


def of_the_demo() -> str:
    demo = subprocess.run([sys.executable, ROOT / "local" / "demo.py"], stdout=subprocess.PIPE, text=True)
    if demo.returncode:
        raise Failure(f"The demo failed:\n{demo.stdout}")
    return terminal("make demo", demo.stdout)


def dashboard_widgets(deployment: Deployment) -> list[dict]:
    """As the template has them. Names that CloudFormation puts in stay out: a picture is of no single stack."""
    resources = deployment.template()["Resources"].values()
    [body] = (r["Properties"]["DashboardBody"] for r in resources if r["Type"] == "AWS::CloudWatch::Dashboard")
    text, conditional = body["Fn::Sub"]
    # With all that can be switched on
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
    """What CloudWatch shows of [namespace, name, dimensions…, options]."""
    options = metric[-1] if isinstance(metric[-1], dict) else {}
    return options.get("label") or (metric[1] if len(metric) > 1 else options["expression"])


def of_the_dashboard(widgets: list[dict]) -> str:
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
    parser.add_argument("--only", choices=("demo", "dashboard"))
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    makers = {
        "dashboard": lambda: of_the_dashboard(dashboard_widgets(Deployment(ROOT, ROOT / ".local" / "run"))),
        "demo": of_the_demo,
    }
    for name, make in makers.items():
        if arguments.only in (None, name):
            path: Path = PICTURES / f"{name}.svg"
            path.write_text(make())
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    run_command(main)
