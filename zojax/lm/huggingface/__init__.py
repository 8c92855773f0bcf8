"""Models in local Hugging Face folders: `config.json`, `*.safetensors` and `tokenizer.json`."""

from zojax.lm.huggingface._load import load
from zojax.lm.huggingface._save import save

__all__ = ["load", "save"]
