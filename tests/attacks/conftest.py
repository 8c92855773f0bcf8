"""Rounds of attacks on the host, run by NumPy."""

import functools

import pytest

from tests._numpy import by_numpy
from zojax.attacks._driver import host
from zojax.attacks._driver.rounds import Rounds
from zojax.attacks._driver.types import Options


@functools.cache
def program(name, attack, output, layout):
    def method(budget, targeted, *arrays):
        return getattr(Rounds(attack, Options(budget, targeted, output, layout)), name)(*arrays)

    return by_numpy(method)


@pytest.fixture
def uncompiled(monkeypatch):
    """NumPy runs the rounds of host attacks: nothing is compiled."""
    monkeypatch.setattr(host, "_program", program)
