"""N-HiTS: what each stack sees, explains and leaves."""

import pytest
import torch

from quantum_trader.learn.nhits import AHEAD_KNOTS, BACK_KNOTS, RATES, NHiTS, interpolation


@pytest.mark.parametrize(("knots", "length"), [(8, 128), (2, 12), (12, 12)])
def test_interpolation_is_linear_between_its_knots(knots: int, length: int) -> None:
    matrix = interpolation(knots, length)
    assert matrix.shape == (knots, length)
    line = torch.linspace(-1.0, 3.0, knots) @ matrix
    assert torch.allclose(line, torch.linspace(-1.0, 3.0, length), atol=1e-5)
    assert torch.allclose(matrix.sum(dim=0), torch.ones(length), atol=1e-6)


def test_coarser_pools_have_fewer_coefficients() -> None:
    assert sorted(RATES, reverse=True) == list(RATES)
    assert sorted(BACK_KNOTS) == list(BACK_KNOTS)
    assert sorted(AHEAD_KNOTS) == list(AHEAD_KNOTS)


def test_each_stack_sees_what_the_ones_before_left() -> None:
    torch.manual_seed(0)
    network = NHiTS().eval()
    seen, explained = [], []

    def note(_stack: torch.nn.Module, inputs: tuple[torch.Tensor], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        seen.append(inputs[0])
        explained.append(output[0])

    for stack in network.stacks:
        stack.register_forward_hook(note)
    sequences = torch.randn(5, 128, 8)
    assert network(sequences).shape == (5,)
    assert torch.equal(seen[0], sequences.transpose(1, 2))
    for i in range(len(RATES) - 1):
        assert explained[i].shape == (5, 8, 128)
        assert torch.equal(seen[i + 1], seen[i] - explained[i])


def test_every_stack_s_forecast_reaches_the_answer() -> None:
    torch.manual_seed(0)
    network = NHiTS().eval()
    network(torch.randn(5, 128, 8)).sum().backward()
    for stack in network.stacks:
        assert stack.theta_ahead.weight.grad.abs().max() > 0
