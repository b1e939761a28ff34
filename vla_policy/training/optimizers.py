"""What turns gradients into steps: Muon for the matrices inside a model, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_policy.config import LoopConfig
from vla_policy.encoders import ConvVisionEncoder, WordGrounding
from vla_policy.vla.heads.expert import ActionExpert

# A matrix with a smaller side reads or writes a few numbers (a state, an action) and is no hidden matrix.
_HIDDEN = 16


def build_optimizers(model: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """Returns the optimisers that `config.optimizer` names; together they hold every parameter once.

    AdamW decays matrices and convolutions alone: norms, biases and embeddings of a single row keep their scale. With
    ``muon`` it leaves the weights of linear layers to Muon, whose updates, orthogonalised and scaled to the size of
    AdamW's, share its learning rate and decay. An action head's last layer, which gives logits or actions, is no hidden
    matrix and stays with AdamW, as Muon's authors advise. So does what looks at pictures, convolutions and what steers
    them: with Muon it learned no faster, and the state predicted from the cameras was worse for the first 300 steps.

    Source: Muon, kellerjordan.github.io/posts/muon; the scale, arXiv 2502.16982.
    """
    hidden: list[Tensor] = []
    if config.optimizer == "muon":
        seeing = [layer for layer in model.modules() if isinstance(layer, ConvVisionEncoder | WordGrounding)]
        kept = {parameter for layer in seeing for parameter in layer.parameters()}
        kept |= {expert.out.weight for expert in model.modules() if isinstance(expert, ActionExpert)}
        weights = dict.fromkeys(layer.weight for layer in model.modules() if isinstance(layer, nn.Linear))
        hidden = [weight for weight in weights if weight not in kept and min(weight.shape) >= _HIDDEN]
    taken = set(hidden)
    rest = [parameter for parameter in model.parameters() if parameter not in taken]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    rate, decay = config.learning_rate, config.weight_decay
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)]
    if hidden:
        optimizers.append(torch.optim.Muon(hidden, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def start_moments(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Gives the optimisers the state that they would make in their first step, so that there always is one to save."""
    for optimizer in optimizers:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if isinstance(optimizer, torch.optim.Muon):
                optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
            else:
                moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {"step": torch.zeros(())} | moments
