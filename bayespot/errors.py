"""One exception class per kind of mistake.

Every message names the thing, its value and the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class BayespotError(Exception):
    """Base of all errors that bayespot raises on purpose."""


class LabelError(BayespotError):
    """A label (energy, forces, stress) is missing, not finite, misshapen or contradictory."""


class UnitError(BayespotError):
    """Labels look as if they came in another unit or normalisation."""


class StructureError(BayespotError):
    """A structure cannot be used: overlapping atoms, broken cell, non-finite positions."""


class SpeciesError(BayespotError):
    """A chemical species is unknown to the potential or to the periodic table."""


class CutoffError(BayespotError):
    """A potential reaches farther than the neighbour graph it is evaluated on."""


class PriorError(BayespotError):
    """A prior is improper, malformed, or belongs to no parameter."""


class PrecisionError(BayespotError):
    """Double precision is needed and switched off."""


class NotConverged(BayespotError):  # noqa: N818  (reads as what it says)
    """A posterior did not converge and the caller did not ask to go on all the same."""


class OracleError(BayespotError):
    """A calculation of labels failed.

    Parameters
    ----------
    message : str
    kind : str
        What failed, in one word that tables count by, as ``"not_converged"`` or ``"time_limit"``.
    attempts : sequence of mapping
        What was tried, in order: plain JSON.
    """

    def __init__(
        self, message: str, kind: str = "failed", attempts: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.kind, self.attempts = kind, tuple(dict(a) for a in attempts)

    def __reduce__(self) -> tuple:
        """Keep kind and attempts on the way back from a worker process."""
        return type(self), (str(self), self.kind, self.attempts)


class LedgerError(BayespotError):
    """The record of calculations is locked, damaged or contradicts itself."""


class ConfigError(BayespotError):
    """The configuration of a run has an unknown key or a value that cannot be."""


class PropertyError(BayespotError):
    """A property was asked for in a way that cannot be answered: name, structure or calculator."""


class ContractBroken(BayespotError):  # noqa: N818
    """A potential does not keep the contract of `bayespot.testing.check_potential`."""
