"""One line on the lines of the package that the tests ran, a line on files with few of them, and 1 below 90 %.

python -m slipcover --out COVERED.json -m pytest
python tests/covered.py COVERED.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

BAR = 90.0


def summary(covered: dict[str, dict[str, dict[str, float]]]) -> tuple[float, list[str]]:
    """Percentage of lines, and the lines to print. Files below the bar are in order of the lines they lack."""
    files = {name: entry["summary"] for name, entry in covered["files"].items()}
    missing = {name: counts["missing_lines"] for name, counts in files.items()}
    n_lines = sum(counts["covered_lines"] + counts["missing_lines"] for counts in files.values())
    percent = 100 * (1 - sum(missing.values()) / n_lines)
    low = sorted((name for name in files if files[name]["percent_covered"] < BAR), key=lambda name: -missing[name])
    lines = [f"coverage: {percent:.1f} % of {n_lines:.0f} lines in {len(files)} files (at least {BAR:.0f} % required)"]
    if low:
        lines.append(f"below {BAR:.0f} %: " + ", ".join(f"{name} {files[name]['percent_covered']:.0f}" for name in low))
    return percent, lines


if __name__ == "__main__":
    percent, lines = summary(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    print(*lines, sep="\n")
    sys.exit(percent < BAR)
