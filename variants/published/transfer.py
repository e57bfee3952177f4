"""Published weights in mechanisms on a `Batch`: the published one as it behaves, and ours, which masks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from variants.published import bacpi, blip2, coatt, drugban, gdino, lightglue, lxmert, mcat, perceiver, vilbert
from variants.published.ban import BCNet, NormedLinear, fc_net, residual_from_checkpoint
from variants.published.checkpoint import Adapted, Checkpoint

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A mechanism by name, the widths that it is built for, and its weights under its own names."""

    name: str
    image_width: int
    question_width: int
    weights: Weights
    added: tuple[str, ...] = ()
    """Beginnings of names that no published weight has; seeded where the checkpoint does not come from a mechanism."""


ADDED = ("scores.", "score.")
"""What a published mechanism adds to a network that gives rows back."""


def _under(prefix: str, weights: Mapping[str, Tensor]) -> Weights:
    return {f"{prefix}.{name}": weight for name, weight in weights.items()}


def _inside(prefix: str, weights: Mapping[str, Tensor]) -> Weights:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _renamed(names: Mapping[str, str], weights: Mapping[str, Tensor]) -> Weights:
    """Weights whose names begin with a key of ``names``, up to a dot or the end, under what it stands for."""
    return {
        new + name.removeprefix(old): weight
        for name, weight in weights.items()
        for old, new in names.items()
        if name == old or name.startswith(f"{old}.")
    }


def _csdn(checkpoint: Checkpoint) -> Transfer:
    return _ported(checkpoint, "published_csdn", checkpoint.state_dict)


def _skyol5(checkpoint: Checkpoint) -> Transfer:
    return _ported(checkpoint, "published_skyol5", checkpoint.state_dict)


def _skyol5_net(checkpoint: Checkpoint) -> Transfer:
    answer = ("embed.", "W_w.", "W_p.", "W_s.", "fc.")
    weights = {name: weight for name, weight in checkpoint.state_dict.items() if not name.startswith(answer)}
    return _ported(checkpoint, "published_skyol5_net", weights)


def _ported(checkpoint: Checkpoint, name: str, weights: Mapping[str, Tensor]) -> Transfer:
    width, hidden = checkpoint.size("W_b", 0), checkpoint.size("W_v", 0)
    return Transfer(
        name=f"{name}[hidden={hidden}]",
        image_width=width,
        question_width=width,
        weights=_under("network", weights),
    )


def _port_to_parallel(checkpoint: Checkpoint) -> Transfer:
    width, hidden = checkpoint.size("W_b", 0), checkpoint.size("W_v", 0)
    return Transfer(
        name=f"parallel[affinity=linear,hidden={hidden}]",
        image_width=width,
        question_width=width,
        weights={
            "affinity.weight": checkpoint.weight("W_b"),
            "image_hidden.weight": checkpoint.weight("W_v"),
            "question_hidden.weight": checkpoint.weight("W_q"),
            "image_score.weight": checkpoint.weight("w_hv").mT,
            "question_score.weight": checkpoint.weight("w_hq").mT,
        },
    )


def _zhangtd(checkpoint: Checkpoint) -> Transfer:
    width, hidden = checkpoint.size("Wb", 0), checkpoint.size("Wv", 1)
    return Transfer(
        name=f"published_zhangtd_parallel[hidden={hidden}]",
        image_width=width,
        question_width=width,
        weights=_under("network", checkpoint.state_dict),
    )


def _zhangtd_to_parallel(checkpoint: Checkpoint) -> Transfer:
    width, hidden = checkpoint.size("Wb", 0), checkpoint.size("Wv", 1)
    return Transfer(
        name=f"parallel[affinity=linear,hidden={hidden}]",
        image_width=width,
        question_width=width,
        weights={
            "affinity.weight": checkpoint.weight("Wb"),
            "image_hidden.weight": checkpoint.weight("Wv").mT,
            "question_hidden.weight": checkpoint.weight("Wq").mT,
            "image_score.weight": checkpoint.weight("Whv").mT,
            "question_score.weight": checkpoint.weight("Whq").mT,
        },
    )


