"""Worlds by the rules as they are written, one after the other; what is random is given."""

import numpy as np


class CleanUp:
    """Grids of truth values; `chances` are one number for the dirt and the first zap, one for apples and the second."""

    def __init__(self, height=5, width=4, dirt_probability=0.35, dirt_limit=3.0, hit_probability=0.9, far="chebyshev"):
        self.height, self.width, self.far = height, width, far
        self.dirt_probability, self.dirt_limit, self.hit_probability = dirt_probability, dirt_limit, hit_probability

    def appears(self, grid, column, probability, chance):
        """Where something falls, and the position of `chance` within the piece of the outcome."""
        free = [row for row in range(self.height) if not grid[row, column]]
        for k, row in enumerate(free):
            low, high = k * probability / len(free), (k + 1) * probability / len(free)
            if low <= chance < high:
                grid[row, column] = True
                return (chance - low) / (high - low)
        return (chance - probability) / (1 - probability) if free else chance

    def step(self, places, frozen, dirt, apples, chances, actions):
        """All of a step: the new world, rewards, and who cleaned and who hit."""
        places, frozen, dirt, apples = list(places), list(frozen), dirt.copy(), apples.copy()
        first = self.appears(dirt, self.width - 1, self.dirt_probability, chances[0])
        growth = 1 - min(1, dirt.sum() / self.dirt_limit)
        second = self.appears(apples, 0, growth, chances[1])
        awake = [left == 0 for left in frozen]
        rewards = [float(awake[i] and apples[places[i]]) for i in range(2)]
        cleaned = [bool(awake[i] and dirt[places[i]]) for i in range(2)]
        for i in range(2):
            if awake[i]:
                apples[places[i]] = dirt[places[i]] = False
        down, right = (abs(a - b) for a, b in zip(*places, strict=True))
        far = max(down, right) if self.far == "chebyshev" else down + right
        hits = [
            actions[i] == 4 and awake[0] and awake[1] and far <= 2 and (first, second)[i] < self.hit_probability
            for i in range(2)
        ]
        frozen = [5 if hits[1 - i] else max(frozen[i] - 1, 0) for i in range(2)]
        for i in range(2):
            if awake[i] and not hits[1 - i]:
                row, column = np.add(places[i], [(0, 1), (0, -1), (-1, 0), (1, 0), (0, 0), (0, 0)][actions[i]])
                if 0 <= row < self.height and 0 <= column < self.width:
                    places[i] = (int(row), int(column))
        return places, frozen, dirt, apples, rewards, cleaned, hits

    def observe(self, places, frozen, dirt, apples):
        """What each sees: own place, other's place, apples, dirt, emptiness, own and other's ice."""
        seen = []
        for i in range(2):
            grids = np.zeros((5, self.height, self.width))
            grids[0][places[i]] = grids[1][places[1 - i]] = 1
            grids[2], grids[3], grids[4] = apples, dirt, ~(apples | dirt)
            seen.append([*grids.ravel(), float(frozen[i] > 0), float(frozen[1 - i] > 0)])
        return np.array(seen)


def coin_game(places, coins, actions, size, coin_reward=1.0, stolen_reward=-2.0):
    """Places after the moves, rewards, and which coins are gone; a coin that does not lie there is `None`."""
    moves = [(0, 1), (0, -1), (1, 0), (-1, 0), (0, 0)]
    places = [tuple(int(i) for i in np.add(place, moves[a]) % size) for place, a in zip(places, actions, strict=True)]
    rewards, gone = [0.0, 0.0], [False, False]
    for player in range(2):
        for colour in range(2):
            if places[player] == coins[colour]:
                rewards[player] += coin_reward
                gone[colour] = True
                if colour != player:
                    rewards[colour] += stolen_reward
    return places, rewards, gone
