"""What the studies' lists of runs have in common."""

from collections.abc import Sequence

from ..checks import SettingError, check_seeds, check_type

STUDY_SEEDS = 3


def seeds_of(seeds: int | None, recorded: int = STUDY_SEEDS) -> range:
    if seeds is None:
        return range(recorded)
    check_seeds(seeds)
    return range(seeds)


def several(name: str, values: Sequence | None, kind: type, default: tuple) -> tuple:
    """A setting's values, each once; the Experiments check what they are."""
    if values is None:
        return default
    if not isinstance(values, (list, tuple)) or not values or len(set(map(repr, values))) < len(values):
        raise SettingError(f"{name}={values!r} is not allowed: a list of numbers, each once, say {list(default)}")
    for value in values:
        check_type(name, value, kind)
    return tuple(map(kind, values))
