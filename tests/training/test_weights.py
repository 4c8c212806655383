"""Weight files in MedicalNet's layout, made from our network: accepted and refused files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.nn.branch import build_branch
from connectome_tl.nn.encoders.volumes import VolumeBranch
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.images.volumes import ResNetEncoder
from connectome_tl.training.networks.weights import keep_as_safetensors, load_into, read_weights


def net(seed: int = 0, **changed: object) -> VoxelResNet:
    torch.manual_seed(seed)
    return VoxelResNet(10, width=1 / 16, **{"norm": "batch", **changed})  # type: ignore[arg-type]


@pytest.fixture
def medicalnet(tmp_path: Path) -> Path:
    """As MedicalNet writes them: wrapped, from a parallel module, with a segmentation head."""
    state = {f"module.{name}": value for name, value in net(1).state_dict().items()}
    state["module.conv_seg.0.weight"] = torch.zeros(2, 2)
    file = tmp_path / "resnet_10.pth"
    torch.save({"state_dict": state}, file)
    return file


def test_a_wrapped_file_with_a_head_is_taken_over_whole(medicalnet: Path) -> None:
    mine, theirs = net(0), net(1)
    found = load_into(mine, read_weights(medicalnet))
    assert found.share == 1.0
    assert found.missing == ()
    assert found.refused == ("conv_seg.0.weight",)
    volumes = torch.randn(2, 1, 16, 16, 16)
    assert torch.equal(mine.eval()(volumes), theirs.eval()(volumes))


def test_the_stem_stride_is_not_in_the_file(medicalnet: Path) -> None:
    other = net(0, stem_stride=1)
    assert load_into(other, read_weights(medicalnet)).share == 1.0
    volumes = torch.randn(1, 1, 16, 16, 16)
    assert not torch.allclose(other.eval()(volumes), net(1).eval()(volumes))


def test_it_is_kept_as_safetensors_once(medicalnet: Path, tmp_path: Path) -> None:
    kept = keep_as_safetensors(medicalnet, tmp_path / "kept" / "x.safetensors")
    assert set(load_file(kept)) == set(read_weights(medicalnet))
    stamp = kept.stat().st_mtime_ns
    medicalnet.unlink()
    assert keep_as_safetensors(medicalnet, kept).stat().st_mtime_ns == stamp


def test_group_norms_take_what_batch_norms_have_but_their_running_statistics(medicalnet: Path) -> None:
    found = load_into(net(0, norm="group"), read_weights(medicalnet))
    assert found.share == 1.0
    assert "bn1.running_mean" in found.refused


def test_a_file_that_fills_too_little_is_refused_and_changes_nothing(medicalnet: Path) -> None:
    mine = net(0, n_channels=2)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    half = {name: value for name, value in read_weights(medicalnet).items() if "layer4" not in name}
    with pytest.raises(DataError, match=r"layer4.*other shapes: conv1.weight is \(4, 1, 7, 7, 7\)"):
        load_into(mine, half)
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="weight file not found"):
        read_weights(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(DataError, match="not a file of weights only"):
        read_weights(tmp_path / "text.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "empty.pth")
    with pytest.raises(DataError, match="no named tensors"):
        read_weights(tmp_path / "empty.pth")
    torch.save(net(), tmp_path / "model.pth")  # a pickled class
    with pytest.raises(DataError, match="can run code when it is loaded"):
        read_weights(tmp_path / "model.pth")


def test_a_deeper_network_is_refused_in_a_shallower_one() -> None:
    deeper, shallower = (VoxelResNet(depth, width=1 / 16, norm="batch") for depth in (34, 18))
    with pytest.raises(DataError, match=r"the encoder has not: layer1.2.conv1.weight.*kind, depth"):
        load_into(shallower, deeper.state_dict())


def test_a_refused_file_is_not_answered_with_how_to_load_it_unsafely(tmp_path: Path, medicalnet: Path) -> None:
    torch.save(net(), tmp_path / "model.pth")
    with pytest.raises(DataError, match=r"contains objects of connectome_tl.nn.voxel.resnet.VoxelResNet") as refused:
        read_weights(tmp_path / "model.pth")
    assert "weights_only" not in str(refused.value)
    medicalnet.write_bytes(medicalnet.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged, cut off or of another format"):
        read_weights(medicalnet)


def test_a_checkpoint_of_lightning_is_read(medicalnet: Path) -> None:
    state = {f"model.net.{name}": value for name, value in net(1).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": {}}, medicalnet)
    assert load_into(net(0), read_weights(medicalnet)).share == 1.0


LOOP: dict[str, object] = {}
LOOP["model"] = LOOP
HOSTILE: dict[str, tuple[Callable[[], object], str]] = {
    "a dictionary in itself": (lambda: LOOP, "no named tensors"),
    "a view larger than its file": (lambda: {"a": torch.zeros(1).expand(1 << 42)}, "weights are too large"),
    "sparse": (lambda: {"a": torch.eye(2).to_sparse()}, "not dense arrays.*: a"),
    "meta": (lambda: {"a": torch.ones(2, device="meta")}, "not dense arrays.*: a"),
    "nested": (lambda: {"a": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}, "not dense arrays.*: a"),
    "quantised": (
        lambda: {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
        "not dense arrays.*: a",
    ),
    "complex": (lambda: {"a": torch.ones(2, dtype=torch.complex64)}, "not dense arrays.*: a"),
    "two of one name": (lambda: {"a": torch.zeros(2), "module.a": torch.ones(2)}, "different weights are named a"),
}


@pytest.mark.filterwarnings("ignore")  # torch's, of features that it may remove
@pytest.mark.parametrize("case", HOSTILE)
def test_odd_tensors_are_one_message(tmp_path: Path, case: str) -> None:
    content, says = HOSTILE[case]
    torch.save(content(), tmp_path / "odd.pth")
    with pytest.raises(DataError, match=says):
        keep_as_safetensors(tmp_path / "odd.pth", tmp_path / "kept.safetensors")


def test_equal_weights_under_two_names_are_taken_once(tmp_path: Path) -> None:
    torch.save({"net.a": torch.ones(2), "encoder.a": torch.ones(2)}, tmp_path / "tied.pth")
    assert list(read_weights(tmp_path / "tied.pth")) == ["a"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weight: weight.repeat(1, 3, 1, 1, 1), r"conv1.weight is \(4, 3, 7, 7, 7\), not \(4, 1, 7, 7, 7\)"),
        (lambda weight: weight.to(torch.uint8), r"conv1.weight is \(4, 1, 7, 7, 7\) of whole numbers"),
        (lambda _: None, "missing: conv1.weight"),
    ],
    ids=["shape", "integers", "missing"],
)
def test_one_convolution_that_would_stay_random_is_refused(
    medicalnet: Path, change: Callable[[torch.Tensor], torch.Tensor | None], says: str
) -> None:
    weights = read_weights(medicalnet)
    changed = change(weights.pop("conv1.weight"))
    with pytest.raises(DataError, match=says):
        load_into(net(), weights if changed is None else {**weights, "conv1.weight": changed})


@pytest.mark.parametrize("value", [float("nan"), 1e300])
def test_weights_that_are_not_finite_in_the_encoder_are_refused(medicalnet: Path, value: float) -> None:
    weights = {name: tensor.double() for name, tensor in read_weights(medicalnet).items() if tensor.ndim}
    weights["bn1.weight"][0] = value
    torch.save(weights, medicalnet)
    with pytest.raises(DataError, match="not finite"):
        load_into(net(), read_weights(medicalnet))


@pytest.mark.parametrize("depth", [10, 18])
def test_a_network_of_monai_with_its_default_shortcuts_computes_the_same_here(depth: int) -> None:
    """MONAI itself is the oracle; its shortcuts are convolutions with a bias."""
    from monai.networks.nets.resnet import ResNet, ResNetBlock

    torch.manual_seed(3)
    layers = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2]}[depth]
    theirs = ResNet(ResNetBlock, layers, [4, 8, 16, 32], n_input_channels=1, conv1_t_stride=2, num_classes=2)
    for name, value in theirs.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.normal_()
    mine = VoxelResNet(depth, width=1 / 16, norm="batch", shortcut="B")
    assert load_into(mine, theirs.state_dict()).refused == ("fc.bias", "fc.weight")
    theirs.fc = torch.nn.Identity()
    volumes = torch.randn(2, 1, 24, 24, 24)
    torch.testing.assert_close(mine.eval()(volumes), theirs.eval()(volumes), rtol=1e-4, atol=1e-5)


def test_a_bias_that_no_batch_norm_absorbs_is_refused() -> None:
    weights = {**net(1).state_dict(), "layer2.0.downsample.0.bias": torch.ones(8)}
    with pytest.raises(DataError, match=r"that the encoder has not: layer2.0.downsample.0.bias"):
        load_into(net(0, norm="group"), weights)


def test_the_shortcut_is_a_setting_and_the_remedy_names_it() -> None:
    file = VoxelResNet(18, width=1 / 16, norm="batch", shortcut="B").state_dict()
    with pytest.raises(DataError, match=r"Give the encoder the kind, depth, shortcut and norm"):
        load_into(VoxelResNet(18, width=1 / 16, norm="batch"), file)
    settings = ResNetEncoder(depth=18, width=1 / 16, norm="batch", shortcut="B")
    branch = build_branch(settings, {"n_channels": 1})
    assert isinstance(branch, VolumeBranch)
    assert load_into(branch.net, file).share == 1.0
    assert "shortcut B" in settings.describe()
