"""What a mechanism writes in place costs autograd nothing."""

import pytest
import torch

from tests.variants.ragged import ragged
from variants import build, mechanisms
from variants.registry import published_names

OURS = [name for name in mechanisms() if name not in published_names()]


@pytest.mark.parametrize("name", [*OURS, "parallel[bias=true]", "alternating[bias=true]", "hierarchical[bias=true]"])
def test_nothing_is_written_through_a_view(name: str) -> None:
    """Autograd would copy all of what is viewed, forwards and backwards."""
    variant = build(name, width=16)
    batch = ragged(16, 16, dtype=torch.float32)
    batch = batch._replace(image=batch.image.requires_grad_(), question=batch.question.requires_grad_())
    seen, open_nodes = set(), [field.grad_fn for field in variant.call(batch)]
    while open_nodes:
        node = open_nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            open_nodes += [parent for parent, _ in node.next_functions]
    assert len(seen) > 4
    assert not [node.name() for node in seen if "CopySlices" in node.name()]
