"""Make, label and archive the silicon data set; see README.md beside this file.

    python make.py label   --work WORK [--workers N]   # structures, DFT labels, archive
    python make.py archive --work WORK                 # archive of the labels that exist
    python make.py floor   --work WORK [--workers N]   # convergence floor -> floor.json

Run with the repository root on PYTHONPATH and OMP_NUM_THREADS=1. It may be stopped at any moment:
a finished label is one file in WORK, written atomically, and a rerun computes what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.io import read, write

from bayespot.generate.defects import interstitials, vacancies
from bayespot.generate.deformed import strained
from bayespot.generate.phases import PHASE_VOLUME_RATIOS, other_phases
from bayespot.generate.surfaces import surfaces
from bayespot.generate.thermal import thermal

HERE = Path(__file__).resolve().parent
ARCHIVE = HERE / "silicon_gpaw_pbe.extxyz.xz"
FLOOR = HERE / "floor.json"
FAMILIES = ("strained", "defect", "surface", "thermal", "phase")
FLOOR_PER_FAMILY = 5
FLOOR_MAX_ATOMS = {"strained": 2, "defect": 7, "surface": 6, "thermal": 4, "phase": 2}
FLOOR_FACTORS = {"ecut": 1.3, "density": 1.5}
TERSOFF_SI = TersoffParameters(m=3.0, gamma=1.0, lambda3=0.0, c=1.0039e5, d=16.217, h=-0.59825,
                               n=0.78734, beta=1.1e-6, lambda2=1.7322, B=471.18, R=2.85, D=0.15,
                               lambda1=2.4799, A=1830.8)


def structures(seed: int) -> list[Atoms]:
    """Make the structures to label, shuffled so that any first part of them is balanced."""
    a = 5.47
    prim, conv = bulk("Si", a=a), bulk("Si", a=a, cubic=True)
    big, four = prim.repeat((2, 2, 2)), prim.repeat((1, 1, 2))
    diamond = {"millers": ((0, 1, 1), (1, 1, 2), (1, 1, 1)), "vacuum": 10.0}  # (100) (110) (111)
    frames = []
    # strained
    for perfect, label in ((prim, "diamond-2"), (conv, "diamond-8")):
        atoms = strained(perfect, 1, seed, volume=(0.0, 0.0), rattle=(0.0, 0.0),
                         kinds=("isotropic",), label=label)
        atoms[0].info["variant"] = "perfect"
        frames += atoms
    frames += strained(prim, 44, seed + 1, label="diamond-2")
    frames += strained(conv, 12, seed + 2, rattle=(0.0, 0.10), label="diamond-8")
    frames += strained(prim, 4, seed + 3, volume=(-0.25, 0.30), shear=0.2,
                       rattle=(0.0, 0.16), label="diamond-2-extreme")
    # defects
    frames += vacancies(conv, 17, seed + 10, label="diamond-8")
    frames += interstitials(conv, 18, seed + 11, label="diamond-8")
    frames += vacancies(big, 3, seed + 12, label="diamond-16")
    frames += interstitials(big, 2, seed + 13, label="diamond-16")
    frames += vacancies(conv, 4, seed + 14, rattle=(0.2, 0.35), volume=(-0.12, 0.12),
                        label="diamond-8-extreme")
    # surfaces
    frames += surfaces(prim, 30, seed + 20, label="diamond-2", **diamond)
    frames += surfaces(prim, 3, seed + 21, strain=0.0, rattle=(0.0, 0.0),
                       label="diamond-2", **diamond)
    frames += surfaces(prim, 3, seed + 22, strain=0.08, rattle=(0.2, 0.3),
                       label="diamond-2-extreme", **diamond)
    # thermal
    tersoff = Tersoff({("Si", "Si", "Si"): TERSOFF_SI})
    runs = [(conv, "diamond-8", 300, 0.0, 5), (conv, "diamond-8", 600, 0.02, 5),
            (conv, "diamond-8", 900, -0.03, 6), (conv, "diamond-8", 1200, 0.0, 6),
            (conv, "diamond-8", 1500, 0.04, 6), (conv, "diamond-8", 2000, -0.05, 6),
            (conv, "diamond-8-hot", 3000, -0.05, 6), (conv, "diamond-8-hot", 5000, -0.08, 6),
            (four, "diamond-4", 300, 0.0, 4), (four, "diamond-4", 800, -0.04, 4),
            (four, "diamond-4", 1400, 0.04, 4), (four, "diamond-4", 2000, 0.0, 4),
            (four, "diamond-4-hot", 3500, -0.05, 4)]
    for k, (parent, label, temperature, volume, n) in enumerate(runs):
        frames += thermal(parent, tersoff, n, seed + 30 + k, temperature_K=temperature,
                          volume=volume, label=label)
    # other phases
    ratios = dict(PHASE_VOLUME_RATIOS)
    large = {name: ratios.pop(name) for name in ("bc8", "random")}
    frames += other_phases(prim, 6 * len(ratios), seed + 50, ratios=ratios,
                           label="diamond-2")
    frames += other_phases(prim, 8, seed + 51, ratios=large, label="diamond-2")
    order = np.random.default_rng(seed).permutation(len(frames))
    return [frames[i] for i in order]


def load_settings() -> dict[str, Any]:
    """Read settings.toml."""
    return tomllib.loads((HERE / "settings.toml").read_text())


def load_structures(work: Path, seed: int) -> list[Atoms]:
    """Read the structures of the work folder; make them on the first call.

    Molecular dynamics amplifies the last digit, so that another machine may not draw the same
    snapshots; the file pins what is labelled, with the digits the archive will have.
    """
    path = work / "structures.extxyz"
    if not path.exists():
        text = io.StringIO()
        write(text, structures(seed), format="extxyz")
        _write_atomically(path, text.getvalue())
    return read(path, ":", format="extxyz")


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def label_path(folder: Path, index: int, atoms: Atoms, gpaw: dict[str, Any]) -> Path:
    """Name the file of one label, after its structure and its settings."""
    content = json.dumps([atoms.numbers.tolist(), atoms.positions.tolist(),
                          atoms.cell.array.tolist(), atoms.pbc.tolist(), gpaw], sort_keys=True)
    return folder / f"{index:04d}_{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"


def label(path: Path, atoms: Atoms, gpaw: dict[str, Any]) -> dict[str, Any]:
    """Label one structure and write the result, or the reason of the failure, to `path`."""
    from gpaw import GPAW

    start, cpu = time.perf_counter(), time.process_time()
    result: dict[str, Any]
    try:
        atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        atoms.calc = GPAW(**gpaw, txt=None)
        energy = float(atoms.get_potential_energy(force_consistent=True))
        forces = atoms.get_forces()
        stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
        for name, value in (("energy", energy), ("forces", forces), ("stress", stress)):
            if value is not None and not np.all(np.isfinite(value)):
                raise ValueError(f"{name} is not finite")
        result = {"energy": energy, "forces": forces.tolist(),
                  "stress": None if stress is None else stress.tolist(),
                  "scf_iterations": int(atoms.calc.get_number_of_iterations()),
                  "n_kpoints": len(atoms.calc.get_ibz_k_points())}
    except Exception as error:  # whatever the reason, this frame never enters the set
        result = {"failed": f"{type(error).__name__}: {error}"}
    result.update(wall_time_s=round(time.perf_counter() - start, 2),
                  cpu_time_s=round(time.process_time() - cpu, 2))
    _write_atomically(path, json.dumps(result))
    return result


def label_all(tasks: list[tuple[Path, Atoms, dict[str, Any]]], workers: int,
              retry_failed: bool = False) -> None:
    """Label what has no file yet in `workers` processes, with progress on stdout."""
    missing = [t for t in tasks if not t[0].exists()
               or (retry_failed and "failed" in json.loads(t[0].read_text()))]
    print(f"{len(tasks)} structures, {len(missing)} to label, {workers} worker(s)", flush=True)
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(label, *task): task for task in missing}
        for done, job in enumerate(as_completed(jobs), 1):
            result, (path, atoms, _) = job.result(), jobs[job]
            what = result.get("failed") or f"{result['energy'] / len(atoms):.4f} eV/atom"
            elapsed = time.perf_counter() - start
            print(f"[{done}/{len(missing)}] {path.stem} {atoms.info['config_type']} "
                  f"{atoms.info['variant']} {atoms.get_chemical_formula()}: {what}, "
                  f"{result['wall_time_s']:.0f} s wall, {result['cpu_time_s']:.0f} s cpu; "
                  f"left ~{elapsed / done * (len(missing) - done) / 60:.0f} min", flush=True)


def labelled(work: Path) -> list[tuple[int, Atoms, dict[str, Any]]]:
    """Return (index, structure, label) of every finished label in the work folder."""
    settings = load_settings()
    found = []
    for i, atoms in enumerate(load_structures(work, settings["label"]["seed"])):
        path = label_path(work / "labels", i, atoms, settings["gpaw"])
        if path.exists():
            result = json.loads(path.read_text())
            if "failed" not in result:
                found.append((i, atoms, result))
    return found


def write_archive(work: Path) -> None:
    """Write the archive from the finished labels and read it back."""
    frames = []
    for _, atoms, result in labelled(work):
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info = {k: atoms.info[k] for k in ("config_type", "parent", "variant", "seed")}
        frame.info["REF_energy"] = result["energy"]
        frame.arrays["REF_forces"] = np.array(result["forces"])
        if result["stress"] is not None:
            frame.info["REF_stress"] = np.array(result["stress"])
        for key in ("wall_time_s", "cpu_time_s", "scf_iterations", "n_kpoints"):
            frame.info[key] = result[key]
        frames.append(frame)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    temporary = ARCHIVE.with_name(ARCHIVE.name + ".tmp")
    temporary.write_bytes(lzma.compress(text.getvalue().encode(), preset=9))
    back = read(io.StringIO(lzma.decompress(temporary.read_bytes()).decode()), ":",
                format="extxyz")
    for frame, again in zip(frames, back, strict=True):
        stress = frame.info.get("REF_stress")
        same = (np.allclose(frame.positions, again.positions, atol=1e-7)
                and np.allclose(frame.arrays["REF_forces"], again.arrays["REF_forces"], atol=1e-7)
                and abs(frame.info["REF_energy"] - again.info["REF_energy"]) < 1e-9
                and ("REF_stress" in again.info) == (stress is not None)
                and (stress is None or np.allclose(stress, again.info["REF_stress"], atol=1e-12))
                and all(frame.info[k] == again.info[k] for k in ("config_type", "parent", "seed")))
        if not same:
            raise RuntimeError(f"{ARCHIVE.name}: a frame ({frame.info}) does not read back as it "
                               "was written; the file was not replaced")
    os.replace(temporary, ARCHIVE)
    counts = {f: sum(a.info["config_type"] == f for a in frames) for f in FAMILIES}
    print(f"{ARCHIVE.name}: {len(frames)} frames {counts}, {ARCHIVE.stat().st_size} bytes")


def floor(work: Path, workers: int) -> None:
    """Relabel a few small frames of each family with a finer basis and mesh -> floor.json."""
    settings = load_settings()
    fine = json.loads(json.dumps(settings["gpaw"]))
    fine["mode"]["ecut"] *= FLOOR_FACTORS["ecut"]
    fine["kpts"]["density"] *= FLOOR_FACTORS["density"]
    chosen = []
    frames = load_structures(work, settings["label"]["seed"])
    for family in FAMILIES:
        seen: dict[str, int] = {}
        turns = []
        for i, atoms in enumerate(frames):  # one of each variant first, then a second one, ...
            kind = atoms.info["variant"]
            if (atoms.info["config_type"] == family and kind != "perfect"
                    and len(atoms) <= FLOOR_MAX_ATOMS[family]):
                seen[kind] = seen.get(kind, 0) + 1
                turns.append((seen[kind], i))
        chosen += [i for _, i in sorted(turns)[:FLOOR_PER_FAMILY]]
    tasks = [(label_path(work / "floor", i, frames[i], fine), frames[i], fine) for i in chosen]
    label_all(tasks, workers)
    pairs, labels = [], {i: result for i, _, result in labelled(work)}
    for i, (path, atoms, _) in zip(chosen, tasks, strict=True):
        low, high = labels.get(i), json.loads(path.read_text())
        if low is None or "failed" in high:
            print(f"left out: {path.stem}: {high.get('failed', 'no production label')}")
            continue
        pairs.append((atoms.info["config_type"],
                      (low["energy"] - high["energy"]) / len(atoms),
                      np.subtract(low["forces"], high["forces"]),
                      None if low["stress"] is None
                      else np.subtract(low["stress"], high["stress"])))
    mean = float(np.mean([p[1] for p in pairs]))

    def summary(some: list[tuple[str, float, np.ndarray, np.ndarray | None]]) -> dict[str, Any]:
        def rms(values: list[np.ndarray]) -> float | None:
            return (float(np.sqrt(np.mean(np.concatenate([v.ravel() for v in values]) ** 2)))
                    if values else None)

        return {"n": len(some), "s_energy": rms([np.array([p[1] - mean]) for p in some]),
                "s_forces": rms([p[2] for p in some]),
                "s_stress": rms([p[3] for p in some if p[3] is not None])}

    report = {
        "what": "RMS difference of the production labels from a finer calculation of the same "
                "frames (basis and k-mesh refined at once); energies per atom after removal of "
                "one overall mean difference",
        "units": {"s_energy": "eV/atom", "s_forces": "eV/A (per component)",
                  "s_stress": "eV/A^3 (per component of the 3x3 tensor)",
                  "mean_energy_difference": "eV/atom"},
        "settings": settings["gpaw"], "reference": fine, "factors": FLOOR_FACTORS,
        "mean_energy_difference": mean,
        "families": {f: summary([p for p in pairs if p[0] == f]) for f in FAMILIES},
        "overall": summary(pairs)}
    _write_atomically(FLOOR, json.dumps(report, indent=2) + "\n")
    print(json.dumps({**report["families"], "overall": report["overall"]}, indent=1))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("structures", "label", "archive", "floor"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the finished labels")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--retry-failed", action="store_true", help="label failed frames again")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    settings = load_settings()
    frames = load_structures(options.work, settings["label"]["seed"])
    if options.command == "label":
        gpaw = settings["gpaw"]
        label_all([(label_path(options.work / "labels", i, atoms, gpaw), atoms, gpaw)
                   for i, atoms in enumerate(frames)], options.workers, options.retry_failed)
    if options.command in ("label", "archive"):
        write_archive(options.work)
    if options.command == "floor":
        floor(options.work, options.workers)


if __name__ == "__main__":
    main()
