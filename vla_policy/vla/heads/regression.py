"""Regression action head."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.config import ModelConfig
from vla_policy.types import TokenGroup
from vla_policy.vla.heads.expert import ActionExpert


class RegressionHead(nn.Module):
    """Predicts the chunk in one pass from learned queries, trained with the L1 loss (as ACT, arXiv 2304.13705).

    Args:
        config: chunk size and expert.
        action_dim: a.
    """

    def __init__(self, config: ModelConfig, action_dim: int) -> None:
        super().__init__()
        self.noise_shape = (config.chunk_size, action_dim)
        self.expert = ActionExpert(config, action_dim)
        self.queries = nn.Parameter(0.02 * torch.randn(config.chunk_size, config.expert_width))
        self.condition = nn.Parameter(0.02 * torch.randn(config.expert_width))

    def loss(
        self,
        observation: TokenGroup,
        actions: Float[Tensor, "b k a"],
        action_mask: Bool[Tensor, "b k"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Returns the mean absolute error over valid steps; nothing is drawn from the generator."""
        error = (self._predict(observation) - actions).abs().mean(dim=-1)
        return (error * action_mask).sum() / action_mask.sum().clamp_min(1)

    def sample(self, observation: TokenGroup, noise: Float[Tensor, "b k a"]) -> Float[Tensor, "b k a"]:
        """Returns normalised actions; the noise is not used."""
        return self._predict(observation)

    def _predict(self, observation: TokenGroup) -> Float[Tensor, "b k a"]:
        queries = self.queries.expand(observation.tokens.shape[0], -1, -1).to(observation.tokens.dtype)
        modulation = self.expert.modulate(self.condition[None])
        return self.expert(queries, self.expert.observe(observation), observation.mask, modulation)
