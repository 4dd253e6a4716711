"""Make, label and archive a data set that is described by files; see the README.md of its folder.

    python make.py NAME structures --work WORK   # generate.toml -> WORK/structures.extxyz
    python make.py NAME label      --work WORK   # DFT labels into WORK/ledger.db, then the archive
    python make.py NAME floor      --work WORK   # finer labels of a few frames, then floor.json
    python make.py NAME archive    --work WORK   # archive, floor.json and the numbers of the card,
                                                 # from the labels that exist

NAME is a folder beside this file with ``generate.toml`` (what `bayespot generate` reads) and
``settings.toml`` (GPAW keywords). Run with the package importable and OMP_NUM_THREADS=1. It may be
stopped at any moment: a label is one transaction of the ledger, and a rerun computes what is
missing. Structures are pinned in the work folder, because dynamics amplifies rounding.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write

from bayespot.active.ledger import Ledger
from bayespot.errors import OracleError
from bayespot.oracles import make_oracle
from bayespot.records import write_text

HERE = Path(__file__).resolve().parent
FAMILIES = ("strained", "defect", "surface", "thermal", "phase")
INFO = ("config_type", "parent", "variant", "seed")
FLOOR_FACTORS = {"ecut": 1.3, "density": 1.5}


def load(folder: Path, name: str) -> dict[str, Any]:
    """Read a TOML file of the archive's folder."""
    return tomllib.loads((folder / name).read_text(encoding="utf-8"))


def structures(folder: Path, work: Path) -> list[Atoms]:
    """Read the structures of the work folder; make them on the first call, shuffled."""
    path = work / "structures.extxyz"
    if not path.exists():
        from bayespot.generate.recipe import generate
        from bayespot.generate.settings import GenerationSettings
        from bayespot.runtime import configure

        configure()
        settings = GenerationSettings.model_validate(load(folder, "generate.toml"))
        made = generate(settings, progress=lambda *said: print(*said, flush=True))
        print(f"{len(made.structures)} structures, {len(made.dropped)} near-duplicates dropped")
        order = np.random.default_rng(settings.seed).permutation(len(made.structures))
        text = io.StringIO()
        write(text, [made.structures[i] for i in order], format="extxyz")
        write_text(path, text.getvalue())
    return read(path, ":", format="extxyz")


def label(frames: list[Atoms], indices: list[int], gpaw: dict[str, Any], work: Path, role: str
          ) -> dict[int, dict[str, Any]]:
    """Label frames through the ledger and return what is done, by index."""
    oracle, indices = make_oracle("gpaw", gpaw), in_turn(frames, indices)
    with Ledger.open(work) as ledger:
        keys = ledger.ask([frames[i] for i in indices], oracle.settings, round=0, role=role,
                          indices=indices, families=[frames[i].info["config_type"]
                                                     for i in indices])
        todo = [(key, i) for key, i in zip(keys, indices, strict=True)
                if ledger.states()[key] == "asked"]
        start = time.perf_counter()
        for done, (key, i) in enumerate(todo, 1):
            ledger.start(key)
            try:
                result = oracle.label(frames[i])
            except OracleError as error:
                ledger.fail(key, str(error))
                said = f"failed: {error}"
            else:
                ledger.finish(key, result)
                said = (f"{result.energy / len(frames[i]):.4f} eV/atom, "
                        f"{result.metadata['cpu_time_s']:.0f} s cpu")
            left = (time.perf_counter() - start) / done * (len(todo) - done) / 60
            info = frames[i].info
            print(f"[{done}/{len(todo)}] {info['config_type']} {info['variant']} "
                  f"{len(frames[i])} atoms: {said}; left ~{left:.0f} min", flush=True)
    return finished(keys, indices, work)


def in_turn(frames: list[Atoms], indices: list[int]) -> list[int]:
    """Families in turn, small cells first, so that what is done at any moment is balanced."""
    places: dict[str, int] = {}
    ranked = []
    for i in sorted(indices, key=lambda i: (len(frames[i]), i)):
        family = frames[i].info["config_type"]
        places[family] = places.get(family, 0) + 1
        ranked.append((places[family], FAMILIES.index(family), i))
    return [i for _, _, i in sorted(ranked)]


def finished(keys: list[str], indices: list[int], work: Path) -> dict[int, dict[str, Any]]:
    """Results of the calculations that are done, by index of the frame."""
    entries = {entry.key: entry for entry in Ledger.read(work).entries()}
    return {i: {"energy": entries[k].result.energy, "forces": entries[k].result.forces,
                "stress": entries[k].result.stress, **entries[k].result.metadata}
            for k, i in zip(keys, indices, strict=True)
            if k in entries and entries[k].result is not None}


def found(frames: list[Atoms], gpaw: dict[str, Any], work: Path) -> dict[int, dict[str, Any]]:
    """Labels that exist with some settings, by index of the frame."""
    from bayespot.oracles import calculation_key

    settings = make_oracle("gpaw", gpaw).settings
    keys = [calculation_key(frame, settings) for frame in frames]
    return finished(keys, list(range(len(frames))), work)


