"""Finite automata as arrays: random ones, and the smallest one of a language."""

import numpy as np

NO_EDGE = -1


def random_automaton(
    rng: np.random.Generator, *, num_states: int, alphabet: np.ndarray, max_edges: int, num_symbols: int
) -> np.ndarray:
    """A random automaton as a table `int8[states, symbols]` of next states, `NO_EDGE` where there is none.

    Each state has between 1 and `max_edges` outgoing edges, uniformly; those have different symbols of
    `alphabet` and lead to different other states. State 0 is where strings begin; all states accept.
    """
    table = np.full((num_states, num_symbols), NO_EDGE, np.int8)
    for state in range(num_states):
        edges = rng.integers(1, max_edges + 1)
        others = rng.permutation(num_states - 1)[:edges]
        table[state, rng.permutation(alphabet)[:edges]] = others + (others >= state)
    return table


def minimal_automaton(table: np.ndarray) -> np.ndarray:
    """The smallest automaton with the language of `table`, its states in the order a search meets them.

    Moore's partition refinement: states are told apart by their legal symbols, then by the classes that
    their edges lead to, until nothing changes. Classes are numbered breadth first from state 0, smaller symbols
    first, and classes never met are dropped. Two automata have one language exactly if the results are equal
    arrays.

    **Reference:** Moore (1956), "Gedanken-experiments on sequential machines".
    """
    edges = [[(int(symbol), int(row[symbol])) for symbol in np.flatnonzero(row != NO_EDGE)] for row in table]
    classes, number = [0] * len(edges), 1
    while True:
        names: dict[tuple, int] = {}
        # The old class is part of the name: classes only ever split.
        classes = [
            names.setdefault((classes[state], *((symbol, classes[to]) for symbol, to in row)), len(names))
            for state, row in enumerate(edges)
        ]
        if len(names) == number:
            break
        number = len(names)
    member = {label: state for state, label in enumerate(classes)}
    order = {classes[0]: 0}
    queue = [classes[0]]
    rows = []
    for label in queue:
        row = np.full(table.shape[1], NO_EDGE, np.int8)
        for symbol, to in edges[member[label]]:
            if classes[to] not in order:
                order[classes[to]] = len(order)
                queue.append(classes[to])
            row[symbol] = order[classes[to]]
        rows.append(row)
    return np.stack(rows)
