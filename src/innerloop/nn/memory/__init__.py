"""Matrix memories: layers whose heads write outer products into a matrix and read it with queries."""

__all__: list[str] = []