PARALLEL_ATTEN = {
    "img_corr_dim": "affinity",
    "img_embed_dim": "image_hidden",
    "ques_embed_dim": "question_hidden",
    "img_atten_embedding": "image_score",
    "ques_atten_embedding": "question_score",
}
ALTERNATING_ATTEN = {
    "ques_embed_dim_1": "summary.hidden",
    "h1": "summary.score",
    "img_embed_dim": "image_step.hidden",
    "ques_embed_img": "image_step.guide",
    "h2": "image_step.score",
    "ques_embed_dim_3": "question_step.hidden",
    "img_embed_3": "question_step.guide",
    "h3": "question_step.score",
}


def _hiecoatt(kind: str) -> Callable[[Checkpoint], Transfer]:
    def transfer(checkpoint: Checkpoint) -> Transfer:
        image_width, question_width, hidden = _atten_sizes(checkpoint, kind)
        return Transfer(
            name=f"published_hiecoatt_{kind}[hidden={hidden}]",
            image_width=image_width,
            question_width=question_width,
            weights=_under("network", checkpoint.state_dict),
        )

    return transfer


def _hiecoatt_to_ours(kind: str) -> Callable[[Checkpoint], Transfer]:
    def transfer(checkpoint: Checkpoint) -> Transfer:
        image_width, question_width, hidden = _atten_sizes(checkpoint, kind)
        return Transfer(
            name=f"{kind}[bias=true,hidden={hidden}]",
            image_width=image_width,
            question_width=question_width,
            weights=_renamed(PARALLEL_ATTEN if kind == "parallel" else ALTERNATING_ATTEN, checkpoint.state_dict),
        )

    return transfer


def _atten_sizes(checkpoint: Checkpoint, kind: str) -> tuple[int, int, int]:
    question = "ques_embed_dim.weight" if kind == "parallel" else "ques_embed_dim_1.weight"
    return (
        checkpoint.size("img_embed_dim.weight", 1),
        checkpoint.size(question, 1),
        checkpoint.size(question, 0),
    )


def _hiecoatt_kind(checkpoint: Checkpoint) -> str:
    return "parallel" if "word.atten.img_corr_dim.weight" in checkpoint.state_dict else "alternating"


def _hiecoatt_net(checkpoint: Checkpoint) -> Transfer:
    answer = ("word.LE.", "atten.")
    weights = {name: weight for name, weight in checkpoint.state_dict.items() if not name.startswith(answer)}
    return Transfer(
        name=f"published_hiecoatt[inner={_hiecoatt_kind(checkpoint)}]",
        image_width=checkpoint.size("word.cnn.linear.weight", 1),
        question_width=checkpoint.size("word.cnn.linear.weight", 0),
        weights=_under("network", weights),
    )


def _hiecoatt_to_hierarchical(checkpoint: Checkpoint) -> Transfer:
    kind = _hiecoatt_kind(checkpoint)
    given = checkpoint.state_dict
    width = checkpoint.size("word.cnn.linear.weight", 0)
    layers = checkpoint.count(r"ques\.core\.i2h_(\d+)\.") - 1
    names = PARALLEL_ATTEN if kind == "parallel" else ALTERNATING_ATTEN
    weights = _under("phrases", _inside("phrase.conv.", given))
    for level, ours in (("word", "word_level"), ("phrase", "phrase_level"), ("ques", "question_level")):
        weights |= _under(ours, _renamed(names, _inside(f"{level}.atten.", given)))
    for layer in range(layers):
        for theirs, our in (("i2h", "ih"), ("h2h", "hh")):
            for part in ("weight", "bias"):
                stacked = checkpoint.weight(f"ques.core.{theirs}_{layer + 1}.{part}")
                enter, keep, leave, candidate = stacked.chunk(4)
                weights[f"recurrence.{part}_{our}_l{layer}"] = torch.cat((enter, keep, candidate, leave))
    return Transfer(
        name=f"hierarchical[bias=true,hidden={width},inner={kind},layers={layers}]",
        image_width=width,
        question_width=width,
        weights=weights,
    )


