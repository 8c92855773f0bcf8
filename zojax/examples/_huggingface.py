"""Models from a local Hugging Face folder: Llama-, Qwen2-, GPT-2- and OPT-shaped, without torch.

A folder has `config.json`, `*.safetensors` and `tokenizer.json`. Tensors are read one at a time
into the stacked arrays of `zojax.examples.models`, and these are handed to JAX one at a time: what is
held beyond the model itself is one stacked array.
"""

import pathlib
import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.examples._architectures import ARCHITECTURES
from zojax.examples._files import refusing, shown
from zojax.examples._settings import Settings
from zojax.examples._tensors import Tensors
from zojax.examples.models import greedy, llama

__all__ = ["Model", "load", "prefix"]


class Model(NamedTuple):
    """A model and what belongs to it.

    Attributes:
      module: `zojax.examples.models.llama` or `zojax.examples.models.gpt`.
      config: of that module.
      params: dict of JAX arrays.
      tokenizer: a `tokenizers.Tokenizer`, or None where the folder has none.
      stop: the token that ends a text, or None.
    """

    module: Any
    config: Any
    params: dict
    tokenizer: Any
    stop: int | None

    def forward(self, params, tokens, *, positions=None, rows=None):
        """Next-token logits, see `llama.forward`."""
        return self.module.forward(self.config, params, tokens, positions=positions, rows=rows)

    def generate(self, params, tokens, lengths, new):
        """`(B, new)` tokens that follow, see `zojax.examples.models.greedy.generate`."""
        return greedy.generate(self.module, self.config, params, tokens, lengths, new)


def load(folder, dtype=np.float32):
    """Loads a model.

    Names, shapes and dtypes of all tensors are checked before any tensor is read.

    Args:
      folder: the path of the folder.
      dtype: of the parameters, float32 or `jnp.bfloat16`.

    Returns:
      A `Model`.

    Raises:
      ValueError: if a file is missing or damaged; a setting is missing, of another type or not
        supported; a tensor is missing, unused, in two files, of another shape, of integers, or not
        finite in `dtype`.
    """
    folder = pathlib.Path(folder).expanduser()
    settings = Settings(_existing(folder, "config.json"))
    kind = settings.option("model_type", ARCHITECTURES)
    module, config, names = ARCHITECTURES[kind](settings)
    tied = settings.flag("tie_word_embeddings", kind in ("gpt2", "opt"))
    stop = _stop(settings, config)
    tokenizer = _tokenizer(folder)
    tensors = Tensors(folder)
    expected = module.shapes(config)
    if kind == "qwen2":
        expected["layers"] |= llama.bias_shapes(config)
    if not tied or tensors.find(names["head"].name) is not None:
        expected["head"] = expected["embed"]
    layers = expected.pop("layers")
    for name, shape in expected.items():
        _check_shape(tensors, names[name], shape, config)
    for i in range(config.layers):
        for name, (_, *shape) in layers.items():
            _check_shape(tensors, names[name].of_layer(i), tuple(shape), config)
    _check_unused(tensors, config)

    def stack(name, shape):
        stacked = np.empty(shape, dtype)
        for i in range(shape[0]):
            stacked[i] = _read(tensors, names[name].of_layer(i), dtype)
        return jnp.asarray(stacked)

    params = {name: _read(tensors, names[name], dtype) for name in expected}
    if tied and "head" in params:
        _check_tied(folder, params["embed"], params.pop("head"))
    params = {name: jnp.asarray(array) for name, array in params.items()}
    params["layers"] = {name: stack(name, shape) for name, shape in layers.items()}
    return Model(module, config, params, tokenizer, stop)


def prefix(model, params, tokens):
    """A prefix (see `llama.forward`) that begins as real activations: the keys and values of tokens.

    Args:
      model: a `Model`.
      params: its parameters.
      tokens: `(m,)` integers.

    Returns:
      `{"prefix_key", "prefix_value"}`, `(L, m, K)` each. A text gets the logits that it would have
      after these tokens.
    """
    run = jax.jit(partial(model.module.extend, model.config))
    _, (keys, values) = run(params, np.asarray(tokens)[None])
    return {"prefix_key": keys[:, 0], "prefix_value": values[:, 0]}


def _check_shape(tensors, stored, shape, config):
    found = stored.shape(tensors)
    if found != shape:
        raise ValueError(
            f"{stored.name} of {tensors.folder} has shape {found}, expected {shape} for {config}."
        )


def _read(tensors, stored, dtype):
    with np.errstate(over="ignore"):
        array = stored.read(tensors).astype(dtype)
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise ValueError(
            f"{stored.name} of {tensors.folder} has {wrong} entries that are not finite in "
            f"{np.dtype(dtype)}. Copy the model again, or load it with another dtype."
        )
    return array


# Constants that older versions of transformers saved with the weights.
_BUFFER = re.compile(r"(.*\.)?(attn\.bias|attn\.masked_bias|rotary_emb\.inv_freq)")


def _check_unused(tensors, config):
    """Raises ValueError for tensors that the model does not use, but for buffers of the right value."""
    unused = [name for name in tensors.unused() if not _is_buffer(name, tensors, config)]
    if unused:
        raise ValueError(
            f"{tensors.folder} has {len(unused)} tensors that {config} does not use, {shown(unused[0])} "
            "among them. The config.json and the files must be of one model."
        )


def _is_buffer(name, tensors, config):
    """Whether a tensor is a buffer, of the value that the model here computes."""
    if not _BUFFER.fullmatch(name):
        return False
    array = np.asarray(tensors.read(name), np.float64)
    if name.endswith("inv_freq"):
        if not isinstance(config, llama.Config):
            return False
        known = llama.frequencies(config)
        return array.shape == known.shape and np.allclose(array, known, rtol=0.01)
    if name.endswith("masked_bias"):
        return array.size == 1 and array.max() <= -1e4
    return array.ndim == 4 and np.array_equal(array, np.tri(array.shape[-1])[None, None])


def _check_tied(folder, embed, head):
    if not np.array_equal(embed, head):
        raise ValueError(
            f"{folder} has a head that differs from its embedding, but its config.json has "
            "tie_word_embeddings=True; set it to false."
        )


def _stop(settings, config):
    """The first token that ends a text; None where there is none in the vocabulary."""
    stop = settings.get("eos_token_id")
    first = stop[0] if isinstance(stop, list) and stop else stop
    if first is None:
        return None
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise settings.error("eos_token_id", "it must be a token, or a list of tokens")
    return first if first < config.vocabulary else None


def _existing(folder, name):
    path = folder / name
    if not path.exists():
        raise ValueError(f"{folder} has no {name}; --weights takes a local Hugging Face folder.")
    return path


def _tokenizer(folder):
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    from tokenizers import Tokenizer

    with refusing(f"{path} is not a tokenizer"):
        tokenizer = Tokenizer.from_file(str(path))
        # Folders may keep how a text was last cut or filled up; here texts are whole.
        tokenizer.no_padding()
        tokenizer.no_truncation()
    return tokenizer
