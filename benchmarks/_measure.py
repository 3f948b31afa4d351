"""How every benchmark measures: alternating repeats, medians with their range, wall and CPU seconds.

One run alternates its sides (A B A B ...), so that a busy moment hits all of them, and reports ratios rather
than times. Nothing here passes or fails: the goals are printed beside the numbers, and a person reads both.
"""

import importlib.metadata
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

PACKAGES = ("innerloop", "jax", "jaxlib", "equinox", "optax")


class Cost(NamedTuple):
    """What one repeat took. CPU seconds include child processes that have ended."""

    wall: float
    cpu: float


def clock() -> Cost:
    """Now, in both kinds of seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


def since(start: Cost) -> Cost:
    """What has been used since `start`."""
    now = clock()
    return Cost(now.wall - start.wall, now.cpu - start.cpu)


def cost_of(call: Callable[[], Any]) -> Cost:
    """Run `call` once. One that returns a `Cost` has measured itself."""
    start = clock()
    result = call()
    return result if isinstance(result, Cost) else since(start)


def interleave(sides: Mapping[str, Callable[[], Any]], *, repeats: int) -> dict[str, list[Cost]]:
    """Run all sides in turn, `repeats` times."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            costs[name].append(cost_of(call))
    return costs


def spread(values: Sequence[float]) -> str:
    """The median with the smallest and the largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.3g} s ({low:.3g} to {high:.3g})"


def print_times(costs: Mapping[str, Sequence[Cost]]) -> None:
    """Both kinds of seconds of every side."""
    width = max(map(len, costs))
    for name, each in costs.items():
        walls, cpus = [cost.wall for cost in each], [cost.cpu for cost in each]
        print(f"  {name:<{width}}  wall {spread(walls):<32}  CPU {spread(cpus)}")


def ratio(costs: Mapping[str, Sequence[Cost]], side: str, peer: str, *, times: float = 1.0) -> str:
    """The ratio of the median wall times, with the range of the repeats' own ratios, all times `times`."""

    def of_medians(kind: str) -> float:
        a, b = (statistics.median(getattr(cost, kind) for cost in costs[name]) for name in (side, peer))
        return times * a / b

    pairs = [times * x.wall / y.wall for x, y in zip(costs[side], costs[peer], strict=True)]
    in_range = f"({min(pairs):.3g} to {max(pairs):.3g})"
    return f"{of_medians('wall'):.3g} {in_range}, in CPU seconds {of_medians('cpu'):.3g}"


def print_ratio(costs: Mapping[str, Sequence[Cost]], side: str, peer: str, *, goal: str = "") -> None:
    """One line: the ratio of two sides, and the goal if there is one."""
    print(f"  {side} / {peer}: {ratio(costs, side, peer)}" + (f"   goal {goal}" if goal else ""))


def print_head(question: str) -> None:
    """What is asked, on what, with which versions; a warning when the machine is busy."""
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{question}\nPython {platform.python_version()}, {versions}; {cores} cores, load average {load:.2f}")
    if load > 1:
        print("WARNING: the machine is busy (load average above 1): wall times mean little, ratios not much")
    print(flush=True)
