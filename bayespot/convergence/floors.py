"""The noise floor of a setting: what ``floor.json`` says and the likelihood adds to its noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayespot.convergence.differences import Pair, energy_residuals, stress_rms

__all__ = ["floor_record"]

WHAT = (
    "RMS difference of the production setting from the best reference on the same structures; "
    "energies per atom after removal of one offset per species; the uncertainty of the reference "
    "is added in quadrature"
)
UNITS = {
    "s_energy": "eV/atom",
    "s_forces": "eV/A (per component)",
    "s_stress": "eV/A^3 (per component of the 3x3 tensor)",
}


def floor_record(
    pairs: Mapping[int, Pair],
    families: Sequence[str],
    uncertainty: Mapping[str, float | None],
    *,
    production: Mapping[str, Any],
    reference: Mapping[str, Any],
    about: Mapping[str, Any],
) -> tuple[dict[str, Any] | None, str]:
    """Noise floor by family and overall, as `bayespot.NoiseFloor.from_json` reads it.

    Parameters
    ----------
    pairs : mapping of int to Pair
        Production minus reference, by index of the structure.
    families : sequence of str
        Family of every structure.
    uncertainty : mapping of measure to float or None
        Of the reference.
    production, reference : mapping
        Keywords of both settings, for the record.
    about : mapping
        Code, versions, species: further entries of the record.

    Returns
    -------
    dict or None
        None where a floor cannot be given.
    str
        Why not, empty otherwise.
    """
    index = sorted(pairs)
    rest, free = (
        energy_residuals([pairs[i] for i in index]) if index else (np.empty(0), 0)
    )
    scale = np.sqrt(len(index) / free) if free > 0 else None
    residual = dict(zip(index, rest, strict=True))

    def summary(some: Sequence[int]) -> dict[str, Any]:
        forces = [pairs[i].forces.ravel() for i in some if pairs[i].forces is not None]
        stress = [pairs[i].stress for i in some if pairs[i].stress is not None]
        energy = None
        if some and scale is not None:
            energy = float(scale * np.sqrt(np.mean([residual[i] ** 2 for i in some])))
        spread = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None
        return {
            "n": len(some),
            "s_energy": _with(energy, uncertainty.get("energy_difference")),
            "s_forces": _with(spread, uncertainty.get("forces")),
            "s_stress": _with(stress_rms(stress), uncertainty.get("stress")),
        }

    overall = summary(index)
    missing = [k for k in UNITS if not overall[k]]
    if missing:
        return None, (
            f"no floor: {', '.join(missing)} could not be measured on {len(index)} structures "
            "(energies need more structures than species, forces and stresses structures that "
            "have them, and the production setting must differ from the reference)"
        )
    record = {
        "what": WHAT,
        "units": UNITS,
        **about,
        "settings": dict(production),
        "reference": dict(reference),
        "reference_uncertainty": dict(uncertainty),
        "mean_energy_difference": float(np.mean([pairs[i].energy for i in index])),
        "families": {
            family: summary([i for i in index if families[i] == family])
            for family in dict.fromkeys(families[i] for i in index)
        },
        "overall": overall,
    }
    return record, ""


def _with(error: float | None, uncertainty: float | None) -> float | None:
    return None if error is None else float(np.hypot(error, uncertainty or 0.0))
