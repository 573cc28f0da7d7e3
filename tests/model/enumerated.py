"""A distribution over 3 positions of 4 codes, small enough that every expectation is a finite sum.

X sequences, all of them   Z states, all of them   N positions   Q codes, the mask is code Q   S sets of masked positions
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

N, Q = 3, 4
EVERY = torch.tensor(list(itertools.product(range(Q), repeat=N)))
STATES = torch.tensor(list(itertools.product(range(Q + 1), repeat=N)))  # in the order of their numbers in base Q + 1
SETS = torch.tensor(list(itertools.product([False, True], repeat=N)))
PLACES = (Q + 1) ** torch.arange(N - 1, -1, -1)


def toy(seed: int = 0) -> Tensor:
    """(X,) p0: uneven, and nothing so rare that a chi-square test of it would need many draws."""
    torch.manual_seed(seed)
    uneven = torch.distributions.Dirichlet(torch.full((Q**N,), 0.5, dtype=torch.float64)).sample()
    return 0.9 * uneven + 0.1 / Q**N


def conditionals(p0: Tensor, noisy_BN: Tensor) -> Tensor:
    """log p(x_i = . | what is not masked), (B, N, Q), by summing over every x0 that agrees."""
    agree_BX = ((noisy_BN[:, None] == Q) | (noisy_BN[:, None] == EVERY)).all(-1)
    mass_BX = agree_BX * p0
    one_hot_XNQ = torch.nn.functional.one_hot(EVERY, Q).double()
    mass_BNQ = torch.einsum("bx,xnq->bnq", mass_BX, one_hot_XNQ)
    return (mass_BNQ / mass_BNQ.sum(-1, keepdim=True)).log()


class Table:
    """A model as a table, log p (Z, N, Q): what a sampler calls. It counts its calls and keeps the rates it is given."""

    def __init__(self, log_p_ZNQ: Tensor) -> None:
        self.log_p_ZNQ = log_p_ZNQ
        self.rates: list[Tensor] = []
        self.masked: list[Tensor] = []

    def __call__(self, codes_BN: Tensor, rate_B: Tensor) -> Tensor:
        self.rates.append(rate_B.clone())
        self.masked.append((codes_BN == Q).sum(-1))
        return self.log_p_ZNQ[codes_BN @ PLACES]

    def nll_XS(self) -> Tensor:
        """Sum over the masked positions of -log p(x0 | x0 with these positions masked)."""
        noisy_XSN = torch.where(SETS, Q, EVERY[:, None])
        log_p_XSNQ = self.log_p_ZNQ[noisy_XSN @ PLACES]
        log_p_XSN = log_p_XSNQ.gather(-1, EVERY[:, None, :, None].expand(-1, len(SETS), -1, 1))[..., 0]
        return -(log_p_XSN.where(SETS, 0)).sum(-1)


def true_model(p0: Tensor) -> Table:
    return Table(conditionals(p0, STATES))


def random_model(seed: int = 0) -> Table:
    """Conditionals that belong to no joint distribution, as a network's do."""
    torch.manual_seed(seed)
    return Table(torch.randn(len(STATES), N, Q, dtype=torch.float64).log_softmax(-1))


def chance_of_sets(rate: Tensor) -> Tensor:
    """(..., S): the probability that exactly these positions are masked at a mask rate (...)."""
    count_S = SETS.sum(-1)
    return rate[..., None] ** count_S * (1 - rate[..., None]) ** (N - count_S)


def any_order_nll(model: Table) -> Tensor:
    """(X,) mean over the orders of filling of -log of the product of conditionals: what a NELBO must integrate to."""
    total_X = torch.zeros(len(EVERY), dtype=torch.float64)
    for order in itertools.permutations(range(N)):
        for place in range(N):
            noisy_XN = EVERY.clone()
            noisy_XN[:, list(order[place:])] = Q
            log_p_XQ = model.log_p_ZNQ[noisy_XN @ PLACES][:, order[place]]
            total_X -= log_p_XQ.gather(-1, EVERY[:, order[place], None])[:, 0]
    return total_X / math.factorial(N)


def reverse_law(model: Table, rate_T: Tensor) -> Tensor:
    """(X,) what the reverse process gives on a grid of mask rates from 0 to 1, by following every set of masked positions."""
    noisy_XSN = torch.where(SETS, Q, EVERY[:, None])
    p_XSNQ = model.log_p_ZNQ[noisy_XSN @ PLACES].exp()
    p_XSN = p_XSNQ.gather(-1, EVERY[:, None, :, None].expand(-1, len(SETS), -1, 1))[..., 0]
    steps = [(s, t) for s, t in itertools.product(range(len(SETS)), repeat=2) if bool((SETS[s] | ~SETS[t]).all())]
    state_XS = torch.zeros(len(EVERY), len(SETS), dtype=torch.float64)
    state_XS[:, -1] = 1
    for before, after in itertools.pairwise(rate_T.flip(0)):
        filled = (before - after) / before
        next_XS = torch.zeros_like(state_XS)
        for s, t in steps:
            chance_X = torch.where(SETS[s] & ~SETS[t], filled * p_XSN[:, s], 1).prod(-1)
            next_XS[:, t] += state_XS[:, s] * chance_X * (1 - filled) ** SETS[t].sum()
        state_XS = next_XS
    return state_XS[:, 0]
