"""Reports as plain data, by what their classes say."""

import enum
import json
import math
from dataclasses import dataclass, field

from normswap.plain import called, plain, told


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    colour: Colour
    size: float


@dataclass(frozen=True)
class Outer:
    parts: tuple[Inner, ...] = field(metadata=called("pieces"))
    arrays: object = field(default=None, repr=False)

    SCHEMA = "normswap/outer/1"
    TOLD = ("count",)

    @property
    def count(self):
        return len(self.parts)


def test_a_dataclass_is_what_its_class_says():
    data = plain(Outer((Inner(Colour.RED, -math.inf), Inner(Colour.RED, 1.5))))
    assert data == {
        "schema": "normswap/outer/1",
        "pieces": [{"colour": "red", "size": "-inf"}, {"colour": "red", "size": 1.5}],
        "count": 2,
    }
    assert told(Outer) == {"pieces": "parts", "count": "count"}


def test_keys_and_numbers_are_those_of_json():
    data = plain({1: [math.nan, True, None], "x": (2, "y")})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data == {"1": ["nan", True, None], "x": [2, "y"]}
