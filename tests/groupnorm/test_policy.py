from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normswap.errors import UsageError
from normswap.groupnorm.policy import GroupPolicy, OnIndivisible, divisors, nearest_divisor


@pytest.mark.parametrize(
    ("policy", "channels", "groups"),
    [
        (GroupPolicy(), 64, 32),
        (GroupPolicy(groups=1), 7, 1),
        (GroupPolicy(groups=None), 7, 7),
        (GroupPolicy(groups=None, group_size=16), 64, 4),
        (GroupPolicy(group_size=1), 5, 5),
        (GroupPolicy(groups=32), 24, None),
        (GroupPolicy(groups=32), 16, None),
        (GroupPolicy(groups=32, on_indivisible=OnIndivisible.GCD), 24, 8),
        (GroupPolicy(groups=32, on_indivisible=OnIndivisible.GCD), 7, 1),
        (GroupPolicy(groups=32, on_indivisible=OnIndivisible.NEAREST), 24, 24),
        (GroupPolicy(groups=5, on_indivisible=OnIndivisible.NEAREST), 24, 4),
        (GroupPolicy(groups=32, on_indivisible=OnIndivisible.KEEP), 24, None),
        (GroupPolicy(group_size=16, on_indivisible=OnIndivisible.GCD), 24, 3),
        (GroupPolicy(group_size=16, on_indivisible=OnIndivisible.NEAREST), 24, 2),
    ],
)
def test_number_of_groups(policy, channels, groups):
    assert policy.num_groups(channels) == groups


@given(
    st.integers(1, 512),
    st.integers(1, 600),
    st.sampled_from(list(OnIndivisible)),
    st.booleans(),
)
def test_a_number_of_groups_always_divides_the_channels(channels, asked, rule, by_size):
    policy = GroupPolicy(groups=asked, group_size=asked if by_size else None, on_indivisible=rule)
    groups = policy.num_groups(channels)
    if groups is None:
        assert channels % asked
        assert rule in (OnIndivisible.ERROR, OnIndivisible.KEEP)
    else:
        assert groups >= 1
        assert channels % groups == 0
        if channels % asked == 0:
            assert groups == (channels // asked if by_size else asked)


@given(st.integers(1, 2000))
def test_divisors(number):
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


@given(st.integers(1, 300), st.integers(1, 400))
def test_nearest_divisor(number, wanted):
    found = nearest_divisor(number, wanted)
    assert all(abs(found - wanted) <= abs(d - wanted) for d in divisors(number))


@pytest.mark.parametrize("field", ["groups", "group_size"])
@pytest.mark.parametrize("number", [0, -3])
def test_refuses_less_than_one(field, number):
    with pytest.raises(UsageError, match="at least 1") as caught:
        GroupPolicy(**{field: number})
    assert "instance normalization" in caught.value.tip


def test_one_error_names_all_layers_and_a_change_that_works():
    policy = GroupPolicy(groups=32)
    layers = {"stem": 24, "block": 64, "head": 40}
    with pytest.raises(UsageError) as caught:
        policy.require(layers)
    assert "stem has 24" in str(caught.value)
    assert "head has 40" in str(caught.value)
    assert "block" not in str(caught.value)
    assert "--groups 8 divides the channels of every layer" in caught.value.tip
    GroupPolicy(groups=8).require(layers)


def test_the_change_for_a_group_size_is_a_group_size():
    with pytest.raises(UsageError) as caught:
        GroupPolicy(group_size=16).require({"a": 24, "b": 36})
    assert "--group-size 12" in caught.value.tip
    GroupPolicy(group_size=12).require({"a": 24, "b": 36})


def test_a_long_list_is_cut():
    with pytest.raises(UsageError, match="and 12 more"):
        GroupPolicy(groups=4).require({f"layer{i}": 7 for i in range(20)})


def test_a_group_per_channel_fits_everything():
    GroupPolicy(groups=None).require({"a": 7, "b": 13})
    assert str(GroupPolicy(groups=None)) == "a group per channel"