def _dcn_options(checkpoint: Checkpoint) -> tuple[str, int, int]:
    first = "dense_coattn.dcn_layers.0.dense_coattn.nones"
    layers = checkpoint.count(r"dense_coattn\.dcn_layers\.(\d+)\.")
    heads = checkpoint.size("predict.summaries.0.linear.2.weight", 0, config="num_attn")
    options = f"[heads={heads},layers={layers},nowhere={checkpoint.size(f'{first}.0', 0)}]"
    return options, checkpoint.size(f"{first}.0", 1), checkpoint.size(f"{first}.1", 1)


def _dcn(checkpoint: Checkpoint) -> Transfer:
    options, image_width, question_width = _dcn_options(checkpoint)
    weights = {name: w for name, w in checkpoint.state_dict.items() if not name.startswith("predict.predict.")}
    return Transfer(
        name=f"published_dcn{options}", image_width=image_width, question_width=question_width, weights=weights
    )


def _dcn_to_dense(checkpoint: Checkpoint) -> Transfer:
    options, image_width, question_width = _dcn_options(checkpoint)
    names = {}
    for layer in range(checkpoint.count(r"dense_coattn\.dcn_layers\.(\d+)\.")):
        theirs, ours = f"dense_coattn.dcn_layers.{layer}", f"layers.{layer}"
        for number, side in enumerate(("image", "question")):
            names[f"{theirs}.dense_coattn.linears.{number}"] = f"{ours}.{side}_projection"
            names[f"{theirs}.dense_coattn.nones.{number}"] = f"{ours}.{side}_nowhere"
            names[f"{theirs}.linears.{number}.0"] = f"{ours}.{side}_fusion"
    for number, side in enumerate(("image", "question")):
        names[f"predict.summaries.{number}.linear.0"] = f"{side}_summary.hidden"
        names[f"predict.summaries.{number}.linear.2"] = f"{side}_summary.score"
    return Transfer(
        name=f"dense{options}",
        image_width=image_width,
        question_width=question_width,
        weights=_renamed(names, checkpoint.state_dict),
    )


def _mcan_options(checkpoint: Checkpoint) -> tuple[str, int, int]:
    layers = checkpoint.count(r"backbone\.enc_list\.(\d+)\.")
    width = checkpoint.size("attflat_img.mlp.fc.linear.weight", 1)
    projects = "img_feat_linear.weight" in checkpoint.state_dict
    image_width = checkpoint.size("img_feat_linear.weight", 1) if projects else width
    return f"[heads={checkpoint.option('MULTI_HEAD', 8)},layers={layers}]", image_width, width


def _mcan(checkpoint: Checkpoint) -> Transfer:
    options, image_width, question_width = _mcan_options(checkpoint)
    encoders = ("embedding.", "lstm.", "proj_norm.", "proj.")
    weights = {name: weight for name, weight in checkpoint.state_dict.items() if not name.startswith(encoders)}
    return Transfer(
        name=f"published_mcan{options}", image_width=image_width, question_width=question_width, weights=weights
    )


def _mcan_to_modular(checkpoint: Checkpoint) -> Transfer:
    options, image_width, question_width = _mcan_options(checkpoint)
    attention = {"linear_q": "query", "linear_k": "key", "linear_v": "value", "linear_merge": "merge"}
    norm = {"a_2": "scale", "b_2": "shift"}
    names = {"img_feat_linear": "image_projection"}
    for layer in range(checkpoint.count(r"backbone\.enc_list\.(\d+)\.")):
        for theirs, ours, attentions, norms in (
            (
                f"backbone.enc_list.{layer}",
                f"question_units.{layer}",
                {"mhatt": "own"},
                {"norm1": "own_norm", "norm2": "forward_norm"},
            ),
            (
                f"backbone.dec_list.{layer}",
                f"image_units.{layer}",
                {"mhatt1": "own", "mhatt2": "guided"},
                {"norm1": "own_norm", "norm2": "guided_norm", "norm3": "forward_norm"},
            ),
        ):
            for old, new in attentions.items():
                names |= {f"{theirs}.{old}.{key}": f"{ours}.{new}.{value}" for key, value in attention.items()}
            for old, new in norms.items():
                names |= {f"{theirs}.{old}.{key}": f"{ours}.{new}.{value}" for key, value in norm.items()}
            names |= {f"{theirs}.ffn.mlp.fc.linear": f"{ours}.expand", f"{theirs}.ffn.mlp.linear": f"{ours}.contract"}
    for theirs, ours in (("attflat_img", "image_flattening"), ("attflat_lang", "question_flattening")):
        names |= {
            f"{theirs}.mlp.fc.linear": f"{ours}.hidden",
            f"{theirs}.mlp.linear": f"{ours}.score",
            f"{theirs}.linear_merge": f"{ours}.merge",
        }
    return Transfer(
        name=f"modular{options}",
        image_width=image_width,
        question_width=question_width,
        weights=_renamed(names, checkpoint.state_dict),
    )


