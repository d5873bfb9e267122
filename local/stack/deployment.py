"""`sam build` and `sam deploy` of the project's template, as for AWS."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stack.aws import REGION, LocalAws, base_environment
from stack.processes import Failure, stop_group

STACK_NAME = "coiote-aws-iot"


class Deployment:
    def __init__(self, root: Path, run: Path, optimizes_coiote: bool = False):
        self._root = root
        self._run = run
        self._optimizes_coiote = optimizes_coiote
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
            "__SAM_CLI_APP_DIR": str(self._root / ".local" / "sam"),
        }

    def build(self) -> None:
        """The functions as for Lambda, in .aws-sam/build; and the local Coiote."""
        self._run_and_show("Building the functions", [self._tools / "sam", "build"], "sam-build.log")
        # With the features of the whole workspace: what the tests of the crates compiled is compiled once.
        cargo = ["cargo", "build", "--locked", "--workspace", "--bin", "coiote-sim"]
        release = ["--release"] if self._optimizes_coiote else []
        self._run_and_show("Building the local Coiote", [*cargo, *release], "cargo-build.log")

    @property
    def local_coiote(self) -> Path:
        return self._root / "target" / ("release" if self._optimizes_coiote else "debug") / "coiote-sim"

    def build_floor(self) -> Path:
        """The function that the others are measured against, built as they are."""
        cargo = [self._tools / "cargo-lambda", "lambda", "build", "--release", "--locked", "--bin", "floor"]
        self._run_and_show("Building the floor", cargo, "floor-build.log")
        return self._root / "target" / "lambda" / "floor" / "bootstrap"

    def deploy(self, aws: LocalAws, parameters: dict[str, str], stack_name: str = STACK_NAME) -> None:
        command = [
            self._tools / "sam",
            "deploy",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
            "--stack-name",
            stack_name,
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in parameters.items()),
        ]
        self._run_and_show("Deploying the template", command, "sam-deploy.log", aws.environment)

    def delete(self, aws: LocalAws, stack_name: str = STACK_NAME) -> None:
        command = [self._tools / "sam", "delete", "--no-prompts", "--stack-name", stack_name, "--region", REGION]
        self._run_and_show("Deleting the stack", command, "sam-delete.log", aws.environment)

    def outputs(self, aws: LocalAws) -> dict[str, str]:
        stacks = aws.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}

    def function_binary(self, logical_id: str) -> Path:
        return self._root / ".aws-sam" / "build" / logical_id / "bootstrap"

    def _run_and_show(self, what: str, command: list, log_name: str, more: dict[str, str] | None = None) -> None:
        """Runs to the end, shows that it goes on, and shows what it printed only when it fails."""
        log = self._run / log_name
        started = time.monotonic()
        # SAM leaves folders behind in the one for temporary files.
        with tempfile.TemporaryDirectory() as temporary, log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment | {"TMPDIR": temporary} | (more or {}),
                cwd=self._root,
                # Of its own, so that it can be ended with all that it starts
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
            print(log.read_text(errors="replace"), file=sys.stderr)
            raise Failure(f"{what} failed with code {code}; what it printed stands above.")
        print(f"{what}: done in {time.monotonic() - started:.0f} s", flush=True)


def _show_progress(what: str, seconds: float, log: Path) -> None:
    lines = log.read_text(errors="replace").splitlines()
    line = f"{what}: {seconds:.0f} s, {lines[-1].strip()[:70] if lines else 'starting'}"
    print(f"\r\033[K{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)
