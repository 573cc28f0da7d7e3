"""The model's speed as ratios, each beside what it replaces: same weights, same inputs, outputs held equal first.

    python benchmarks/model.py                  # one CPU thread, float32, three minutes
    python benchmarks/model.py --device cuda    # products in bfloat16; tokens/s, MFU and memory of train-1p8b as well

Every pair runs in turn, several times, and the middle round counts. On a CPU the ratio is that of CPU time, which other
work on the machine disturbs least; on a GPU that of the wall clock. Answers and pictures are made in float32 and must be
the same tokens from both sides.

    B sequences   S tokens   N image tokens   T tokens   D width   E experts   K experts a token   V, Q: text ids, codes
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from model_peers import (
    TwoGroupsThenWhere,
    answer_uncached,
    dense_of,
    flops,
    made_batch,
    uncached_denoiser,
    whole_head_loss,
)
from torch import Tensor, nn
from transformers import MixtralConfig, NemotronHConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts

from unif2ace_model.config import ModelConfig, Preset, TokenMoe, load_preset
from unif2ace_model.decoding import Denoise, answer, denoiser
from unif2ace_model.flops import peak_flops
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import Experts, Load, TokenMoeLayer
from unif2ace_model.prompts import IGNORED, Batch, pack, understanding
from unif2ace_model.sampling import ancestral, maskgit
from unif2ace_model.train import adamw, counts_of, losses

THREADS = 1  # CPU time of one thread is comparable while others work; that of two counts their waiting
ROUNDS, FEW_ROUNDS = 5, 2  # few where a round takes seconds
FACE = 128
# train-small and train-tiny, made small enough for rounds of a second
SMALL = [
    "model.dim=256", "model.layers=4", "model.heads=4", "model.ffn_dim=768", "model.text_vocab=4096",
    "model.token_moe.expert_dim=128", "model.sequence_moe.dim=128", f"model.face_dim={FACE}",
]  # fmt: skip
# train-small with half its layers, and a table of codes as the paper's size has
WORKING = [
    "model.layers=6", "model.code_embedding=table", "model.text_vocab=4096", f"model.face_dim={FACE}",
]  # fmt: skip
# a table here too, since with `factors` the two heads would differ in more than their slices
TINY = [
    "model.text_vocab=1024", f"model.face_dim={FACE}", "model.code_embedding=table", "model.dropout=0",
    "model.token_moe.balance=none", "objective.und_mean=tokens", "objective.gen=1", ]  # fmt: skip
Module = TypeVar("Module", bound=nn.Module)
DEVICE = torch.device("cpu")


@dataclass(slots=True)
class Row:
    """One pair: the middle round's wall and CPU seconds of each side, and what was wanted of their ratio."""

    name: str
    sizes: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    wanted: float

    @property
    def ratio(self) -> float:
        clock = 0 if DEVICE.type == "cuda" else 1
        return self.theirs[clock] / self.ours[clock]


def race(
    name: str, sizes: str, wanted: float, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS
) -> Row:
    """Both in turn, the order changing, after a round that does not count.

    Answers and pictures of that round must be the same.
    """
    spent: dict[Callable[[], object], list[tuple[float, float]]] = {ours: [], theirs: []}
    first: list[object] = []
    for turn in range(rounds + 1):
        for side in (ours, theirs) if turn % 2 else (theirs, ours):
            synchronize()
            wall, own = time.perf_counter(), time.process_time()
            made = side()
            synchronize()
            if turn:
                spent[side].append((time.perf_counter() - wall, time.process_time() - own))
            else:
                first.append(made)
    if isinstance(first[0], list) and first[0] != first[1]:
        raise SystemExit(f"{name}: the tokens differ")
    middle = [tuple(statistics.median(column) for column in zip(*spent[side], strict=True)) for side in (ours, theirs)]
    row = Row(name, sizes, middle[0], middle[1], wanted)
    print(line_of(row), flush=True)
    return row


