"""Objectives for workers: they note their calls in a file, and some hang or kill their own process."""

import os
import signal
import time
from pathlib import Path

KILLS, HANGS = 0.6, -0.7  # points above and below


def bowl(x):
    return (x - 0.3) ** 2


def noted(x, folder, **worker):
    """Notes begin and end of a call."""
    _note(folder, f"begin {os.getpid()} {x!r}")
    time.sleep(0.01)
    value = bowl(x)
    _note(folder, f"end {os.getpid()} {x!r}")
    return value


def deadly(x, folder, **worker):
    """Kills its process in the first call of a point above KILLS; hangs below HANGS."""
    if x > KILLS and _is_first(folder, x):
        _note(folder, f"killed {os.getpid()} {x!r}")
        os.kill(os.getpid(), signal.SIGKILL)
    if x < HANGS:
        _note(folder, f"hung {os.getpid()} {x!r}")
        hang()
    return noted(x, folder)


def hang():
    """As compiled code that never returns: no alarm ends it."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(10_000)


def sleepy(x):
    if x < HANGS:
        time.sleep(10_000)
    return bowl(x), os.getpid()


def own_process(x, folder):
    """Kills its process in every call of a point above KILLS."""
    if x > KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    return noted(x, folder)


def calls(folder, kind):
    """(process, point) of each noted call of a kind."""
    path = Path(folder) / "calls"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(process), float(x)) for found, process, x in lines if found == kind]


def _note(folder, line):
    file = os.open(os.path.join(folder, "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def _is_first(folder, x):
    try:
        os.close(os.open(os.path.join(folder, f"first {x!r}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
