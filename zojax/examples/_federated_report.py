"""The report of `zojax.examples.federated`: accuracy and bytes of rounds."""

import numpy as np

from zojax.examples._tables import of_bytes, table


def describe(rows: list[tuple], alone: float, size: int) -> str:
    """A table of ten rounds, and both accuracies.

    Args:
      rows: of each round: accuracy, bytes sent, bytes received.
      alone: the accuracy of one process with all the data.
      size: the number of parameters.
    """
    every = max(1, len(rows) // 10)
    shown = []
    for i in range(every - 1, len(rows), every):
        accuracy, sent, received = rows[i]
        shown.append((i + 1, f"{accuracy:.3f}", sent, f"{received:.0f}"))
    head = ("round", "accuracy", "bytes sent", "bytes received")
    each = np.mean([sent + received for _, sent, received in rows])
    return "\n".join(
        (
            table((5, 11, 13, 17), [head, *shown]),
            "\nBytes are those of one client in one round. On average it exchanges "
            f"{of_bytes(each)}; as parameters, {of_bytes(2 * 4 * size)}.",
            f"Test accuracy: {rows[-1][0]:.3f} federated, {alone:.3f} by one process with all the data.",
        )
    )