def _adapted(mechanism: str, adapt: Callable[[Checkpoint], Adapted]) -> dict[str, Callable[[Checkpoint], Transfer]]:
    """Into a published mechanism as it behaves, and into itself corrected: the same weights under the same names."""

    def transfer(checkpoint: Checkpoint, *, corrected: bool) -> Transfer:
        found = adapt(checkpoint)
        options = {"corrected": corrected, **found.options}
        written = ",".join(f"{key}={str(value).lower()}" for key, value in options.items())
        given = {n: w for n, w in checkpoint.state_dict.items() if not n.startswith(found.left_out)}
        own = {name: weight for name, weight in given.items() if name.startswith(ADDED)}
        return Transfer(
            name=f"{mechanism}[{written}]",
            image_width=found.image_width,
            question_width=found.question_width,
            weights=own | _under("network", {n: w for n, w in given.items() if n not in own}),
            added=ADDED,
        )

    return {
        mechanism: lambda checkpoint: transfer(checkpoint, corrected=False),
        f"{mechanism}[corrected=true]": lambda checkpoint: transfer(checkpoint, corrected=True),
    }


def _ban(checkpoint: Checkpoint) -> Transfer:
    # a dropout of 0 is not built, and moves what stands behind it to the front
    weights = {name.replace(".main.0.", ".main.1."): weight for name, weight in checkpoint.state_dict.items()}
    image_width, question_width = (fc_net(checkpoint, f"v_att.logits.{side}_net", "").inputs for side in "vq")
    return Transfer(
        name=f"published_ban[glimpses={checkpoint.size('v_att.logits.h_mat_v', 1)}]",
        image_width=image_width,
        question_width=question_width,
        weights=_under("network", weights),
    )


def _ban_to_bilinear(checkpoint: Checkpoint) -> Transfer:
    network = checkpoint.load(residual_from_checkpoint(checkpoint))
    weights: Weights = {}

    def plain(module: nn.Module, name: str) -> NormedLinear:
        (linear,) = (inner for inner in module.modules() if isinstance(inner, NormedLinear))
        weights.update({f"{name}.weight": linear.weight.detach(), f"{name}.bias": linear.bias.detach()})
        return linear

    maps = network.v_att.logits
    ranks = plain(maps.v_net, "image_rank"), plain(maps.q_net, "question_rank")
    weights["map"] = maps.matrix.detach()[0, :, 0]  # its bias shifts all pairs alike, and cancels
    hidden = 0
    for glimpse, (pooling, projection) in enumerate(zip(network.b_net, network.q_prj, strict=True)):
        assert isinstance(pooling, BCNet)
        hidden = len(plain(pooling.v_net, f"poolings.{glimpse}.image").bias)
        plain(pooling.q_net, f"poolings.{glimpse}.question")
        plain(projection, f"poolings.{glimpse}.update")
    if len(ranks[0].bias) % hidden:
        raise ValueError(f"the maps of {checkpoint.source} have {len(ranks[0].bias)} ranks, no multiple of {hidden}")
    return Transfer(
        name=f"bilinear[factor={len(ranks[0].bias) // hidden},glimpses={len(weights['map'])},hidden={hidden}]",
        image_width=ranks[0].weight_v.shape[1],
        question_width=ranks[1].weight_v.shape[1],
        weights=weights,
    )


def _bidaf(checkpoint: Checkpoint) -> Transfer:
    return _flow(checkpoint, "published_bidaf", _under("network", checkpoint.state_dict), "att_weight_c.linear.weight")


