"""One contract for all encoders of volumes: shapes, gradients, any grid, saving, float32 and bfloat16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.branch import Branch, build_branch
from connectome_tl.nn.model import build_model
from connectome_tl.settings.images.volumes import (
    DenseNetEncoder,
    ImageEncoder,
    ResNetEncoder,
    ScaleDenseEncoder,
    SfcnEncoder,
)
from connectome_tl.settings.model import ClinicalEncoder, GraphEncoder, ModelSettings

SMALL: dict[str, ImageEncoder] = {
    "resnet": ResNetEncoder(width=1 / 8, stem_stride=1),
    "resnet batch": ResNetEncoder(width=1 / 8, norm="batch"),
    "sfcn": SfcnEncoder(widths=(4, 8, 8), dropout=0.0),
    "densenet": DenseNetEncoder(init_features=8, growth=4, layers=(2, 2)),
    "scaledense": ScaleDenseEncoder(width=6, blocks=2),
}
EACH = pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)


def branch_of(settings: ImageEncoder, seed: int = 0) -> Branch:
    torch.manual_seed(seed)
    return build_branch(settings, {"n_channels": 1})


def rows(n: int = 3, size: tuple[int, int, int] = (16, 18, 14)) -> ImageRows:
    return ImageRows(volume=torch.randn(n, 1, *size, generator=torch.Generator().manual_seed(0)))


@EACH
def test_the_embedding_has_the_width_that_is_promised_and_all_parameters_get_gradients(settings: ImageEncoder) -> None:
    branch = branch_of(settings).train()
    embedding = branch(rows()).embedding
    assert embedding.shape == (3, branch.width)
    (embedding * torch.randn_like(embedding)).sum().backward()
    silent = [name for name, p in branch.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert silent == []


@EACH
@pytest.mark.parametrize("size", [(5, 6, 7), (8, 8, 8), (17, 12, 9)])
def test_any_grid_will_do(settings: ImageEncoder, size: tuple[int, int, int]) -> None:
    assert branch_of(settings).eval()(rows(2, size)).embedding.isfinite().all()


@EACH
def test_in_evaluation_a_row_does_not_depend_on_the_others(settings: ImageEncoder) -> None:
    branch, given = branch_of(settings).eval(), rows()
    alone = branch(given.rows(torch.tensor([1]))).embedding
    torch.testing.assert_close(branch(given).embedding[1:2], alone, rtol=1e-4, atol=1e-5)


@EACH
def test_a_saved_encoder_gives_the_same_embedding(settings: ImageEncoder, tmp_path: Path) -> None:
    one, other = branch_of(settings).eval(), branch_of(settings, seed=1).eval()
    save_file(one.state_dict(), tmp_path / "branch.safetensors")
    other.load_state_dict(load_file(tmp_path / "branch.safetensors"))
    assert torch.equal(one(rows()).embedding, other(rows()).embedding)


@EACH
def test_bfloat16_is_near_float32_in_values_and_gradients(settings: ImageEncoder) -> None:
    branch, given = branch_of(settings).train(), rows(4)
    branch(given)  # batch norms see one batch
    direction = torch.randn(4, branch.width, generator=torch.Generator().manual_seed(2))
    found = {}
    for rough in (False, True):
        branch.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rough):
            embedding = branch(given).embedding
        (embedding.float() * direction).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in branch.parameters() if p.grad is not None])
        found[rough] = (embedding.float().detach().flatten(), gradient)
    # Rounding switches some rectified units on or off, which changes gradients more than values.
    for exact, rough, least in zip(found[False], found[True], (0.98, 0.88), strict=True):
        assert rough.isfinite().all()
        cosine = torch.nn.functional.cosine_similarity(exact, rough, dim=0)
        assert cosine > least, float(cosine)


def test_published_sizes() -> None:
    with torch.device("meta"):
        scaledense = build_branch(ScaleDenseEncoder(width=8, blocks=5, norm="batch"), {"n_channels": 1})
        sfcn = build_branch(SfcnEncoder(norm="batch"), {"n_channels": 1})
    assert scaledense.width == 8 * 3**5
    assert sum(p.numel() for p in scaledense.parameters()) == pytest.approx(102e6, rel=0.1)
    assert sfcn.width == 64
    assert sum(p.numel() for p in sfcn.parameters()) == pytest.approx(3.0e6, rel=0.05)  # "about 3 million"


class _Source:
    n_channels = 1

    def __init__(self) -> None:
        self.volumes = np.random.default_rng(0).normal(size=(4, 1, 8, 8, 8)).astype(np.float32)
        self.asked: list[list[int]] = []

    def read(self, asked: list[int]) -> np.ndarray:
        self.asked.append(list(asked))
        return np.stack([self.volumes[i] if i >= 0 else np.zeros_like(self.volumes[0]) for i in asked])


def test_volumes_are_read_for_the_rows_of_a_batch_alone() -> None:
    source = _Source()
    given = ImageRows(where=torch.tensor([0, -1, 2, 3]), source=source)
    assert given.sizes == {"n_channels": 1}
    assert source.asked == []
    part = given.rows(torch.tensor([3, 1]))
    np.testing.assert_array_equal(part.volumes[0].numpy(), source.volumes[3])
    assert part.volumes[1].abs().sum() == 0
    assert source.asked == [[3, -1], [3, -1]]


def test_an_image_model_is_fused_with_covariates_and_who_lacks_a_volume_is_masked() -> None:
    settings = ModelSettings(encoder=ResNetEncoder(width=1 / 16), clinical=ClinicalEncoder(width=3), fused_width=16)
    assert settings.reads_volumes
    assert not ModelSettings(encoder=GraphEncoder()).reads_volumes
    torch.manual_seed(0)
    model = build_model(settings, {"image": {"n_channels": 1}}, {"y": 1}).eval()
    volumes = rows(2, (8, 8, 8))

    def predicted(given: ImageRows, there: list[bool]) -> torch.Tensor:
        return model(Batch({"image": given}, {"image": torch.tensor(there)}))

    blind = predicted(volumes, [False, True])
    other = predicted(ImageRows(volume=volumes.volumes * torch.tensor([5.0, 1.0]).view(2, 1, 1, 1, 1)), [False, True])
    torch.testing.assert_close(blind, other)
    assert not torch.allclose(blind[0], predicted(volumes, [True, True])[0])
