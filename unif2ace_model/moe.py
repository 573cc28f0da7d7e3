"""Token-level mixture of experts in two task groups (paper, section 3.3; Show-o's MLP is the shared expert).

    T tokens   D model width   G = 2 groups (understanding, generation)   N routed experts a group   E = G * N
    K experts a token   R = T * K routed copies   F width of a routed expert

Each group has its own router and its own N experts. All E experts lie in one flat bank; a token's scores are those of
its own group, and one grouped matrix product serves both groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unif2ace_model.config import TokenMoe

GROUPS = ("und", "gen")
UND, GEN = range(len(GROUPS))


@dataclass(slots=True)
class Load:
    """What one layer's routers did. `chosen_GN`: how often each expert was; `score_GN`: its scores' sum over tokens."""

    chosen_GN: Tensor
    score_GN: Tensor
    tokens_G: Tensor


def gelu_new(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class Mlp(nn.Module):
    """Phi's feed-forward network."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, width)
        self.down = nn.Linear(width, dim)

    def forward(self, x_TD: Tensor) -> Tensor:
        out = self.down(gelu_new(self.up(x_TD)))
        assert isinstance(out, Tensor)
        return out


# ------------------------------------------------------------------ routing


class Router(nn.Module):
    """Scores of a token over the experts of its group, always in float32: in bfloat16 ties would flip experts."""

    bias_GN: Tensor

    def __init__(self, dim: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.weight_GND = nn.Parameter(torch.empty(len(GROUPS), experts, dim))
        # auxiliary-loss-free balancing (DeepSeek-V3): selects, never weighs; `update_bias` moves it
        self.register_buffer("bias_GN", torch.zeros(len(GROUPS), experts))

    def forward(self, x_TD: Tensor, group_T: Tensor) -> tuple[Tensor, Tensor, Load]:
        """(weights_TK float32, experts_TK in the flat bank, load)."""
        groups, experts, dim = self.weight_GND.shape
        with torch.autocast(x_TD.device.type, enabled=False):
            scores_TGN = F.linear(x_TD.float(), self.weight_GND.float().view(-1, dim)).view(-1, groups, experts)
        own_TN = scores_TGN.gather(1, group_T[:, None, None].expand(-1, 1, experts))[:, 0]
        p_TN = own_TN.softmax(-1)
        chosen_TK = (p_TN.detach() + self.bias_GN[group_T]).topk(self.top_k, dim=-1).indices
        weights_TK = p_TN.gather(1, chosen_TK)
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)  # our choice: the K weights sum to one
        flat_TK = chosen_TK + experts * group_T[:, None]
        member_TG = F.one_hot(group_T, groups).to(p_TN.dtype)
        with torch.autocast(x_TD.device.type, enabled=False):
            score_GN = member_TG.T @ p_TN
        load = Load(
            chosen_GN=counted(flat_TK.flatten(), groups * experts).view(groups, experts),
            score_GN=score_GN,
            tokens_G=member_TG.sum(0),
        )
        return weights_TK, flat_TK, load


def counted(experts_R: Tensor, experts: int) -> Tensor:
    """(E,) how often each expert was chosen: as torch.bincount, which a GPU would have to be waited for."""
    return (experts_R[:, None] == torch.arange(experts, device=experts_R.device)).sum(0)


def balance_loss(load: Load, weight_G: Tensor) -> Tensor:
    """Sum over groups of weight * sum_i f_i P_i (paper, section 3.3): 1 per unit of weight where routing is even.

    f_i = N / (K tokens) * how often expert i was chosen, P_i = its mean score; a group without tokens adds nothing.
    """
    experts = load.score_GN.shape[1]
    share_GN = load.chosen_GN / load.chosen_GN.sum(-1, keepdim=True).clamp(min=1)
    mean_GN = load.score_GN / load.tokens_G.clamp(min=1)[:, None]
    return (weight_G * experts * (share_GN * mean_GN).sum(-1)).sum()


@torch.no_grad()
def update_bias(router: Router, chosen_GN: Tensor, rate: float) -> None:
    """bias += rate * sign(mean - load), the mean of each group by itself: a common one drifts without end."""
    load_GN = chosen_GN.to(router.bias_GN.dtype)
    router.bias_GN += rate * (load_GN.mean(-1, keepdim=True) - load_GN).sign()


