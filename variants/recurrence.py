"""An LSTM that runs fused, compiles in one graph, and can be written out."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Recurrence(nn.Module):
    """A unidirectional LSTM over left-aligned rows, from a zero state, with the parameter names of ``nn.LSTM``.

    A row's padding comes after its words, so no word's state depends on it, and no packing is needed: packing would
    make a row's last bits depend on its batch mates.

    ``nn.LSTM`` itself is refused by Dynamo and by autocast to fp16 on the CPU. Here the fused kernel is called as it is
    in eager mode and as one opaque operation where a graph is traced, and always in the dtype that autocast asks for.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        for layer in range(layers):
            for kind in ("ih", "hh"):
                self.register_parameter(f"weight_{kind}_l{layer}", nn.Parameter(torch.empty(4 * width, width)))
            for kind in ("ih", "hh"):
                self.register_parameter(f"bias_{kind}_l{layer}", nn.Parameter(torch.empty(4 * width)))

    def forward(self, words: Tensor) -> Tensor:
        """States of the last layer, ``[B, T, D]`` like ``words``."""
        weights: list[Tensor] = list(self.parameters())
        kind = words.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            words, weights = words.to(dtype), [weight.to(dtype) for weight in weights]
            with torch.autocast(kind, enabled=False):
                return self.states(words, weights)
        return self.states(words, weights)

    def states(self, words: Tensor, weights: list[Tensor]) -> Tensor:
        if torch.compiler.is_compiling():
            states: Tensor = lstm(words, weights)
            return states
        return fused(words, weights)


class WrittenOut(Recurrence):
    """The same recurrence in single operations, as torch's FLOP counter needs it; slower than the fused kernel."""

    def __init__(self, recurrence: Recurrence) -> None:
        nn.Module.__init__(self)
        self.layers = recurrence.layers
        for name, parameter in recurrence.named_parameters():
            self.register_parameter(name, parameter)

    def states(self, words: Tensor, weights: list[Tensor]) -> Tensor:
        for layer in range(self.layers):
            words = one_layer(words, *weights[4 * layer : 4 * layer + 4])
        return words


def one_layer(
    words: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor
) -> Tensor:
    """One layer of an LSTM, step by step; gates in the order input, forget, cell, output."""
    gates = torch.nn.functional.linear(words, input_weight, input_bias + state_bias)  # [B, T, 4 D]
    state = cell = words.new_zeros(words.shape[0], words.shape[2])
    states = []
    for word in range(words.shape[1]):
        enter, keep, candidate, leave = torch.addmm(gates[:, word], state, state_weight.mT).chunk(4, dim=-1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        state = torch.sigmoid(leave) * torch.tanh(cell)  # [B, D]
        states.append(state)
    return torch.stack(states, dim=1)


def fused(words: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """torch's own LSTM over ``[B, T, D]``; four weights a layer, as ``nn.LSTM`` orders them."""
    layers = len(weights) // 4
    start = words.new_zeros(layers, words.shape[0], words.shape[2])
    with warnings.catch_warnings() if words.is_cuda else nullcontext():
        # cuDNN gathers the weights into one buffer at each call, microseconds beside the steps, and warns each time
        warnings.filterwarnings("ignore", "RNN module weights are not part")
        states: Tensor = torch.lstm(
            words,
            (start, start),
            list(weights),
            has_biases=True,
            num_layers=layers,
            dropout=0.0,
            train=torch.is_grad_enabled(),  # cuDNN keeps what a backward needs in this mode alone
            bidirectional=False,
            batch_first=True,
        )[0]
    return states


@torch.library.custom_op("coattention::lstm", mutates_args=())
def lstm(words: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """`fused` as one operation that a traced graph can hold; its backward runs it again."""
    return fused(words, weights)


@lstm.register_fake
def _(words: Tensor, weights: Sequence[Tensor]) -> Tensor:
    return torch.empty_like(words)


@torch.library.custom_op("coattention::lstm_backward", mutates_args=())
def lstm_backward(states_gradient: Tensor, words: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the words and of each weight."""
    inputs = [tensor.detach().requires_grad_() for tensor in (words, *weights)]
    with torch.enable_grad():
        states = fused(inputs[0], inputs[1:])
    return list(torch.autograd.grad(states, inputs, states_gradient))


@lstm_backward.register_fake
def _(states_gradient: Tensor, words: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(tensor) for tensor in (words, *weights)]


def _keep(context: Any, inputs: tuple[Tensor, list[Tensor]], output: Tensor) -> None:
    words, weights = inputs
    context.save_for_backward(words, *weights)


def _backward(context: Any, states_gradient: Tensor) -> tuple[Tensor, list[Tensor]]:
    words, *weights = context.saved_tensors
    words_gradient, *weight_gradients = lstm_backward(states_gradient, words, weights)
    return words_gradient, weight_gradients


lstm.register_autograd(_backward, setup_context=_keep)
