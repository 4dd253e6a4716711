"""What was found out about a posterior, in words and in plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bayespot.posterior import NOT_INFORMED

EDGE_SHARE, EDGE_PULL = 0.2, 0.5
"""A parameter runs into its prior if more than this share of its draws is at an edge and the prior
moves it by more than this many posterior standard deviations."""

LINEAR = (0.8, 1.25)
"""Spread of the draws over the linear one, within which linear bands may be used."""


@dataclass(frozen=True)
class Direction:
    """An eigenvector of the information: parameters that move together.

    Attributes
    ----------
    eigenvalue : float
        Information of the data over that of the prior.
    components : dict
        Component of every parameter, of unit length together.
    moves : tuple of str
        What one posterior standard deviation along it does to the parameters that move most.
    """

    eigenvalue: float
    components: dict[str, float]
    moves: tuple[str, ...]

    def words(self) -> str:
        """One sentence."""
        several = len(self.moves) > 1
        together, word = (" together", "told apart") if several else ("", "determined")
        if self.eigenvalue < 1:
            said = f"not {word} by the data, which say less than the prior"
        elif self.eigenvalue < 10:
            said = "barely determined by the data"
        else:
            said = "determined by the data no better than this"
        return (
            f"{', '.join(self.moves)}{together}: {said} (data/prior information "
            f"{self.eigenvalue:.3g})"
        )


@dataclass(frozen=True)
class Edge:
    """How much of a posterior lies at the edge of its prior.

    Attributes
    ----------
    tail : float
        Share of the draws in the outer 5 % of the prior's probability.
    bound : float
        Share of the draws within 5 % of the prior's range of one of its bounds.
    pull : float
        Posterior standard deviations by which the prior moves the parameter.
    """

    tail: float
    bound: float
    pull: float

    @property
    def runs_into_prior(self) -> bool:
        """Whether the answer depends on where the prior ends."""
        return self.bound > EDGE_SHARE or (self.tail > EDGE_SHARE and self.pull > EDGE_PULL)

    @property
    def at_odds(self) -> bool:
        """Whether data hold the parameter where the prior did not expect it."""
        return self.tail > EDGE_SHARE and not self.runs_into_prior


@dataclass(frozen=True)
class DesignEffect:
    r"""How far structures contradict the number of independent labels they are counted as.

    :math:`\mathrm{tr}(H^{-1} V) / k` over the k directions that the data determine, with the
    information H and V the covariance of the structures' scores, times :math:`C / (C - k)` for C
    structures.

    Attributes
    ----------
    value, error : float
        Of all labels, and its standard error over structures.
    forces, forces_error : float
        Of the forces alone; NaN if they cannot tell.
    counted, suggested : float
        Forces that a structure counts as, and what their own scores suggest.
    structures, directions : int
        C and k.
    """

    value: float
    error: float
    forces: float
    forces_error: float
    counted: float
    suggested: float
    structures: int
    directions: int


@dataclass(frozen=True)
class Identifiability:
    """What `identifiability` found; ``text()`` for people, ``as_record()`` for files.

    Attributes
    ----------
    form, method, misfit : str
        What was fitted and how.
    names : tuple of str
        Parameters of the potential, [p].
    temperature : float
        That the likelihood was divided by.
    eigenvalues : ndarray [p]
        Information of the data in the directions, largest first.
    directions : tuple of Direction
        In the same order.
    contraction : dict
        Posterior sd over prior sd by entry; empty for one draw.
    edges : dict
        `Edge` by entry; empty for one draw.
    push_forward : dict
        Kind of label to the median ratio of the spread of the draws and the linear one.
    design_effect : DesignEffect or None
    notes : tuple of str
        What is left out, and why.
    """

    form: str
    method: str
    misfit: str
    names: tuple[str, ...]
    temperature: float
    eigenvalues: np.ndarray
    directions: tuple[Direction, ...]
    contraction: dict[str, float]
    edges: dict[str, Edge]
    push_forward: dict[str, float]
    design_effect: DesignEffect | None
    notes: tuple[str, ...]

    @property
    def determined(self) -> int:
        """Number of directions about which the data say more than the prior."""
        return int((self.eigenvalues > 1).sum())

    @property
    def sloppiest(self) -> tuple[Direction, ...]:
        """Three directions or, up to six, all that are not determined; the sloppiest first."""
        shown = np.clip(len(self.names) - self.determined, 3, 6)
        return self.directions[::-1][:shown]

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue; infinite if the smallest is zero to rounding."""
        largest, smallest = self.eigenvalues[0], self.eigenvalues[-1]
        flat = smallest <= len(self.eigenvalues) * np.finfo(float).eps * largest
        return float("inf") if flat else float(largest / smallest)

    @property
    def not_informed(self) -> list[str]:
        """Entries whose posterior is about as wide as their prior."""
        return [name for name, value in self.contraction.items() if value > NOT_INFORMED]

    @property
    def linear_bands(self) -> bool | None:
        """Whether bands of the linearised Gaussian may be used; None if it was not looked at."""
        if not self.push_forward:
            return None
        return all(LINEAR[0] <= ratio <= LINEAR[1] for ratio in self.push_forward.values())

    def text(self) -> str:
        """What a person wants to read."""
        lines = [
            f"What the data determine of {self.form} ({self.method}, misfit {self.misfit})",
            "",
            f"{self.determined} of {len(self.names)} directions are determined by the data more "
            "than by the prior.",
            f"Information in units of the prior's: {self.eigenvalues[0]:.3g} to "
            f"{self.eigenvalues[-1]:.3g}, condition number {self.condition:.3g}.",
            "",
            "Sloppiest directions, each by one posterior standard deviation:",
            *(f"* {d.words()}" for d in self.sloppiest),
            "Stiffest:",
            f"* {', '.join(self.directions[0].moves)} (data/prior information "
            f"{self.eigenvalues[0]:.3g})",
            *self._draw_lines(),
            *self._design_lines(),
        ]
        return "\n".join([*lines, *(["", *(f"Note: {n}." for n in self.notes)] * bool(self.notes))])

    def _draw_lines(self) -> list[str]:
        """Contraction, edges and push-forward."""
        if not self.contraction:
            return []
        width = 2 + max(14, *map(len, self.contraction))
        lines = ["", f"{'parameter':<{width}}{'sd/prior':>9}{'in tails':>10}{'at bounds':>11}"]
        for name, value in self.contraction.items():
            edge, said = self.edges[name], []
            if value > NOT_INFORMED:
                said.append("not informed by data")
            if edge.runs_into_prior:
                said.append("runs into its prior: the answer depends on it")
            if edge.at_odds:
                said.append("data hold it where the prior did not expect it")
            row = f"{value:>9.3f}{100 * edge.tail:>8.0f} %{100 * edge.bound:>9.0f} %"
            lines.append(f"{name:<{width}}{row}  {'; '.join(said)}".rstrip())
        lines.append("in tails: share of the draws in the outer 5 % of the prior's probability")
        if self.push_forward:
            ratios = ", ".join(f"{q} {ratio:.2f}" for q, ratio in self.push_forward.items())
            verdict = (
                "linear bands may be used" if self.linear_bands
                else f"outside {LINEAR[0]} to {LINEAR[1]}: linear bands are not to be used"
            )
            lines += ["", f"Spread of the draws over the linearised one: {ratios}; {verdict}."]
        return lines

    def _design_lines(self) -> list[str]:
        """The design effect and what it asks for."""
        found = self.design_effect
        if found is None:
            return []
        factor = np.sqrt(found.value)
        change = f"{factor:.2g} times too narrow"
        if factor < 1:
            change = f"{1 / factor:.2g} times as wide as need be"
        which = "a plain posterior" if self.misfit in ("tempered", "pro") else "the posterior"
        lines = [
            "",
            f"Design effect {found.value:.2g} +- {found.error:.1g} with {found.structures} "
            f"structures as the unit: as a statement about the best parameters of this form "
            f"{which} is about {change}.",
        ]
        if np.isfinite(found.suggested):
            lines.append(
                f"A structure counts as {found.counted:.3g} forces; how its forces agree (design "
                f"effect {found.forces:.2g} +- {found.forces_error:.1g}) suggests nu_forces = "
                f"{found.suggested:.2g}."
            )
        return lines

    def as_record(self) -> dict[str, Any]:
        """The same as plain numbers for JSON; None where there is no finite one."""
        record = {
            "form": self.form, "method": self.method, "misfit": self.misfit,
            "temperature": self.temperature, "parameters": list(self.names),
            "eigenvalues": self.eigenvalues.tolist(), "determined": self.determined,
            "condition": self.condition,
            "directions": [
                {"eigenvalue": d.eigenvalue, "components": d.components, "moves": list(d.moves)}
                for d in self.directions
            ],
            "contraction": self.contraction, "not_informed": self.not_informed,
            "edges": {
                n: {**asdict(e), "runs_into_prior": e.runs_into_prior, "at_odds": e.at_odds}
                for n, e in self.edges.items()
            },
            "push_forward": self.push_forward, "linear_bands": self.linear_bands,
            "design_effect": None if self.design_effect is None else asdict(self.design_effect),
            "notes": list(self.notes),
        }
        return _finite(record)


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
