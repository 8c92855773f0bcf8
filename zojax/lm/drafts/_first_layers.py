"""Some layers of a model as a model."""

from zojax.lm._model import Model


def first_layers(whole: Model, layers: int) -> Model:
    """A smaller model for `model`: the first layers of a Llama- or GPT-shaped one, and its readout.

    Raises ValueError unless `layers` is from 1 to those of the model.
    """
    if not 1 <= layers <= whole.config.layers:
        raise ValueError(f"layers must be from 1 to {whole.config.layers}, got {layers}.")
    config = whole.config._replace(layers=layers)
    if len(getattr(config, "kinds", ())) > 1:
        config = config._replace(kinds=config.kinds[:layers])
    kept = {name: stack[:layers] for name, stack in whole.params["layers"].items()}
    return whole._replace(config=config, params={**whole.params, "layers": kept})
