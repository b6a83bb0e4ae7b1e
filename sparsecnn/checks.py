"""Checks of settings: what is not allowed is refused in one line that names the value and what is."""

from collections.abc import Iterable

__all__ = ["SettingError", "check_choice", "check_fraction", "check_range", "check_seeds", "check_type"]

LARGEST = 2**53  # up to it a float, and so any table, holds every whole number


class SettingError(ValueError):
    """A setting that is not allowed. Notebooks show its one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook
        return [f"{type(self).__name__}: {self}"]


def check_choice(name: str, value, allowed: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise SettingError(f"{name}={value!r} is not allowed: one of {', '.join(map(repr, allowed))}")


def check_type(name: str, value, kind: type) -> None:
    accepted = (int, float) if kind is float else kind
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, accepted):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
        as_number = _as_yaml_has_it(value) if kind in (int, float) and isinstance(value, str) else ""
        raise SettingError(f"{name}={value!r} is not allowed: {words[kind]}{as_number}")


def _as_yaml_has_it(text: str) -> str:
    """How to write a number that came as a text. YAML, papermill's -y, takes 1e-3 for one."""
    digits, _, exponent = text.lower().partition("e")
    try:
        number = float(text)
        written = f"{float(digits)}e{int(exponent):+d}" if exponent else f"{number:g}"
    except ValueError:
        return ""
    return f", not a text, write {written}"


def check_fraction(name: str, value: float, up_to: float | None = None) -> None:
    """In [0, 1), or in [0, up_to]."""
    check_type(name, value, float)
    inside = 0 <= value < 1 if up_to is None else 0 <= value <= up_to
    if not inside:
        end = "1)" if up_to is None else f"{up_to}]"
        raise SettingError(f"{name}={value} is not allowed: a fraction in [0, {end}, 0.3 for 30%")


def check_range(
    name: str, value: float, least: float | None = None, above: float | None = None, most: float = LARGEST
) -> None:
    low = value >= least if least is not None else value > above
    if not (low and value <= most):  # NaN is neither
        bound = f"at least {least}" if least is not None else f"above {above}"
        raise SettingError(f"{name}={value} is not allowed: {bound}, at most {most}")


def check_seeds(value) -> None:
    """A number of seeds."""
    check_type("seeds", value, int)
    check_range("seeds", value, least=1, most=1000)
