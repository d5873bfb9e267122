"""Installs what the local stack needs into .local/, once; needs nothing but Python itself.

With names, as in `install.py policy`, only what they name.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

LOCAL = Path(__file__).resolve().parent
INTO = LOCAL.parent / ".local"
ENVIRONMENTS = {
    "tools": "the AWS tools that build, deploy and test",
    "aws": "the local AWS",
    "coiote": "the client library that checks the local Coiote",
}
# Only where they are asked for
MORE = {"policy": "the checker of the template"}


def main() -> None:
    if sys.version_info < (3, 10):
        sys.exit(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}.")
    named = sys.argv[1:]
    for name, what in {name: MORE[name] for name in named}.items() if named else ENVIRONMENTS.items():
        requirements = LOCAL / f"requirements-{name}.txt"
        into = INTO / name
        # Written last: an installation that was interrupted is done again.
        stamp = into / "installed"
        wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            continue
        print(f"Installing {what} into {into.relative_to(LOCAL.parent)} (once) ...", flush=True)
        try:
            venv.create(into, clear=True, with_pip=True)
            pip = [into / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", "--requirement", requirements], check=True)
        except subprocess.CalledProcessError as error:
            sys.exit(f"The installation failed ({error}); its output stands above. Run the command again to retry.")
        stamp.write_text(wanted)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
