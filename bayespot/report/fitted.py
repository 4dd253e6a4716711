"""Pictures and summary of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bayespot import plots
from bayespot.data.dataset import Dataset
from bayespot.posterior import MISFIT_NONE, Posterior
from bayespot.prediction import Prediction
from bayespot.report.comparison import Comparison, compare, percent, score_lines, write_text
from bayespot.report.identifiability import write_identifiability
from bayespot.scoring import cluster_bootstrap_coverage, covered
from bayespot.units import GPA, QUANTITIES

__all__ = ["write_fit_report"]

CURVE_LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
MAX_PAIRS = 12  # parameters in the picture of pairs


def write_fit_report(
    posterior: Posterior,
    dataset: Dataset,
    prediction: Prediction,
    folder: str | Path,
    *,
    title: str = "Fit",
    floor: str = "",
) -> list[Path]:
    """Write the pictures, what the data determine, and ``summary.md`` of a fit.

    Parameters
    ----------
    posterior : Posterior
    dataset : Dataset
        What it was fitted to.
    prediction : Prediction
        Of that data set.
    folder : path
        Where to write; made if it does not exist.
    title : str
        First line of the summary.
    floor : str
        Sentence that says where the DFT floor comes from.

    Returns
    -------
    list of Path
        The files, the summary last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = compare(prediction, dataset)
    written = [*_draw_comparison(tables, folder), *_draw_posterior(posterior, folder)]
    written += write_identifiability(posterior, dataset, folder)
    pictures = [file for file in written if file.suffix == ".png"]
    lines = _fit_summary(posterior, dataset, tables, title, pictures, floor)
    path = folder / "summary.md"
    write_text(path, "\n".join(lines) + "\n")
    return [*written, path]


def _draw_comparison(tables: Mapping[str, Comparison], folder: Path) -> list[Path]:
    """Parity, residuals by family and coverage, one panel a quantity."""
    n = len(tables)
    parity = plots.grid_of(n, (4.3, 4.2))
    families = sorted({name for t in tables.values() for name in t.family.tolist()})
    residuals = plots.grid_of(n, (4.3, 1.3 + 0.4 * len(families)))
    coverages = plots.grid_of(n, (4.3, 4.3))
    for k, (quantity, t) in enumerate(tables.items()):
        plots.parity(
            t.truth,
            t.mean,
            t.total_std,
            quantity=quantity,
            families=t.family,
            order=families,
            ax=parity[k],
        )
        plots.residuals_by_family(t.mean - t.truth, t.family, quantity=quantity, ax=residuals[k])
        curves = {
            label: _coverage_curve(t, spread)
            for label, spread in (
                ("draws and noise", t.total_std),
                ("draws alone", t.parameter_std),
            )
        }
        plots.coverage(curves, ax=coverages[k])
        coverages[k].set_title(plots.DISPLAY[quantity].word, fontsize=10)
    figures = {"parity": parity, "residuals_by_family": residuals, "coverage": coverages}
    return [plots.save(axes[0], folder / f"{name}.png") for name, axes in figures.items()]


def _coverage_curve(t: Comparison, std: NDArray[np.float64]) -> plots.Curve:
    rows = [
        cluster_bootstrap_coverage(
            covered(t.mean, std, t.truth, level), t.structure, n_resamples=500
        )
        for level in CURVE_LEVELS
    ]
    value, low, high = np.array(rows).T
    return plots.Curve(CURVE_LEVELS, value, low, high)


def _draw_posterior(posterior: Posterior, folder: Path) -> list[Path]:
    """Marginals over priors, pairs, contraction, and the chains' ranks where there are chains."""
    if posterior.method == "map":
        return []
    listed, symbols = posterior.listed, _symbols(posterior)
    if not listed:
        return []
    names, units = ([values[k] for k in listed] for values in (symbols, posterior.space.units))
    draws = posterior.draws[:, listed]
    standard = np.random.default_rng(0).standard_normal((1000, len(symbols)))
    prior = posterior.space.physical(standard)[:, listed]
    axes = plots.grid_of(len(names))
    for k, ax in enumerate(axes):
        plots.marginal(draws[:, k], name=names[k], unit=units[k], prior=prior[:, k], ax=ax)
    plots.legend_of(axes)
    written = [plots.save(axes[0], folder / "posterior.png")]
    n_theta = posterior.space.layout.n_theta
    first = [k for k, place in enumerate(listed) if place < n_theta][:MAX_PAIRS]
    if len(first) > 1:
        grid = plots.pairs(draws[:, first], [names[k] for k in first], [units[k] for k in first])
        written.append(plots.save(grid[0, 0], folder / "pairs.png", dpi=110))
    share = 1.0 - posterior.diagnostics()["contraction"].values[listed]
    written.append(plots.save(plots.contraction(names, share), folder / "contraction.png"))
    u = posterior.tree["unconstrained_posterior"]["u"].values[..., listed]
    if u.shape[0] > 1:
        axes = plots.grid_of(len(names))
        for k, ax in enumerate(axes):
            plots.ranks(u[:, :, k], name=names[k], ax=ax)
        plots.legend_of(axes)
        written.append(plots.save(axes[0], folder / "ranks.png"))
    return written


