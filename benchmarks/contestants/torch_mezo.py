"""MeZO in PyTorch, our own loop after Algorithm 1 of the paper (https://arxiv.org/abs/2305.17333).

It moves parameters in place by mu z, by -2 mu z and back, and by the step. A seeded generator makes z again
each time, so no second copy of the parameters exists.
"""

import itertools

import torch
from torch.nn import functional as F

from benchmarks.contestants import Host

MU, RATE = 1e-3, 1e-6


def move(params, seed, scale):
    """params += scale z in place, z from the seed."""
    generator = torch.Generator(params[0].device).manual_seed(seed)
    for p in params:
        z = torch.randn(p.shape, generator=generator, device=p.device)
        p.add_(z, alpha=scale)


def step(loss, params, seeds):
    """One step along a direction for each seed: all slopes at the same point, then all moves."""
    slopes = []
    for seed in seeds:
        move(params, seed, MU)
        plus = loss()
        move(params, seed, -2 * MU)
        minus = loss()
        move(params, seed, MU)
        slopes.append(float(plus - minus) / (2 * MU))
    for seed, slope in zip(seeds, slopes, strict=True):
        move(params, seed, -RATE * slope / len(seeds))


def sphere(d, device):
    x = torch.randn(d, device=device)
    return [x], lambda: (x * x).sum()


def rosenbrock(d, device):
    x = torch.randn(d, device=device)
    return [x], lambda: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def mlp(device, batch=32, widths=(784, 1024, 1024, 10)):
    weights = [0.02 * torch.randn(*pair, device=device) for pair in itertools.pairwise(widths)]
    biases = [torch.zeros(n, device=device) for n in widths[1:]]
    x = torch.randn(batch, widths[0], device=device)
    y = torch.zeros(batch, dtype=int, device=device)

    def loss():
        h = x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = torch.addmm(b, h, w)
            h = h if i + 1 == len(weights) else F.relu(h)
        return F.cross_entropy(h, y)

    return [*weights, *biases], loss


def model_m(
    device, batch=4, length=128, layers=12, width=1024, hidden=4096, vocabulary=8192, heads=16
):
    def normal(*shape):
        return 0.02 * torch.randn(*shape, device=device)

    embed, norm = normal(vocabulary, width), normal(width)
    shapes = [(width, 3 * width), (width, width), (width, hidden), (hidden, width)]
    blocks = [[*(normal(*s) for s in shapes), normal(width), normal(width)] for _ in range(layers)]
    tokens = torch.randint(0, 8, (batch, length), device=device)

    def loss():
        x = embed[tokens]
        for qkv, out, up, down, norm1, norm2 in blocks:
            h = F.rms_norm(x, (width,), norm1, 1e-6) @ qkv
            split = (part.reshape(batch, length, heads, -1) for part in h.chunk(3, dim=-1))
            q, k, v = (part.transpose(1, 2) for part in split)
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + h.transpose(1, 2).reshape(batch, length, width) @ out
            h = F.gelu(F.rms_norm(x, (width,), norm2, 1e-6) @ up, approximate="tanh")
            x = x + h @ down
        logits = (F.rms_norm(x, (width,), norm, 1e-6) @ embed.T)[:, :-1]
        return F.cross_entropy(logits.reshape(-1, vocabulary), tokens[:, 1:].reshape(-1))

    return [embed, norm, *(p for block in blocks for p in block)], loss


def smollm2(device, batch=4, length=128):
    """The model in `transformers`, as PyTorch's users run it, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30)
    heads = dict(num_attention_heads=9, num_key_value_heads=3)
    config = LlamaConfig(**sizes, **heads, tie_word_embeddings=True, use_cache=False)
    model = LlamaForCausalLM(config).to(device).eval()
    tokens = torch.randint(0, 8, (batch, length), device=device)
    return list(model.parameters()), lambda: model(tokens, labels=tokens).loss


WORKS = {"sphere": sphere, "rosenbrock": rosenbrock, "mlp": mlp}
WORKS |= {"model M": model_m, "SmolLM2": smollm2}


def build(name, settings, evaluations, platform):
    """Takes the description of a work, since the models here are PyTorch's."""
    if name not in WORKS:
        raise ValueError(f"{name} is not written in PyTorch here.")
    if platform != "cpu" and not (platform == "gpu" and torch.cuda.is_available()):
        raise ValueError(f"PyTorch finds no {platform} here.")
    device = "cuda" if platform == "gpu" else "cpu"
    torch.set_grad_enabled(False)
    params, loss = WORKS[name](device=device, **settings)
    seeds = range(evaluations // 2)

    def run():
        step(loss, params, seeds)
        if device == "cuda":
            torch.cuda.synchronize()

    return Host(run)
