"""PatchTST: the layout of the production checkpoints, to the last number."""

import torch

from quantum_trader.learn.patchtst import PARAMETERS, PatchTST


def test_it_has_exactly_the_parameters_of_production() -> None:
    assert sum(parameter.numel() for parameter in PatchTST().parameters()) == PARAMETERS == 612_481


def test_its_state_has_the_keys_of_existing_checkpoints() -> None:
    state = PatchTST().state_dict()
    layer = [
        "linear1.bias",
        "linear1.weight",
        "linear2.bias",
        "linear2.weight",
        "norm1.bias",
        "norm1.weight",
        "norm2.bias",
        "norm2.weight",
        "self_attn.in_proj_bias",
        "self_attn.in_proj_weight",
        "self_attn.out_proj.bias",
        "self_attn.out_proj.weight",
    ]
    expected = ["output_proj.bias", "output_proj.weight", "patch_embedding.bias", "patch_embedding.weight"]
    expected += ["pos_encoding", *(f"transformer.layers.{i}.{key}" for i in range(3) for key in layer)]
    assert sorted(state) == sorted(expected)
    assert state["pos_encoding"].shape == (1, 8, 128)
    assert state["patch_embedding.weight"].shape == (128, 16 * 8)
    assert state["transformer.layers.0.linear1.weight"].shape == (512, 128)


def test_its_layers_are_post_norm_relu_and_batch_first() -> None:
    for layer in PatchTST().transformer.layers:
        assert not layer.norm_first
        assert layer.activation is torch.nn.functional.relu
        assert layer.self_attn.batch_first
        assert layer.self_attn.num_heads == 4


def test_a_patch_holds_sixteen_bars_of_all_channels() -> None:
    torch.manual_seed(0)
    network = PatchTST().eval()
    seen = []
    network.patch_embedding.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    sequences = torch.arange(2 * 128 * 8, dtype=torch.float32).reshape(2, 128, 8)
    assert network(sequences).shape == (2,)
    assert torch.equal(seen[0][1, 3], sequences[1, 48:64].reshape(-1))


def test_position_matters() -> None:
    torch.manual_seed(0)
    network = PatchTST().eval()
    sequences = torch.randn(4, 128, 8)
    assert not torch.allclose(network(sequences), network(sequences.roll(16, dims=1)), atol=1e-6)
