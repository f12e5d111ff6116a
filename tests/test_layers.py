import pytest
import torch
from torch import nn

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.budget import count_scalars
from npas_bench.layers import Kind, Layer, Place, find_layers, find_sites
from npas_bench.testing.architectures import GRU, TRANSFORMER


def test_layers_of_every_kind_are_found_and_the_rest_is_fixed():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(10, 6)
            self.conv = nn.Conv1d(6, 4, 3)
            self.up = nn.ConvTranspose1d(4, 2, 3)
            self.norm = nn.BatchNorm1d(4)
            self.lstm = nn.LSTM(4, 3)
            self.attention = nn.MultiheadAttention(4, 2)
            self.linear = nn.Linear(4, 5)

    layers = find_layers(Mixed())
    assert [(layer.name, layer.kind, layer.shape) for layer in layers] == [
        ("conv.weight", Kind.CONVOLUTION, (4, 6, 3)),
        ("up.weight", Kind.CONVOLUTION, (4, 2, 3)),
        ("lstm.weight_ih_l0", Kind.RECURRENT, (12, 4)),
        ("lstm.weight_hh_l0", Kind.RECURRENT, (12, 3)),
        ("attention.in_proj_weight", Kind.ATTENTION, (12, 4)),
        ("attention.out_proj.weight", Kind.ATTENTION, (4, 4)),
        ("linear.weight", Kind.LINEAR, (5, 4)),
    ]
    by_name = {layer.name: layer for layer in layers}
    assert by_name["conv.weight"].fan_in == 18
    assert by_name["up.weight"].fan_in == 12


def test_a_weight_tied_to_an_embedding_is_fixed():
    module = nn.ModuleDict({"words": nn.Embedding(10, 6), "out": nn.Linear(6, 10)})
    module["out"].weight = module["words"].weight
    assert find_layers(module) == ()


def test_a_weight_that_two_modules_share_is_one_layer_at_two_sites():
    module = nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)})
    module["b"].weight = module["a"].weight
    assert [layer.name for layer in find_layers(module)] == ["a.weight"]
    assert [site.owner for site in find_sites(module)] == [module["a"], module["b"]]


def test_repeated_blocks_are_read_off_containers():
    layers = {layer.name: layer for layer in TRANSFORMER.layers(TRANSFORMER.signature)}
    block = Place("encoder.layers", "encoder.layers")
    assert layers["encoder.layers.1.linear1.weight"].place == block
    assert layers["encoder.layers.0.self_attn.in_proj_weight"].place == block
    assert layers["classifier.weight"].place == Place()


def test_children_of_different_shapes_do_not_repeat():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    assert [layer.place.block for layer in find_layers(module)] == [None, "", "", None]


def test_a_bidirectional_recurrent_network_offers_all_its_weights():
    assert sum(layer.kind is Kind.RECURRENT for layer in GRU.layers(GRU.signature)) == 8


def test_wrn_declares_stages_repeats_and_the_papers_manual_groups():
    layers = plugins.architecture("wrn-28-10").layers(ImageSignature((3, 32, 32), 10))
    groups = [layer.place.group for layer in layers]
    assert groups == [0, 1, 2, 3, *[4] * 6, 5, 6, 7, *[8] * 6, 9, 10, 11, *[12] * 6, 13]
    repeated = [layer for layer in layers if layer.place.block]
    assert len(repeated) == 18
    assert {layer.place.stage for layer in repeated} == {"stage1", "stage2", "stage3"}


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("wide_resnet50_2", 68_883_240),
        ("densenet121", 7_978_856),
        ("efficientnet_b0", 5_288_548),
        ("resnet34", 21_797_672),
    ],
)
def test_torchvisions_networks_count_as_published(name, total):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        network = getattr(models, name)()
    assert sum(count_scalars(network.named_parameters(), {}).values()) == total
    layers = find_layers(network)
    fixed = sum(p.numel() for p in network.parameters() if p.dim() == 1)
    assert sum(layer.size for layer in layers) + fixed == total


def test_deviation_is_kaimings_for_convolutions():
    assert Layer("w", Kind.CONVOLUTION, (8, 4, 3, 3), Place()).deviation == pytest.approx((2 / 36) ** 0.5)
