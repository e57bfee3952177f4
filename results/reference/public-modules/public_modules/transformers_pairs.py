"""Layers of ``transformers`` that pair two sets: vision and language, detection, cross-attention of decoders."""

from typing import Any

import torch
from torch import Tensor, nn

from public_modules.truth import Case, Given, Out, Side, additive, pooled, tokens

D, H = 32, 4
BERT: dict[str, Any] = {
    "hidden_size": D,
    "num_attention_heads": H,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "vocab_size": 50,
}


def _config(module: str, name: str, **settings: Any) -> Any:
    """A small configuration, with the attention that every build has unless it says another."""
    import importlib

    config = getattr(importlib.import_module(f"transformers.models.{module}"), name)(**settings)
    config._attn_implementation = settings.get("attn_implementation", "eager")
    return config


def _part(module: str, name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"transformers.models.{module}"), name)


def _add(x: Tensor, valid: Tensor) -> Tensor:
    return additive(valid, x.dtype)


# LXMERT: additive masks


def _lxmert_cross(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    key = "ctx_tensor"
    return {"out": tokens(module(x["input_tensor"], x[key], _add(x[key], valid[key]))[0], "input_tensor")}


def _lxmert_x(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    lang, visual = x["lang_feats"], x["visual_feats"]
    out = module(lang, _add(lang, valid["lang_feats"]), visual, _add(visual, valid["visual_feats"]))
    return {"lang": tokens(out[0], "lang_feats"), "visual": tokens(out[1], "visual_feats")}


# BLIP, BERT and their kin: encoder_hidden_states


def _text_layer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    text, seen = x["hidden_states"], x["encoder_hidden_states"]
    out = module(
        text,
        encoder_hidden_states=seen,
        attention_mask=_add(text, valid["hidden_states"]),
        encoder_attention_mask=_add(seen, valid["encoder_hidden_states"]),
    )
    out = out if isinstance(out, Tensor) else out[0]
    return {"out": tokens(out, "hidden_states")}


def _cross_alone(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    seen = x["encoder_hidden_states"]
    out = module(
        x["hidden_states"],
        encoder_hidden_states=seen,
        attention_mask=_add(seen, valid["encoder_hidden_states"]),
    )
    return {"out": tokens(out[0], "hidden_states")}


def _qformer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """Every slot a query, as the Q-Former has it without text."""
    seen = x["encoder_hidden_states"]
    queries = x["hidden_states"]
    out = module(
        queries,
        encoder_hidden_states=seen,
        encoder_attention_mask=_add(seen, valid["encoder_hidden_states"]),
        query_length=queries.shape[1],
    )
    out = out if isinstance(out, Tensor) else out[0]
    return {"out": tokens(out, "hidden_states")}


def _link(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """Slot by slot: both inputs are one side's, and nothing of another slot is read."""
    both = x["hidden_states"]
    return {"out": tokens(module(both, both.flip(-1), _add(both, valid["hidden_states"])), "hidden_states")}


# Grounding DINO: True where padding


def _dino_both(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    image, text = "vision_features", "text_features"
    (seen, seen_weights), (read, read_weights) = module(x[image], x[text], ~valid[image], ~valid[text])
    heads = seen_weights.shape[0] // x[image].shape[0]
    split = (x[image].shape[0], heads)
    return {
        "vision": tokens(seen, image),
        "text": tokens(read, text),
        "vision_weights": Out(seen_weights.unflatten(0, split), ((2, image), (3, text))),
        "text_weights": Out(read_weights.unflatten(0, split), ((2, text), (3, image))),
    }


def _dino_enhancer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    real = valid["hidden_states"]
    pairs = real[:, :, None] & real[:, None, :]
    return {"out": tokens(module(x["hidden_states"], pairs)[0], "hidden_states")}


def _dino_decoder(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    queries, text = x["hidden_states"], x["text_encoder_hidden_states"]
    batch, count, width = queries.shape
    drawn = torch.Generator().manual_seed(5)
    grid = torch.randn(1, 12, width, generator=drawn).to(queries.dtype).expand(batch, -1, -1)
    points = torch.rand(1, count, 1, 2, generator=drawn).to(queries.dtype).expand(batch, -1, -1, -1)
    out = module(
        queries,
        reference_points=points,
        spatial_shapes=torch.tensor([[3, 4]]),
        spatial_shapes_list=[(3, 4)],
        level_start_index=torch.tensor([0]),
        vision_encoder_hidden_states=grid,
        vision_encoder_attention_mask=torch.ones(batch, 12, dtype=torch.bool),
        text_encoder_hidden_states=text,
        text_encoder_attention_mask=_add(text, valid["text_encoder_hidden_states"]),
    )
    return {"out": tokens(out[0], "hidden_states")}


def _dino(name: str) -> nn.Module:
    config = _config(
        "grounding_dino.configuration_grounding_dino",
        "GroundingDinoConfig",
        d_model=D,
        encoder_attention_heads=H,
        encoder_ffn_dim=64,
        decoder_attention_heads=H,
        decoder_ffn_dim=64,
        num_feature_levels=1,
        decoder_n_points=2,
    )
    made: nn.Module = _part("grounding_dino.modeling_grounding_dino", name)(config)
    return made


# Others


def _t5(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    seen = x["key_value_states"]
    out = module(x["hidden_states"], seen, attention_mask=_add(seen, valid["key_value_states"]))
    return {"out": tokens(out[0], "hidden_states")}


def _idefics_gated(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    text, image = x["hidden_states"], x["image_hidden_states"]
    mask = _add(image, valid["image_hidden_states"]).expand(-1, 1, text.shape[1], -1)
    gate = torch.ones(text.shape[:2], dtype=text.dtype)
    out = module(text, image_hidden_states=image, image_attention_mask=mask, cross_attention_gate=gate)
    return {"out": tokens(out if isinstance(out, Tensor) else out[0], "hidden_states")}


def _mllama(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    seen = x["cross_attention_states"]
    out = module(x["hidden_states"], seen, attention_mask=_add(seen, valid["cross_attention_states"]))
    return {"out": tokens(out[0], "hidden_states")}


def _resampler(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": pooled(module(x["context"], valid["context"]))}


def _resampler_numbers(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": pooled(module(x["embeds"], valid["embeds"].to(x["embeds"].dtype)))}


def _perceiver_layer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    seen = x["inputs"]
    out = module(x["hidden_states"], inputs=seen, inputs_mask=_add(seen, valid["inputs"]))
    return {"out": tokens(out[0], "hidden_states")}


def _perceiver_model(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": pooled(module(x["inputs"], valid["inputs"]).last_hidden_state)}


def _detr(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    seen = x["encoder_hidden_states"]
    out = module(
        x["hidden_states"],
        encoder_hidden_states=seen,
        encoder_attention_mask=_add(seen, valid["encoder_hidden_states"]),
    )
    return {"out": tokens(out if isinstance(out, Tensor) else out[0], "hidden_states")}


def _phrase(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"scores": Out(module(x["query"], x["key"], valid["key"]), ((1, "query"), (2, "key")))}


def _visual_bert(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(
        inputs_embeds=x["inputs_embeds"],
        visual_embeds=x["visual_embeds"],
        attention_mask=valid["inputs_embeds"].long(),
        visual_attention_mask=valid["visual_embeds"].long(),
    )
    words = x["inputs_embeds"].shape[1]
    return {
        "pooled": pooled(out.pooler_output),
        "words": tokens(out.last_hidden_state[:, :words], "inputs_embeds"),
        "regions": tokens(out.last_hidden_state[:, words:], "visual_embeds"),
    }


def _superglue(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    seen = x["encoder_hidden_states"]
    out = module(
        x["descriptors"],
        encoder_hidden_states=seen,
        encoder_attention_mask=_add(seen, valid["encoder_hidden_states"]),
    )
    return {"out": tokens(out[0], "descriptors")}


def _flava(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """The module puts a token of its own in front, which the mask has to count."""
    real = valid["hidden_states"]
    mask = torch.cat((torch.ones_like(real[:, :1]), real), 1)
    out = module(x["hidden_states"], attention_mask=mask)
    return {"pooled": pooled(out.pooler_output), "out": tokens(out.last_hidden_state[:, 1:], "hidden_states")}


def _decoder_kin(folder: str, config: str, layer: str, **settings: Any) -> Any:
    return lambda: _part(f"{folder}.modeling_{folder}", layer)(
        _config(f"{folder}.configuration_{folder}", config, **settings), layer_idx=0
    )


def _blip(name: str, *more: object) -> nn.Module:
    settings = dict(BERT, encoder_hidden_size=D, is_decoder=True)
    made: nn.Module = _part("blip.modeling_blip_text", name)(_config("blip", "BlipTextConfig", **settings), *more)
    return made


def _answering(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """As BlipForQuestionAnswering calls it: what the text encoder made of the question, and the question's mask."""
    question = x["encoder_hidden_states"]
    answer = torch.tensor([[1, 9, 10]]).expand(len(question), -1)
    out = module(
        input_ids=answer,
        encoder_hidden_states=question,
        encoder_attention_mask=valid["encoder_hidden_states"].long(),
    )
    return {"logits": pooled(out.logits)}


def _blip_decoder() -> nn.Module:
    text = dict(BERT, encoder_hidden_size=D, bos_token_id=1, eos_token_id=2, sep_token_id=2, pad_token_id=0)
    vision = {"hidden_size": D, "num_attention_heads": H, "intermediate_size": 64, "num_hidden_layers": 1}
    config = _config("blip", "BlipConfig", text_config=text, vision_config=dict(vision, image_size=32, patch_size=16))
    decoder: nn.Module = _part("blip.modeling_blip", "BlipForQuestionAnswering")(config).text_decoder
    return decoder


TEXT = (Side("hidden_states", D, 7), Side("encoder_hidden_states", D, 9))
UNPADDED_TEXT = (TEXT[0]._replace(padded=False), TEXT[1])
BLIP_LINE = (
    "models/blip/modeling_blip_text.py, BlipTextSelfAttention.forward: `attention_mask = encoder_attention_mask if "
    "is_cross_attention else attention_mask`. BlipTextAttention.forward, its only caller, hands the mask over as "
    "attention_mask and never as encoder_attention_mask, so that in cross-attention it is replaced by None."
)
BLIP_WHY = (
    "The mask of the encoder is taken and not used: padded slots are attended to like real ones. Of images none are "
    "padded; where a question is what is attended to, as in BlipForQuestionAnswering, its padding moves the answer."
)

CASES = (
    Case(
        name="LxmertCrossAttentionLayer",
        package="transformers",
        make=lambda: _part("lxmert.modeling_lxmert", "LxmertCrossAttentionLayer")(
            _config("lxmert", "LxmertConfig", hidden_size=D, num_attention_heads=H, intermediate_size=64)
        ),
        sides=(Side("input_tensor", D, 7, padded=False), Side("ctx_tensor", D, 9)),
        call=_lxmert_cross,
    ),
    Case(
        name="LxmertXLayer",
        package="transformers",
        make=lambda: _part("lxmert.modeling_lxmert", "LxmertXLayer")(
            _config("lxmert", "LxmertConfig", hidden_size=D, num_attention_heads=H, intermediate_size=64)
        ),
        sides=(Side("lang_feats", D, 7), Side("visual_feats", D, 9)),
        call=_lxmert_x,
    ),
    Case(
        name="BlipTextLayer",
        package="transformers",
        make=lambda: _blip("BlipTextLayer", 0),
        sides=TEXT,
        call=_text_layer,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why=BLIP_WHY,
        line=BLIP_LINE,
    ),
    Case(
        name="BlipTextEncoder",
        package="transformers",
        make=lambda: _blip("BlipTextEncoder"),
        sides=TEXT,
        call=_text_layer,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why=BLIP_WHY,
        line=BLIP_LINE,
    ),
    Case(
        name="BlipTextAttention, as cross-attention",
        package="transformers",
        make=lambda: _blip("BlipTextAttention", True),
        sides=UNPADDED_TEXT,
        call=_cross_alone,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why=BLIP_WHY,
        line=BLIP_LINE,
    ),
    Case(
        name="BlipForQuestionAnswering, its text_decoder",
        package="transformers",
        make=_blip_decoder,
        sides=(TEXT[1],),
        call=_answering,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why=BLIP_WHY,
        line=BLIP_LINE,
        bare=False,
    ),
    Case(
        name="Blip2QFormerLayer",
        package="transformers",
        make=lambda: _part("blip_2.modeling_blip_2", "Blip2QFormerLayer")(
            _config("blip_2", "Blip2QFormerConfig", **BERT, encoder_hidden_size=D), 0
        ),
        sides=UNPADDED_TEXT,
        call=_qformer,
        why="query_length says how many slots are queries; with none of them the layer never looks at the encoder.",
        bare=False,
    ),
    Case(
        name="Blip2QFormerEncoder",
        package="transformers",
        make=lambda: _part("blip_2.modeling_blip_2", "Blip2QFormerEncoder")(
            _config("blip_2", "Blip2QFormerConfig", **BERT, encoder_hidden_size=D)
        ),
        sides=UNPADDED_TEXT,
        call=_qformer,
        bare=False,
    ),
    Case(
        name="InstructBlipQFormerLayer",
        package="transformers",
        make=lambda: _part("instructblip.modeling_instructblip", "InstructBlipQFormerLayer")(
            _config("instructblip", "InstructBlipQFormerConfig", **BERT, encoder_hidden_size=D), 0
        ),
        sides=UNPADDED_TEXT,
        call=_qformer,
        bare=False,
    ),
    Case(
        name="BridgeTowerBertCrossLayer",
        package="transformers",
        make=lambda: _part("bridgetower.modeling_bridgetower", "BridgeTowerBertCrossLayer")(
            _config("bridgetower", "BridgeTowerTextConfig", **BERT)
        ),
        sides=TEXT,
        call=_text_layer,
    ),
    Case(
        name="BridgeTowerLinkTower",
        package="transformers",
        make=lambda: _part("bridgetower.modeling_bridgetower", "BridgeTowerLinkTower")(
            _config("bridgetower", "BridgeTowerConfig", hidden_size=D)
        ),
        sides=(Side("hidden_states", D, 7),),
        call=_link,
        why="attention_mask is taken and not used, rightly: slots never meet.",
    ),
    Case(
        name="GroundingDinoBiMultiHeadAttention",
        package="transformers",
        make=lambda: _dino("GroundingDinoBiMultiHeadAttention"),
        sides=(Side("vision_features", D, 9), Side("text_features", D, 7)),
        call=_dino_both,
        why="The batch's maximum is subtracted and scores are clamped at -50,000: only huge padding gets through.",
    ),
    Case(
        name="GroundingDinoFusionLayer",
        package="transformers",
        make=lambda: _dino("GroundingDinoFusionLayer"),
        sides=(Side("vision_features", D, 9), Side("text_features", D, 7)),
        call=_dino_both,
    ),
    Case(
        name="GroundingDinoTextEnhancerLayer",
        package="transformers",
        make=lambda: _dino("GroundingDinoTextEnhancerLayer"),
        sides=(Side("hidden_states", D, 7),),
        call=_dino_enhancer,
        why="A mask of pairs, True where attended; its docstring says the opposite.",
    ),
    Case(
        name="GroundingDinoDecoderLayer",
        package="transformers",
        make=lambda: _dino("GroundingDinoDecoderLayer"),
        sides=(Side("hidden_states", D, 6, padded=False), Side("text_encoder_hidden_states", D, 7)),
        call=_dino_decoder,
        bare=False,
    ),
    Case(
        name="T5LayerCrossAttention",
        package="transformers",
        make=lambda: _part("t5.modeling_t5", "T5LayerCrossAttention")(
            _config("t5", "T5Config", d_model=D, num_heads=H, d_kv=8, d_ff=64, is_decoder=True), layer_idx=0
        ),
        sides=(Side("hidden_states", D, 7, padded=False), Side("key_value_states", D, 9)),
        call=_t5,
    ),
    Case(
        name="BertLayer, as decoder",
        package="transformers",
        make=lambda: _part("bert.modeling_bert", "BertLayer")(
            _config("bert", "BertConfig", **BERT, is_decoder=True, add_cross_attention=True)
        ),
        sides=TEXT,
        call=_text_layer,
    ),
    Case(
        name="BertCrossAttention",
        package="transformers",
        make=lambda: _part("bert.modeling_bert", "BertCrossAttention")(_config("bert", "BertConfig", **BERT)),
        sides=UNPADDED_TEXT,
        call=_cross_alone,
    ),
    Case(
        name="BertLayer, as decoder, through scaled_dot_product_attention",
        package="transformers",
        make=lambda: _part("bert.modeling_bert", "BertLayer")(
            _config("bert", "BertConfig", **BERT, is_decoder=True, add_cross_attention=True, attn_implementation="sdpa")
        ),
        sides=TEXT,
        call=_text_layer,
    ),
    Case(
        name="BartDecoderLayer",
        package="transformers",
        make=_decoder_kin(
            "bart", "BartConfig", "BartDecoderLayer", d_model=D, decoder_attention_heads=H, decoder_ffn_dim=64
        ),
        sides=TEXT,
        call=_text_layer,
    ),
    Case(
        name="WhisperDecoderLayer",
        package="transformers",
        make=_decoder_kin(
            "whisper", "WhisperConfig", "WhisperDecoderLayer", d_model=D, decoder_attention_heads=H, decoder_ffn_dim=64
        ),
        sides=TEXT,
        call=_text_layer,
    ),
    Case(
        name="MusicgenDecoderLayer",
        package="transformers",
        make=_decoder_kin(
            "musicgen",
            "MusicgenDecoderConfig",
            "MusicgenDecoderLayer",
            hidden_size=D,
            num_attention_heads=H,
            ffn_dim=64,
        ),
        sides=TEXT,
        call=_text_layer,
    ),
    Case(
        name="IdeficsGatedCrossAttentionLayer",
        package="transformers",
        make=lambda: _part("idefics.modeling_idefics", "IdeficsGatedCrossAttentionLayer")(
            _config(
                "idefics",
                "IdeficsConfig",
                hidden_size=D,
                num_attention_heads=H,
                intermediate_size=64,
                alpha_initializer="ones",
                vision_config={"embed_dim": D},
                qk_layer_norms=False,
            ),
            0,
        ),
        sides=(Side("hidden_states", D, 7, padded=False), Side("image_hidden_states", D, 9)),
        call=_idefics_gated,
        rounds_in=torch.float32,
    ),
    Case(
        name="Idefics2PerceiverResampler",
        package="transformers",
        make=lambda: _part("idefics2.modeling_idefics2", "Idefics2PerceiverResampler")(
            _config(
                "idefics2.configuration_idefics2",
                "Idefics2PerceiverConfig",
                hidden_size=D,
                resampler_n_latents=5,
                resampler_depth=2,
                resampler_n_heads=H,
                resampler_head_dim=8,
                num_key_value_heads=2,
            )
        ),
        sides=(Side("context", D, 9),),
        call=_resampler,
    ),
    Case(
        name="IdeficsPerceiverResampler",
        package="transformers",
        make=lambda: _part("idefics.perceiver", "IdeficsPerceiverResampler")(
            _config(
                "idefics",
                "IdeficsConfig",
                hidden_size=D,
                vision_config={"embed_dim": D},
                perceiver_config={"qk_layer_norms_perceiver": False},
            ),
            D,
            1,
            H,
            8,
            5,
        ),
        sides=(Side("context", D, 9),),
        call=lambda module, x, valid: {"out": pooled(module(x["context"]))},
        right="cannot be judged",
        why="It takes no mask: its caller promises that every slot is real.",
    ),
    Case(
        name="EvollaSequenceCompressorResampler",
        package="transformers",
        make=lambda: _part("evolla.modeling_evolla", "EvollaSequenceCompressorResampler")(
            _config(
                "evolla",
                "EvollaConfig",
                hidden_size=D,
                num_attention_heads=H,
                resampler_depth=2,
                resampler_num_latents=5,
                resampler_dim_head=8,
                resampler_heads=H,
                protein_encoder_config={"hidden_size": D, "num_attention_heads": H},
            )
        ),
        sides=(Side("embeds", D, 9),),
        call=_resampler_numbers,
    ),
    Case(
        name="MllamaTextCrossAttention",
        package="transformers",
        make=lambda: _part("mllama.modeling_mllama", "MllamaTextCrossAttention")(
            _config(
                "mllama.configuration_mllama",
                "MllamaTextConfig",
                hidden_size=D,
                num_attention_heads=H,
                num_key_value_heads=2,
                num_hidden_layers=1,
                cross_attention_layers=[0],
            ),
            layer_idx=0,
        ),
        sides=(Side("hidden_states", D, 7, padded=False), Side("cross_attention_states", D, 9)),
        call=_mllama,
        rounds_in=torch.float32,
    ),
    Case(
        name="PerceiverLayer, as cross-attention",
        package="transformers",
        make=lambda: _part("perceiver.modeling_perceiver", "PerceiverLayer")(
            _config("perceiver", "PerceiverConfig", d_latents=D, d_model=24),
            is_cross_attention=True,
            num_heads=H,
            qk_channels=D,
            v_channels=D,
            q_dim=D,
            kv_dim=24,
        ),
        sides=(Side("hidden_states", D, 7, padded=False), Side("inputs", 24, 9)),
        call=_perceiver_layer,
    ),
    Case(
        name="PerceiverModel",
        package="transformers",
        make=lambda: _part("perceiver.modeling_perceiver", "PerceiverModel")(
            _config(
                "perceiver",
                "PerceiverConfig",
                d_latents=D,
                d_model=24,
                num_latents=5,
                num_blocks=1,
                num_self_attends_per_block=2,
                num_self_attention_heads=H,
                num_cross_attention_heads=H,
                qk_channels=D,
                v_channels=D,
            )
        ),
        sides=(Side("inputs", 24, 9),),
        call=_perceiver_model,
    ),
    Case(
        name="DetrDecoderLayer",
        package="transformers",
        make=lambda: _part("detr.modeling_detr", "DetrDecoderLayer")(
            _config("detr", "DetrConfig", d_model=D, decoder_attention_heads=H, decoder_ffn_dim=64)
        ),
        sides=UNPADDED_TEXT,
        call=_detr,
    ),
    Case(
        name="VisualBertRegionToPhraseAttention",
        package="transformers",
        make=lambda: _part("visual_bert.modeling_visual_bert", "VisualBertRegionToPhraseAttention")(
            _config("visual_bert", "VisualBertConfig", **{**BERT, "num_attention_heads": 1})
        ),
        sides=(Side("query", D, 7, padded=False), Side("key", D, 9)),
        call=_phrase,
        why="It gives scores, the mask already added: a pair of real slots moves with nothing else.",
    ),
    Case(
        name="VisualBertModel, from embeddings",
        package="transformers",
        make=lambda: _part("visual_bert.modeling_visual_bert", "VisualBertModel")(
            _config("visual_bert", "VisualBertConfig", **BERT, visual_embedding_dim=24)
        ),
        sides=(Side("inputs_embeds", D, 7), Side("visual_embeds", 24, 9)),
        call=_visual_bert,
    ),
    Case(
        name="SuperGlueAttentionalPropagation",
        package="transformers",
        make=lambda: _part("superglue.modeling_superglue", "SuperGlueAttentionalPropagation")(
            _config("superglue", "SuperGlueConfig", hidden_size=D, num_attention_heads=H, keypoint_encoder_sizes=[D])
        ),
        sides=(Side("descriptors", D, 7), TEXT[1]),
        call=_superglue,
        right="wrong",
        breaks=("train",),
        why="Right in eval mode. In train mode its BatchNorm takes its statistics over padded descriptors too.",
        line="models/superglue/modeling_superglue.py, SuperGlueMultiLayerPerceptron: nn.BatchNorm1d over every slot.",
    ),
    Case(
        name="FlavaMultimodalModel",
        package="transformers",
        make=lambda: _part("flava.modeling_flava", "FlavaMultimodalModel")(
            _config(
                "flava",
                "FlavaMultimodalConfig",
                hidden_size=D,
                num_attention_heads=H,
                intermediate_size=64,
                num_hidden_layers=2,
            )
        ),
        sides=(Side("hidden_states", D, 9),),
        call=_flava,
    ),
)
