"""Atlas tables: complete, with consistent node sets, and matched by name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import Atlas, Region, atlas_folders, atlas_names, load_atlas, read_atlas
from connectome_tl.cohort.arrays.matrices import kept_regions
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.report.figures.brain import glass_brain

LOBES = {"Frontal", "Parietal", "Temporal", "Occipital", "Limbic", "Insula", "Subcortical", "Cerebellum", "Brainstem"}
LOBES |= {"White matter", "Ventricles", "CSF", "Background"}  # labels of Draw-EM other than grey matter


@pytest.fixture(params=atlas_names())
def atlas(request: pytest.FixtureRequest) -> Atlas:
    return load_atlas(request.param)


def test_the_promised_atlases_are_there() -> None:
    assert {"aal90", "aal116", "unc_aal90"} <= set(atlas_names())
    sizes = {"aal90": 90, "aal116": 116, "unc_aal90": 90, "dk68": 68, "dk82": 82, "mcrib": 82, "destrieux": 148}
    assert {name: load_atlas(name).n_regions for name in sizes} == sizes
    assert [load_atlas(f"schaefer{n}").n_regions for n in (100, 200, 400)] == [100, 200, 400]


def test_every_atlas_says_its_source_licence_and_where_the_image_is(atlas: Atlas) -> None:
    assert "doi:10." in atlas.source
    assert len(atlas.licence) > 20
    assert len(atlas.image) > 20
    assert {region.lobe for region in atlas.regions} <= LOBES


def test_left_is_left_of_right_and_partners_mirror_each_other(atlas: Atlas) -> None:
    """Centroids are RAS+: a left region has a smaller x than its right partner."""
    if not atlas.has_centroids:
        assert np.isnan(atlas.coordinates).all()
        atlas = replace(atlas, regions=tuple(_placed(region) for region in atlas.regions))
    for region, partner in zip(atlas.regions, atlas.partners, strict=True):
        other = atlas.regions[partner]
        if region.hemisphere == "M":
            assert abs(region.x) < 5
            assert other is region
        else:
            assert (region.x < 0) == (region.hemisphere == "L"), region
        if other is not region:
            assert other.hemisphere != region.hemisphere
            assert np.linalg.norm(np.array([-other.x, other.y, other.z]) - [region.x, region.y, region.z]) < 15
    if atlas.homotopic:
        paired = atlas.partners != np.arange(atlas.n_regions)
        assert paired.sum() == sum(region.hemisphere != "M" for region in atlas.regions)


def _placed(region: Region) -> Region:
    """At any position on its side, so that the test checks names and partners only."""
    x = {"L": -10.0, "R": 10.0, "M": 0.0}[region.hemisphere]
    return replace(region, x=x, y=0.0, z=0.0)


def test_no_alias_means_two_regions(atlas: Atlas) -> None:
    for region in atlas.regions:
        for alias in (region.name, *region.aliases):
            assert atlas.resolved([alias]) == (region.name,), alias


def test_atlases_of_one_node_set_have_the_same_names() -> None:
    sets: dict[str, set[frozenset[str]]] = {}
    for name in atlas_names():
        atlas = load_atlas(name)
        sets.setdefault(atlas.node_set, set()).add(frozenset(atlas.names))
    assert all(len(found) == 1 for found in sets.values())


def test_adult_and_neonatal_order_differ_and_line_up_by_name() -> None:
    adult, neonate = load_atlas("aal90"), load_atlas("unc_aal90")
    assert adult.node_set == neonate.node_set == "aal90"
    assert adult.names != neonate.names
    order = adult.order_of(neonate.names)
    assert tuple(adult.names[i] for i in order) == neonate.names
    assert neonate.order != ""
    # the label numbers of both images refer to the same regions
    assert {r.name: r.index for r in adult.regions} == {r.name: r.index for r in neonate.regions}
    assert [neonate.names[i] for i in neonate.label_order] == list(adult.names)


def test_neonatal_centroids_are_a_newborns() -> None:
    """About 0.7 of an adult brain, in the same arrangement."""
    adult, neonate = load_atlas("aal90"), load_atlas("unc_aal90")
    moved = neonate.coordinates[neonate.order_of(adult.names)]
    assert (moved.std(axis=0) < 0.85 * adult.coordinates.std(axis=0)).all()
    for axis in range(3):
        assert np.corrcoef(moved[:, axis], adult.coordinates[:, axis])[0, 1] > 0.95


def test_the_newborn_and_the_adult_desikan_killiany_line_up_although_their_numbers_differ() -> None:
    """The thalamus is label 10 in FreeSurfer and 9 in M-CRIB: numbers are not comparable between images."""
    adult, neonate = load_atlas("dk82"), load_atlas("mcrib")
    assert adult.node_set == neonate.node_set
    assert set(adult.names) == set(neonate.names)
    number = {region.name: region.index for region in adult.regions}
    differ = {r.name for r in neonate.regions if number[r.name] != r.index}
    assert differ == {"Left-Thalamus", "Right-Thalamus"}
    assert neonate.resolved(["Left-Thalamus-Proper", "lh_bankssts", "insula_R"]) == (
        "Left-Thalamus",
        "ctx-lh-bankssts",
        "ctx-rh-insula",
    )


def test_aliases_are_understood_whatever_their_separator() -> None:
    atlas = load_atlas("aal116")
    names = ["Precentral_L", "precentral.l", "PreCG.L", "PreCG_L", "Cerebelum_Crus1_R", "Cerebellum_Crus1_R"]
    assert atlas.resolved(names) == ("PreCG.L",) * 4 + ("CRUS1.R",) * 2
    assert atlas.order_of(["Vermis_10", "Frontal_Sup_Orb_R"]).tolist() == [115, 5]


def test_unknown_region_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"PreCG\.L"):
        load_atlas("aal90").order_of(["PreCGG.L"])


def test_unknown_atlas_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="aal90"):
        load_atlas("aal91")


def test_a_broken_table_lists_every_fault(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(next(f for f in atlas_folders()) / "aal90", folder)
    text = (folder / "regions.tsv").read_text()
    text = text.replace("PreCG.R\tR", "PreCG.L\tX").replace("\t-39.6\t", "\tn/a\t")
    (folder / "regions.tsv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_atlas(folder)
    assert len(caught.value.problems) == 3
    (folder / "atlas.json").unlink()
    with pytest.raises(MissingInputError):
        read_atlas(folder)


def test_the_aal_names_and_order_are_those_of_the_shared_data(shared_data: Path) -> None:
    lines = (shared_data / "abide_fc_aal116" / "aal116.csv").read_text().split()
    rows = [line.split(",") for line in lines[1:]]
    atlas = load_atlas("aal116")
    assert [row[1] for row in rows] == list(atlas.names)
    theirs = np.array([[float(value) for value in row[5:8]] for row in rows])
    assert np.linalg.norm(theirs - atlas.coordinates, axis=1).max() < 1.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("unc_aal90", "neonatal_atlases/AAL_UNCneo_in_extdhcp40wk.nii.gz"),
        ("mcrib", "neonatal_atlases/MCRIB_in_dHCPext.nii.gz"),
        ("dk82", "adult_atlases/atlas_desikan_killiany.nii.gz"),
        ("destrieux", "adult_atlases/atlas_destrieux.nii.gz"),
    ],
)
def test_centroids_match_the_label_image(shared_data: Path, name: str, file: str) -> None:
    import nibabel as nib

    image = nib.load(shared_data / file)
    labels = np.asarray(image.dataobj).astype(int)
    at = np.argwhere(labels > 0)
    label = labels[labels > 0]
    millimetres = at @ image.affine[:3, :3].T + image.affine[:3, 3]
    count = np.bincount(label)
    atlas = load_atlas(name)
    index = [region.index for region in atlas.regions]
    for axis in range(3):
        centre = np.bincount(label, weights=millimetres[:, axis])[index] / count[index]
        np.testing.assert_allclose(centre, atlas.coordinates[:, axis], atol=0.051)


def test_drawem_has_the_labels_of_the_dhcp_release() -> None:
    """Spot checks of the published list; sides alternate in both ways, so a rule by odd and even would be wrong."""
    atlas = load_atlas("drawem87")
    assert [region.index for region in atlas.regions] == list(range(1, 88))
    said = {
        "Hippocampus left": 1,
        "Insula right GM": 20,
        "Insula left GM": 21,
        "Frontal lobe left GM": 37,
        "Thalamus left, high intensity part in T2": 43,
        "Lateral Ventricle left": 49,
        "Insula right WM": 63,
        "Parietal lobe left WM": 82,
        "Thalamus left, low intensity part in T2": 87,
    }
    regions = [atlas.regions[i] for i in atlas.order_of(list(said))]
    assert [region.index for region in regions] == list(said.values())
    assert [region.hemisphere for region in regions] == ["R" if "right" in name else "L" for name in said]
    assert len(kept_regions("cerebrum", atlas.names, atlas)) == 46


def test_an_atlas_without_centroids_leaves_out_what_needs_places(tmp_path: Path) -> None:
    from connectome_tl.connectome.connectome import Connectome
    from connectome_tl.connectome.formats.graphs import to_networkx
    from connectome_tl.connectome.quality import subject_measures

    atlas = load_atlas("drawem87")
    upper = np.triu(np.random.default_rng(0).gamma(1, 5, (12, 87, 87)), 1)
    weights = upper + upper.swapaxes(1, 2)
    found = subject_measures(weights, np.ones((12, 87), bool), atlas.names, atlas)
    assert "length" not in found
    assert "swap" in found
    assert all(np.isfinite(values).all() for values in found.values())
    graph = to_networkx(Connectome(weights[:1], atlas.names, ("count",), np.ones(87, bool)), atlas)
    assert "x" not in graph.nodes[atlas.names[0]]
    assert glass_brain(atlas.coordinates, np.ones(87)) is None
    shutil.copytree(atlas_folders()[0] / "drawem87", tmp_path / "a")
    table = (tmp_path / "a" / "regions.tsv").read_text().replace("n/a", "1.0", 1)
    (tmp_path / "a" / "regions.tsv").write_text(table)
    with pytest.raises(DataError, match="centroid"):
        read_atlas(tmp_path / "a")
