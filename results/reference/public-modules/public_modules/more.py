"""Text matching, recommendation and linear attention: ``matchzoo``, ``deepctr_torch``, ``performer_pytorch``."""

import importlib
import importlib.util
import sys
from types import ModuleType

from torch import nn

from public_modules.truth import Case, Given, Out, Side, pooled, tokens

D = 32
NUMBERED = (Side("v1", D, 7), Side("v2", D, 9))
CONTEXT = (Side("x", D, 7, padded=False), Side("context", D, 9))


def _inner(package: str, path: str) -> ModuleType:
    """A module of a package without running the package's own start, which needs what its attention does not."""
    if package not in sys.modules:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        bare = ModuleType(package)
        bare.__path__ = list(spec.submodule_search_locations or [])
        bare.__spec__ = spec
        sys.modules[package] = bare
    return importlib.import_module(f"{package}.{path}")


def _numbered(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    first, second = module(x["v1"], ~valid["v1"], x["v2"], ~valid["v2"])
    return {"v1": tokens(first, "v1"), "v2": tokens(second, "v2")}


def _match(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["v1"], x["v2"], ~valid["v2"]), "v1")}


def _self_weights(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"weights": Out(module(x["x"], ~valid["x"]), ((1, "x"),))}


def _interest(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """It counts: what is real goes to the front, wherever it stood."""
    real = valid["keys"]
    front = real.int().argsort(dim=1, descending=True, stable=True)
    keys = x["keys"].take_along_dim(front[..., None], 1)
    return {"out": pooled(module(x["query"], keys, real.sum(1, keepdim=True)))}


def _cross(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], context=x["context"], context_mask=valid["context"]), "x")}


def _cross_by_mask(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], context=x["context"], mask=valid["context"]), "x")}


def _alone(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], mask=valid["x"]), "x")}


def _matchzoo(name: str, *settings: object) -> nn.Module:
    made: nn.Module = getattr(_inner_file("matchzoo", "modules/attention.py"), name)(*settings)
    return made


def _inner_file(package: str, path: str) -> ModuleType:
    """One file of a package, on its own."""
    name = f"{package}_alone_{path.replace('/', '_').removesuffix('.py')}"
    if name not in sys.modules:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        (folder,) = spec.submodule_search_locations or []
        found = importlib.util.spec_from_file_location(name, f"{folder}/{path}")
        assert found is not None
        assert found.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _din(**settings: object) -> nn.Module:
    made: nn.Module = _inner("deepctr_torch", "layers.sequence").AttentionSequencePoolingLayer(
        att_hidden_units=(16, 8), embedding_dim=D, **settings
    )
    for each in made.parameters():  # they start near zero, where every slot counts alike
        nn.init.normal_(each, std=0.3)
    return made


def _performer(name: str) -> nn.Module:
    from performer_pytorch import performer_pytorch as inner

    made: nn.Module = getattr(inner, name)(dim=D, heads=4, dim_head=8)
    return made


def _linear() -> nn.Module:
    from linear_attention_transformer.linear_attention_transformer import SelfAttention

    made: nn.Module = SelfAttention(D, 4, receives_context=True)
    return made


def _efficient(**settings: object) -> nn.Module:
    from memory_efficient_attention_pytorch import Attention

    made: nn.Module = Attention(dim=D, heads=4, dim_head=8, **settings)
    return made


FILL = (
    "modules/attention.py: `masked_fill(..., -1e-7)` where -1e7 was meant, so that a padded slot scores about 0 and "
    "keeps its share of the softmax."
)
KERNEL = (
    "performer_pytorch.py, Attention.forward: `v.masked_fill_(~global_mask, 0.)` blanks the values alone; the keys of "
    "padding still count in the divisor of the linear attention (k_cumsum). Blank their features too."
)
COUNTED = "Padding brings no value of its own, yet its keys count in the divisor, and so weaken what is real."

CASES = (
    Case(
        name="matchzoo BidirectionalAttention",
        package="matchzoo-py",
        make=lambda: _matchzoo("BidirectionalAttention"),
        sides=NUMBERED,
        call=_numbered,
        right="wrong",
        breaks=("content", "count", "trimmed", "train"),
        why="Padding keeps its weight: masked scores are -1e-7, which is 0.",
        line=FILL,
    ),
    Case(
        name="matchzoo MatchModule",
        package="matchzoo-py",
        make=lambda: _matchzoo("MatchModule", D),
        sides=(NUMBERED[0]._replace(padded=False), NUMBERED[1]),
        call=_match,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why="Padding keeps its weight: masked scores are -1e-7, which is 0.",
        line=FILL,
    ),
    Case(
        name="matchzoo Attention",
        package="matchzoo-py",
        make=lambda: _matchzoo("Attention", D),
        sides=(Side("x", D, 9),),
        call=_self_weights,
    ),
    Case(
        name="deepctr_torch AttentionSequencePoolingLayer",
        package="deepctr-torch",
        make=_din,
        sides=(Side("query", D, 1, padded=False), Side("keys", D, 9)),
        call=_interest,
        why="By lengths, [B, 1]; weights that are not normalised.",
        bare=False,
    ),
    Case(
        name="deepctr_torch AttentionSequencePoolingLayer, normalised",
        package="deepctr-torch",
        make=lambda: _din(weight_normalization=True),
        sides=(Side("query", D, 1, padded=False), Side("keys", D, 9)),
        call=_interest,
        bare=False,
    ),
    Case(
        name="performer_pytorch.CrossAttention",
        package="performer-pytorch",
        make=lambda: _performer("CrossAttention"),
        sides=CONTEXT,
        call=_cross,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why=COUNTED,
        line=KERNEL,
    ),
    Case(
        name="performer_pytorch.SelfAttention",
        package="performer-pytorch",
        make=lambda: _performer("SelfAttention"),
        sides=(Side("x", D, 9),),
        call=_alone,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why=COUNTED,
        line=KERNEL,
    ),
    Case(
        name="linear_attention_transformer SelfAttention, with a context",
        package="linear-attention-transformer",
        make=_linear,
        sides=CONTEXT,
        call=_cross,
        why="A softmax of the keys over slots, -inf in all but name where padding.",
    ),
    Case(
        name="memory_efficient_attention_pytorch.Attention",
        package="memory-efficient-attention-pytorch",
        make=_efficient,
        sides=CONTEXT,
        call=_cross_by_mask,
    ),
    Case(
        name="memory_efficient_attention_pytorch.Attention, in buckets",
        package="memory-efficient-attention-pytorch",
        make=lambda: _efficient(memory_efficient=True, q_bucket_size=4, k_bucket_size=4),
        sides=CONTEXT,
        call=_cross_by_mask,
    ),
)