NOISE_SYMBOLS = {"sigma": r"$\sigma$", "tail": r"$\nu$", "spread": r"$\omega$", "shift": "$z$"}


def _symbols(posterior: Posterior) -> list[str]:
    """LaTeX of every sampled entry, with the species where there are several."""
    symbols = {item.name: item.symbol for item in posterior.space.form.parameters()}
    made = []
    for name in posterior.parameter_names:
        short, _, entry = name.partition("[")
        if short in symbols:
            made.append(f"${symbols[short]}$" + (f" {entry.rstrip(']')}" if entry else ""))
        else:
            word, _, quantity = short.partition("_")
            made.append(f"{NOISE_SYMBOLS[word]} {quantity} {entry.rstrip(']')}".rstrip())
    return made


def _fit_summary(
    posterior: Posterior,
    dataset: Dataset,
    tables: Mapping[str, Comparison],
    title: str,
    pictures: Sequence[Path],
    floor: str,
) -> list[str]:
    record = posterior.record
    verdict = (
        "The posterior has converged."
        if posterior.converged
        else "**The posterior has NOT converged**: " + "; ".join(posterior.problems) + "."
    )
    lines = [
        f"# {title}: {record['form']} for {', '.join(posterior.species)} by {posterior.method}",
        "",
        verdict,
        "",
        "## Data",
        "",
        "```",
        dataset.summary(),
        "```",
        "",
        *(f"* left out of the likelihood: {n} {w}" for w, n in record["dropped"].items() if n),
        "",
        "## Parameters",
        "",
        *_parameter_lines(posterior),
        "",
        *_noise_lines(posterior),
        *(["", floor] if floor else []),
        "",
        "## Diagnostics",
        "",
        *_diagnostic_lines(posterior),
        "",
        "## Errors on the training data",
        "",
        *score_lines(tables),
        "",
        "## What the error bars mean",
        "",
        *_meaning_lines(posterior, tables),
        "",
    ]
    if pictures:
        lines += ["## Pictures", "", *(f"![{p.stem}]({p.name})" for p in pictures), ""]
    versions = ", ".join(f"{name} {v}" for name, v in record["versions"].items())
    return [*lines, f"Made with {versions}. Data {record['data']['fingerprint'][:16]}."]


