"""The process of one contestant: it builds a step, takes it when told, and reports its memory.

Requests are words on the standard input, answers are JSON lines. `benchmarks.harness` is the other side.
"""

import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import environments
from benchmarks.contestants import CONTESTANTS, Host, Program

# The share of a machine's free memory that a program may need by the compiler's count. The process
# itself needs more, and a machine without swap that runs out of memory kills other processes too.
MEMORY = 0.6


class Ready(NamedTuple):
    """A contestant that can step, and the compiler's report."""

    step: Callable[[], Any] | None  # takes one step; None if the program was compiled only
    host: Host  # amount of work in a step, facts and clock
    compile_seconds: float | None = None
    peak: int | None = None
    parameters: int | None = None  # their bytes
    # Of a program that was compiled only:
    temporaries: int | None = None  # bytes beside arguments and outputs
    kernels: int | None = None
    layer_kernels: int | None = None


def prepare(
    contestant: str, work: dict, platform: str, run: bool = True, target: str = ""
) -> Ready:
    """Builds a contestant on a work, as `works.make` takes it.

    Another `platform` than that of the contest would make ratios meaningless. Without `run`, it is only
    compiled. `target` is a device in `benchmarks.targets` to compile for, which need not be present.
    """
    entry = CONTESTANTS[contestant]
    if entry.devices:
        flag = f"--xla_force_host_platform_device_count={entry.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    devices = []
    if target:
        from benchmarks import targets

        devices = targets.TARGETS[target]()
    build = importlib.import_module(f"benchmarks.contestants.{entry.module}").build
    if entry.environment == "torch":
        host = build(**work, platform=platform, **entry.settings)
        return Ready(host.run, host)
    import jax

    if (found := jax.default_backend()) != platform:
        raise ValueError(f"its JAX runs on a {found}, zojax on a {platform}.")
    from benchmarks import works

    made = works.make(**work)
    size = sum(x.size for x in jax.tree.leaves(getattr(made, "params", ())))
    if entry.limit and size > entry.limit:
        raise ValueError(f"not above {entry.limit:,} parameters: {entry.beyond}.")
    mesh = {"devices": devices or jax.devices()} if entry.devices else {}
    program = build(made, **mesh, **entry.settings)
    if isinstance(program, Host):
        return Ready(program.run, program)
    sharding = jax.sharding.SingleDeviceSharding(devices[0]) if devices else None
    return compiled(program, made, run, sharding)


def compiled(program: Program, made, run: bool, sharding=None, options=None) -> Ready:
    """Compiles a step; makes its arrays last, so that the peak of the process is that of the step."""
    import jax

    from benchmarks import works

    def place(tree):
        return jax.tree.map(lambda x: x.update(sharding=sharding), tree) if sharding else tree

    carry_shapes = place(jax.eval_shape(program.start, made.params))
    begin = time.perf_counter()
    jitted = jax.jit(program.step, donate_argnums=0)
    lowered = jitted.lower(carry_shapes, place(made.batch))
    executable = lowered.compile(compiler_options=options)
    seconds, peak = time.perf_counter() - begin, peak_bytes(executable)
    host = Host(lambda: None, program.amount, program.facts)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(made.params))
    if not run:
        temporaries = executable.memory_analysis().temp_size_in_bytes
        text = executable.as_text()
        counts = kernels_of(text), layer_kernels_of(text)
        return Ready(None, host, seconds, peak, size, temporaries, *counts)
    if peak > (room := free_memory()):
        raise MemoryError(f"it needs {peak / 1e9:.3g} GB, more than its {room / 1e9:.3g} GB")
    batch = works.fill(made.batch, seed=1)
    carry = jax.jit(program.start, donate_argnums=0)(works.fill(made.params))

    def step():
        nonlocal carry
        carry = jax.block_until_ready(executable(carry, batch))

    return Ready(step, host, seconds, peak, size)


def peak_bytes(executable) -> int:
    """Temporaries + arguments + outputs by the compiler; donated bytes count once."""
    m = executable.memory_analysis()
    resident = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    return m.temp_size_in_bytes + resident


def kernels_of(text: str) -> int:
    """Fusions, library calls and copies of a compiled program; one in a loop counts once."""
    return len(re.findall(r" (?:fusion|custom-call|copy|dot|convolution|sort)\(", text))


def layer_kernels_of(text: str) -> int | None:
    """Those of a layer: of the longest loop without a loop inside. None without a loop."""
    found = re.findall(r"^%?([\w.-]+) \(.*?\{$(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    bodies = {name: dict(found)[name] for name in re.findall(r"body=%?([\w.-]+)", text)}
    inner = [kernels_of(body) for body in bodies.values() if "body=" not in body]
    return max(inner, default=None)


def free_memory() -> int:
    """Bytes that a program may need: all that the device lends a process, or a share of the machine's.

    A GPU does not tell the memory of other contestants. On a full GPU XLA's message becomes the row.
    """
    import jax

    told = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in told:
        return told["bytes_limit"]
    information = Path("/proc/meminfo")
    if information.exists():  # it excludes the memory of contestants that wait
        found = re.search(r"MemAvailable:\s*(\d+)", information.read_text())
        return int(MEMORY * 1024 * int(found[1]))
    return int(MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def peaks() -> dict:
    """The largest memory of this process, and of its device if that is told; in bytes."""
    found = {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if "jax" in sys.modules:
        told = sys.modules["jax"].devices()[0].memory_stats() or {}
        found["device_peak"] = told.get("peak_bytes_in_use")
    return found


def versions() -> dict:
    """The versions of the packages that this contestant imported."""
    names = [name for name in ("jax", "jaxlib", *environments.PACKAGES) if name in sys.modules]
    return environments.versions(names, sys.path)


def timed(ready: Ready) -> float:
    start = ready.host.clock()
    ready.step()
    return ready.host.clock() - start


def serve(request: list, words, answer: Callable[[dict], Any]) -> None:
    """Prepares a contestant, then answers "step" and "stop"."""
    ready = prepare(*request)
    facts = {"peak": ready.peak, "compile_seconds": ready.compile_seconds}
    facts |= {"parameters": ready.parameters, "amount": ready.host.amount}
    facts |= {n: getattr(ready, n) for n in ("temporaries", "kernels", "layer_kernels")}
    if ready.step:
        facts["first"] = timed(ready)  # allocates and warms up
    answer(facts | {"versions": versions()})
    for word in words:
        if word.strip() == "stop":
            return answer(peaks() | ready.host.facts())
        answer({"seconds": timed(ready)})


def main() -> None:
    """Keeps the standard output for answers; all other output goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(facts: dict) -> None:
        print(json.dumps(facts), file=answers)

    try:
        serve(json.loads(sys.argv[1]), sys.stdin, answer)
    except Exception as error:  # any failure is a row of the table
        answer({"failed": reason_of(error)})


def reason_of(error: Exception) -> str:
    """One line for a table."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error.name}"
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:200]


if __name__ == "__main__":
    main()
