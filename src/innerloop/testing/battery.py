"""How all conformance batteries run: named checks, every failure reported, known gaps declared with a reason."""

from collections.abc import Callable, Mapping


def run_checks(
    subject: str, checks: Mapping[str, Callable[[], None]], expected_failures: Mapping[str, str] | None = None
) -> None:
    """Run every check and raise one `AssertionError` that names all that failed.

    `expected_failures` maps the name of a check to the reason why it is known to fail; one that is declared and
    passes is an error too, so that the declaration goes when the gap does.
    """
    expected = dict(expected_failures or {})
    unknown = sorted(set(expected) - set(checks))
    problems = [f"expected_failures names {unknown}, but the checks are {sorted(checks)}"] if unknown else []
    for name, check in checks.items():
        try:
            check()
        except Exception as error:
            if name not in expected:
                lines = [line for line in str(error).strip().splitlines() if line.strip()] or [repr(error)]
                problems.append(f"{name}: {type(error).__name__}: " + "\n    ".join(lines[:12]))
        else:
            if name in expected:
                problems.append(f"{name}: declared as a known gap ({expected[name]}), but it passes")
    if problems:
        raise AssertionError(f"{subject} does not conform:\n- " + "\n- ".join(problems))
