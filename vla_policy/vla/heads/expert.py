"""The action expert: a small transformer over action tokens that reads the fused observation."""

from __future__ import annotations

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.attention import CrossAttention, FeedForward, LayerNorm
from vla_policy.config import ModelConfig
from vla_policy.types import TokenGroup

KeysValues = tuple[Tensor, Tensor]


class ExpertBlock(nn.Module):
    """Attention to the action tokens and the observation at once, then a feed-forward part, each AdaLN-modulated.

    x + gate * Attention(mod(LN x), [x, observation]), then x + gate * FeedForward(mod(LN x)), where
    mod(y) = (1 + scale) y + shift.
    One attention over both, as in pi0 (arXiv 2410.24164), is half the operations of self- then cross-attention. The
    modulation follows DiT (arXiv 2212.09748), but the gates start at one.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width, elementwise_affine=False)
        self.attention = CrossAttention(width, heads)
        self.feedforward_norm = LayerNorm(width, elementwise_affine=False)
        self.feedforward = FeedForward(width)

    def forward(
        self,
        x: Float[Tensor, "b k d"],
        observed: KeysValues,
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b k m"],
        modulation: Float[Tensor, "c six d"],
    ) -> tuple[Float[Tensor, "b k d"], KeysValues]:
        """Returns the updated action tokens, and the keys and values that they attended to: their own, then `observed`.

        Args:
            x: action tokens.
            observed: keys and values of the observation.
            mask: (b, k + n) True = valid, action tokens first; or (b, k, k + n), per action token.
            modulation: shift, scale, gate of the attention, then of the feed-forward part; c = b or 1.
        """
        shift, scale, gate, shift2, scale2, gate2 = modulation.to(x.dtype)[:, :, None].unbind(1)
        y = torch.addcmul(shift, self.attention_norm(x), 1 + scale)
        keys, values = self.attention.keys_values(y)
        joined = (torch.cat((keys, observed[0]), dim=2), torch.cat((values, observed[1]), dim=2))
        x = x + (1 + gate) * self.attention.attend(y, joined, mask)
        y = torch.addcmul(shift2, self.feedforward_norm(x), 1 + scale2)
        return x + (1 + gate2) * self.feedforward(y), joined


class ActionExpert(nn.Module):
    """Action tokens -> one vector of action size per token, given the observation and a condition.

    Args:
        config: expert width, heads and layers, chunk size.
        action_dim: a.
    """

    def __init__(self, config: ModelConfig, action_dim: int) -> None:
        super().__init__()
        width, layers = config.expert_width, config.expert_layers
        self.context = nn.Linear(config.width, width)
        self.blocks = nn.ModuleList(ExpertBlock(width, config.expert_heads) for _ in range(layers))
        self.modulation = nn.Linear(width, (6 * layers + 2) * width)
        self.norm = LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, action_dim)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def observe(self, observation: TokenGroup) -> list[KeysValues]:
        """Returns every layer's keys and values of the observation: computed once for all flow steps."""
        context = self.context(observation.tokens)
        return [block.attention.keys_values(context) for block in self.blocks]  # pyright: ignore

    def modulate(self, condition: Float[Tensor, "c d"]) -> Float[Tensor, "c m d"]:
        """Returns all layers' modulations by a condition, (c, 6 layers + 2, d)."""
        return self.modulation(condition).unflatten(1, (-1, condition.shape[-1]))

    def forward(
        self,
        x: Float[Tensor, "b k d"],
        observed: list[KeysValues],
        mask: Bool[Tensor, "b n"],
        modulation: Float[Tensor, "c m d"],
        among: Bool[Tensor, "k k"] | None = None,
    ) -> Float[Tensor, "b k a"]:
        """Returns one vector per action token, float32.

        Args:
            x: action tokens, positions included.
            observed: from `observe`.
            mask: True = valid, of the observation's tokens.
            modulation: from `modulate`; c = b or 1.
            among: True = this action token (row) may attend to that one; None = all to all.
        """
        if among is None:
            return self.extend(x, observed, mask, modulation)[0]
        rows = mask[:, None].expand(-1, x.shape[1], -1)
        return self._run(x, observed, torch.cat((among.expand(x.shape[0], -1, -1), rows), dim=2), modulation)[0]

    def extend(
        self,
        x: Float[Tensor, "b k d"],
        observed: list[KeysValues],
        mask: Bool[Tensor, "b n"],
        modulation: Float[Tensor, "c m d"],
    ) -> tuple[Float[Tensor, "b k a"], list[KeysValues], Bool[Tensor, "b k+n"]]:
        """Returns as `forward` does, with what tokens that come later read in place of `observed` and `mask`.

        So a token that attends to all earlier ones costs one token: it needs none of them again.
        """
        mask = torch.cat((mask.new_ones(x.shape[0], x.shape[1]), mask), dim=1)
        return *self._run(x, observed, mask, modulation), mask

    def _run(
        self, x: Tensor, observed: list[KeysValues], mask: Tensor, modulation: Tensor
    ) -> tuple[Tensor, list[KeysValues]]:
        read: list[KeysValues] = []
        for index, block in enumerate(self.blocks):
            x, keys_values = block(x, observed[index], mask, modulation[:, 6 * index : 6 * index + 6])
            read.append(keys_values)
        shift, scale = modulation[:, -2:].to(x.dtype)[:, :, None].unbind(1)
        return self.out(torch.addcmul(shift, self.norm(x), 1 + scale)).float(), read


def repeat_observed(observed: list[KeysValues], times: int) -> list[KeysValues]:
    """Returns keys and values with every sample repeated, (b * times, heads, n, d_h), sample-major."""
    return [
        (
            repeat(keys, "b h n d -> (b f) h n d", f=times),
            repeat(values, "b h n d -> (b f) h n d", f=times),
        )
        for keys, values in observed
    ]
