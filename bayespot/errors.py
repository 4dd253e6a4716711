"""One exception class per kind of mistake.

Every message names the thing, its value and the way out.
"""


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
    """A calculation of labels failed."""


class LedgerError(BayespotError):
    """The record of calculations is locked, damaged or contradicts itself."""


class ConfigError(BayespotError):
    """The configuration of a run has an unknown key or a value that cannot be."""


class ContractBroken(BayespotError):  # noqa: N818
    """A potential does not keep the contract of `bayespot.testing.check_potential`."""
