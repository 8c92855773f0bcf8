"""BERT and RoBERTa, with the head that fills masks or the one that classifies: both of `zojax.lm.bert`."""

from zojax.lm.huggingface._config_file import ConfigFile
from zojax.lm.huggingface._stored import EPSILONS, Architecture, Stored, with_bias
from zojax.lm.models import bert, gpt

_PARTS = {  # of a layer
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_BERT_HEADS = {
    "masks": (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions",
    ),
    "labels": ("bert.pooler.dense", "classifier"),
}
_ROBERTA_HEADS = {
    "masks": ("lm_head.dense", "lm_head.layer_norm", "lm_head"),
    "labels": ("classifier.dense", "classifier.out_proj"),
}


def bert_like(settings: ConfigFile, name: str) -> Architecture:
    """The architecture of `"bert"` or `"roberta"`, with the head of `architectures`."""
    settings.require(is_decoder=False, add_cross_attention=False)
    settings.require(position_embedding_type="absolute")
    prefix = {"bert": "Bert", "roberta": "Roberta"}[name]
    kinds = {f"{prefix}ForMaskedLM": "masks", f"{prefix}ForSequenceClassification": "labels"}
    given = settings.get("architectures")
    is_named = isinstance(given, list) and given and isinstance(given[0], str)
    kind = kinds.get(given[0]) if is_named else None
    if kind is None:
        raise settings.error("architectures", f"supported are {sorted(kinds)}")
    activation = settings.option("hidden_act", gpt.ACTIVATIONS, "gelu")
    padding = settings.token("pad_token_id", 0 if name == "bert" else 1)
    config = bert.Config(
        vocabulary=settings.count("vocab_size"),
        width=settings.count("hidden_size"),
        layers=settings.count("num_hidden_layers"),
        heads=settings.count("num_attention_heads"),
        hidden=settings.count("intermediate_size"),
        positions=settings.count("max_position_embeddings"),
        labels=_labels(settings) if kind == "labels" else None,
        types=settings.count("type_vocab_size", 2),
        padding=padding,
        activation=activation,
        head_activation=activation if name == "bert" else "gelu",
        first_position=0 if name == "bert" else padding + 1,
        epsilon=settings.between("layer_norm_eps", *EPSILONS, 1e-12),
    )
    settings.require_multiple("hidden_size", config.heads)
    if config.positions <= config.first_position:
        raise settings.error("max_position_embeddings", f"it must be above {config.first_position}")
    return Architecture(bert, config, _names(name, kind), is_tied=True)


def _names(name: str, kind: str) -> dict[str, Stored]:
    embeddings, layer = f"{name}.embeddings.", f"{name}.encoder.layer.{{}}."
    dense, *rest = (_BERT_HEADS if name == "bert" else _ROBERTA_HEADS)[kind]
    names = {
        "embed": Stored(embeddings + "word_embeddings.weight"),
        "positions": Stored(embeddings + "position_embeddings.weight"),
        "types": Stored(embeddings + "token_type_embeddings.weight"),
        **with_bias("norm", f"{embeddings}LayerNorm"),
        **with_bias("head_dense", dense, transposed=True),
        "head": Stored(f"{rest[-1]}.decoder.weight"),
    }
    if kind == "masks":
        names |= with_bias("head_norm", rest[0]) | {"head_bias": Stored(f"{rest[1]}.bias")}
    else:
        names |= with_bias("labels", rest[0], transposed=True)
    for part, theirs in _PARTS.items():
        names |= with_bias(part, f"{layer}{theirs}", not part.endswith("norm"))
    return names


def _labels(settings: ConfigFile) -> int:
    """The number of labels: the length of `id2label`, 2 by default."""
    names = settings.table("id2label")
    return settings.count("num_labels", len(names) or 2)
