"""The calibration tables as claims: means over all families of all data sets, beside the targets.

Usage: python paper/benchmarks/calibration_claims.py [--fit map|nuts]

Reads paper/results/calibration_tables.json (by calibration.py), writes
paper/results/calibration.json. A family of a data set, predicted by a form that has not seen it, is
one case; intervals are those of the mean over families, from the spread between them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from claims import add_claims, claim
from scipy import stats

RESULTS = Path(__file__).resolve().parents[1] / "results"
COMMAND = "python paper/benchmarks/calibration_claims.py"
COVERAGE = {"energy": (0.86, 0.96), "forces": (0.87, 0.94), "stress": (0.86, 0.95)}
"""What nominal 90 % should cover, mean over families."""
CRPS_GAIN = {"energy": 5.0, "forces": 1.3, "stress": 2.0}
"""Over Frederiksen's rule."""
IN_THE_CLASS = {"StillingerWeber": "stillinger_weber"}
"""Forms that can be the truth that labelled the data: the temperature should be one."""
POOR, FLAGGED = 0.7, 0.5
"""A family is poor if less is covered, flagged if at least so many of its structures are."""


def covered(row: dict) -> float:
    """Coverage of nominal 90 %."""
    return next(c["value"] for c in row["coverage"] if abs(c["level"] - 0.9) < 1e-9)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval (Student's t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


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
        mine = [r for r in rows if r["method"] == method]
        short = method.replace(", ", "_").replace(" + ", "_").replace(" ", "_")
        poor = flagged = within = within_poor = 0
        for quantity, (low, high) in COVERAGE.items():
            some = [r for r in mine if r["quantity"] == quantity]
            values = np.array([covered(r) for r in some])
            inside = np.array([r["outside"] < FLAGGED for r in some])
            poor += int((values < POOR).sum())
            flagged += int(((values < POOR) & ~inside).sum())
            within += int(inside.sum())
            within_poor += int(((values < POOR) & inside).sum())
            for name, chosen in (("", np.ones(len(some), bool)), ("_within_guard", inside)):
                if name and method != "discrepancy":
                    continue
                mean, bottom, top = mean_interval(values[chosen])
                label = f"{fit}_{short}_{quantity}_coverage{name}"
                command = f"{COMMAND} --fit {fit}"
                for sign, target in ((">=", low), ("<=", high)):
                    found.append(claim(
                        f"{label}_{'low' if sign == '>=' else 'high'}", mean, f"{sign} {target}",
                        n=int(chosen.sum()), unit="1", command=command, low=bottom, high=top,
                    ))
            if method == "discrepancy":
                found.append(gain(rows, quantity, fit))
        if method == "discrepancy":
            found += [
                claim(f"{fit}_poor_share_within_guard", within_poor / within, "<= 0.05", n=within,
                      unit="1", command=f"{COMMAND} --fit {fit}"),
                claim(f"{fit}_flagged_share_of_poor", flagged / max(poor, 1), ">= 0.9", n=poor,
                      unit="1", command=f"{COMMAND} --fit {fit}"),
            ]
    costs = np.array([r["layer_cost"] for r in rows
                      if r["method"] == "discrepancy" and r["quantity"] == "energy"
                      and "layer_cost" in r])
    if len(costs) > 1:
        mean, low, high = mean_interval(costs)
        found.append(claim("layer_cost_over_nuts", mean, "<= 0.3", n=len(costs), unit="1",
                           command=f"{COMMAND} --fit {fit}", low=low, high=high))
    add_claims(RESULTS / "calibration.json", "calibration", found)
    for row in found:
        verdict = "ok" if row["passed"] else "MISSED"
        between = "" if row["low"] is None else f"[{row['low']:.3f}, {row['high']:.3f}]"
        print(f"{row['name']:<52} {row['value']:7.3f} {between:<16} n {row['n']:3d} "
              f"{row['target']:>8} {verdict}")


def known_truth(rows: list[dict]) -> list[dict]:
    """Claims of one form on labels of a known potential: coverage, or the null temperature."""
    first = rows[0]
    label = f"{first['fit']}_{first['data'].replace(' ', '_')}_by_{first['form']}"
    command = f"{COMMAND} --fit {first['fit']}"
    found = []
    for quantity in COVERAGE:
        values = np.array([covered(r) for r in rows if r["quantity"] == quantity])
        mean, low, high = mean_interval(values)
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
        mean, low, high = mean_interval(values)
        found += [claim(f"{fit}_temperatures_{quantity}_coverage_{side}", mean, target,
                        n=len(values), unit="1", command=f"{COMMAND} --fit {fit}", low=low,
                        high=high)
                  for side, target in (("low", f">= {bottom}"), ("high", f"<= {top}"))]
    return found


def gain(rows: list[dict], quantity: str, fit: str) -> dict:
    """CRPS of Frederiksen's rule over that of the discrepancy, geometric mean over families."""
    def scores(method: str) -> dict:
        return {(r["data"], r["form"], r["family"]): r["crps"] for r in rows
                if r["method"] == method and r["quantity"] == quantity}

    ours, theirs = scores("discrepancy"), scores("frederiksen")
    logs = np.array([np.log(theirs[k] / ours[k]) for k in ours if k in theirs])
    mean, low, high = mean_interval(logs) if len(logs) > 1 else (np.nan,) * 3
    return claim(f"{fit}_crps_gain_over_frederiksen_{quantity}", float(np.exp(mean)),
                 f">= {CRPS_GAIN[quantity]}", n=len(logs), unit="1", low=float(np.exp(low)),
                 high=float(np.exp(high)), command=f"{COMMAND} --fit {fit}")


if __name__ == "__main__":
    main()
