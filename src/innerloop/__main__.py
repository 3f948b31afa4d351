"""`python -m innerloop`."""

from .cli import main

main()
