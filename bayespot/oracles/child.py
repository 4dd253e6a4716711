"""The process of one calculation: reads a request, calculates, answers on descriptor 3.

Started by `bayespot.oracles.supervisor` in a fresh folder, as ``python -m bayespot.oracles.child``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from bayespot.errors import OracleError
from bayespot.oracles.calculation import atoms_of, calculate
from bayespot.oracles.failures import failure_of
from bayespot.oracles.registry import code_of
from bayespot.oracles.run_settings import RunSettings
from bayespot.oracles.supervisor import ANSWER
from bayespot.records import canonical_json

__all__ = ["main"]


def main() -> None:
    """Do what ``request.json`` of this folder says."""
    os.set_inheritable(ANSWER, False)
    folder = Path.cwd()
    answer: dict[str, Any]
    try:
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        code = code_of(request["name"])
        run = RunSettings.of(request["run"])
        structure = atoms_of(request["structure"])
        label = calculate(code, request["keywords"], run, structure, folder, request["guess"])
        answer = {"label": label}
    # Whatever happened is what the asking process wants to know.
    except BaseException as error:
        failure = error if isinstance(error, OracleError) else failure_of(error)
        answer = {"failure": {"kind": failure.kind, "message": str(failure)}}
    with os.fdopen(ANSWER, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps({"answer": answer} if "failure" in answer else _exact(answer)) + "\n")


def _exact(answer: dict[str, Any]) -> dict[str, Any]:
    """Keep numbers that are not finite: they are for the asking process to refuse."""
    label = answer["label"]
    plain = {n: np.asarray(label[n]).tolist() for n in ("energy", "forces", "stress") if n in label}
    return {"answer": {"label": plain, "metadata": json.loads(canonical_json(label["metadata"]))}}


if __name__ == "__main__":
    main()
