"""A labelled structure as a frame of extended XYZ, with all digits of all numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_dict_to_str

from bayespot.units import VOIGT


def frame_text(atoms: Atoms, family: str, energy: float | None, forces: np.ndarray | None,
               stress: np.ndarray | None) -> str:
    """One frame of extended XYZ with the keys REF_energy, REF_forces, REF_stress.

    Parameters
    ----------
    atoms : Atoms
        n atoms; of ``info`` goes what a line of text can hold.
    family : str
        Written as ``config_type``.
    energy, forces, stress : float, ndarray [n, 3], ndarray [6], or None
        eV, eV/Å, eV/Å^3; None where there is no label.
    """
    head = [f'Lattice="{_numbers(atoms.cell.array)}"'] if atoms.cell.rank else []
    columns = "species:S:1:pos:R:3" + (":REF_forces:R:3" if forces is not None else "")
    head.append(f"Properties={columns}")
    if energy is not None:
        head.append(f"REF_energy={energy!r}")
    if stress is not None:
        matrix = np.empty((3, 3))
        for component, (i, j) in zip(stress, VOIGT, strict=True):
            matrix[i, j] = matrix[j, i] = component
        head.append(f'REF_stress="{_numbers(matrix)}"')
    head.append(key_val_dict_to_str(_plain_info({**atoms.info, "config_type": family})))
    head.append('pbc="' + " ".join("FT"[int(p)] for p in atoms.pbc) + '"')
    rows = atoms.positions if forces is None else np.hstack([atoms.positions, forces])
    body = [f"{symbol} {_numbers(row)}" for symbol, row in zip(atoms.symbols, rows, strict=True)]
    return "\n".join([str(len(atoms)), " ".join(head), *body]) + "\n"


def _numbers(values: np.ndarray) -> str:
    """All digits of all numbers, separated by blanks."""
    return " ".join(repr(float(x)) for x in np.ravel(values))


def _plain_info(info: dict[str, Any]) -> dict[str, Any]:
    """Keep what one line of text can hold: text, numbers, arrays of them, JSON."""
    plain = {}
    for key, value in info.items():
        if isinstance(value, str):
            plain[key] = " ".join(value.split())
        elif isinstance(value, (bool, int, float, np.generic)) or (
                isinstance(value, np.ndarray) and value.dtype.kind in "bif"):
            plain[key] = value
        else:
            try:
                json.dumps(value)
            except TypeError:
                continue
            plain[key] = value
    return plain
