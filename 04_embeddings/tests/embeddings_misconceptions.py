"""to come"""

MISCONCEPTIONS: dict[str, tuple[object, ...]] = {}
