"""The progress bar of long calls."""


def progress_bar(total: int, unit: str):
    """A tqdm bar; raises ImportError with the remedy without tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install tqdm.") from error
    return tqdm(total=total, unit=unit)
