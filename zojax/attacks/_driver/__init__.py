"""The driver of all attacks: rounds of propose, evaluate, update, until solved or out of budget.

- `types.py`: the options of an attack, and the state of an image under attack.
- `checks.py`: checks of arguments and of the model's scores.
- `rounds.py`: one round, for a batch of images.
- `compiled.py`: all rounds in one program, for models that JAX can trace.
- `host.py`: rounds between calls of a model on the host.
- `run.py`, `ask_tell.py`: the two public doors.

Every proposal is projected onto the ball before a model sees it. Each image stops by itself: when it is
solved, out of budget, or given up because all its first answers were unusable. Its random numbers come from
the key and from its own pixels, so its result does not depend on its batch, up to summation order.
"""
