"""Damaged tables of a small study with known correct content: number of silent misreadings.

Every mutant is a participants table (TSV, CSV or Excel), a phenotype table with its dictionary and a wide table of
regional measures after one to three mutations (`tests/properties/table_mutations.py`), read by `read_cohort` and
compared with the content that is known from the mutations.

    python benchmarks/mutations_tables.py [--n 1000] [--seed 1000]
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parents[1]


def harness() -> ModuleType:
    """The mutations and their evaluation, shared with the tests."""
    path = HERE / "tests" / "properties" / "table_mutations.py"
    spec = importlib.util.spec_from_file_location("table_mutations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    mutations = harness()
    counts: Counter[str] = Counter()
    by_mutation: dict[str, Counter[str]] = {}
    faults: list[str] = []
    started = time.monotonic()
    for seed in range(options.seed, options.seed + options.n):
        with tempfile.TemporaryDirectory() as folder:
            verdict = mutations.judged(seed, Path(folder))
        counts[verdict.word] += 1
        for name in mutations.mutant(seed).history:
            by_mutation.setdefault(name, Counter())[verdict.word] += 1
        if verdict.word in (*mutations.FAULTS, "refused wrongly"):
            faults.append(f"{verdict.word}: {verdict.detail}")
    print(f"{options.n} mutants, seeds {options.seed} to {options.seed + options.n - 1}")
    for word in ("right", "refused", "refused wrongly", *mutations.FAULTS):
        print(f"  {word:<17} {counts[word]}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {time.monotonic() - started:.0f} s, {memory:.0f} MiB at most")
    for name in sorted(by_mutation):
        print(f"  {name:<24} {by_mutation[name]['right']:>4} right {by_mutation[name]['refused']:>4} refused")
    print("\n".join(faults[:40]))
    return int(any(counts[word] for word in mutations.FAULTS))


if __name__ == "__main__":
    sys.exit(main())
