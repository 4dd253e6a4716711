"""The calibration tables as claims: means over all families of all data sets, beside the targets.

Usage: python paper/benchmarks/calibration_claims.py [--fit map|nuts]

Reads paper/results/calibration_tables.json and calibration_properties.json (by calibration.py),
writes paper/results/calibration.json. A family of a data set, predicted by a form that has not seen
it, is one case; intervals are those of the mean over families, from the spread between them, and
those of fractions stay within 0 to 1 (`bayespot.scoring.coverage_over_groups`). Of derived
properties the family that was left out is the unit of the intervals.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from claims import add_claims, claim
from scipy import stats

from bayespot import scoring

RESULTS = Path(__file__).resolve().parents[1] / "results"
COMMAND = "python paper/benchmarks/calibration_claims.py"
COVERAGE = {"energy": (0.86, 0.96), "forces": (0.87, 0.94), "stress": (0.86, 0.95)}
"""What nominal 90 % should cover, mean over families."""
CRPS_GAIN = {"energy": 5.0, "forces": 1.3, "stress": 2.0}
"""Over Frederiksen's rule."""
IN_THE_CLASS = {"StillingerWeber": "stillinger_weber"}
"""Forms that can be the truth that labelled the data: the temperature should be one."""
PROPERTY_COVERAGE = {0.5: (">= 0.42", "<= 0.58"), 0.9: (">= 0.8", "<= 0.98"),
                     0.95: (">= 0.87", "")}
RMS_Z = (">= 0.6", "<= 1.4")
"""Of every kind of property."""
RANK = 0.7
POOR, FLAGGED = 0.7, 0.5
"""A family is poor if less is covered, flagged if at least so many of its structures are."""


def covered(row: dict) -> float:
    """Coverage of nominal 90 %."""
    return next(c["value"] for c in row["coverage"] if abs(c["level"] - 0.9) < 1e-9)


def mean_interval(values: np.ndarray) -> tuple[float, float | None, float | None]:
    """Mean of what is no fraction and its interval; of one value alone there is none."""
    mean, low, high = scoring.mean_over_groups(values)
    return mean, *((low, high) if len(values) > 1 else (None, None))


