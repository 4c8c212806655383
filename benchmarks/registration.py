"""Transfer of labels between heads: mean Dice and CPU seconds of dipy, ANTs with two metrics, and `auto`, by pair.

    python benchmarks/registration.py [--adults 20] [--biased 0] [--fetuses 8] [--bent 2] [--seed 0]
                                      [--methods dipy ants ants_cc local auto] [--out registration.tsv]
                                      [--quick] [--report]

Kinds of pairs: *adults*, different whole heads of IXI (145 labels, whose outline is the brain mask); the same with a
bias field of 3 on the fixed head (`--biased`); *weeks*, fetal atlases one to three weeks apart (8 tissues); and heads
deformed by known warps of new seeds (UNC-AAL's labels): within one contrast, the same under a bias field of 1 to 9, and
a T1w template onto a T2w head. `auto` is the step as users run it: bias field, orientation, choice of the
engine; the other methods are the engine only. On request, ANTs' local correlation is compared: in windows of 5 voxels
(`ants_cc`, minutes per pair), and as our engine uses it (`local`).
Rows are written to --out one by one, so that a stopped benchmark resumes; --report prints the table of the finished
rows. Needs ixi_10, fetal_atlases, infant_templates and neonatal_atlases in CONNECTOME_TL_DATA; where they are absent,
the phantom's heads are used.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anatomies import DATA, Head, adult, bent, bias_field, fetus, mean_dice, newborn

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.ants import register_with_ants
from connectome_tl.imaging.register.registration import cut, head_box, register
from connectome_tl.imaging.register.template_fit import fit_template, likeness_of
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.settings.imaging import RegistrationSettings
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

METHODS = ("dipy", "ants", "ants_cc", "local", "auto")
SETTINGS = RegistrationSettings()
WEEKS = ((30, 31), (23, 24), (33, 32), (26, 27), (22, 21), (29, 30), (34, 33), (28, 27))
Pair = tuple[str, Callable[[], tuple[Head, Head]], tuple[str, str]]  # kind, fixed and moving, their contrasts


def adult_pairs(n: int) -> list[tuple[int, int]]:
    """The first pairs of ten heads in a fixed order, in which each head is equally often fixed and moving."""
    return [(k % 10, (k + 1 + 2 * (k // 10)) % 10) for k in range(n)]


def pairs(n_adults: int, n_biased: int, n_fetuses: int, n_bent: int, seed: int) -> Iterator[Pair]:
    if (DATA / "ixi_10").is_dir():
        for one, other in adult_pairs(n_adults):
            yield "adults", lambda one=one, other=other: (adult(one), adult(other)), ("T1w", "T1w")
        for k, (one, other) in enumerate(adult_pairs(n_biased)):
            yield (
                "adults, bias 3",
                lambda k=k, one=one, other=other: (_biased(adult(one), seed + k, 3.0), adult(other)),
                ("T1w", "T1w"),
            )
        for one, other in WEEKS[:n_fetuses]:
            yield "weeks", lambda one=one, other=other: (fetus(one), fetus(other)), ("T2w", "T2w")
        for k in range(seed, seed + n_bent):
            t2 = newborn("T2w")
            yield "bent", lambda k=k, t2=t2: (bent(t2, k), t2), ("T2w", "T2w")
            yield "bent, bias 9", lambda k=k, t2=t2: (_biased(bent(t2, k), k), t2), ("T2w", "T2w")
            other = Head("newborn T1w", newborn("T1w").image, t2.labels)
            yield "bent, T1w to T2w", lambda k=k, t2=t2, other=other: (bent(t2, k), other), ("T2w", "T1w")
        return
    anatomy = make_anatomy(PhantomSettings(voxel=2.0, anatomical_voxel=2.0))
    for k in range(seed, seed + n_bent):
        yield (
            "phantom",
            lambda k=k: (_phantom(make_head(anatomy, seed=k + 1)), _phantom(make_head(anatomy))),
            ("T2w",) * 2,
        )


def _biased(head: Head, seed: int, ratio: float = 9.0) -> Head:
    image = Volume((head.image.data * bias_field(head.image, seed, ratio)).astype(np.float32), head.image.affine)
    return Head(f"{head.name}, bias", image, head.labels)


def _phantom(head: object) -> Head:
    image = np.where(head.mask, head.t2w, 0).astype(np.float32)  # type: ignore[attr-defined]
    labels = Volume(head.labels.astype(np.int32), head.affine)  # type: ignore[attr-defined]
    return Head("phantom", Volume(image, head.t2w_affine), labels)  # type: ignore[attr-defined]


def run(method: str, fixed: Head, moving: Head, contrasts: tuple[str, str]) -> tuple[Warp, str]:
    """The map, and the engine that computed it."""
    if method == "auto":
        fit = fit_template(fixed.image, moving.image, SETTINGS, contrasts=contrasts)
        return fit.warp, fit.engine.name
    if method == "ants_cc":
        f, m = (cut(head.image, head_box(head.image)) for head in (fixed, moving))
        return register_with_ants(f, m, SETTINGS.nonlinear_steps, metric="local", radius=2), method
    if method == "dipy":
        return register(fixed.image, moving.image, SETTINGS, engine="dipy"), method
    metric: Literal["mutual", "local"] = "local" if method == "local" else "mutual"
    return register(fixed.image, moving.image, SETTINGS, engine="ants", metric=metric), method


def measured(kind: str, fixed: Head, moving: Head, contrasts: tuple[str, str], method: str) -> dict[str, object]:
    start = time.process_time()
    warp, engine = run(method, fixed, moving, contrasts)
    seconds = time.process_time() - start
    carried = carry_labels(warp, moving.labels, fixed.labels).data
    return {
        "kind": kind,
        "fixed": fixed.name,
        "moving": moving.name,
        "method": method,
        "engine": engine,
        "dice": round(mean_dice(carried, fixed.labels.data), 4),
        "likeness": round(likeness_of(fixed.image, moving.image, warp), 4),
        "cpu_s": round(seconds, 1),
    }


def report(rows: pd.DataFrame) -> None:
    """Means over the pairs with results of every method, of each kind."""
    print(f"{'kind':18s}{'pairs':>6s}  " + "".join(f"{method:>22s}" for method in METHODS) + "   auto minus the better")
    for kind, of_kind in rows.groupby("kind", sort=False):
        wide = of_kind.pivot_table(index=["fixed", "moving"], columns="method", values=["dice", "cpu_s"])
        shown = [method for method in METHODS if method in wide["dice"]]
        wide = wide.dropna(subset=[("dice", method) for method in shown])
        cells = {m: f"{wide['dice'][m].mean():.3f} {wide['cpu_s'][m].mean():6.1f} s" for m in shown if len(wide)}
        best = max((wide["dice"][m].mean() for m in shown if m.startswith("ants")), default=np.nan)
        less = f"{wide['dice']['auto'].mean() - best:+.3f}" if "auto" in shown else ""
        print(f"{kind:18s}{len(wide):6d}  " + "".join(f"{cells.get(m, '-'):>22s}" for m in METHODS) + f"   {less}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adults", type=int, default=20)
    parser.add_argument("--biased", type=int, default=0)
    parser.add_argument("--fetuses", type=int, default=8)
    parser.add_argument("--bent", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first warp")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["dipy", "ants", "auto"])
    parser.add_argument("--out", type=Path, default=Path("registration.tsv"))
    parser.add_argument("--quick", action="store_true", help="one pair of fetuses, not stored")
    parser.add_argument("--report", action="store_true", help="only print stored results")
    asked = parser.parse_args()
    kept = pd.read_csv(asked.out, sep="\t").to_dict("records") if asked.out.is_file() and not asked.quick else []
    if asked.report:
        report(pd.DataFrame(kept))
        return
    methods = asked.methods
    if find_spec("ants") is None:
        methods = [method for method in methods if not method.startswith(("ants", "local"))]
        print("without ANTs: antspyx is not installed")
    n = (0, 0, 1, 0) if asked.quick else (asked.adults, asked.biased, asked.fetuses, asked.bent)
    done = {(row["kind"], row["fixed"], row["moving"], row["method"]) for row in kept}
    for kind, make, contrasts in pairs(*n, asked.seed):
        fixed, moving = make()
        for method in methods:
            if (kind, fixed.name, moving.name, method) in done:
                continue
            kept.append(measured(kind, fixed, moving, contrasts, method))
            print("  ".join(str(value) for value in kept[-1].values()), flush=True)
            if not asked.quick:
                pd.DataFrame(kept).to_csv(asked.out, sep="\t", index=False)
    report(pd.DataFrame(kept))


if __name__ == "__main__":
    main()
