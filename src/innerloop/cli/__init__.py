"""`innerloop`: the command line. Flags are parsed by tyro; `list` and `--help` answer without importing JAX."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from ..core.errors import InnerloopError, UsageError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 something failed, 2 misuse, 130 stopped by the user."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [item for item in given if item != "--debug"]
    try:
        from .parse import parse

        command, rest = parse(given)
        code = command.execute(rest)
    except InnerloopError as error:
        code = _explain(error, 2 if isinstance(error, UsageError) else 1, debug)
    except KeyboardInterrupt:
        code = _explain(InnerloopError("stopped; repeat the command to go on from the last checkpoint"), 130, debug)
    except BrokenPipeError:
        # The reader (`| head`) has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        code = _explain(InnerloopError(f"{message} (--debug shows where)"), 1, debug)
    sys.exit(code)


def _explain(error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"innerloop: {' '.join(str(error).split())}", file=sys.stderr)
    return code