def main() -> None:
    """All claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", choices=["map", "nuts"], default="map")
    fit = parser.parse_args().fit
    rows = json.loads((RESULTS / "calibration_tables.json").read_text(encoding="utf-8"))["rows"]
    rows = [r for r in rows if r["fit"] == fit and not r["pooled"] and r["n"]]
    best = [r for r in rows if r["method"] == "discrepancy"]
    synthetic = [r for r in best if " of " in r["data"]]
    found = [c for k in dict.fromkeys((r["data"], r["form"]) for r in synthetic)
             for c in known_truth([r for r in synthetic if (r["data"], r["form"]) == k])]
    found += by_temperature([r for r in best if r["data"].endswith("by temperature")], fit)
    rows = [r for r in rows if " of " not in r["data"] and " by " not in r["data"]]
    for method in dict.fromkeys(r["method"] for r in rows):
        found += of_method([r for r in rows if r["method"] == method], method, fit)
    found += [one for quantity in COVERAGE if (one := gain(rows, quantity, fit))]
    best = [r for r in rows if r["method"] == "discrepancy"]
    found += [*ranks(best, fit), *of_nuts(best, fit)]
    path = RESULTS / "calibration_properties.json"
    if path.exists():
        derived = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found += of_properties([r for r in derived if r["fit"] == fit
                                and r["method"] == "discrepancy"], fit)
    add_claims(RESULTS / "calibration.json", "calibration", found)
    for row in found:
        verdict = "ok" if row["passed"] else "MISSED"
        between = "" if row["low"] is None else f"[{row['low']:.3f}, {row['high']:.3f}]"
        print(f"{row['name']:<52} {row['value']:7.3f} {between:<16} n {row['n']:3d} "
              f"{row['target']:>8} {verdict}")


def of_method(rows: list[dict], method: str, fit: str) -> list[dict]:
    """Mean coverage of one method; of the default, also what the guard said."""
    short = method.replace(", ", "_").replace(" + ", "_").replace(" ", "_")
    command, found = f"{COMMAND} --fit {fit}", []
    poor = flagged = within = within_poor = 0
    for quantity, (low, high) in COVERAGE.items():
        some = [r for r in rows if r["quantity"] == quantity]
        values = np.array([covered(r) for r in some])
        inside = np.array([r["outside"] < FLAGGED for r in some], bool)
        poor += int((values < POOR).sum())
        flagged += int(((values < POOR) & ~inside).sum())
        within += int(inside.sum())
        within_poor += int(((values < POOR) & inside).sum())
        for name, chosen in (("", np.ones(len(some), bool)), ("_within_guard", inside)):
            if (name and method != "discrepancy") or not chosen.any():
                continue
            mean, bottom, top = scoring.coverage_over_groups(values[chosen])
            label = f"{fit}_{short}_{quantity}_coverage{name}"
            for sign, target in ((">=", low), ("<=", high)):
                found.append(claim(
                    f"{label}_{'low' if sign == '>=' else 'high'}", mean, f"{sign} {target}",
                    n=int(chosen.sum()), unit="1", command=command, low=bottom, high=top,
                ))
    if method == "discrepancy":
        found += [
            claim(f"{fit}_poor_share_within_guard", within_poor / max(within, 1), "<= 0.05",
                  n=within, unit="1", command=command),
            claim(f"{fit}_flagged_share_of_poor", flagged / max(poor, 1), ">= 0.9", n=poor,
                  unit="1", command=command),
        ]
    return found


def ranks(rows: list[dict], fit: str) -> list[dict]:
    """In how many families bars rank errors at least 0.7 times as well as exact bars would.

    What exact bars would show is simulated: errors drawn from the spreads themselves
    (`bayespot.scoring.expected_rank_correlation`).
    """
    found = []
    for quantity in COVERAGE:
        some = [r for r in rows if r["quantity"] == quantity and r["rank"] is not None]
        good = np.array([r["rank"] >= RANK * r["rank_expected"] for r in some])
        if len(good) < 2:
            continue
        mean, low, high = scoring.coverage_over_groups(good)
        found.append(claim(f"{fit}_rank_{quantity}_families_share", mean, ">= 0.75", n=len(good),
                           unit="1", command=f"{COMMAND} --fit {fit}", low=low, high=high))
        if quantity == "energy":
            found.append(claim(
                f"{fit}_rank_energy_families_share_of_exact_bars", exact_share(some), ">= 0.75",
                n=len(some), unit="1", command=f"{COMMAND} --fit {fit}",
            ))
    return found


def exact_share(rows: list[dict]) -> float:
    """What `ranks` would count on average if all bars were exact.

    A rank correlation of n cases scatters by about 1 / sqrt(n - 1): with a dozen energies a family
    that is more than bars of nearly one width can show.
    """
    expected = np.array([r["rank_expected"] for r in rows])
    scatter = 1.0 / np.sqrt(np.array([r["n"] for r in rows]) - 1.0)
    return float(stats.norm.sf((RANK - 1.0) * expected / scatter).mean())


def of_nuts(rows: list[dict], fit: str) -> list[dict]:
    """Cost of the layer over that of its draws, and the share of fits that had converged."""
    rows = [r for r in rows if r["quantity"] == "energy" and "layer_cost" in r]
    if len(rows) < 2:
        return []
    command = f"{COMMAND} --fit {fit}"
    mean, low, high = mean_interval(np.array([r["layer_cost"] for r in rows]))
    found = [claim("layer_cost_over_nuts", mean, "<= 0.3", n=len(rows), unit="1", command=command,
                   low=low, high=high)]
    rhat = np.array([r["max_rhat"] for r in rows])
    found.append(claim("nuts_largest_rhat", rhat.max(), "<= 1.01", n=len(rows), unit="1",
                       command=command))
    found.append(claim("nuts_fits_share_with_rhat_to_1.05", (rhat <= 1.05).mean(), ">= 1",
                       n=len(rows), unit="1", command=command))
    return found


def of_properties(rows: list[dict], fit: str) -> list[dict]:
    """Derived properties of a form: their number, coverage at three levels, rms z of every kind."""
    command, found = f"{COMMAND} --fit {fit}", []
    for key in dict.fromkeys((r["data"], r["form"]) for r in rows):
        some = [r for r in rows if (r["data"], r["form"]) == key]
        label, n = f"{fit}_properties_{'_'.join(key)}", len(some)
        z, families = np.array([r["z"] for r in some]), [r["family"] for r in some]
        found.append(claim(f"{label}_number", n, ">= 24", n=n, unit="1", command=command))
        for level, targets in PROPERTY_COVERAGE.items():
            inside = np.abs(z) <= stats.norm.ppf(0.5 + 0.5 * level)
            value, low, high = scoring.cluster_bootstrap_coverage(inside, families)
            found += [claim(f"{label}_coverage_{100 * level:.0f}_{side}", value, target, n=n,
                            unit="1", command=command, low=low, high=high)
                      for side, target in zip(("low", "high"), targets, strict=True) if target]
        found += of_kinds(some, label, command)
    return [*found, *of_kinds(rows, f"{fit}_properties", command)]


def of_kinds(rows: list[dict], label: str, command: str) -> list[dict]:
    """Root of the mean z squared of every kind of property; of fewer than three it is no claim."""
    found = []
    for kind in sorted({r["kind"] for r in rows}):
        own = np.array([r["z"] for r in rows if r["kind"] == kind])
        if len(own) > 2:
            found += [claim(f"{label}_rms_z_{kind.replace(' ', '_')}_{side}",
                            float(np.sqrt(np.mean(own**2))), target, n=len(own), unit="1",
                            command=command)
                      for side, target in zip(("low", "high"), RMS_Z, strict=True)]
    return found


def known_truth(rows: list[dict]) -> list[dict]:
    """Claims of one form on labels of a known potential: coverage, or the null temperature."""
    first = rows[0]
    label = f"{first['fit']}_{first['data'].replace(' ', '_')}_by_{first['form']}"
    command = f"{COMMAND} --fit {first['fit']}"
    found = []
    for quantity in COVERAGE:
        values = np.array([covered(r) for r in rows if r["quantity"] == quantity])
        mean, low, high = scoring.coverage_over_groups(values)
        found += [claim(f"{label}_{quantity}_coverage_{side}", mean, target, n=len(values),
                        unit="1", command=command, low=low, high=high)
                  for side, target in (("low", ">= 0.85"), ("high", "<= 0.95"))]
    if first["data"].endswith(IN_THE_CLASS.get(first["form"], "nothing")):
        one = [r for r in rows if r["quantity"] == "energy"]
        mean, low, high = mean_interval(np.array([r["temperature"] for r in one]))
        found += [claim(f"{label}_temperature_{side}", mean, target, n=len(one),
                        unit="1", command=command, low=low, high=high)
                  for side, target in (("low", ">= 0.8"), ("high", "<= 1.2"))]
    return found


def by_temperature(rows: list[dict], fit: str) -> list[dict]:
    """Coverage of temperatures left out, mean over all of them."""
    found = []
    for quantity, (bottom, top) in COVERAGE.items():
        values = np.array([covered(r) for r in rows if r["quantity"] == quantity])
        if len(values) < 2:
            continue
        mean, low, high = scoring.coverage_over_groups(values)
        found += [claim(f"{fit}_temperatures_{quantity}_coverage_{side}", mean, target,
                        n=len(values), unit="1", command=f"{COMMAND} --fit {fit}", low=low,
                        high=high)
                  for side, target in (("low", f">= {bottom}"), ("high", f"<= {top}"))]
    return found


def gain(rows: list[dict], quantity: str, fit: str) -> dict | None:
    """CRPS of Frederiksen's rule over that of the discrepancy, geometric mean over families.

    None where there are not two families with both.
    """
    def scores(method: str) -> dict:
        return {(r["data"], r["form"], r["family"]): r["crps"] for r in rows
                if r["method"] == method and r["quantity"] == quantity}

    ours, theirs = scores("discrepancy"), scores("frederiksen")
    logs = np.array([np.log(theirs[k] / ours[k]) for k in ours if k in theirs])
    if len(logs) < 2:
        return None
    mean, low, high = mean_interval(logs)
    return claim(f"{fit}_crps_gain_over_frederiksen_{quantity}", float(np.exp(mean)),
                 f">= {CRPS_GAIN[quantity]}", n=len(logs), unit="1", low=float(np.exp(low)),
                 high=float(np.exp(high)), command=f"{COMMAND} --fit {fit}")


if __name__ == "__main__":
    main()
