"""Channel groups, gates and shrinking: a closed gate and a removed channel are the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("torch_pruning")
pytest.importorskip("monai")
from monai.networks.nets.resnet import ResNet, ResNetBlock

from connectome_tl.errors import DataError
from connectome_tl.nn.voxel.channels import ChannelGroup, Costs, channel_groups
from connectome_tl.nn.voxel.gates import Gates
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.nn.voxel.shrinking import cost, removable, shrink

EXAMPLE = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(5))


def resnet(norm: str = "group", shortcut: str = "B", layers: tuple[int, ...] = (1, 1, 1, 1)) -> nn.Module:
    torch.manual_seed(0)
    net = ResNet(
        ResNetBlock,
        list(layers),
        [8, 8, 16, 16],
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type=shortcut,
        num_classes=1,
        bias_downsample=False,
    )
    if norm == "group":
        for module in list(net.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm3d):
                    setattr(module, name, nn.GroupNorm(4, child.num_features))
    return as_trained(net)


def resnet18() -> nn.Module:
    """The package's own, with shortcut A and one channel per unit."""
    torch.manual_seed(0)
    body = VoxelResNet(18, width=1 / 16, norm="batch")
    return as_trained(nn.Sequential(body, nn.Linear(body.width, 1)))


def as_trained(net: nn.Module) -> nn.Module:
    """No normalisation layer is the identity."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm3d, nn.GroupNorm)):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, 0.0, 0.1)
    return net.eval()


class Concatenated(nn.Module):
    """Concatenated maps of two layers, each normalised where it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm3d(4), nn.BatchNorm3d(10)
        self.last, self.head = nn.Conv3d(10, 5, 3), nn.Linear(5, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        h = self.first(volume)
        both = torch.cat([h, self.second(self.norm1(h).relu())], dim=1)
        return self.head(self.last(self.norm2(both).relu()).relu().mean(dim=(2, 3, 4)))


def prunable(net: nn.Module) -> list[ChannelGroup]:
    groups = channel_groups(net, EXAMPLE)
    refused = removable(net, groups, EXAMPLE)
    return [group for group in groups if group.root not in refused]


NETS = {
    "batch norm": lambda: resnet("batch"),
    "group norm": lambda: resnet("group"),
    "two blocks a stage": lambda: resnet("group", layers=(2, 2, 1, 1)),
    "shortcut A": lambda: resnet("group", shortcut="A"),
    "ResNet-18": resnet18,
    "concatenation": lambda: Concatenated().eval(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_shrunk_network_equals_the_masked_one(name: str) -> None:
    net = NETS[name]()
    groups = [
        g for g in channel_groups(net, EXAMPLE) if g.root not in removable(net, channel_groups(net, EXAMPLE), EXAMPLE)
    ]
    gates = Gates(groups)
    for i, group in enumerate(groups):
        gates.close(i, torch.arange(0, group.n_units // 2))
    with torch.no_grad(), gates.on(net):
        masked = net(EXAMPLE)
    small = shrink(net, gates.closed, EXAMPLE)
    assert torch.allclose(small(EXAMPLE), masked, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(EXAMPLE), masked, rtol=1e-2, atol=1e-3)
    before, after = cost(net, EXAMPLE, 1), cost(small, EXAMPLE, 1)
    assert after.parameters < 0.75 * before.parameters
    assert after.memory < before.memory


def test_open_gates_change_nothing() -> None:
    net = resnet()
    with Gates(channel_groups(net, EXAMPLE)).on(net):
        gated = net(EXAMPLE)
    assert torch.equal(gated, net(EXAMPLE))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_stem_and_the_stream_of_each_stage_are_groups(norm: str) -> None:
    groups = {group.root: group for group in channel_groups(resnet(norm), EXAMPLE)}
    stem = groups.get("conv1") or groups["layer1.0.conv2"]
    assert {place.module for place in stem.gated} == {"bn1", "layer1.0.bn2"}
    last = groups.get("layer4.0.conv2") or groups["layer4.0.downsample.0"]
    assert {place.module for place in last.gated} == {"layer4.0.bn2", "layer4.0.downsample.1"}
    assert "fc" not in groups
    assert {g.unit for g in groups.values()} == ({1} if norm == "batch" else {2, 4})


def test_shortcut_a_leaves_the_streams_alone_and_prunes_inside_blocks() -> None:
    net = resnet(shortcut="A")
    refused = removable(net, channel_groups(net, EXAMPLE), EXAMPLE)
    roots = {group.root for group in channel_groups(net, EXAMPLE)}
    assert roots - set(refused) >= {f"layer{i}.0.conv1" for i in (1, 2, 3, 4)}
    assert "conv1" in refused or "layer1.0.conv2" in refused


def test_an_encoder_keeps_the_width_of_its_embedding() -> None:
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 6, 3), nn.Flatten(2))
    refused = removable(net.eval(), channel_groups(net, EXAMPLE), EXAMPLE)
    assert list(refused) == ["3"]


def test_parts_of_a_group_are_refused() -> None:
    with pytest.raises(DataError, match="whole groups of 2 channels"):
        shrink(resnet(), {"layer1.0.conv1": torch.tensor([0])}, EXAMPLE)


def test_instance_norm_is_refused_with_a_remedy() -> None:
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.Conv3d(4, 1, 3))
    with pytest.raises(DataError, match="one channel per group"):
        removable(net, [], EXAMPLE)


def test_costs_follow_the_masks_as_a_count_of_the_shrunk_network_says() -> None:
    net = resnet("batch")
    groups = prunable(net)
    costs, gates = Costs(net, EXAMPLE), Gates(groups)
    convs = sum(costs.full.values())
    assert convs == pytest.approx(cost(net, EXAMPLE, 1).macs, rel=0.02)  # the library counts norms as well
    for i, group in enumerate(groups):
        before, saving = costs.total, costs.saved(group)
        costs.remove(group, torch.tensor([1]))
        gates.close(i, torch.tensor([1]))
        assert costs.total == pytest.approx(before - saving)
    small = shrink(net, gates.closed, EXAMPLE)
    assert costs.total == pytest.approx(Costs(small, EXAMPLE).total)


def test_memory_is_that_of_weights_and_the_largest_layer() -> None:
    net = nn.Sequential(nn.Conv3d(1, 4, 1, bias=False), nn.ReLU(), nn.Conv3d(4, 1, 1, bias=False))
    example = torch.zeros(1, 1, 8, 8, 8)
    assert cost(net, example, 1).memory == 4 * ((4 + 4) + (4 + 4) * 8**3)  # the ReLU reads and writes four maps
