"""Training on several devices: torchrun starts a process a device (a rank), FSDP2 spreads weights and optimizer over them.

    torchrun --nproc-per-node 8 --no-python unif2ace-model train --shards shards/ --preset train-1p8b

Every block is a unit of `fully_shard`, and so is what is left (embeddings, heads, resamplers). A parameter is cut along its
first axis: of a bank of experts every rank holds some experts whole. Rank 0 prepares and writes; the sequences of a step
are those of one device, cut into as many pieces as there are ranks, so neither the order of the data nor what losses are
divided by depends on how many there are. The balancing loss does, which is a piece's own, and so does dropout.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from unif2ace_data.errors import UserError
from unif2ace_model.checkpoint import atomic_folder
from unif2ace_model.config import Preset
from unif2ace_model.model import UniF2ace
from unif2ace_model.moe import Load
from unif2ace_model.transformer import Loads

PATIENCE = timedelta(days=2)  # while rank 0 trains a tokenizer and encodes a dataset, the others wait


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `world` of them; one alone where no torchrun started it."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1))  # on the CPU: a barrier of nccl's would need a device's turn

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Rank 0 does it, then all others, which find what it has made."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextmanager
    def folder(self, place: Path) -> Iterator[Path]:
        """A folder for all ranks to write into, which takes `place`'s name once all have left."""
        if self.world == 1:
            with atomic_folder(place) as made:
                yield made
        elif self.first:
            with atomic_folder(place) as made:
                self.told(made)
                yield made
                self.wait()
            self.wait()
        else:
            yield Path(self.told(None))
            self.wait()
            self.wait()

    def told(self, value: Any) -> Any:
        """What rank 0 says."""
        said = [value]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def summed(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sum over ranks of each value; all give the same names."""
        sums = self.total(torch.tensor(list(values.values()), dtype=torch.float64))
        return dict(zip(values, sums.tolist(), strict=True))

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def agreed(self, wanted: bool) -> bool:
        """Whether any rank wants it: a stop is taken by all after the same step."""
        return bool(self.total(torch.tensor([float(wanted)])).item())

    def gathered(self, loads: list[list[Loads]]) -> list[list[Loads]]:
        """The routers' loads of all ranks' parts of a step, on every rank."""
        if self.world == 1:
            return loads
        mine = [[on_cpu(load) for load in part] for part in loads]
        everyone: list[list[list[Loads]]] = [[] for _ in range(self.world)]
        dist.all_gather_object(everyone, mine)
        return [part for parts in everyone for part in parts]


ALONE = Ranks()


def on_cpu(load: Loads) -> Loads:
    def plain(one: Load) -> Load:
        return Load(one.chosen_GN.cpu(), one.score_GN.detach().cpu(), one.tokens_G.cpu())

    tokens = None if load.tokens is None else plain(load.tokens)
    return Loads(tokens, {group: plain(one) for group, one in load.sequences.items()})


@contextmanager
def ranks_of(preset: Preset) -> Iterator[Ranks]:
    """The ranks that torchrun started, until the end of the run.

    Raises UserError: no torchrun started it, or a step has fewer sequences than there are pieces of it.
    """
    rank, world = place_among_ranks(os.environ)
    if world == 1:
        yield ALONE
        return
    try:
        check_pieces(preset, world)
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # gloo beside nccl: what is said between ranks (losses, a stop, paths) lies on the CPU
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        yield Ranks(rank, world)
    except UserError as error:
        if rank:  # once is enough: rank 0 says it
            raise SystemExit(error.exit_code) from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def place_among_ranks(environment: Mapping[str, str]) -> tuple[int, int]:
    """(rank, how many there are). Raises UserError where there are several by WORLD_SIZE, and not all that torchrun sets."""
    size = environment.get("WORLD_SIZE", "1")
    if size == "1":
        return 0, 1
    names = ["RANK", "MASTER_ADDR", "MASTER_PORT"] + (["LOCAL_RANK"] if torch.cuda.is_available() else [])
    missing = [name for name in names if not environment.get(name)]
    numbers = [size, *(environment.get(name, "") for name in names if name != "MASTER_ADDR")]
    if missing or not all(number.isdecimal() for number in numbers) or not int(environment["RANK"]) < int(size):
        told = f"{', '.join(missing)} not set" if missing else "and the rest does not go with it"
        raise UserError(
            f"WORLD_SIZE={size} says that this is one of several processes, {told}: start it with torchrun, "
            "which sets what they need to find each other (or unset WORLD_SIZE for one process alone)",
            2,
        )
    return int(environment["RANK"]), int(size)


def check_pieces(preset: Preset, world: int) -> None:
    pieces = world * preset.optim.accumulate
    if max(preset.optim.und_batch, preset.optim.gen_batch) < pieces:
        raise UserError(
            f"a step of {preset.optim.und_batch} + {preset.optim.gen_batch} sequences cannot be cut into {pieces} pieces "
            f"({world} ranks x optim.accumulate): raise optim.und_batch or optim.gen_batch, or start fewer ranks",
            2,
        )


# ------------------------------------------------------------------ weights


def spread(model: UniF2ace, ranks: Ranks) -> None:
    """Cut the weights over the ranks, every block a unit. Gradients become sums: losses are divided by a whole step's counts."""
    if ranks.world == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    # of the cache, which training drops; nothing here writes in place
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (ranks.world,))
    for block in model.body.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            # a rank whose piece has no picture to generate has no gradient for those experts
            module.set_reduce_scatter_unused_params(True)


def whole_weights(model: UniF2ace, ranks: Ranks) -> dict[str, Tensor]:
    """The weights on the CPU, whole, at rank 0; other ranks get none of them. All ranks call it."""
    if ranks.world == 1:
        return {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    found = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def whole_model(model: UniF2ace, ranks: Ranks) -> UniF2ace | None:
    """The model as one process has it, to generate and answer with; None but at rank 0. All ranks call it."""
    if ranks.world == 1:
        return model
    tensors = whole_weights(model, ranks)
    if not ranks.first:
        return None
    with torch.random.fork_rng():
        whole = UniF2ace(model.config)
    whole.load_state_dict(tensors)
    return whole.to(next(model.parameters()).device)


# ------------------------------------------------------------------ the optimizer's state: DCP, for any number of ranks


def save_spread(model: UniF2ace, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Each rank writes its own part into `folder`."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save

    save({"optimizer": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder)


def load_spread(model: UniF2ace, optimizer: torch.optim.Optimizer, folder: Path, ranks: Ranks) -> None:
    """What any number of ranks saved, cut for these."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    load(state, checkpoint_id=folder, no_dist=ranks.world == 1)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])


def load_whole(model: UniF2ace, optimizer: torch.optim.Optimizer, kept: dict[str, Any], ranks: Ranks) -> None:
    """The optimizer's state as one process keeps it, taken up by it or by several."""
    if ranks.world == 1:
        optimizer.load_state_dict(kept)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    names = {id(p): name for name, p in model.named_parameters()}
    ordered = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    flat = [name for group in ordered for name in group]
    named: dict[str, Any] = {
        "state": {flat[number]: state for number, state in kept["state"].items()},
        "param_groups": [
            {**theirs, "params": mine} for theirs, mine in zip(kept["param_groups"], ordered, strict=True)
        ],
    }
    set_optimizer_state_dict(model, optimizer, named, options=StateDictOptions(full_state_dict=True))
