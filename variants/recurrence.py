"""An LSTM that runs fused, compiles in one graph, and can be written out."""

import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad


class Recurrence(nn.Module):
    """A unidirectional LSTM over left-aligned rows, from a zero state, with the parameter names of ``nn.LSTM``.

    A row's padding comes after its words, so no word's state depends on it, and no packing is needed: packing would
    make a row's last bits depend on its batch mates.

    ``nn.LSTM`` itself is refused by Dynamo, and by autocast to fp16 on the CPU. Here torch's fused kernel is called as
    it is in eager mode and as one opaque operation where a graph is traced, in the dtype that autocast asks for.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        for layer in range(layers):
            for source in ("ih", "hh"):
                self.register_parameter(f"weight_{source}_l{layer}", nn.Parameter(torch.empty(4 * width, width)))
            for source in ("ih", "hh"):
                self.register_parameter(f"bias_{source}_l{layer}", nn.Parameter(torch.empty(4 * width)))

    def forward(self, words: Tensor) -> Tensor:
        """States of the last layer, ``[B, T, D]`` like ``words``."""
        weights: list[Tensor] = list(self.parameters())
        device = words.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            words, weights = words.to(dtype), [weight.to(dtype) for weight in weights]
        with torch.autocast(device, enabled=False):
            for layer in range(self.layers):
                words = self.run_layer(words, *weights[4 * layer : 4 * layer + 4])
        return words

    def run_layer(
        self, words: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor
    ) -> Tensor:
        """One layer's states; gates stand in the order input, forget, cell, output."""
        layer = traced_layer if torch.compiler.is_compiling() else fused_layer
        states: Tensor = layer(words, input_weight, state_weight, input_bias, state_bias)
        return states


class WrittenOut(Recurrence):
    """The same recurrence in single operations, as torch's FLOP counter needs it; slower than the fused kernel."""

    def __init__(self, recurrence: Recurrence) -> None:
        nn.Module.__init__(self)
        self.layers = recurrence.layers
        for name, parameter in recurrence.named_parameters():
            self.register_parameter(name, parameter)

    def run_layer(
        self, words: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor
    ) -> Tensor:
        gates = linear(words, input_weight, input_bias + state_bias)  # [B, T, 4 D]
        state = cell = words.new_zeros(words.shape[0], words.shape[2])
        states = []
        for word in range(words.shape[1]):
            enter, keep, candidate, leave = torch.addmm(gates[:, word], state, state_weight.mT).chunk(4, dim=-1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            state = torch.sigmoid(leave) * torch.tanh(cell)  # [B, D]
            states.append(state)
        return torch.stack(states, dim=1)


def fused_layer(
    words: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor
) -> Tensor:
    """torch's own LSTM, one layer, over ``[B, T, D]``."""
    start = words.new_zeros(1, words.shape[0], words.shape[2])
    with warnings.catch_warnings() if words.is_cuda else nullcontext():
        # cuDNN gathers the weights into one buffer at each call, microseconds beside its steps, and warns each time
        warnings.filterwarnings("ignore", "RNN module weights are not part")
        states: Tensor = torch.lstm(
            words,
            (start, start),
            [input_weight, state_weight, input_bias, state_bias],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=torch.is_grad_enabled(),  # cuDNN keeps what a backward needs in this mode alone
            bidirectional=False,
            batch_first=True,
        )[0]
    return states


@torch.library.custom_op("coattention::lstm", mutates_args=())
def traced_layer(
    words: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor
) -> Tensor:
    """`fused_layer` as one operation that a traced graph can hold."""
    return fused_layer(words, input_weight, state_weight, input_bias, state_bias).contiguous()


@traced_layer.register_fake
def _(words: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor) -> Tensor:
    return words.new_empty(words.shape)


@torch.library.custom_op("coattention::lstm_backward", mutates_args=())
def traced_layer_backward(
    cotangent: Tensor, states: Tensor, words: Tensor, input_weight: Tensor, state_weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the words, both weights and the bias, from the states alone.

    Every gate follows from the word and the state before it, so all of them come from two products at once, and only
    the cells and the gradients need a loop.
    """
    narrow, wide = words.dtype, torch.promote_types(words.dtype, torch.float32)
    earlier = pad(states[:, :-1], (0, 0, 1, 0))  # [B, T, D]
    gates = (linear(words, input_weight, bias) + linear(earlier, state_weight)).to(wide).transpose(0, 1)
    enter, keep, candidate, leave = gates.chunk(4, dim=-1)  # [T, B, D] each
    enter, keep, candidate, leave = enter.sigmoid(), keep.sigmoid(), candidate.tanh(), leave.sigmoid()
    cell = torch.zeros_like(enter[0])
    cells = [cell]
    for gain, share in zip(enter * candidate, keep, strict=True):
        cell = torch.addcmul(gain, share, cell)
        cells.append(cell)
    seen = torch.stack(cells[1:]).tanh()  # [T, B, D]
    before = torch.stack(cells[:-1])
    # what a unit change of the cell (of the state, for the last) does to each gate's input
    slopes = torch.stack(
        (
            candidate * enter * (1 - enter),
            before * keep * (1 - keep),
            enter * (1 - candidate.square()),
            seen * leave * (1 - leave),
        ),
        dim=2,
    )  # [T, B, 4, D]
    exposed = leave * (1 - seen.square())
    of_gates = torch.empty_like(slopes, dtype=narrow)
    of_states = cotangent.transpose(0, 1)  # [T, B, D]
    of_cell = torch.zeros_like(cell)
    of_later = torch.zeros_like(of_states[0])
    for step in range(len(slopes) - 1, -1, -1):
        of_state = (of_states[step] + of_later).to(wide)
        of_cell = torch.addcmul(of_cell, of_state, exposed[step])
        of_gates[step] = slopes[step] * torch.stack((of_cell, of_cell, of_cell, of_state), dim=1)
        of_cell = of_cell * keep[step]
        of_later = of_gates[step].flatten(1) @ state_weight
    flat = of_gates.transpose(0, 1).flatten(2).flatten(0, 1)  # [B T, 4 D]
    return (
        (flat @ input_weight).view_as(words),
        flat.mT @ words.flatten(0, 1),
        flat.mT @ earlier.flatten(0, 1),
        flat.sum(0),
    )


@traced_layer_backward.register_fake
def _(
    cotangent: Tensor, states: Tensor, words: Tensor, input_weight: Tensor, state_weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        words.new_empty(words.shape),
        input_weight.new_empty(input_weight.shape),
        state_weight.new_empty(state_weight.shape),
        bias.new_empty(bias.shape),
    )


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
    words, input_weight, state_weight, input_bias, state_bias = inputs
    ctx.save_for_backward(output, words, input_weight, state_weight, input_bias, state_bias)


def _backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    states, words, input_weight, state_weight, input_bias, state_bias = ctx.saved_tensors
    of_words, of_input_weight, of_state_weight, of_bias = traced_layer_backward(
        cotangent, states, words, input_weight, state_weight, input_bias + state_bias
    )
    return of_words, of_input_weight, of_state_weight, of_bias, of_bias


traced_layer.register_autograd(_backward, setup_context=_keep)
