"""Builds the functions of the project's template, and runs `sam deploy` and `sam delete` as for AWS."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

from samcli.commands._utils.template import get_template_data, move_template

from stack.aws import REGION, LocalAws, base_environment
from stack.processes import Failure, stop_group

STACK_NAME = "coiote-aws-iot"
# Rule of the built template that prevents its deployment to AWS: the functions would not run there, and `sam deploy` takes them from
# the same place as those of `sam build`.
ONLY_LOCAL = {
    "Assertions": [
        {
            "Assert": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AwsEndpointUrl"}, ""]}]},
            "AssertDescription": "These functions were built for the local stack. Run sam build before sam deploy.",
        }
    ]
}
# `make test AS_DEPLOYED=1` tests the functions that users deploy, built by the command that they use.
AS_DEPLOYED = bool(os.environ.get("AS_DEPLOYED"))
# Makes cargo print its progress, although its output is no terminal
SHOW_CARGO_PROGRESS = {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "120", "CARGO_TERM_COLOR": "never"}
CARGO_PROGRESS = re.compile(r"Building \[[=> ]*\] (\d+)/(\d+)(?:: (.*))?")


class Deployment:
    def __init__(self, root: Path, run: Path, optimized: bool = False):
        self._root = root
        self._run = run
        self._optimized = optimized
        self._tools = root / ".local" / "tools" / "bin"

    @property
    def sam(self) -> Path:
        return self._tools / "sam"

    @property
    def environment(self) -> dict[str, str]:
        """SAM and cargo-lambda with the versions that the project pins, keeping to the project's folder."""
        return base_environment() | {
            "PATH": f"{self._tools}{os.pathsep}{os.environ['PATH']}",
            "SAM_CLI_TELEMETRY": "0",
            # Its own, because SAM writes there, and more than one may run at the same time.
            "__SAM_CLI_APP_DIR": str(self._run / "sam"),
            # Seconds between two looks of `sam deploy`
            "SAM_CLI_POLL_DELAY": "0.5",
        }

    def build(self, *more: str) -> None:
        """Builds the functions, the local Coiote and `more` binaries, and fills .aws-sam/build as `sam build` does.

        Usually everything is compiled by one cargo call, with the features of the whole workspace and in the profile of the
        crates' tests, so that shared code is compiled once. Optimized, or as deployed, the functions are those for Lambda.
        """
        if not self._optimized and not AS_DEPLOYED:
            self._build_binaries("the functions and the local Coiote", *self.functions.values(), "coiote-sim", *more)
            built = {binary: self._root / "target" / "debug" / binary for binary in self.functions.values()}
            return self._put_into_place(built)
        self._build_binaries("the local Coiote", "coiote-sim", *more)
        if AS_DEPLOYED:
            command = [self._tools / "sam", "build"]
            return self._run_and_show("Building the functions by sam build", command, "sam-build.log", SHOW_CARGO_PROGRESS)
        self._put_into_place(self.build_for_lambda(self.functions.values()))

    def build_tests(self) -> None:
        """Builds the tests of all crates; `cargo test` finds them built."""
        self._cargo("Building the tests of the crates", "test", "--no-run")

    def build_for_lambda(self, binaries: Iterable[str]) -> dict[str, Path]:
        """Builds these functions as `sam build` does, but by one cargo call; returns their paths."""
        built = {binary: self.binary_for_lambda(binary) for binary in binaries}
        if not AS_DEPLOYED:
            cargo = [self._tools / "cargo-lambda", "lambda", "build", "--release", "--locked"]
            packages = [part for binary in built for part in ("--package", binary)]
            self._run_and_show("Building the functions for Lambda", [*cargo, *packages], "lambda-build.log", SHOW_CARGO_PROGRESS)
        return built

    def binary_for_lambda(self, binary: str) -> Path:
        if AS_DEPLOYED:
            return next(self.function_binary(logical_id) for logical_id, its in self.functions.items() if its == binary)
        return self._root / "target" / "lambda" / binary / "bootstrap"

    def build_command_line(self) -> Path:
        """Builds `lwm2m` for users without Rust; returns its path."""
        options = ["--bin", "lwm2m", "--release"]
        self._cargo("Building the command line", "build", *options)
        return self._root / "target" / "release" / "lwm2m"

    def build_floor(self) -> Path:
        """Builds the function that the others are compared with, as they are built; returns its path."""
        cargo = [self._tools / "cargo-lambda", "lambda", "build", "--release", "--locked", "--bin", "floor"]
        self._run_and_show("Building the floor", cargo, "floor-build.log", SHOW_CARGO_PROGRESS)
        return self._root / "target" / "lambda" / "floor" / "bootstrap"

    @property
    def functions(self) -> dict[str, str]:
        """Binaries of the template's functions, by logical ids. A binary and its crate have the same name."""
        return {
            logical_id: resource["Metadata"]["BuildProperties"]["Binary"]
            for logical_id, resource in self.template()["Resources"].items()
            if resource["Type"] == "AWS::Serverless::Function"
        }

    @property
    def local_coiote(self) -> Path:
        return self._root / "target" / ("release" if self._optimized else "debug") / "coiote-sim"

    def function_binary(self, logical_id: str) -> Path:
        return self._root / ".aws-sam" / "build" / logical_id / "bootstrap"

    def template(self) -> dict:
        path = self._root / "template.yaml"
        return json.loads(_as_json(path, path.stat().st_mtime_ns))

    def _put_into_place(self, built: dict[str, Path]) -> None:
        template, into = self.template(), self._root / ".aws-sam" / "build"
        for logical_id, binary in self.functions.items():
            resource, place = template["Resources"][logical_id], self.function_binary(logical_id)
            package = place.parent.with_suffix(".zip")
            resource["Properties"]["CodeUri"] = str(package.relative_to(self._root))
            resource["Metadata"]["SamResourceId"] = logical_id
            place.parent.mkdir(parents=True, exist_ok=True)
            # Unchanged ones stay in place: a deployment may be reading them.
            if not package.exists() or package.stat().st_mtime_ns != built[binary].stat().st_mtime_ns:
                os.replace(_stripped(built[binary], place.with_suffix(f".{os.getpid()}")), place)
                os.replace(_packed(place, package.with_suffix(f".{os.getpid()}")), package)
        template.setdefault("Rules", {})["OnlyLocal"] = ONLY_LOCAL
        # Adapts relative paths in the template, as `sam build` does.
        new = into / f"template.yaml.{os.getpid()}"
        move_template(str(self._root / "template.yaml"), str(new), template)
        # JSON is YAML, too. SAM reads the template several times in a deployment, and needs half a second for each without it.
        new.write_text(_as_json(new, new.stat().st_mtime_ns))
        os.replace(new, into / "template.yaml")

    def deploy(
        self, aws: LocalAws, parameters: dict[str, str], stack_name: str = STACK_NAME, package: Path | None = None
    ) -> None:
        """Deploys the functions that were built last, or a package of `make package`."""
        command = [
            self._tools / "sam",
            "deploy",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
            # The local AWS reads it as much faster as SAM does.
            "--use-json",
            "--stack-name",
            stack_name,
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in parameters.items()),
        ]
        self._run_and_show("Deploying the template", command, "sam-deploy.log", aws.environment, package)

    def delete(self, aws: LocalAws, stack_name: str = STACK_NAME) -> None:
        sam_delete = [self._tools / "python", Path(__file__).with_name("sam_delete.py")]
        command = [*sam_delete, "--no-prompts", "--stack-name", stack_name, "--region", REGION]
        self._run_and_show("Deleting the stack", command, "sam-delete.log", aws.environment)

    def outputs(self, aws: LocalAws) -> dict[str, str]:
        stacks = aws.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}

    def _build_binaries(self, what: str, *binaries: str) -> None:
        """Builds only these, but with the features of the whole workspace, so that later builds share their dependencies."""
        named = [part for binary in binaries for part in ("--bin", binary)]
        self._cargo(f"Building {what}", "build", *named, *(["--release"] if self._optimized else []))

    def _cargo(self, what: str, command: str, *options: str) -> None:
        cargo = ["cargo", command, "--locked", "--workspace", *options]
        self._run_and_show(what, cargo, f"cargo-{command}.log", SHOW_CARGO_PROGRESS)

    def _run_and_show(
        self, what: str, command: list, log_name: str, more: dict[str, str] | None = None, folder: Path | None = None
    ) -> None:
        """Runs a command to its end and shows its progress; its output is shown only if it fails."""
        log = self._run / log_name
        started = time.monotonic()
        # SAM leaves folders behind in the folder for temporary files.
        with tempfile.TemporaryDirectory() as temporary, log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment | {"TMPDIR": temporary} | (more or {}),
                cwd=folder or self._root,
                # A session of its own, so that it can be stopped with all its children
                start_new_session=True,
            )
            try:
                while True:
                    try:
                        code = process.wait(timeout=1 if sys.stdout.isatty() else 20)
                        break
                    except subprocess.TimeoutExpired:
                        _show_progress(what, time.monotonic() - started, log)
            except BaseException:
                stop_group(process.pid, lambda: process.poll() is not None)
                raise
        if sys.stdout.isatty():
            print("\r\033[K", end="")
        if code != 0:
            print("\n".join(_lines(log)), file=sys.stderr)
            raise Failure(f"{what} failed with code {code}; what it printed stands above.")
        print(f"{what}: done in {time.monotonic() - started:.0f} s", flush=True)


