"""Every measured claim beside its target, misses included.

    python paper/figures/claims.py [--out FOLDER]

Reads the claims of paper/results/*.json and nothing else, writes claims.md.
"""

import argparse
import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results"


def cell(claim: dict) -> str:
    """Value with its interval and unit."""
    if claim["value"] is None:
        return "none"
    text = f"{claim['value']:.4g}"
    if claim["low"] is not None and claim["high"] is not None:
        text += f" [{claim['low']:.4g}, {claim['high']:.4g}]"
    return text if claim["unit"] == "1" else f"{text} {claim['unit']}"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().out
    lines = ["# Measured claims", "",
             "Written by `paper/figures/claims.py` from `paper/results/`; do not edit.", ""]
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if "claims" not in record:
            continue
        versions = ", ".join(f"{k} {v}" for k, v in sorted(record.get("versions", {}).items()))
        lines += [f"## {record['topic']}", "", f"{record.get('cores', '?')} cores; {versions}", "",
                  "| claim | measured | target | kept | cases | command |",
                  "|---|---|---|---|---|---|"]
        for claim in record["claims"]:
            kept = {True: "yes", False: "**no**", None: "-"}[claim["passed"]]
            lines.append(
                f"| {claim['name']} | {cell(claim)} | {claim['target'] or '-'} | {kept} "
                f"| {claim['n']} | `{claim['command']}` |"
            )
        lines.append("")
    (folder / "claims.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
