#!/usr/bin/env python
"""A stand-in for pw.x: reads its input, writes its output, with Lennard-Jones labels, and fails.

    python stand_in.py [--fail KIND] [--times N] [--log FOLDER] [--rate P] [--seed N] -in FILE

``--fail`` fails in the way that is named, for the first ``--times`` calls in a folder of logs (0:
always). With ``--rate`` it fails on that part of the structures instead, decided by a hash of the
structure and the seed, half of them once and half of them always, and notes what it did in the
folder of logs, one file a structure, one line a call. All failures are real: signals, allocations,
full devices, broken files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

KINDS = ("not_converged", "crash", "exit_code", "time_limit", "out_of_memory", "killed",
         "disk_full", "truncated", "not_finite", "huge_forces", "wrong_atoms", "overflow")
"""Ways to fail; ``overflow`` is a number that its format cannot hold."""

RECORDED = {kind: kind for kind in KINDS} | {"overflow": "not_finite"}
"""Kind that a campaign should record of each."""

HEAD = """
     Program PWSCF v.stand-in starts on a day at a time

     Parallel version (MPI), running on     1 processors

     bravais-lattice index     =            0
     lattice parameter (alat)  =   {alat:10.6f}  a.u.
     unit-cell volume          =   {volume:10.4f} (a.u.)^3
     number of atoms/cell      = {n:12d}
     number of atomic types    =            1

     celldm(1)= {alat:10.6f}  celldm(2)=   0.000000  celldm(3)=   0.000000

     crystal axes: (cart. coord. in units of alat)
"""
BROKEN_OFF = """
     convergence NOT achieved after 100 iterations: stopping

   JOB DONE.
"""


RY, BOHR = 13.605691932782346, 0.5291772083535413  # eV, Å: those that ASE reads pw.x with
EPSILON, SIGMA, CUTOFF = 0.0104, 3.4, 6.0


def read_input(text: str):
    """Cell [3, 3], symbols and positions [n, 3] of pw.x's input; without ASE, which is slow."""
    lines = text.splitlines()
    start = lines.index("CELL_PARAMETERS angstrom") + 1
    cell = np.array([[float(x) for x in line.split()] for line in lines[start : start + 3]])
    start = lines.index("ATOMIC_POSITIONS angstrom") + 1
    rows = [line.split() for line in lines[start:] if line.strip()]
    return cell, [row[0] for row in rows], np.array([[float(x) for x in row[1:4]] for row in rows])


def lennard_jones(cell, positions):
    """Energy, forces [n, 3] and stress [3, 3] (eV, Å), shifted to zero at the cutoff."""
    reach = np.ceil(CUTOFF * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) + 1
    images = np.array(list(np.ndindex(*(2 * reach + 1)))) - reach
    vectors = positions[None, :, None] - positions[:, None, None] + (images @ cell)[None, None]
    distances = np.linalg.norm(vectors, axis=-1)
    near = (distances < CUTOFF) & (distances > 1e-9)
    i = np.nonzero(near)[0]
    r, d = vectors[near], distances[near]
    six = (SIGMA / d) ** 6
    shift = (SIGMA / CUTOFF) ** 12 - (SIGMA / CUTOFF) ** 6
    slope = 4 * EPSILON * (-12 * six**2 + 6 * six) / d
    forces = np.zeros_like(positions)
    np.add.at(forces, i, (slope / d)[:, None] * r)
    stress = np.einsum("e,ea,eb->ab", 0.5 * slope / d, r, r) / abs(np.linalg.det(cell))
    return 2 * EPSILON * np.sum(six**2 - six - shift), forces, stress


