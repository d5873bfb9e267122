"""Installs what the local stack needs into .local/, once; needs nothing but Python itself.

With names, as in `install.py policy`, only what they name.
"""

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

LOCAL = Path(__file__).resolve().parent
INTO = LOCAL.parent / ".local"
# Takes seconds where pip takes more than a minute.
UV = "uv==0.13.9"
ENVIRONMENTS = {
    "tools": "the AWS tools that build, deploy and test",
    "aws": "the local AWS",
    "coiote": "the client library that checks the local Coiote",
}
# Environments that are installed only by name
OPTIONAL_ENVIRONMENTS = {"policy": "the checker of the template"}
# Variables of uv for settings of pip: a proxy of PyPI, or roots to trust
PIP_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def main() -> None:
    if sys.version_info < (3, 10):
        sys.exit(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}.")
    named = sys.argv[1:]
    try:
        for name, what in {name: OPTIONAL_ENVIRONMENTS[name] for name in named}.items() if named else ENVIRONMENTS.items():
            install(name, what)
    except subprocess.CalledProcessError as error:
        sys.exit(f"The installation failed ({error}); its output stands above. Run the command again to retry.")


def install(name: str, what: str) -> None:
    requirements = LOCAL / f"requirements-{name}.txt"
    into = INTO / name
    # Written last: an installation that was interrupted is done again.
    stamp = into / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    uv = install_uv()
    started = time.monotonic()
    print(f"Installing {what} into {into.relative_to(LOCAL.parent)} (once) ...", flush=True)
    environment = os.environ | pip_settings()
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, into], env=environment, check=True)
    command = [uv, "pip", "install", "--quiet", "--python", into / "bin" / "python", "--requirement", requirements]
    subprocess.run(command, env=environment, check=True)
    stamp.write_text(wanted)
    print(f"Installing {what}: done in {time.monotonic() - started:.0f} s", flush=True)


def install_uv() -> Path:
    into = INTO / "uv"
    stamp = into / "installed"
    if not stamp.exists() or stamp.read_text() != UV:
        venv.create(into, clear=True, with_pip=True)
        subprocess.run([*pip(), "--quiet", "install", UV], check=True)
        stamp.write_text(UV)
    return into / "bin" / "uv"


def pip_settings() -> dict[str, str]:
    """Settings of pip as variables of uv, unless these are set."""
    settings = {}
    listed = subprocess.run([*pip(), "config", "list"], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        setting = PIP_SETTINGS.get(name.rpartition(".")[2])
        if setting and setting not in os.environ:
            settings[setting] = value.strip("'\"")
    return settings


def pip() -> list:
    return [INTO / "uv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
