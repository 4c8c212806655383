"""Refusal, with time and memory, of bundles with damaged bytes, shapes, JSON, paths and stated sizes.

A bundle of simulated infants (all regions of the neonatal atlas) is damaged in many ways
(`tests/properties/bundle_mutations.py`) and opened. Every mutant with the old manifest must be refused with exit code
65. Mutants with a matching manifest, as made by a person who knows the format, must be refused, or their predictions
for their own simulated subjects must equal the stored ones. Nothing may be executed or written, and opening may
take at most twice the mutant's size and 0.5 MB in memory, for mutants of every size: parsing and checks take a
constant amount. What is counted is the peak that `tracemalloc` reports: the objects of Python and the arrays of numpy.
The memory of torch (weights of networks, and their layers while the self-test predicts) is not counted; the growth of
the process while the whole bundle is opened is printed, which includes it.

    python benchmarks/mutations_bundles.py [--n 500] [--seed 0] [--images] [--quick] [--out FILE]

With --out, finished mutants are stored in the file, and a stopped run resumes.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parents[1]
FIXED = 500_000  # bytes: parsing and checks
sys.path[:0] = [str(HERE), str(HERE / "tests")]


def harness() -> ModuleType:
    """The mutations and their evaluation, shared with the tests."""
    path = HERE / "tests" / "properties" / "bundle_mutations.py"
    spec = importlib.util.spec_from_file_location("bundle_mutations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made(folder: Path, n_regions: int) -> Path:
    """A bundle of cores mixed with networks, of a study of 40 simulated infants."""
    from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
    from tests.bundle.bundle_study import run_of, study_cohorts

    run = run_of(folder, study_cohorts(n_regions=n_regions))
    return bundle_run(run, folder / "bundle", BundleOptions(model="network"))


def made_with_volumes(folder: Path, size: int) -> Path:
    """A bundle of small networks on connectomes, covariates and volumes of `size`^3 voxels."""
    from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
    from tests.bundle.image_study import fused_run

    return bundle_run(fused_run(folder, size=size)[0], folder / "bundle", BundleOptions(model="network"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="64 mutants of a bundle of twelve regions")
    parser.add_argument("--images", action="store_true", help="a bundle that also uses volumes of 32^3 voxels")
    parser.add_argument("--out", type=Path, help="file of finished mutants")
    options = parser.parse_args()
    n = 64 if options.quick else options.n
    mutations = harness()
    from connectome_tl.bundle.bundle import open_bundle

    known: dict[str, list[Any]] = {}
    if options.out is not None and options.out.is_file():
        known = {line.split("\t", 1)[0]: json.loads(line.split("\t", 1)[1]) for line in options.out.open()}
    with tempfile.TemporaryDirectory() as folder:
        if options.images:
            bundle = made_with_volumes(Path(folder), 12 if options.quick else 32)
        else:
            bundle = made(Path(folder), 12 if options.quick else 90)
        size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        open_bundle(bundle)  # import what is imported on first use
        print(f"resident memory while the whole bundle is opened, with torch's: {resident(bundle) / 1e6:.1f} MB more")
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in range(options.seed, options.seed + n):
            if str(seed) not in known:
                one = mutations.judged(bundle, seed, Path(folder) / "mutant", memory=True)
                known[str(seed)] = [one.word, one.mutation, one.detail[:300], one.memory, one.size]
                if options.out is not None:
                    with options.out.open("a") as stream:
                        stream.write(f"{seed}\t{json.dumps(known[str(seed)])}\n")
    return report(known, size, time.process_time() - started, before, mutations)


def resident(bundle: Path) -> float:
    """Bytes by which this process grows at most while a bundle is opened (Linux; NaN elsewhere)."""
    from connectome_tl.bundle.bundle import open_bundle

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    reset = Path("/proc/self/clear_refs")
    if not reset.is_file():
        return float("nan")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory would be used again and not be counted
    reset.write_text("5")  # the peak begins anew
    before = status("VmRSS")
    open_bundle(bundle)
    return status("VmHWM") - before


def report(known: dict[str, list[Any]], size: int, cpu: float, before: int, mutations: ModuleType) -> int:
    """Print the results of the mutants; 1 if any result is wrong."""
    counts = Counter(one[0] for one in known.values())
    by_mutation: dict[str, Counter[str]] = {}
    for word, name, *_ in known.values():
        by_mutation.setdefault(name, Counter())[word] += 1
    print(f"{len(known)} mutants of a bundle of {size / 1e6:.2f} MB, {cpu:.0f} CPU s")
    for word, count in counts.most_common():
        print(f"  {word:<28} {count}")
    for limit in (0, size / 2):
        at_least = [one for one in known.values() if one[4] >= limit]
        most = max((one[3] / one[4] for one in at_least), default=float("nan"))
        print(f"  memory at most {most:.2f} x the size of a mutant ({len(at_least)} of {limit / 1e6:.2f} MB or more)")
    most = max(one[3] - 2 * one[4] for one in known.values())
    print(f"  memory at most 2 x the size of a mutant and {max(most, 0) / 1e6:.2f} MB (bar: {FIXED / 1e6:.2f} MB)")
    print(f"  memory at most {max(one[3] for one in known.values()) / 1e6:.2f} MB")
    print(f"  the process grew by {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MiB")
    for mutation in mutations.MUTATIONS:
        name, kind = mutation.__name__, "signed" if mutation in mutations.SIGNED else "not signed"
        row = by_mutation.get(name, Counter())
        print(f"  {name:<20} {kind:<11} {row['refused']:>4} refused {row['consistent']:>4} consistent")
    faults = [one for one in known.values() if one[0] not in ("refused", "consistent")]
    heavy = [one for one in known.values() if one[3] > 2 * one[4] + FIXED]
    for one in (*faults[:20], *heavy[:20]):
        print("FAULT", *one)
    return int(bool(faults or heavy))


if __name__ == "__main__":
    sys.exit(main())
