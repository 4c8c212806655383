"""Every encoder on a GPU: loss and gradients as on the CPU, in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from network_cases import ENCODERS, make_batch, make_model, name
from on_gpu import THERE, assert_near, needs_gpu

from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.devices import exact_on_gpu
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import build_model
from connectome_tl.nn.voxel.precision import check_network, fastest
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.images.volumes import (
    DenseNetEncoder,
    ImageEncoder,
    ResNetEncoder,
    ScaleDenseEncoder,
    SfcnEncoder,
)
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.training import Training
from connectome_tl.training.objectives.supervised import Supervised

pytestmark = needs_gpu
OUTCOMES = Outcomes({"low": "binary", "score": "regression"}, {"low": 1, "score": 1})
VOLUMES: list[ImageEncoder] = [
    *(ResNetEncoder(width=1 / 8, stem_stride=1, norm=norm) for norm in ("group", "batch", "instance")),
    ResNetEncoder(depth=18, width=1 / 16, stem_stride=1, dilated=True),
    SfcnEncoder(widths=(4, 8, 8), dropout=0.0),
    DenseNetEncoder(init_features=8, growth=4, layers=(2, 2)),
    ScaleDenseEncoder(width=4, blocks=2),
]


def goal_of(n: int) -> torch.Tensor:
    goal = torch.stack([torch.arange(n) % 2, torch.linspace(-1, 1, n)], dim=1).float()
    goal[1, 0] = torch.nan
    return goal


def compare(model: torch.nn.Module, batch: Batch) -> None:
    """Loss and gradients of one step on both devices."""
    other = copy.deepcopy(model).to(THERE)
    goal, losses = goal_of(len(batch)), []
    with exact_on_gpu():
        for one, rows, values in ((model, batch, goal), (other, batch.to(THERE), goal.to(THERE))):
            loss = Supervised(OUTCOMES, Training())(one, {"train": rows}, {"train": values})["outcomes"]  # type: ignore[arg-type]
            loss.backward()
            losses.append(loss.detach())
    assert_near(losses[1], losses[0], 1e-5, "loss")
    own = dict(model.named_parameters())
    # Some gradients are 0 except for rounding, which is relative to the largest gradient of the network.
    largest = max(float(p.grad.abs().max()) for p in own.values() if p.grad is not None and p.numel())
    for key, parameter in other.named_parameters():
        if own[key].grad is not None:
            assert parameter.grad is not None, key
            assert_near(parameter.grad, own[key].grad, 1e-4, key, least=1e-2 * largest)


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_an_encoder_of_connectomes_computes_the_same(settings: EncoderSettings) -> None:
    model = make_model(settings).train()
    for module in model.modules():  # random numbers differ between devices
        if hasattr(module, "share"):
            module.share = 0.0
    compare(model, make_batch().prepared())


@pytest.mark.parametrize(
    "settings", VOLUMES, ids=lambda s: f"{s.kind}-{getattr(s, 'norm', '')}-{getattr(s, 'depth', '')}"
)
def test_an_encoder_of_volumes_computes_the_same(settings: ImageEncoder) -> None:
    torch.manual_seed(2)  # at 0 and 1, rounding to float32 switches rectified units on the processor itself
    model = build_model(ModelSettings(encoder=settings, fused_width=6), {"image": {"n_channels": 1}}, OUTCOMES.sizes)
    volumes = torch.randn(6, 1, 20, 20, 20)
    compare(model.train(), Batch({"image": ImageRows(volume=volumes)}, {"image": torch.ones(6, dtype=torch.bool)}))


def test_float32_is_float32_and_settings_of_torch_come_back() -> None:
    """TF32 rounds inputs to 10 bits: an error of about 1e-3, not 1e-5."""
    torch.manual_seed(0)
    layer, volumes = torch.nn.Conv3d(32, 32, 3, padding=1), torch.randn(4, 32, 24, 24, 24)
    before = torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.deterministic
    with torch.no_grad():
        want = layer(volumes)
        with exact_on_gpu():
            found = copy.deepcopy(layer).to(THERE)(volumes.to(THERE))
    assert_near(found, want, 1e-5)
    assert (torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.deterministic) == before


def test_the_precision_of_a_gpu_is_chosen_there() -> None:
    """Every convolution of a ResNet-10 in bfloat16 is within 2 % of float32 where `bf16` is chosen."""
    torch.manual_seed(0)
    net = VoxelResNet(10, width=0.25).to(THERE)
    chosen = fastest(net, (4, 1, 48, 48, 48), tries=2)
    assert chosen in ("float32", "bf16")
    if chosen == "bf16" and THERE.type == "cuda":
        with exact_on_gpu():
            assert all(check.is_right for check in check_network(net, (4, 1, 48, 48, 48)))