def max_violation(chosen_GN: Tensor) -> Tensor:
    """(G,) the busiest expert's load over the mean, less one: 0 where all are equally busy."""
    load_GN = chosen_GN.float()
    return load_GN.amax(-1) / load_GN.mean(-1).clamp(min=1e-9) - 1


# ------------------------------------------------------------------ experts


class Experts(nn.Module):
    """A bank of feed-forward networks, each as Phi's. One parameter a projection: idle experts have a gradient too."""

    def __init__(self, experts: int, dim: int, width: int) -> None:
        super().__init__()
        self.up_EDF = nn.Parameter(torch.empty(experts, dim, width))
        self.up_EF = nn.Parameter(torch.zeros(experts, width))
        self.down_EFD = nn.Parameter(torch.empty(experts, width, dim))
        self.down_ED = nn.Parameter(torch.zeros(experts, dim))

    def forward(self, x_TD: Tensor, weights_TK: Tensor, experts_TK: Tensor) -> Tensor:
        """(T, D): for each token the weighted sum of its K experts."""
        order_R = experts_TK.flatten().argsort(stable=True)
        token_R = order_R // experts_TK.shape[1]
        expert_R = experts_TK.flatten()[order_R]
        weight_R1 = weights_TK.flatten()[order_R, None]
        ends_E = counted(expert_R, self.up_EF.shape[0]).cumsum(0).to(torch.int32)
        dtype = working_dtype(x_TD)  # grouped_mm does not know autocast
        hidden_RF = F.grouped_mm(x_TD.to(dtype).index_select(0, token_R), self.up_EDF.to(dtype), offs=ends_E)
        hidden_RF = gelu_new(hidden_RF + self.up_EF.to(dtype).index_select(0, expert_R)) * weight_R1.to(dtype)
        out_RD = F.grouped_mm(hidden_RF, self.down_EFD.to(dtype), offs=ends_E)
        # the weighted biases of a token's experts as one product: a tenth less time than a bias for each routed copy
        weights_TE = torch.zeros(len(x_TD), self.up_EF.shape[0], dtype=dtype, device=x_TD.device)
        weights_TE = weights_TE.scatter_add(1, experts_TK, weights_TK.to(dtype))
        return (weights_TE @ self.down_ED.to(dtype)).index_add(0, token_R, out_RD)


def expert_loop(bank: Experts, x_TD: Tensor, weights_TK: Tensor, experts_TK: Tensor) -> Tensor:
    """What `Experts` computes, expert by expert: the plain form that tests hold it against."""
    out_TD = torch.zeros_like(x_TD)
    for expert in range(bank.up_EF.shape[0]):
        token, place = (experts_TK == expert).nonzero(as_tuple=True)
        hidden = gelu_new(x_TD[token] @ bank.up_EDF[expert] + bank.up_EF[expert])
        result = (hidden @ bank.down_EFD[expert] + bank.down_ED[expert]) * weights_TK[token, place, None].to(x_TD.dtype)
        out_TD = out_TD.index_add(0, token, result)
    return out_TD


def working_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


# ------------------------------------------------------------------ the layer


class TokenMoeLayer(nn.Module):
    """Shared expert plus routed ones, in the place of Phi's MLP. Without routed experts it is Phi's MLP."""

    def __init__(self, dim: int, ffn_dim: int, config: TokenMoe | None) -> None:
        super().__init__()
        self.grouped_shared = config is not None and config.shared == "grouped"
        self.shared = Experts(len(GROUPS), dim, ffn_dim) if self.grouped_shared else Mlp(dim, ffn_dim)
        self.router = Router(dim, config.experts, config.top_k) if config else None
        self.routed = Experts(len(GROUPS) * config.experts, dim, config.expert_dim) if config else None

    def forward(self, x_TD: Tensor, group_T: Tensor) -> tuple[Tensor, Load | None]:
        if self.grouped_shared:
            out_TD = self.shared(x_TD, x_TD.new_ones(len(x_TD), 1, dtype=torch.float32), group_T[:, None])
        else:
            out_TD = self.shared(x_TD)
        if self.router is None or self.routed is None:
            return out_TD, None
        weights_TK, experts_TK, load = self.router(x_TD, group_T)
        return out_TD + self.routed(x_TD, weights_TK, experts_TK), load