@functools.cache
def _as_json(template: Path, _age: int) -> str:
    """The template of this age in JSON."""
    return json.dumps(get_template_data(str(template)), indent=2)


def _stripped(binary: Path, into: Path) -> Path:
    """Makes a copy without symbols, of the same age: half the size."""
    shutil.copy2(binary, into)
    if strip := shutil.which("strip"):
        subprocess.run([strip, "--preserve-dates", into], check=True)
    return into


def _packed(binary: Path, into: Path) -> Path:
    """Packs a function's binary, once for all deployments, and quickly; the package is of the same age."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        package.write(binary, binary.name)
    shutil.copystat(binary, into)
    return into


def _show_progress(what: str, seconds: float, log: Path) -> None:
    text = log.read_text(errors="replace")
    if crates := CARGO_PROGRESS.findall(text):
        done, of_all, now = crates[-1]
        state = f"{done} of {of_all} crates{f', now {now}' if now else ''}"
    else:
        state = (_lines(log) or ["starting"])[-1].strip()
    line = f"{what}: {seconds:.0f} s, {state}".strip()
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        print(f"\r\033[K{line[: columns - 1]}", end="", flush=True)
    else:
        print(line, flush=True)


def _lines(log: Path) -> list[str]:
    """Lines of a command's output, without those that it has overwritten."""
    text = log.read_text(errors="replace").replace("\r\033[K", "\r").replace("\033[K", "")
    return [line for line in (line.rpartition("\r")[2] for line in text.splitlines()) if line.strip()]
