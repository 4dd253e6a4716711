"""The result of every inference method: draws, diagnostics, provenance, in one netCDF file.

MAP, Laplace and NUTS fill the same groups of an ArviZ `xarray.DataTree`, so nothing after
inference can tell them apart, and any ArviZ function works on ``posterior.tree``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from bayespot.errors import BayespotError, NotConverged
from bayespot.likelihood import NoiseFloor
from bayespot.likelihood.student import width
from bayespot.parameters import ParameterSpace
from bayespot.potentials.base import Potential, form_named
from bayespot.potentials.priors import Prior, Reference
from bayespot.units import GPA, QUANTITIES

SCHEMA = 1
LISTED = 20
"""Entries of a parameter up to which each has a line in a summary and a panel in a picture."""

NOT_INFORMED = 0.8
"""Posterior sd over prior sd, in the standard-normal coordinate, above which data said nothing."""

NOISE_DRAWS, NEW_FAMILIES = 500, 20
"""Draws behind the width of noise that is not normal, and families drawn for each of them."""

MISFIT_NONE = (
    "misfit = none: a plain posterior of a functional form that cannot be right is overconfident "
    "(measured on silicon: intervals that claim 90 % hold 8 % of the forces). parameter_std is the "
    "spread of the parameters, not the error of the potential."
)


class Posterior:
    """Draws of a potential's parameters and noise scales, with all that is known about them.

    Made by the functions of `bayespot.inference` or by `Posterior.load`.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self.tree = tree
        self.record: dict[str, Any] = json.loads(tree.attrs["bayespot"])

    # --- what was fitted ---------------------------------------------------------------------

    @cached_property
    def space(self) -> ParameterSpace:
        """The parameter space, rebuilt from the record."""
        record = self.record
        form = form_named(record["form"])
        potential = form(species=tuple(record["species"]), **record["hypers"])
        return ParameterSpace(
            potential,
            Reference(**{**record["reference"], "offset": tuple(record["reference"]["offset"])}),
            priors={k: _prior_from(v) for k, v in record["priors"].items()},
            fixed=record["fixed"],
            quantities=record["quantities"],
            families=record.get("families", ()),
            tails=record.get("tails", "normal"),
        )

    @property
    def method(self) -> str:
        """What made the draws: "nuts", "laplace", "map", "linear_gaussian" or "pops"."""
        return self.record["method"]

    @property
    def misfit(self) -> str:
        """How a form that cannot be right was treated."""
        return self.record["misfit"]

    @property
    def calibrated(self) -> bool:
        """Whether the spread was tuned on families left out, and the grade refers to them."""
        return self.record["data"].get("spread_of") == "families left out"

    @property
    def species(self) -> tuple[str, ...]:
        """The potential's species in its order."""
        return tuple(self.record["species"])

    @property
    def cutoff(self) -> float:
        """Cutoff of the neighbour graphs that every draw fits into, Å."""
        return float(self.record["cutoff"])

    @property
    def nu_forces(self) -> float:
        """How many independent forces a structure counted as."""
        return float(self.record["nu_forces"])

    @property
    def floor(self) -> NoiseFloor:
        """The DFT floor of the fit."""
        record = dict(self.record["floor"])
        record["families"] = {k: tuple(v) for k, v in record["families"].items()}
        return NoiseFloor(**record)

    # --- draws -------------------------------------------------------------------------------

    @property
    def parameter_names(self) -> list[str]:
        """Names of the sampled entries, noise scales last."""
        return self.space.names

    @property
    def listed(self) -> list[int]:
        """Places of the entries that people read, in tables and pictures.

        Of a parameter with very many entries (the weights of a linear form) there are none.
        """
        owners = [name.split("[")[0] for name in self.parameter_names]
        sizes = Counter(owners)
        return [k for k, owner in enumerate(owners) if sizes[owner] <= LISTED]

    @cached_property
    def u(self) -> np.ndarray:
        """Draws in the standard-normal coordinates, chains one after the other, [n_draws, p]."""
        values = self.tree["unconstrained_posterior"]["u"].values
        return values.reshape(-1, values.shape[-1])

    @cached_property
    def draws(self) -> np.ndarray:
        """Draws in physical units, in the order of `parameter_names`, [n_draws, p]."""
        return self.space.physical(self.u)

    def thin(self, n_draws: int) -> np.ndarray:
        """At most ``n_draws`` of the ``u``, evenly spaced, [n, p]."""
        index = np.unique(np.linspace(0, len(self.u) - 1, min(n_draws, len(self.u))).round())
        return self.u[index.astype(int)]

    def thinned(self, n_draws: int) -> Posterior:
        """A smaller posterior to publish: evenly spaced draws, without the log likelihood.

        Diagnostics and the verdict stay those of all draws; ``record["thinned"]`` says from how
        many these were taken. The prior draws are thinned too.
        """
        chains, full = self.tree["unconstrained_posterior"]["u"].shape[:2]
        each = min(full, max(1, -(-n_draws // chains)))
        keep = np.unique(np.linspace(0, full - 1, each).round()).astype(int)
        groups = {}
        for name, group in self.tree.children.items():
            content = group.to_dataset()
            if name == "prior":
                content = content.isel(draw=slice(0, n_draws))
            elif name == "log_likelihood":
                continue
            elif "draw" in content.dims:
                content = content.isel(draw=keep)
            groups[name] = content
        tree = xr.DataTree.from_dict(groups)
        record = {**self.record, "thinned": {"kept": len(keep) * chains, "of": full * chains}}
        tree.attrs = {**self.tree.attrs, "bayespot": json.dumps(record)}
        return Posterior(tree)

    def potentials(self, n_draws: int) -> Potential:
        """Thinned draws as one potential whose leaves have a leading axis of draws."""
        return self.space.potential(self.thin(n_draws))

    @cached_property
    def potential(self) -> Potential:
        """The potential at the mean of the draws (in the standard-normal coordinates)."""
        return self.space.potential(self.u.mean(axis=0))

    @cached_property
    def sigma(self) -> np.ndarray:
        """Root-mean-square noise scales, [3]: eV/atom, eV/Å, eV/Å^3.

        Of noise with scales by family or tails, the widths of a family that was not seen, see
        `noise`.
        """
        if not (self.space.families or self.space.layout.student):
            return np.sqrt((self.space.sigma(self.u) ** 2).mean(axis=0))
        return self._widths(None, np.zeros(3))

    def noise(self, families: Sequence[str] | None = None) -> np.ndarray:
        """Inferred noise and floor of new structures, [3], or [n, 3] where families have their own.

        A family that was not among the data gets the noise of one drawn from the spread over
        families. Of noise that is no normal distribution, this is the standard deviation of the
        normal one with the same central 90 % interval (`bayespot.likelihood.student.width`).

        Parameters
        ----------
        families : sequence of str, optional
            Of the structures, where they are known.
        """
        overall = np.array([self.floor.energy, self.floor.forces, self.floor.stress])
        if not self.space.families or families is None:
            if self.space.layout.student or self.space.families:
                return self._widths(None, overall)
            return np.hypot(self.sigma, overall)
        known = {
            name: self._widths(name, np.array(self.floor.of(name))) for name in set(families)
        }
        return np.array([known[name] for name in families])

    def _widths(self, family: str | None, floor: np.ndarray) -> np.ndarray:
        """Widths of the noise of a family together with a floor, [3]."""
        u, space = self.thin(NOISE_DRAWS), self.space
        if family in space.families:
            scales = space.family_sigma(u)[:, space.families.index(family), None]
        else:
            z = special.ndtri((np.arange(NEW_FAMILIES) + 0.5) / NEW_FAMILIES)
            scales = space.sigma(u)[:, None] * np.exp(space.spread(u)[:, None] * z[:, None])
        scales, tail = np.hypot(scales, floor), space.tail(u)
        shape = scales.shape[:2]
        return np.array([
            width(scales[..., k].ravel(),
                  None if tail is None else np.broadcast_to(tail[:, None, k], shape).ravel())
            for k in range(3)
        ])

    # --- how good it is ----------------------------------------------------------------------

    def diagnostics(self) -> xr.Dataset:
        """Per sampled entry: mean, sd, prior sd, contraction, R-hat, bulk and tail ESS."""
        return self.tree["diagnostics"].to_dataset()

    @property
    def problems(self) -> list[str]:
        """What is wrong with the draws, in sentences; empty if nothing is."""
        return list(self.record["problems"])

    @property
    def converged(self) -> bool:
        """Whether the method met its own criteria."""
        return not self.record["problems"]

    @property
    def not_informed(self) -> list[str]:
        """Entries whose posterior is about as wide as their prior."""
        if self.method == "map":
            return []
        table = self.diagnostics()
        wide = table["contraction"].values > NOT_INFORMED
        return [str(n) for n in table["parameter"].values[wide]]

    def check(self, *, allow_unconverged: bool = False) -> None:
        """Raise `NotConverged` with the names of what did not converge, unless allowed."""
        if not self.converged and not allow_unconverged:
            raise NotConverged(
                f"the {self.method} posterior of {self.record['form']} has not converged: "
                + "; ".join(self.problems)
                + ". Run it longer (draws, warmup) or pass allow_unconverged=True to go on"
            )

    def loss_weights(self) -> dict[str, dict[str, float]]:
        r"""The weights :math:`w = \kappa / (\sigma^2 + s^2)` that a least-squares fit would use.

        Per quantity: mean and sd over the draws, for one number of that kind in the mean
        structure. Units 1/(eV/atom)^2, 1/(eV/Å)^2, 1/(eV/Å^3)^2.
        """
        sigma = self.space.sigma(self.u)
        floor = np.array([self.floor.energy, self.floor.forces, self.floor.stress])
        kappa = np.array([self.record["mean_kappa"][q] for q in QUANTITIES])
        w = kappa / (sigma**2 + floor**2)
        return {
            q: {"mean": float(w[:, k].mean()), "sd": float(w[:, k].std()), "kappa": kappa[k]}
            for k, q in enumerate(QUANTITIES)
            if q in self.record["quantities"]
        }

    def summary(self) -> str:
        """What a person wants to read: method, data, parameters, weights, problems."""
        r, table = self.record, self.diagnostics()
        lines = [
            f"{r['form']} for {', '.join(self.species)}: {self.method}, "
            f"{table.attrs['chains']} x {table.attrs['draws']} draws, "
            f"{r['n_structures']} structures, {r['n_atoms']} atoms",
            "",
            *self._parameter_lines(table),
        ]
        if self.misfit == "none":
            lines += ["", "loss weights that follow from the inferred noise (mean +- sd):"]
            for q, w in self.loss_weights().items():
                lines.append(
                    f"  w_{q:<8}{w['mean']:>12.4g} +- {w['sd']:<10.2g} kappa {w['kappa']:.3g}"
                )
        scale = {"energy": (1e3, "meV/atom"), "forces": (1.0, "eV/Å"), "stress": (GPA, "GPa")}
        lines.append("noise: " + ", ".join(
            f"{q} {self.sigma[k] * scale[q][0]:.3g} {scale[q][1]}"
            for k, q in enumerate(QUANTITIES) if q in r["quantities"]
        ))
        for what, count in r["dropped"].items():
            if count:
                lines.append(f"left out of the likelihood: {count} {what}")
        if self.misfit == "none":
            lines += ["", MISFIT_NONE]
        elif "temperature" in r["details"]:
            lines += ["", (
                f"misfit = {self.misfit}: temperature {r['details']['temperature']:.3g}, "
                f"{r['details']['temperature_from']}"
            )]
        lines += ["", "converged" if self.converged else "NOT CONVERGED: "
                  + "; ".join(self.problems)]
        return "\n".join(lines)

    def _parameter_lines(self, table: xr.Dataset) -> list[str]:
        """A line for every entry; a parameter with many entries has one for all of them."""
        names = [str(name) for name in table["parameter"].values]
        sizes = Counter(name.split("[")[0] for name in names)
        shown = [names[k] for k in self.listed]
        width = 2 + max([14, *(len(name) for name in (*shown, *self.space.fixed))])
        lines = [
            f"{'parameter':<{width}}{'unit':<9}{'mean':>12}{'sd':>11}{'sd/prior':>10}"
            f"{'R-hat':>8}{'ESS':>8}{'tail':>8}",
        ]
        for name, size in sizes.items():
            if size > LISTED:
                lines.append(f"{name:<{width}}{size} entries, in .draws and .diagnostics()")
        for name in shown:
            k = names.index(name)
            row = {v: float(table[v].values[k]) for v in table.data_vars if v != "unit"}
            note = "  not informed by data" if name in self.not_informed else ""
            lines.append(
                f"{name:<{width}}{self.space.units[k]:<9}{row['mean']:>12.5g}{row['sd']:>11.3g}"
                f"{row['contraction']:>10.3f}{row['r_hat']:>8.3f}{row['ess_bulk']:>8.0f}"
                f"{row['ess_tail']:>8.0f}{note}"
            )
        for name, value in self.space.fixed.items():
            lines.append(f"{name:<{width}}{'':<9}{value:>12.5g}{'fixed':>11}")
        return lines

    # --- file --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write netCDF; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            self.tree.to_netcdf(temporary, engine="h5netcdf")
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path) -> Posterior:
        """Read a file written by `save`.

        Raises
        ------
        BayespotError
            If the file is missing, is no netCDF, or was written by a newer bayespot.
        """
        path = Path(path)
        if not path.is_file():
            raise BayespotError(f"there is no posterior at {path}: run a fit first")
        try:
            with xr.open_datatree(path, engine="h5netcdf") as opened:
                tree = opened.load()
        except (OSError, ValueError, KeyError) as error:
            raise BayespotError(
                f"{path} is not a posterior that can be read ({error}): it is corrupt or of "
                "another kind; fit again"
            ) from error
        if "bayespot" not in tree.attrs:
            raise BayespotError(f"{path} is netCDF but not a posterior of bayespot")
        posterior = cls(tree)
        if posterior.record["schema"] > SCHEMA:
            raise BayespotError(
                f"{path} has schema {posterior.record['schema']}, this bayespot reads up to "
                f"{SCHEMA}: update bayespot"
            )
        return posterior


def _prior_from(record: dict) -> Prior:
    return Prior(**{k: (float(v) if k not in ("kind", "scale") else v) for k, v in record.items()})
