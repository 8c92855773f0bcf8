"""A process for every contestant: its own memory, its own failure, its own interpreter if need be.

The parent asks for one step at a time, so contestants still take turns; a process that waits uses no
processor time. What comes back at the end is the most memory that this contestant ever held.
"""

import contextlib
import importlib
import json
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import environments, turns
from benchmarks.rivals import RIVALS, Host

ROOT = Path(__file__).parent.parent
# Of a machine's free memory: what a program may need by the compiler's count. The process needs more, and
# a machine without swap that runs out of memory ends more than the contestant.
MEMORY = 0.6


class Failed(RuntimeError):
    """A contestant that cannot take part, with the reason."""


# --- the parent's side --------------------------------------------------------------------------------


class Worker:
    """One contestant on one work, ready to step.

    Args:
      contestant: a name in `RIVALS`.
      work: the description: name, settings, evaluations.
      limit: seconds for starting, with compilation, and for the first step.
      make: whether an environment may be made.

    Raises:
      Failed: with the reason, in one line.
    """

    def __init__(self, contestant: str, work: dict, limit: float = 300, make: bool = True):
        rival = RIVALS[contestant]
        import jax  # not above: a contestant's environment may have none

        try:
            python = sys.executable
            if rival.environment:
                python = environments.python_of(rival.environment, make)
        except environments.Unavailable as error:
            raise Failed(str(error)) from None
        self._errors = tempfile.TemporaryFile("w+")
        # Several processes share a GPU: none may take all of its memory beforehand. A compiled program from
        # a cache would have neither its compiler's seconds nor its memory.
        variables = os.environ | {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_ENABLE_COMPILATION_CACHE": "false",
        }
        told = json.dumps([contestant, work, jax.default_backend()])
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.workers", told],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.facts = self._answer(limit)

    def step(self, limit: float = 600) -> float:
        """Seconds of a turn, with `limit` for each of its steps."""
        return turns.often(lambda: self._step(limit))

    def _step(self, limit: float) -> float:
        self._say("step")
        return self._answer(limit)["seconds"]

    def close(self) -> dict:
        """Ends the process; `rss` and, where the device tells, `device_peak`, in bytes."""
        self._say("stop")
        facts = self._answer(30)
        self._end()
        return facts

    def _say(self, word: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.flush()

    def _answer(self, limit: float) -> dict:
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        line = self._process.stdout.readline() if ready else b""
        answer = json.loads(line) if line else {}
        if not line or "failed" in answer:
            self._process.kill()
            reason = answer.get("failed") or (self._last_words() if ready else f"over {limit:g} s")
            self._end()
            raise Failed(reason)
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        if code == -9:
            return "killed, most likely for want of memory"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return (lines[-1] if lines else f"exit status {code}")[:200]

    def _end(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


# --- the contestant's side ----------------------------------------------------------------------------


class Ready(NamedTuple):
    """A step that can be taken, and what compiling it told."""

    step: Callable[[], Any]
    compile_seconds: float | None = None
    peak: int | None = None


def prepare(contestant: str, work: dict, platform: str) -> Ready:
    """Builds and compiles a contestant; fills the arrays last, so that the peak is its own.

    It runs where zojax does or not at all: there is no ratio of a CPU and a GPU.
    """
    rival = RIVALS[contestant]
    build = importlib.import_module(f"benchmarks.rivals.{rival.module}").build
    if rival.environment == "torch":
        return Ready(build(**work, platform=platform).run)
    import jax

    if (found := jax.default_backend()) != platform:
        raise ValueError(f"its JAX runs on a {found}, zojax on a {platform}.")

    from benchmarks import measure, works

    made = works.make(**work)
    size = sum(x.size for x in jax.tree.leaves(made.params))
    if rival.limit and size > rival.limit:
        raise ValueError(f"not above {rival.limit:,} parameters: {rival.beyond}.")
    program = build(made, **rival.settings)
    if isinstance(program, Host):
        return Ready(program.run)
    carry_shapes = jax.eval_shape(program.start, made.params)
    begin = time.perf_counter()
    jitted = jax.jit(program.step, donate_argnums=0)
    compiled = jitted.lower(carry_shapes, made.batch).compile()
    seconds, peak = time.perf_counter() - begin, measure.peak_bytes(compiled)
    if peak > (room := free_memory()):
        raise MemoryError(f"it needs {peak / 1e9:.3g} GB, more than its {room / 1e9:.3g} GB")
    batch = works.fill(made.batch, seed=1)
    carry = jax.jit(program.start, donate_argnums=0)(works.fill(made.params))

    def step():
        nonlocal carry
        carry = jax.block_until_ready(compiled(carry, batch))

    return Ready(step, seconds, peak)


def free_memory() -> int:
    """Bytes that a program may need: all that the device has for a process, or a part of the machine's.

    A GPU does not tell what other contestants hold. One that finds it full is a row with XLA's message:
    unlike a machine without swap, a full GPU ends nobody.
    """
    import jax

    told = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in told:
        return told["bytes_limit"]
    information = Path("/proc/meminfo")
    if information.exists():  # what others hold, and other contestants that wait, is not free
        found = re.search(r"MemAvailable:\s*(\d+)", information.read_text())
        return int(MEMORY * 1024 * int(found[1]))
    return int(MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def peaks() -> dict:
    """The most memory that this process held, and its device if it tells."""
    found = {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if "jax" in sys.modules:
        told = sys.modules["jax"].devices()[0].memory_stats() or {}
        found["device_peak"] = told.get("peak_bytes_in_use")
    return found


def versions() -> dict:
    """Of what this contestant has imported."""
    names = [name for name in ("jax", "jaxlib", *environments.PACKAGES) if name in sys.modules]
    return environments.versions(names, sys.path)


def main() -> None:
    """Answers "step" and "stop", one JSON object a line; other output goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        contestant, work, platform = json.loads(sys.argv[1])
        ready = prepare(contestant, work, platform)
        start = time.perf_counter()
        ready.step()  # allocates and warms up
        facts = {"first": time.perf_counter() - start, "peak": ready.peak}
        facts |= {"compile_seconds": ready.compile_seconds, "platform": platform}
        facts["versions"] = versions()
        print(json.dumps(facts), file=answers)
        for word in sys.stdin:
            if word.strip() == "stop":
                print(json.dumps(peaks()), file=answers)
                break
            start = time.perf_counter()
            ready.step()
            print(json.dumps({"seconds": time.perf_counter() - start}), file=answers)
    except ImportError as error:
        reason = f"not installed: {error.name}" if error.name else str(error)
        print(json.dumps({"failed": reason[:200]}), file=answers)
    except Exception as error:  # whatever it is, it is this contestant's row
        text = str(error).strip().splitlines() or [type(error).__name__]
        print(json.dumps({"failed": text[0][:200]}), file=answers)


if __name__ == "__main__":
    main()
