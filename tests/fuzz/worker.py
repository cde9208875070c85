"""The process that is fuzzed: it runs commands, one a line of stdin, and tells what they did.

A request holds the words of a command line, and a folder of modules or "". An answer holds the exit
code, what was written, the seconds of CPU, how far the memory of the process ever grew since its
start, and what an audit hook saw of things that reading a config must never do.
"""

import contextlib
import io
import json
import resource
import sys
import time

FORBIDDEN = (
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.__new__",
    "urllib.Request",
)
HEAVY = ("torch", "transformers", "datasets", "numpy")

seen: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    """Remember what must not happen."""
    if event in FORBIDDEN:
        seen.append(f"{event} {arguments!r}"[:200])
    elif event == "import" and arguments[0] in HEAVY:
        seen.append(f"import {arguments[0]}")
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append(f"open {arguments[0]!r} to write"[:200])


def peak() -> int:
    """The most memory that the process ever held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Answer requests until stdin ends."""
    from tunesmith.cli.main import run
    from tunesmith.config.read import load  # what every command needs, so that no case pays for it

    with contextlib.suppress(Exception):
        load({})
    imported = [f"import {name}" for name in HEAVY if name in sys.modules]
    sys.addaudithook(watch)
    at_start = peak()
    for line in sys.stdin:
        request = json.loads(line)
        out, err = io.StringIO(), io.StringIO()
        seen[:] = imported
        sys.path[:0] = [request["folder"]] if request["folder"] else []
        began = time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(request["words"])
        answer = {
            "code": code,
            "out": out.getvalue(),
            "err": err.getvalue(),
            "cpu_s": time.process_time() - began,
            "grown": peak() - at_start,
            "seen": list(seen),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
