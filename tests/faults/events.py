"""Death at the n-th file-system event of a part of a run, by SIGKILL, from inside of the process.

An audit hook hears what Python opens for writing, renames, makes and removes; fsync, which has no
event, is wrapped. What a library writes by itself (safetensors) lies between two events.
"""

from __future__ import annotations

COUNT = """
import importlib, os, signal, sys
DIE, PART, FOLDER, LOG = {die}, {part!r}, {folder!r}, {log!r}
state = [False, 0]
EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")

def happened(what):
    state[1] += 1
    if state[1] == DIE:
        os.kill(os.getpid(), signal.SIGKILL)

def inside(path):
    return isinstance(path, (str, bytes)) and FOLDER in os.fsdecode(os.path.abspath(path))

def hear(event, arguments):
    if not state[0]:
        return
    if event in EVENTS and (inside(arguments[0]) or not os.path.isabs(str(arguments[0]))):
        happened(event)
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and inside(arguments[0]):
        happened("open")

fsync = os.fsync
def counted(descriptor):
    if state[0]:
        happened("fsync")
    return fsync(descriptor)

module, _, name = PART.partition(":")
owner = importlib.import_module(module)
*outer, last = name.split(".")
for part in outer:
    owner = getattr(owner, part)
real, calls = getattr(owner, last), [0]
def watched(*arguments, **more):
    calls[0] += 1
    if calls[0] != {call}:
        return real(*arguments, **more)
    state[0] = True
    try:
        return real(*arguments, **more)
    finally:
        state[0] = False
        with open(LOG, "w") as file:
            file.write(str(state[1]))
setattr(owner, last, watched)
os.fsync = counted
sys.addaudithook(hear)
"""

SAVE = "tunesmith.checkpoint.save:CheckpointStore.write"
EXPORT = "tunesmith.runs.train:finish"


def dying(part: str, folder: str, log: str, *, at: int, call: int = 1) -> str:
    """Code that runs before the command: it dies at event ``at`` of the ``call``-th ``part``.

    With ``at=0`` it lives, and ``log`` holds afterwards how many events there were.
    """
    return COUNT.format(die=at, part=part, folder=folder, log=log, call=call)
