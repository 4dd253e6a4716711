r"""Leave one structure out without a refit: Pareto-smoothed importance sampling.

With draws :math:`\theta_s` of the posterior and the log likelihood :math:`\ell_{cs}` of structure
c,

.. math::
   \mathrm{elpd} = \sum_c \ln \frac{\sum_s w_{cs} e^{\ell_{cs}}}{\sum_s w_{cs}}, \quad
   w_{cs} \propto e^{-\ell_{cs}} \text{ smoothed in the tail}

The shape :math:`\hat k` of the tail says whether that can be believed for a structure.

References
----------
A. Vehtari, A. Gelman, J. Gabry, Stat. Comput. 27, 1413 (2017), doi:10.1007/s11222-016-9696-4.
A. Vehtari et al., J. Mach. Learn. Res. 25, 72 (2024): the threshold of k.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import arviz_stats
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayespot.errors import BayespotError
from bayespot.posterior import Posterior

EXACT = ("nuts", "linear_gaussian")
"""Methods whose draws are of the posterior itself."""

SHOWN = 20


@dataclass(frozen=True)
class LeaveOneOut:
    r"""How well each structure is predicted by the others.

    Attributes
    ----------
    elpd, se : float
        Expected log predictive density of the data and its standard error, in nats of the weighted
        likelihood: a structure counts as one energy, ``nu_forces`` forces and one stress.
    elpd_i, k_hat : ndarray [n_structures]
        Its terms, and the shape of the tail of their importance weights.
    threshold : float
        :math:`\min(1 - 1/\log_{10} S, 0.7)` with S draws; a term above it is not to be trusted.
    family : ndarray of str [n_structures]
    n_draws : int
    """

    elpd: float
    se: float
    elpd_i: NDArray[np.float64]
    k_hat: NDArray[np.float64]
    threshold: float
    family: NDArray[np.str_]
    n_draws: int

    @property
    def refit(self) -> list[int]:
        """Structures whose term needs a fit without them."""
        return np.flatnonzero(~(self.k_hat <= self.threshold)).tolist()

    def text(self) -> str:
        """The sum, and which structures need a refit."""
        lines = [
            f"elpd {self.elpd:.1f} ± {self.se:.1f} nats, {len(self.elpd_i)} structures, "
            f"{self.n_draws} draws"
        ]
        bad = self.refit
        if bad:
            shown = ", ".join(
                f"{k} ({self.family[k] or 'no family'}, k {self.k_hat[k]:.2f})" for k in bad[:SHOWN]
            )
            more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            lines.append(
                f"k above {self.threshold:.2f}, refit without these for their terms: {shown}{more}"
            )
        else:
            lines.append(f"k of every structure is below {self.threshold:.2f}")
        return "\n".join(lines)


def loo(posterior: Posterior) -> LeaveOneOut:
    """Leave each structure out by importance sampling.

    Whole families are never left out this way: a posterior without a family lies too far from the
    one that was sampled for any weighting to reach it. `cross_validate` refits.

    Parameters
    ----------
    posterior : Posterior
        Of `nuts` or `linear_gaussian` with misfit "none".

    Raises
    ------
    BayespotError
        If the draws are not of the posterior of the likelihood that is in the file: of a Gaussian
        at the mode, or of a posterior with a temperature.
    """
    if posterior.method not in EXACT or posterior.misfit != "none":
        raise BayespotError(
            f"loo of a {posterior.method} posterior with misfit = {posterior.misfit}: its draws "
            f"are not of the posterior of its likelihood; it needs {' or '.join(EXACT)} with "
            'misfit = "none". Use cross_validate'
        )
    if "log_likelihood" not in posterior.tree.children:
        raise BayespotError("loo needs the log likelihood, which a thinned posterior has no more")
    group = posterior.tree["log_likelihood"]["structure"]
    step = int(group.attrs["thinned_by"])
    u = posterior.tree["unconstrained_posterior"]["u"].values[:, ::step]
    sampled = xr.DataTree.from_dict({
        "posterior": xr.Dataset({"u": (("chain", "draw", "parameter"), u)}),
        "log_likelihood": xr.Dataset(
            {"log_likelihood": (("chain", "draw", "configuration"), group.values)}
        ),
    })
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # large k: `refit` lists them
        found = arviz_stats.loo(
            sampled, pointwise=True, reff=None if posterior.method == "nuts" else 1.0
        )
    return LeaveOneOut(
        float(found.elpd), float(found.se), np.asarray(found.elpd_i.values),
        np.asarray(found.pareto_k.values), float(found.good_k),
        posterior.tree["constant_data"]["family"].values.astype(np.str_), int(found.n_samples),
    )