def line_of(row: Row) -> str:
    clocks = "  ".join(f"{1000 * wall:8.1f} {1000 * own:8.1f}" for wall, own in (row.ours, row.theirs))
    verdict = "yes" if row.ratio >= row.wanted else "NO"
    return f"{row.name:48} {clocks}  {row.ratio:6.2f} x  {row.wanted:5.2f} x {verdict:3}  {row.sizes}"


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def products() -> torch.autocast:
    """bfloat16 products on a GPU, float32 on a CPU."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda")


def same(found: Tensor, expected: Tensor, what: str) -> None:
    exact = DEVICE.type == "cpu"
    close = torch.allclose(found.float(), expected.float(), atol=1e-4 if exact else 0.05, rtol=1e-3 if exact else 0.05)
    if not close:
        raise SystemExit(f"{what}: the two sides differ by {(found.float() - expected.float()).abs().max():.2e}")


# ------------------------------------------------------------------ the layer


def routed_alone(layer: TokenMoeLayer) -> Callable[[Tensor, Tensor], tuple[Tensor, Load]]:
    def run(x_TD: Tensor, group_T: Tensor) -> tuple[Tensor, Load]:
        weights_TK, experts_TK, load = layer.router(x_TD, group_T)
        return layer.routed(x_TD, weights_TK, experts_TK), load

    return run


def both_ways(run: Callable[[], Tensor], inputs: list[Tensor], probe_TD: Tensor) -> Callable[[], object]:
    """Forward and backward, to the inputs and every parameter."""

    def step() -> object:
        with products():
            out_TD = run()
        return torch.autograd.grad((out_TD * probe_TD).sum(), inputs)

    return step


def layer_rows() -> Iterator[Row]:
    dim, width, ffn_dim, tokens = 512, 256, 1536, 1024  # train-small's
    whole = filled(TokenMoeLayer(dim, ffn_dim, TokenMoe(expert_dim=width, shared="grouped")))
    x_TD = torch.randn(tokens, dim, device=DEVICE, requires_grad=True)
    probe_TD = torch.randn(tokens, dim, device=DEVICE)
    group_T = torch.arange(tokens, device=DEVICE) % 2
    sizes = f"D={dim} T={tokens} 2 x E=8 K=2 F={width}"
    routed = [x_TD, *whole.router.parameters(), *whole.routed.parameters()]
    for name, more, ours, inputs, shared in (
        (
            "MoE layer / both groups, then where",
            f", shared {ffn_dim} a group",
            whole,
            [x_TD, *whole.parameters()],
            whole.shared,
        ),
        ("routed experts / both groups, then where", "", routed_alone(whole), routed, None),
    ):
        port = TwoGroupsThenWhere(whole.router, whole.routed, shared).to(DEVICE)
        with products(), torch.no_grad():
            same(ours(x_TD, group_T)[0], port(x_TD, group_T), name)
        yield race(
            name,
            sizes + more,
            1.7,
            both_ways(lambda ours=ours: ours(x_TD, group_T)[0], inputs, probe_TD),
            both_ways(lambda port=port: port(x_TD, group_T), [x_TD, *port.parameters()], probe_TD),
        )
    yield from experts_rows(dim, tokens, x_TD, probe_TD)


def experts_rows(
    dim: int,
    tokens: int,
    x_TD: Tensor,
    probe_TD: Tensor,
) -> Iterator[Row]:
    """Experts alone, equally routed, in the loop that transformers takes where nothing else is asked for."""
    experts, top_k, width = 8, 2, 512
    top = torch.rand(tokens, experts, device=DEVICE).topk(top_k, dim=-1)
    weights_TK = top.values / top.values.sum(-1, keepdim=True)
    bank = filled(Experts(experts, dim, width))
    plain = NemotronHConfig(
        hidden_size=dim, moe_intermediate_size=width, n_routed_experts=experts, mlp_hidden_act="gelu_new"
    )
    plain._experts_implementation = "eager"
    loop = NemotronHExperts(plain).to(DEVICE)
    with torch.no_grad():
        loop.up_proj.copy_(bank.up_EDF.transpose(1, 2))
        loop.down_proj.copy_(bank.down_EFD.transpose(1, 2))
        bank.up_EF.zero_()
        bank.down_ED.zero_()
        with products():
            same(bank(x_TD, weights_TK, top.indices), loop(x_TD, top.indices, weights_TK), "experts")
    ours = both_ways(lambda: bank(x_TD, weights_TK, top.indices), [x_TD, *bank.parameters()], probe_TD)
    theirs = both_ways(lambda: loop(x_TD, top.indices, weights_TK), [x_TD, *loop.parameters()], probe_TD)
    sizes = f"D={dim} T={tokens} E={experts} K={top_k} F={width}"
    yield race("experts / transformers eager, no gate", sizes, 1.4, ours, theirs)
    gate = MixtralConfig(hidden_size=dim, intermediate_size=width * 2 // 3, num_local_experts=experts)
    gate._experts_implementation = "eager"
    mixtral = filled(MixtralExperts(gate))
    theirs = both_ways(lambda: mixtral(x_TD, top.indices, weights_TK), [x_TD, *mixtral.parameters()], probe_TD)
    sizes += f", Mixtral's F={width * 2 // 3} (equal products)"
    yield race("experts / transformers eager, Mixtral's", sizes, 1.4, ours, theirs)


def filled(module: Module, std: float = 0.05) -> Module:
    with torch.no_grad():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=std)
    return module.to(DEVICE)


# ------------------------------------------------------------------ training


Sampler = Callable[[Denoise, int, int, int, int, torch.Generator], Tensor]
MakeDenoise = Callable[[UniF2ace, list[list[int]], float], Denoise]
LossOf = Callable[[UniF2ace, Batch, Preset], Tensor]


def own_loss(model: UniF2ace, batch: Batch, preset: Preset) -> Tensor:
    terms, _ = losses(model, batch, preset, counts_of([batch]), 1)
    return torch.stack(list(terms.values())).sum()


def stepper(config: ModelConfig, preset: Preset, batch: Batch, loss_of: LossOf = own_loss) -> Callable[[], object]:
    """A whole step as the trainer takes it: losses, gradients, their norm, AdamW."""
    torch.manual_seed(0)
    model = UniF2ace(config).to(DEVICE).train()
    model.body.recompute = preset.run.recompute
    preset = preset.model_copy(update={"model": config})
    optimizer = adamw(model, preset)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with products():
            loss = loss_of(model, batch, preset)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), preset.optim.clip)
        optimizer.step()
        return loss.detach()

    return step


def training_rows() -> Iterator[Row]:
    small = load_preset("train-small", SMALL)
    both = small.model
    batch = made_batch(both, each=4, text=100).to(DEVICE)
    tokens = int(batch.valid_BS.sum())
    sizes = f"D={both.dim} {both.layers} layers N={both.image_tokens} {tokens} tokens 2 x E=8 K=2 F=128, dense FFN "
    for name, config in (
        ("train step, token MoE / dense", both.model_copy(update={"sequence_moe": None})),
        ("train step, both MoEs / dense", both),
    ):
        dense = dense_of(config, batch)
        ours, theirs = stepper(config, small, batch), stepper(dense, small, batch)
        yield race(name, sizes + str(dense.ffn_dim), 0.75, ours, theirs)
    tiny = load_preset("train-tiny", TINY)
    batch = made_batch(tiny.model, each=8, text=100).to(DEVICE)
    ours = stepper(tiny.model, tiny, batch)
    theirs = stepper(tiny.model, tiny, batch, whole_head_loss)
    same(ours(), theirs(), "loss head")
    tokens = int(batch.valid_BS.sum())
    rows = int((batch.labels_BS != IGNORED).sum() + (batch.targets_BN != IGNORED).sum())
    sizes = f"train-tiny, {tokens} tokens, {rows} rows count, V={tiny.model.text_vocab} Q={tiny.model.codebook}"
    yield race("train step, sliced head / whole head", sizes, 1.25, ours, theirs)


# ------------------------------------------------------------------ at work


def work_rows() -> Iterator[Row]:
    preset = load_preset("train-small", WORKING)
    model = filled(UniF2ace(preset.model), 0.08).eval()
    config = model.config
    rng = np.random.default_rng(0)
    caption = rng.integers(0, config.text_vocab, 120).tolist()  # as long as the paper's on average
    steps, guidance = 12, 1.75
    body = f"D={config.dim} {config.layers} layers V={config.text_vocab} Q={config.codebook}"
    sizes = f"{body}, a picture of {config.image_tokens}, a caption of {len(caption)}, guided, {steps} steps; tokens identical"
    for name, sampler in (("MaskGIT", maskgit), ("ancestral", ancestral)):

        def picture(make: MakeDenoise, sampler: Sampler = sampler) -> list[int]:
            chance, denoise = torch.Generator().manual_seed(0), make(model, [caption], guidance)
            codes_BN = sampler(denoise, 1, config.image_tokens, config.codebook, steps, chance)
            found: list[int] = codes_BN[0].tolist()
            return found

        yield race(
            f"picture, cached prefix, sliced head ({name})",
            sizes,
            1.5,
            lambda picture=picture: picture(denoiser),
            lambda picture=picture: picture(uncached_denoiser),
            FEW_ROUNDS,
        )
    most, asked = 64, 40
    codes = rng.integers(0, config.codebook, config.image_tokens)
    question, face_BC = rng.integers(0, config.text_vocab, asked).tolist(), torch.randn(1, FACE, device=DEVICE)
    prompt = pack([understanding(codes, question, [], config.text_vocab)], config.text_vocab, left=True).to(DEVICE)
    prompt.face_BC = face_BC

    def said() -> list[int]:
        found = answer(model, prompt, most)[0]
        if len(found) < most:
            raise SystemExit(f"answers: <eos> after {len(found)} tokens")
        return found

    yield race(
        "answers, cache of keys and values / none",
        f"{body}, a prompt of {prompt.text_BS.shape[1]}, {most} new tokens; tokens identical",
        8,
        said,
        lambda: answer_uncached(model, codes, question, face_BC, most),
        FEW_ROUNDS,
    )


# ------------------------------------------------------------------ the paper's size


def paper_size() -> None:
    """Tokens/s, MFU and peak memory of train-1p8b's step on one GPU, and of its dense body."""
    preset = load_preset("train-1p8b")
    peak = peak_flops()
    for name, config, wanted in (
        ("train-1p8b", preset.model, 0.28),
        ("its dense body", preset.model.model_copy(update={"token_moe": None, "sequence_moe": None}), 0.40),
    ):
        batch = made_batch(config, each=8, text=preset.text.max_tokens).to(DEVICE)
        step, seconds = stepper(config, preset, batch), []
        torch.cuda.reset_peak_memory_stats()
        for _ in range(ROUNDS + 2):
            synchronize()
            started = time.perf_counter()
            step()
            synchronize()
            seconds.append(time.perf_counter() - started)
        middle, tokens = statistics.median(seconds[2:]), int(batch.valid_BS.sum())
        mfu = f"MFU {flops(config, batch) / middle / peak:.1%} (wanted {wanted:.0%})" if peak else "MFU: unknown GPU"
        memory = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{name}: {tokens} tokens a step, {tokens / middle:,.0f} tokens/s, {mfu}, {memory:.1f} GiB at most",
            flush=True,
        )
        del step
        torch.cuda.empty_cache()


@contextmanager
def as_the_trainer() -> Iterator[None]:
    """Deterministic on the CPU, as train.py has it."""
    torch.use_deterministic_algorithms(DEVICE.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def main() -> None:
    global DEVICE
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    DEVICE = torch.device(parser.parse_args().device)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    print(f"torch {torch.__version__}, {where}; milliseconds, median of {ROUNDS} rounds in turn, or {FEW_ROUNDS}")
    print(f"{'ours / theirs':48} {'wall':>8} {'CPU':>8}  {'wall':>8} {'CPU':>8}  {'ratio':>8}  {'wanted':>7}")
    rows = [*layer_rows()]
    with as_the_trainer():
        rows += training_rows()
    rows += work_rows()
    if DEVICE.type == "cuda":
        paper_size()
    missed = [row.name for row in rows if row.ratio < row.wanted]
    print("missed: " + "; ".join(missed) if missed else "every ratio is as wanted")


if __name__ == "__main__":
    main()
