"""How long until the command line answers, and what does importing the library cost beyond importing JAX?"""

import subprocess
import sys

from _measure import interleave, print_head, print_ratio, print_times

WHOLE_FACE = "import innerloop; [getattr(innerloop, name) for name in dir(innerloop)]"


def process(code: str):
    """Runs `code` in a new interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def command(*arguments: str):
    return process(f"from innerloop.cli import main; main({list(arguments)})")


def main() -> None:
    print_head("How long until the command line answers, and what does the import cost?")
    sides = {
        "python -c pass": process("pass"),
        "innerloop list": command("list"),
        "innerloop --help": command("--help"),
        "import innerloop": process("import innerloop"),
        "import jax": process("import jax"),
        "innerloop, every public name": process(WHOLE_FACE),
    }
    interleave(sides, repeats=1)  # writes .pyc files
    costs = interleave(sides, repeats=7)
    print_times(costs)
    print("\n  goals: list and --help under 0.3 s; import innerloop at most import jax + 0.2 s")
    print_ratio(costs, "innerloop, every public name", "import jax")


if __name__ == "__main__":
    main()
