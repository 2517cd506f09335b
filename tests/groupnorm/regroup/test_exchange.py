"""The search for groups."""

import itertools

import numpy as np
import pytest

from normswap.groupnorm.regroup.exchange import Grouped, cost_of, exchanged


def drawn(channels, seed, features=40):
    f = np.random.default_rng(seed).normal(size=(features, channels))
    return f.T @ f / features


def direct(products, num_groups, places):
    """The cost, by its definition."""
    groups = np.reshape(places, (num_groups, -1))
    return sum(products[np.ix_(g, g)].sum() for g in groups) / groups.shape[1] ** 2


def test_the_cost_is_what_it_says():
    layer = Grouped(np.arange(12), drawn(12, 0), 3)
    places = np.random.default_rng(1).permutation(12)
    assert cost_of(layer, places) == pytest.approx(direct(layer.products, 3, places))
    assert cost_of(layer) == pytest.approx(direct(layer.products, 3, np.arange(12)))


def test_channels_that_cancel_each_other_share_a_group():
    rng = np.random.default_rng(0)
    f = rng.normal(size=(50, 4))
    both = np.concatenate([f, -f], axis=1)  # channel i + 4 is the opposite of channel i
    layer = Grouped(np.arange(8), both.T @ both, 4)
    order = exchanged([np.arange(8)], [layer])[0]
    assert cost_of(layer, order) == pytest.approx(0, abs=1e-9)


def test_no_single_exchange_is_left_that_would_gain():
    layers = [Grouped(np.arange(16), drawn(16, s), g) for s, g in ((1, 4), (2, 2), (3, 8))]
    order = exchanged([np.arange(16)], layers)[0]

    def cost(places):
        return sum(cost_of(layer, places) for layer in layers)

    best = cost(order)
    assert best < cost(np.arange(16))
    for a, b in itertools.combinations(range(16), 2):
        other = order.copy()
        other[[a, b]] = other[[b, a]]
        assert cost(other) >= best * (1 - 1e-6)


def test_channels_stay_in_their_spaces():
    """A layer over two spaces, one of which another layer has too."""
    numbers = np.concatenate([np.arange(100, 106), np.arange(6)])
    layers = [Grouped(numbers, drawn(12, 4), 4), Grouped(np.arange(6), drawn(6, 5), 3)]
    spaces = [np.arange(6), np.arange(100, 106), np.arange(200, 209)]
    orders = exchanged(spaces, layers)
    assert orders.keys() <= {0, 1}
    assert all(sorted(order) == list(range(6)) for order in orders.values())
    first, second = (orders.get(n, np.arange(6)) for n in (0, 1))
    together = np.concatenate([second, 6 + first])
    assert cost_of(layers[0], together) + cost_of(layers[1], first) < sum(map(cost_of, layers))


def test_it_is_the_same_every_time_and_nothing_where_nothing_is_gained():
    layer = Grouped(np.arange(64), drawn(64, 6), 8)
    one, other = (exchanged([np.arange(64)], [layer])[0] for _ in range(2))
    assert one.tolist() == other.tolist()
    alike = Grouped(np.arange(8), np.ones((8, 8)), 2)
    assert exchanged([np.arange(8)], [alike]) == {}
    for groups in (1, 8):
        assert exchanged([np.arange(8)], [Grouped(np.arange(8), drawn(8, 7), groups)]) == {}