def _parameter_lines(posterior: Posterior) -> list[str]:
    table, space = posterior.diagnostics(), posterior.space
    lines = [
        "| parameter | unit | mean | sd | prior | sd / prior sd | R-hat | ESS bulk | ESS tail | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for k in posterior.listed:
        name = posterior.parameter_names[k]
        row = {v: float(table[v].values[k]) for v in table.data_vars}
        note = "not informed by data" if name in posterior.not_informed else ""
        lines.append(
            f"| {name} | {space.units[k]} | {row['mean']:.5g} | {row['sd']:.2g} "
            f"| {space.priors[k].describe()} | {row['contraction']:.3f} "
            f"| {_cell(row['r_hat'], '.3f')} | {_cell(row['ess_bulk'], '.0f')} "
            f"| {_cell(row['ess_tail'], '.0f')} | {note} |"
        )
    hidden = len(posterior.parameter_names) - len(posterior.listed)
    if hidden:
        lines.append(f"| {hidden} weights | | in posterior.nc | | | | | | | |")
    lines += [f"| {n} | | {v:.5g} | fixed | | | | | | |" for n, v in space.fixed.items()]
    return [*lines, "", "sd / prior sd is taken where the prior is a standard normal."]


def _cell(value: float, digits: str) -> str:
    return format(value, digits) if np.isfinite(value) else "-"


SCALE = {"energy": 1e3, "forces": 1.0, "stress": GPA}
UNIT = {"energy": "meV/atom", "forces": "eV/Å", "stress": "GPa"}


def _noise_lines(posterior: Posterior) -> list[str]:
    """Noise and floor; loss weights where a least-squares fit would have used them."""
    if posterior.misfit == "none":
        return ["## Noise, and the loss weights that follow from it", "", *_weight_lines(posterior)]
    lines = ["## Noise", "", "| | white noise | DFT floor |", "|---|---|---|"]
    for quantity in posterior.record["quantities"]:
        k, f, u = QUANTITIES.index(quantity), SCALE[quantity], UNIT[quantity]
        floor, white = getattr(posterior.floor, quantity), posterior.sigma[k]
        shown = f"{white * f:.3g} {u}" if white > 1e-3 * floor else "none"
        lines.append(f"| {quantity} | {shown} | {floor * f:.3g} {u} |")
    return [*lines, "", "White noise is what the spread over draws does not explain."]


def _weight_lines(posterior: Posterior) -> list[str]:
    floor = {q: getattr(posterior.floor, q) for q in QUANTITIES}
    lines = [
        "| | inferred noise | DFT floor | kappa | weight per number, mean ± sd |",
        "|---|---|---|---|---|",
    ]
    for quantity, w in posterior.loss_weights().items():
        k, f, u = QUANTITIES.index(quantity), SCALE[quantity], UNIT[quantity]
        lines.append(
            f"| {quantity} | {posterior.sigma[k] * f:.3g} {u} | {floor[quantity] * f:.3g} {u} "
            f"| {w['kappa']:.3g} | {w['mean'] / f**2:.3g} ± {w['sd'] / f**2:.1g} /({u})² |"
        )
    return [
        *lines,
        "",
        f"weight = kappa / (noise² + floor²). A structure counts as one energy, "
        f"{posterior.nu_forces:g} forces and one stress. Nobody typed a weight.",
    ]


def _diagnostic_lines(posterior: Posterior) -> list[str]:
    table = posterior.diagnostics()
    lines = [f"* method {posterior.method}, {table.attrs['chains']} x {table.attrs['draws']} draws"]
    if posterior.method == "nuts":
        worst = table["parameter"].values[int(np.nanargmax(table["r_hat"].values))]
        lines.append(
            f"* largest R-hat {float(table['r_hat'].max()):.4f} ({worst}), smallest ESS "
            f"{float(table['ess_bulk'].min()):.0f} bulk and {float(table['ess_tail'].min()):.0f} "
            "tail"
        )
        stats = posterior.tree["sample_stats"].to_dataset()
        if "diverging" in stats:
            lines.append(
                f"* {int(stats['diverging'].sum())} divergent transitions, "
                f"{100 * float(stats['reached_max_treedepth'].mean()):.2f} % of trajectories at "
                f"the largest tree, {float(stats['n_steps'].mean()):.1f} gradients a draw"
            )
        else:
            lines.append(
                "* the draws are some of the sampler's; R-hat and ESS are those of all its draws"
            )
    listed = [posterior.parameter_names[k] for k in posterior.listed]
    idle = [name for name in posterior.not_informed if name in listed]
    if idle:
        lines.append(f"* not informed by data: {', '.join(idle)}")
    lines += [f"* PROBLEM: {problem}" for problem in posterior.problems]
    return lines


def _meaning_lines(posterior: Posterior, tables: Mapping[str, Comparison]) -> list[str]:
    if posterior.misfit != "none":
        return _treated_lines(posterior)
    lines = [
        f"{MISFIT_NONE[0].upper()}{MISFIT_NONE[1:]}",
        "",
        "So: quote parameter_std as the spread of the parameters and never as the total error of "
        "the potential. total_std adds the inferred noise, which holds the misfit on average over "
        "these data; it says nothing about new kinds of structures or derived properties.",
    ]
    if "forces" in tables and posterior.method != "map":
        t = tables["forces"]
        here = cluster_bootstrap_coverage(covered(t.mean, t.parameter_std, t.truth), t.structure)
        lines += [
            "",
            f"Here: 90 % bars of the parameters alone hold {percent(here)} of the forces.",
        ]
    return lines


def _treated_lines(posterior: Posterior) -> list[str]:
    """What the bars of a posterior with a treatment of misfit claim."""
    details = posterior.record["details"]
    lines = [f"misfit = {posterior.misfit}."]
    if "temperature" in details:
        of = f" ({', '.join(details['folds'])})" if "folds" in details else ""
        lines[0] += f" Temperature {details['temperature']:.3g}: {details['temperature_from']}{of}."
    if posterior.misfit == "discrepancy":
        lines += [
            "",
            "Every draw is the potential together with a linear cluster expansion for what the "
            "potential misses, one function whose derivatives the forces and stresses are. The "
            "parameters above are those of the potential alone; e0 is that of both.",
        ]
    meant = (
        "total_std is meant to hold for structures as far from the data as the families that were "
        "left out; an extrapolation grade above 1 says that a structure is farther."
        if posterior.calibrated
        else "No family was left out to find how wide the bars must be."
    )
    return [*lines, "", f"{meant} `bayespot validate` measures whether they hold."]
