"""How often Python looks for what only refers to itself."""

import gc

_YOUNG = 20_000
_OLD = 50


def collect_seldom() -> None:
    """Leave what is there now alone for good, and look at the rest in larger portions.

    A server begins with some ten thousand objects that stay, and makes and drops thousands for each request: looking
    through all of them each time takes a tenth of its work, and holds up whoever waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLD, _OLD)