def output(cell, symbols, positions, energy, forces, stress) -> str:
    """Write what pw.x would: Ry, Ry/bohr, Ry/bohr^3, and the opposite sign of the stress."""
    alat = np.linalg.norm(cell[0])
    volume = abs(np.linalg.det(cell))
    text = HEAD.format(alat=alat / BOHR, volume=volume / BOHR**3, n=len(symbols))
    for i, row in enumerate(cell / alat):
        text += f"               a({i + 1}) = ( {row[0]:10.6f} {row[1]:10.6f} {row[2]:10.6f} )\n"
    text += "\n     site n.     atom                  positions (alat units)\n"
    for i, (symbol, row) in enumerate(zip(symbols, positions / alat, strict=True), 1):
        text += (f"  {i:8d}  {symbol:>10}  tau({i:4d}) = ( {row[0]:11.7f} {row[1]:11.7f} "
                 f"{row[2]:11.7f}  )\n")
    text += "\n     Self-consistent Calculation\n\n     iteration #  1\n"
    text += f"\n!    total energy              = {energy / RY:18.10f} Ry\n"
    text += "     estimated scf accuracy    <          1.5E-09 Ry\n"
    text += "\n     convergence has been achieved in   6 iterations\n"
    text += "\n     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
    for i, row in enumerate(forces * BOHR / RY, 1):
        text += f"     atom {i:4d} type  1   force = " + "".join(f"{x:18.10f}" for x in row) + "\n"
    text += "\n     Total force =     0.049281     Total SCF correction =     0.000009\n\n"
    text += "          total   stress  (Ry/bohr**3)                   (kbar)     P=       16.32\n"
    full = -stress * BOHR**3 / RY
    for row in full:
        text += "".join(f"{x:18.12f}" for x in row) + "   0.0   0.0   0.0\n"
    return text + "\n\n   JOB DONE.\n"


def before_the_end(kind: str) -> None:
    """Fail in a way that leaves no output."""
    sys.stdout.flush()
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "exit_code":
        print("\n     Error in routine  electrons (1):\n     charge is wrong\n", flush=True)
        raise SystemExit(3)
    elif kind == "time_limit":
        time.sleep(3600)
    elif kind == "out_of_memory":
        held = []
        for _ in range(2000):
            held.append(np.ones(1 << 22))  # 32 MB, touched
            time.sleep(0.02)
    elif kind == "disk_full":
        with open("/dev/full", "w") as file:
            file.write("wavefunctions")
    elif kind == "not_converged":
        print(BROKEN_OFF, flush=True)
        raise SystemExit(0)  # as behind some launchers


def decide(arguments: argparse.Namespace, content: bytes) -> str | None:
    """Return the way to fail in this call, or None, and note it."""
    name = hashlib.sha256(content + str(arguments.seed).encode()).hexdigest()
    if arguments.log is None:
        return arguments.fail
    path = arguments.log / name
    calls = path.read_text().splitlines() if path.exists() else []
    kind = arguments.fail
    if arguments.rate is not None:
        draw, which, lasts = (int(name[k : k + 8], 16) / 16**8 for k in (0, 8, 16))
        kind = KINDS[int(which * len(KINDS))] if draw < arguments.rate else None
        times = 1 if lasts < 0.5 else 0
    else:
        times = arguments.times
    if kind is not None and times and len(calls) >= times:
        kind = None
    with open(path, "a") as file:
        file.write(f"{kind}\n")
    return kind


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-in", dest="input", type=Path, required=True)
    parser.add_argument("--fail", choices=KINDS)
    parser.add_argument("--times", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    text = arguments.input.read_text()
    content = text[text.index("CELL_PARAMETERS") :].encode()  # the same on every rung
    kind = decide(arguments, content)
    if kind is not None:
        before_the_end(kind)
    cell, symbols, positions = read_input(text)
    energy, forces, stress = lennard_jones(cell, positions)
    if kind == "not_finite":
        forces[0, 0] = np.nan
    elif kind == "huge_forces":
        forces[:, 0] += 500.0
    elif kind == "wrong_atoms":
        symbols, positions, forces = symbols[:-1], positions[:-1], forces[:-1]
    written = output(cell, symbols, positions, energy, forces, stress)
    if kind == "truncated":
        written = written[: written.index("     Total force")]
    elif kind == "overflow":
        written = written.replace(written.split("force = ")[1][:18], "*" * 18)
    sys.stdout.write(written)


if __name__ == "__main__":
    main()
