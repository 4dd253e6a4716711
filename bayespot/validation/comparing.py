r"""Several potentials on the same structures that none of them has seen.

Scores are means over families, and families are the unit of their standard errors. The stacking
weights are those of the best mixture,

.. math::
   \hat w = \arg\max_{w \ge 0,\, \sum w = 1} \sum_k \frac{1}{G_k} \sum_g \frac{1}{n_{gk}}
     \sum_{i \in (g,k)} \ln \sum_m w_m N(y_i; \mu_{im}, s_{im}^2)

over kinds of labels k, families g and labels i: every family and every kind counts the same.

References
----------
Y. Yao, A. Vehtari, D. Simpson, A. Gelman, Bayesian Anal. 13, 917 (2018), doi:10.1214/17-BA1091.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from bayespot import scoring
from bayespot.calibration import HeldOut
from bayespot.errors import LabelError
from bayespot.units import DISPLAY
from bayespot.validation.refits import Validation


class Standing(NamedTuple):
    """One score of one potential: mean over families, its standard error, and how far behind."""

    value: float
    se: float
    behind: float
    behind_se: float


@dataclass(frozen=True)
class Comparison:
    """Scores of several potentials, from `compare`.

    Attributes
    ----------
    names : list of str
    log_score, crps : dict
        Quantity to name to `Standing`; less is better. ``behind`` is the difference to the best of
        the quantity, with the standard error of the paired differences.
    weights : dict
        Name to its weight in the best mixture.
    n_families : dict
        Quantity to the number of families.
    """

    names: list[str]
    log_score: dict[str, dict[str, Standing]]
    crps: dict[str, dict[str, Standing]]
    weights: dict[str, float]
    n_families: dict[str, int]

    def text(self) -> str:
        """Tables in Markdown."""
        lines = []
        for quantity, n in self.n_families.items():
            shown = DISPLAY[quantity]
            lines += [
                f"## {quantity}, {shown.unit}, mean of {n} {'family' if n == 1 else 'families'} "
                "± standard error",
                "",
                "| potential | log score | behind the best | CRPS | behind the best |",
                "|---|---:|---:|---:|---:|",
            ]
            for name in self.names:
                score, crps = self.log_score[quantity][name], self.crps[quantity][name]
                # density per shown unit
                score = score._replace(value=score.value + np.log(shown.factor))
                lines.append(f"| {name} | {_cells(score, 1.0)} | {_cells(crps, shown.factor)} |")
            lines.append("")
        mixture = ", ".join(f"{name} {w:.2f}" for name, w in self.weights.items())
        return "\n".join([*lines, f"Weights of the best mixture: {mixture}.", ""])

    def as_record(self) -> dict[str, Any]:
        """Plain JSON types, in eV/atom, eV/Å and eV/Å^3; None where there is no number."""
        return {
            "weights": self.weights,
            "n_families": self.n_families,
            **{
                kind: {
                    q: {name: _record(standing) for name, standing in row.items()}
                    for q, row in getattr(self, kind).items()
                }
                for kind in ("log_score", "crps")
            },
        }


def _record(standing: Standing) -> dict[str, float | None]:
    return {k: v if np.isfinite(v) else None for k, v in standing._asdict().items()}


def _cells(standing: Standing, factor: float) -> str:
    value, se, behind, behind_se = (factor * number for number in standing)
    gap = "best" if standing.behind == 0 else f"{behind:.3g} ± {behind_se:.1g}"
    return f"{value:.3g} ± {se:.1g} | {gap}"


def compare(validations: Mapping[str, Validation]) -> Comparison:
    """Score potentials by family, how far they are behind the best, and their best mixture.

    Components that symmetry fixes at zero for any of them are left out. With one family there are
    no standard errors: they are NaN.

    Parameters
    ----------
    validations : mapping
        Name to `Validation`, all of the same structures and folds.

    Raises
    ------
    LabelError
        If there are fewer than two, their cases differ, or a bar has no width.
    """
    if len(validations) < 2:
        raise LabelError(f"a comparison of {list(validations)} needs at least two potentials")
    names = list(validations)
    aligned = _aligned({name: validation.cases for name, validation in validations.items()})
    log_scores, crps, counts = {}, {}, {}
    for quantity, parts in aligned.items():
        families = parts[0].families
        counts[quantity] = len(families)
        for score, found in ((scoring.log_score, log_scores), (scoring.crps_gaussian, crps)):
            by_family = np.array([[
                score(*(getattr(part, c)[part.family == f] for c in ("mean", "std", "truth")))
                for f in families
            ] for part in parts])
            found[quantity] = dict(zip(names, _standings(by_family), strict=True))
    weights = stacking_weights(list(aligned.values()))
    return Comparison(names, log_scores, crps,
                      dict(zip(names, weights.tolist(), strict=True)), counts)


def _aligned(cases: Mapping[str, list[HeldOut]]) -> dict[str, list[HeldOut]]:
    """The cases of all potentials by quantity, without what symmetry fixes."""
    first, *others = cases
    found = {}
    quantities = {name: [part.quantity for part in parts] for name, parts in cases.items()}
    for k, quantity in enumerate(quantities[first]):
        for name in others:
            if quantities[name] != quantities[first]:
                raise LabelError(f"{first!r} and {name!r} were not validated on the same labels")
            for column in ("truth", "family", "structure"):
                if not np.array_equal(*(getattr(cases[n][k], column) for n in (first, name))):
                    raise LabelError(
                        f"{quantity}: {first!r} and {name!r} differ in {column}: compare "
                        "validations of the same structures with the same folds"
                    )
        keep = ~np.any([parts[k].fixed for parts in cases.values()], axis=0)
        if keep.any():
            found[quantity] = [parts[k].where(keep) for parts in cases.values()]
    return found


def _standings(by_family: NDArray[np.float64]) -> list[Standing]:
    """Means over the families of ``by_family`` [m, G], and differences to the best."""
    best = by_family[np.argmin(by_family.mean(axis=1))]

    def error(values: NDArray) -> float:
        n = len(values)
        return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan

    return [
        Standing(float(one.mean()), error(one), float((one - best).mean()), error(one - best))
        for one in by_family
    ]


def stacking_weights(kinds: list[list[HeldOut]]) -> NDArray[np.float64]:
    """Weights of the mixture with the best log score, see the module; [m].

    Parameters
    ----------
    kinds : list of list of HeldOut
        For each kind of label the cases of all potentials, in the same order.
    """
    logs, shares = [], []
    for parts in kinds:
        logs.append(np.stack([
            -0.5 * part.z**2 - np.log(part.std) - 0.5 * np.log(2 * np.pi) for part in parts
        ], axis=1))
        _, family = np.unique(parts[0].family, return_inverse=True)
        sizes = np.bincount(family)
        shares.append(1.0 / (len(sizes) * sizes[family] * len(kinds)))
    log_density, share = np.concatenate(logs), np.concatenate(shares)
    largest = log_density.max(axis=1, keepdims=True)
    density = np.exp(log_density - largest)
    m = density.shape[1]

    def loss(w: NDArray) -> tuple[float, NDArray]:
        mixed = density @ w
        return -float(share @ np.log(mixed)), -(share / mixed) @ density

    found = optimize.minimize(
        loss, np.full(m, 1.0 / m), jac=True, method="SLSQP",
        bounds=[(1e-9, 1.0)] * m,  # a density of zero everywhere has no logarithm
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    w = np.where(found.x < 1e-6, 0.0, found.x)
    return w / w.sum()
