"""Codes by the name they have in a configuration."""

from __future__ import annotations

from bayespot.oracles.codes import Code
from bayespot.oracles.espresso import EspressoCode
from bayespot.oracles.gpaw import GpawCode
from bayespot.oracles.pretrained import ChgnetCode

__all__ = ["code_of"]

_OWN: dict[str, type[Code]] = {"chgnet": ChgnetCode, "espresso": EspressoCode, "gpaw": GpawCode}
"""Codes of which more is known than their name; all others are ASE's calculators."""


def code_of(name: str) -> Code:
    """Find a code.

    Raises
    ------
    ConfigError
        If there is no such calculator, or its package is not installed.
    """
    return _OWN.get(name, Code)(name)
