"""Stops the local stack that `make demo KEEP=1` left running."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

from stack.processes import group_exists, stop_group

RUNS = Path(__file__).resolve().parent.parent / ".local" / "run"


def main(name: str = "demo") -> None:
    run = RUNS / name
    kept = run / "processes.json"
    if not kept.exists():
        return
    for what, pid in json.loads(kept.read_text()).items():
        if works_in(run, pid):
            stop_group(pid, lambda pid=pid: not group_exists(pid))
            print(f"{what} has been ended")
    shutil.rmtree(run, ignore_errors=True)


def stop_all_in(run: Path) -> None:
    """Ends all processes that work in the folder, with their groups."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    groups = set()
    for pid in pids:
        if pid != os.getpid() and works_in(run, pid):
            with contextlib.suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
    for group in groups - {os.getpgid(0)}:
        stop_group(group, lambda group=group: not group_exists(group))


def works_in(run: Path, pid: int) -> bool:
    """Whether the process has the folder in its environment or arguments: its id may belong to another one by now."""
    try:
        known = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(run) + b"/" in known


if __name__ == "__main__":
    main(*sys.argv[1:])
