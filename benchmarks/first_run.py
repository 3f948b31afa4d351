"""How long does the first run of a study take, and how much of that is compilation?

Each repeat runs the smoke scale of `icl-gd` twice, in new processes and new run folders: with an empty
compilation cache, then with the cache that the first one filled. The entries that each run added are counted.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _measure import clock, print_head, print_ratio, print_times, since
from innerloop.studies import built

STUDY, REPEATS = "icl-gd", 3


def run(cache: Path, runs: Path) -> int:
    """One run; how many programs it added to the cache."""
    before = len(list(cache.glob("*")))
    arguments = ["run", STUDY, "--scale", "smoke", "--runs", str(runs)]
    code = f"from innerloop.cli import main; main({arguments})"
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the run failed:\n{done.stdout}\n{done.stderr}")
    return len(list(cache.glob("*"))) - before


def main() -> None:
    print_head(f"How long does `innerloop run {STUDY}` take with a cold and with a warm compilation cache?")
    if STUDY not in built():
        print(f"  the study {STUDY} is not built in this version")
        return
    costs, added = {"cold": [], "warm": []}, {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(REPEATS):
            for state in costs:
                cache, runs = Path(folder, f"cache-{repeat}"), Path(folder, f"runs-{repeat}-{state}")
                start = clock()
                added[state].append(run(cache, runs))
                costs[state].append(since(start))
    print_times(costs)
    print_ratio(costs, "warm", "cold")
    print(f"  cache entries added: cold {added['cold']}, warm {added['warm']}")
    print("  goals: cold at most 10 s, warm at most 5 s")


if __name__ == "__main__":
    main()
