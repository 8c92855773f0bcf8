"""Models in local Hugging Face folders: `config.json`, `*.safetensors` and `tokenizer.json`."""

from zojax.lm.huggingface._adapter_files import load_adapter, save_adapter
from zojax.lm.huggingface._load import load
from zojax.lm.huggingface._save import save

__all__ = ["load", "load_adapter", "save", "save_adapter"]