def _bidaf_to_flow(checkpoint: Checkpoint) -> Transfer:
    weights = {
        "image_similarity.weight": checkpoint.weight("att_weight_c.linear.weight"),
        "question_similarity.weight": checkpoint.weight("att_weight_q.linear.weight"),
        "product_similarity": checkpoint.weight("att_weight_cq.linear.weight"),
    }  # the biases shift all scores alike, and cancel
    return _flow(checkpoint, "flow[projected=false]", weights, "att_weight_c.linear.weight")


def _allennlp(checkpoint: Checkpoint) -> Transfer:
    weights = _under("network", checkpoint.state_dict)
    return _flow(checkpoint, "published_allennlp", weights, "_matrix_attention._weight_vector", parts=3)


def _allennlp_to_flow(checkpoint: Checkpoint) -> Transfer:
    name = "_matrix_attention._weight_vector"
    parts = checkpoint.weight(name).unsqueeze(0).chunk(3, dim=1)
    weights = dict(
        zip(("image_similarity.weight", "question_similarity.weight", "product_similarity"), parts, strict=True)
    )
    return _flow(checkpoint, "flow[projected=false]", weights, name, parts=3)


def _flow(checkpoint: Checkpoint, mechanism: str, weights: Weights, vector: str, *, parts: int = 1) -> Transfer:
    combination = checkpoint.option("combination", "x,y,x*y").replace(" ", "")
    if combination != "x,y,x*y":
        raise ValueError(f"the scores of {checkpoint.source} are linear in {combination}: expected x,y,x*y")
    width = checkpoint.size(vector, checkpoint.weight(vector).dim() - 1, times=parts)
    return Transfer(name=mechanism, image_width=width, question_width=width, weights=weights)


TRANSFERS: Mapping[str, Mapping[str, Callable[[Checkpoint], Transfer]]] = {
    "csdn/parallel": {"published_csdn": _csdn, "parallel": _port_to_parallel},
    "skyol5/parallel": {"published_skyol5": _skyol5, "parallel": _port_to_parallel},
    "skyol5/hierarchical": {"published_skyol5_net": _skyol5_net, "parallel": _port_to_parallel},
    "zhangtd/parallel": {"published_zhangtd_parallel": _zhangtd, "parallel": _zhangtd_to_parallel},
    "hiecoatt/parallel": {
        "published_hiecoatt_parallel": _hiecoatt("parallel"),
        "parallel": _hiecoatt_to_ours("parallel"),
    },
    "hiecoatt/alternating": {
        "published_hiecoatt_alternating": _hiecoatt("alternating"),
        "alternating": _hiecoatt_to_ours("alternating"),
    },
    "hiecoatt/hierarchical": {"published_hiecoatt": _hiecoatt_net, "hierarchical": _hiecoatt_to_hierarchical},
    "dcn/stack": {"published_dcn": _dcn, "dense": _dcn_to_dense},
    "mcan/net": {"published_mcan": _mcan, "modular": _mcan_to_modular},
    "ban/residual": {"published_ban": _ban, "bilinear": _ban_to_bilinear},
    "drugban/banlayer": _adapted("published_drugban", drugban.adapted),
    "lxmert/xlayer": _adapted("published_lxmert", lxmert.adapted),
    "vilbert/connection": _adapted("published_vilbert", vilbert.adapted),
    "gdino/block": _adapted("published_gdino", gdino.adapted),
    "lightglue/crossblock": _adapted("published_lightglue", lightglue.adapted),
    "bidaf/attflow": {"published_bidaf": _bidaf, "flow": _bidaf_to_flow},
    "allennlp/bidaf": {"published_allennlp": _allennlp, "flow": _allennlp_to_flow},
    "coatt/coattn": _adapted("published_coatt", coatt.adapted),
    "coatt/encoder": _adapted("published_coatt", coatt.adapted),
    "mcat/net": _adapted("published_mcat", mcat.adapted),
    "bacpi/bidat": _adapted("published_bacpi", bacpi.adapted),
    "bacpi/net": _adapted("published_bacpi", bacpi.adapted),
    "blip2/qformer": _adapted("published_blip2", blip2.adapted),
    "flamingo/resampler": _adapted("published_flamingo", perceiver.adapted_resampler),
    "perceiver/io": _adapted("published_perceiver", perceiver.adapted),
}
"""For each published component, the mechanisms that its weights can move into; the published one first."""
