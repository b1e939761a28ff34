"""Flow-matching action head."""

from __future__ import annotations

import math

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.config import ModelConfig
from vla_policy.types import TokenGroup
from vla_policy.vla.heads.expert import ActionExpert, repeat_observed
from vla_policy.vla.heads.guidance import Guide, guided_velocity


class FlowHead(nn.Module):
    """Learns the velocity that carries noise to actions: x = (1 - tau) noise + tau a, target a - noise.

    tau 0 is noise, 1 is the action. Sampling integrates dx/dtau = v(x, tau) by Euler steps.

    Args:
        config: chunk size, expert, samples per observation, steps.
        action_dim: a.

    Source: flow matching, arXiv 2210.02747; as an action expert, arXiv 2410.24164 (whose time runs the same way;
    openpi and LeRobot run it the other way).
    """

    def __init__(self, config: ModelConfig, action_dim: int) -> None:
        super().__init__()
        self.samples = config.flow_samples
        self.steps = config.flow_steps
        self.noise_shape = (config.chunk_size, action_dim)
        width = config.expert_width
        self.expert = ActionExpert(config, action_dim)
        self.action_token = nn.Linear(action_dim, width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.chunk_size, width))
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def loss(
        self,
        observation: TokenGroup,
        actions: Float[Tensor, "b k a"],
        action_mask: Bool[Tensor, "b k"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Returns the mean squared error of the velocity over valid steps, several (tau, noise) per observation.

        Args:
            observation: fused tokens.
            actions: normalised.
            action_mask: True = valid step.
            generator: source of tau and noise.
        """
        times = self.samples
        actions = repeat(actions, "b k a -> (b f) k a", f=times)
        action_mask = repeat(action_mask, "b k -> (b f) k", f=times)
        tau = torch.rand(actions.shape[0], generator=generator).to(actions.device)
        noise = torch.randn(actions.shape, generator=generator).to(actions.device)
        x, target = flow_pair(actions, noise, tau)
        observed = repeat_observed(self.expert.observe(observation), times)
        mask = repeat(observation.mask, "b n -> (b f) n", f=times)
        modulation = self.expert.modulate(self._time(tau))
        velocity = self.expert(self._tokens(x), observed, mask, modulation)
        error = (velocity - target).square().mean(dim=-1)
        return (error * action_mask).sum() / action_mask.sum().clamp_min(1)

    def sample(
        self, observation: TokenGroup, noise: Float[Tensor, "b k a"], guide: Guide | None = None
    ) -> Float[Tensor, "b k a"]:
        """Returns normalised actions: the given standard normal noise carried along the learned velocity.

        Args:
            observation: fused tokens.
            noise: standard normal.
            guide: actions that the result is drawn towards, see `guided_velocity`. It needs gradients with respect to
                the actions, so it does not work within ``torch.inference_mode``.
        """
        observed = self.expert.observe(observation)
        tau = torch.arange(self.steps, device=noise.device) / self.steps
        x = noise
        for step, modulation in enumerate(self.expert.modulate(self._time(tau)).split(1)):

            def velocity(x: Tensor, modulation: Tensor = modulation) -> Tensor:
                return self.expert(self._tokens(x), observed, observation.mask, modulation)

            v = velocity(x) if guide is None else guided_velocity(velocity, x, step / self.steps, guide)
            x = x + v / self.steps
        return x

    def _tokens(self, x: Float[Tensor, "b k a"]) -> Float[Tensor, "b k d"]:
        tokens = self.action_token(x)
        return tokens + self.positions.to(tokens.dtype)

    def _time(self, tau: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return self.time(sinusoids(tau))


def flow_pair(
    actions: Float[Tensor, "b k a"], noise: Float[Tensor, "b k a"], tau: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b k a"], Float[Tensor, "b k a"]]:
    """Returns x = (1 - tau) noise + tau a and the velocity a - noise that it is to be carried with."""
    weight = tau[:, None, None]
    return (1 - weight) * noise + weight * actions, actions - noise


_FREQUENCIES = 32


def sinusoids(tau: Float[Tensor, " b"]) -> Float[Tensor, "b f"]:
    """Returns sin and cos of tau at geometric periods from 4 down to 0.01, (b, 64)."""
    frequencies = torch.logspace(math.log10(0.25), 2, _FREQUENCIES, device=tau.device)
    angles = 2 * math.pi * tau[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