def write_archive(folder: Path, frames: list[Atoms], labels: dict[int, dict[str, Any]]) -> None:
    """Write the archive from finished labels, and read it back."""
    archive = folder / f"{folder.name}.extxyz.xz"
    labelled = []
    for i, result in sorted(labels.items()):
        atoms = frames[i]
        frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info = {key: atoms.info[key] for key in INFO}
        frame.info["REF_energy"] = result["energy"]
        frame.arrays["REF_forces"] = np.array(result["forces"])
        if result["stress"] is not None:
            xx, yy, zz, yz, xz, xy = result["stress"]
            frame.info["REF_stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        frame.info["wall_time_s"] = round(result["wall_time_s"], 2)
        frame.info["cpu_time_s"] = round(result["cpu_time_s"], 2)
        frame.info["scf_iterations"] = result["iterations"]
        labelled.append(frame)
    text = io.StringIO()
    write(text, labelled, format="extxyz")
    temporary = archive.with_name(archive.name + ".tmp")
    temporary.write_bytes(lzma.compress(text.getvalue().encode(), preset=9))
    back = read(io.StringIO(lzma.decompress(temporary.read_bytes()).decode()), ":",
                format="extxyz")
    for frame, again in zip(labelled, back, strict=True):
        stress = frame.info.get("REF_stress")
        same = (np.allclose(frame.positions, again.positions, atol=1e-7)
                and np.allclose(frame.arrays["REF_forces"], again.arrays["REF_forces"], atol=1e-7)
                and abs(frame.info["REF_energy"] - again.info["REF_energy"]) < 1e-9
                and ("REF_stress" in again.info) == (stress is not None)
                and (stress is None or np.allclose(stress, again.info["REF_stress"], atol=1e-12))
                and all(frame.info[k] == again.info[k] for k in INFO))
        if not same:
            raise RuntimeError(f"{archive.name}: a frame ({frame.info}) does not read back as it "
                               "was written; the file was not replaced")
    os.replace(temporary, archive)
    counts = {f: sum(a.info["config_type"] == f for a in labelled) for f in FAMILIES}
    print(f"{archive.name}: {len(labelled)} frames {counts}, {archive.stat().st_size} bytes")


def chosen_for_floor(frames: list[Atoms], labelled: list[int], per_family: int) -> list[int]:
    """Small frames of every family: one of each variant first, then a second one, and so on."""
    chosen = []
    for family in FAMILIES:
        seen: dict[str, int] = {}
        turns = []
        for i in sorted(labelled, key=lambda i: (len(frames[i]), i)):
            kind = frames[i].info["variant"]
            if (frames[i].info["config_type"] == family and kind != "perfect"
                    and len(frames[i]) > 1):
                seen[kind] = seen.get(kind, 0) + 1
                turns.append((seen[kind], len(frames[i]), i))
        chosen += [i for _, _, i in sorted(turns)[:per_family]]
    return chosen


def finer(gpaw: dict[str, Any]) -> dict[str, Any]:
    """Settings of the calculations that the floor is measured with."""
    fine = json.loads(json.dumps(gpaw))
    fine["mode"]["ecut"] *= FLOOR_FACTORS["ecut"]
    fine["kpts"]["density"] *= FLOOR_FACTORS["density"]
    return fine


def write_floor(folder: Path, frames: list[Atoms], settings: dict[str, Any], work: Path) -> None:
    """Write how far the labels are from finer ones of the same frames, where there are any."""
    fine = finer(settings["gpaw"])
    low, high = found(frames, settings["gpaw"], work), found(frames, fine, work)
    chosen = [i for i in sorted(high) if i in low]
    if not chosen:
        return
    pairs = [(frames[i].info["config_type"],
              (low[i]["energy"] - high[i]["energy"]) / len(frames[i]),
              # one atom has no force by symmetry, whatever the settings
              None if len(frames[i]) == 1 else np.subtract(low[i]["forces"], high[i]["forces"]),
              None if low[i]["stress"] is None else np.subtract(low[i]["stress"],
                                                                high[i]["stress"]))
             for i in chosen]
    mean = float(np.mean([p[1] for p in pairs]))

    def rms(values: list[np.ndarray]) -> float | None:
        return (float(np.sqrt(np.mean(np.concatenate([v.ravel() for v in values]) ** 2)))
                if values else None)

    def summary(some: list[tuple]) -> dict[str, Any]:
        if len(some) < 2:  # a single frame says nothing of a family; the overall floor stands in
            return {"n": len(some), "s_energy": None, "s_forces": None, "s_stress": None}
        return {"n": len(some), "s_energy": rms([np.array([p[1] - mean]) for p in some]),
                "s_forces": rms([p[2] for p in some if p[2] is not None]),
                "s_stress": rms([_tensor(p[3]) for p in some if p[3] is not None])}

    present = [f for f in FAMILIES if any(p[0] == f for p in pairs)]
    report = {
        "what": "RMS difference of the production labels from a finer calculation of the same "
                "frames (basis and k-mesh refined at once); energies per atom after removal of "
                "one overall mean difference",
        "units": {"s_energy": "eV/atom", "s_forces": "eV/A (per component)",
                  "s_stress": "eV/A^3 (per component of the 3x3 tensor)",
                  "mean_energy_difference": "eV/atom"},
        "settings": settings["gpaw"], "reference": fine, "factors": FLOOR_FACTORS,
        "mean_energy_difference": mean,
        "families": {f: summary([p for p in pairs if p[0] == f]) for f in present},
        "overall": summary(pairs)}
    write_text(folder / "floor.json", json.dumps(report, indent=2) + "\n")
    print(json.dumps({**report["families"], "overall": report["overall"]}, indent=1))


def card_lines(folder: Path, frames: list[Atoms], labels: dict[int, dict[str, Any]]) -> list[str]:
    """Tables of the card: families with their ranges and cost, and the floor."""
    from bayespot.units import GPA

    lines = ["| family | frames | atoms | volume, Å^3/atom | energy, eV/atom | largest force, eV/Å "
             "| pressure, GPa | CPU s |", "|---|---|---|---|---|---|---|---|"]
    for family in (*FAMILIES, "all"):
        some = [i for i in sorted(labels) if family in ("all", frames[i].info["config_type"])]
        if not some:
            continue
        dense = [i for i in some if labels[i]["stress"] is not None]
        force = max(np.linalg.norm(labels[i]["forces"], axis=1).max() for i in some)
        columns = (
            _range([len(frames[i]) for i in some], 0),
            _range([frames[i].cell.volume / len(frames[i]) for i in dense], 1),
            _range([labels[i]["energy"] / len(frames[i]) for i in some], 2), f"{force:.1f}",
            _range([-GPA * np.mean(labels[i]["stress"][:3]) for i in dense], 0),
            f"{sum(labels[i]['cpu_time_s'] for i in some):.0f}")
        lines.append(f"| {family} | {len(some)} | {' | '.join(columns)} |")
    net = max(np.abs(np.sum(labels[i]["forces"], axis=0)).max() for i in labels)
    lines += ["", f"Labelled: {len(labels)} of {len(frames)} structures made. Largest component of "
              f"the net force on a frame: {net:.1e} eV/Å.", ""]
    if not (folder / "floor.json").is_file():
        return lines
    floor = json.loads((folder / "floor.json").read_text(encoding="utf-8"))
    lines += [f"Floor (one mean difference of {1e3 * floor['mean_energy_difference']:.2f} meV/atom "
              "taken away):", "",
              "| family | n | energy, meV/atom | forces, eV/Å | stress, eV/Å^3 | stress, GPa |",
              "|---|---|---|---|---|---|"]
    for family, row in (*floor["families"].items(), ("overall", floor["overall"])):
        energy, forces, stress = (row[f"s_{q}"] for q in ("energy", "forces", "stress"))
        columns = ("-" if energy is None else f"{1e3 * energy:.2f}",
                   "-" if forces is None else f"{forces:.4f}",
                   "- | -" if stress is None else f"{stress:.2e} | {GPA * stress:.3f}")
        lines.append(f"| {family} | {row['n']} | {' | '.join(columns)} |")
    return [*lines, ""]


def _range(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    low, high = (f"{end(values):.{digits}f}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


def write_card(folder: Path, frames: list[Atoms], labels: dict[int, dict[str, Any]]) -> None:
    """Put the measured numbers between the two marks of README.md."""
    path = folder / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition("<!-- numbers -->\n")
    _, _, after = rest.partition("<!-- end of numbers -->\n")
    middle = "\n".join(["", *card_lines(folder, frames, labels), ""])
    write_text(path, f"{before}<!-- numbers -->\n{middle}<!-- end of numbers -->\n{after}")


def _tensor(voigt: np.ndarray) -> np.ndarray:
    """All nine components, so that shear counts as in the 3x3 tensor."""
    return np.asarray(voigt)[[0, 5, 4, 5, 1, 3, 4, 3, 2]]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [path.parent.name for path in sorted(HERE.glob("*/generate.toml"))]
    parser.add_argument("name", choices=names)
    parser.add_argument("command", choices=("structures", "label", "archive", "floor"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the ledger")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = HERE / options.name
    settings = load(folder, "settings.toml")
    frames = structures(folder, options.work)
    if options.command == "label":
        label(frames, list(range(len(frames))), settings["gpaw"], options.work, "production")
    if options.command == "floor":
        labelled = sorted(found(frames, settings["gpaw"], options.work))
        chosen = chosen_for_floor(frames, labelled, settings["floor"]["per_family"])
        label(frames, chosen, finer(settings["gpaw"]), options.work, "floor")
    labels = found(frames, settings["gpaw"], options.work)
    if options.command in ("floor", "archive"):
        write_floor(folder, frames, settings, options.work)
    if options.command in ("label", "archive"):
        write_archive(folder, frames, labels)
    if options.command == "archive":
        write_card(folder, frames, labels)


if __name__ == "__main__":
    main()
