"""Adam on clipped gradients, with what does not change from step to step looked up once.

To the bit it does what ``torch.nn.utils.clip_grad_norm_`` and ``torch.optim.Adam`` do one after the other. Both look at
each weight several times in Python in each step, which for the many small weights of a network takes milliseconds, on
whatever device they are.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

_LEAST_NORM = 1e-6  # added to the norm that gradients are divided by, as in clip_grad_norm_
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")


class ClippedAdam(torch.optim.Adam):
    """Adam with AMSGrad, as published, for weights of one device and type that all have a gradient.

    Args:
        weights: what learns.
        weight_decay: L2 regularization.
        gradient_norm: the longest gradient, of all weights together; a longer one is scaled to it.
    """

    def __init__(self, weights: Iterable[nn.Parameter], weight_decay: float, gradient_norm: float) -> None:
        super().__init__(weights, lr=0.0, weight_decay=weight_decay, amsgrad=True, fused=True)
        self._gradient_norm = gradient_norm
        self._moments: list[list[Tensor]] | None = None

    @torch.no_grad()
    def clipped_step(self, learning_rate: float) -> Tensor:
        """Change the weights by their gradients, which are clipped; waits for no device.

        Returns:
            the gradient's norm before it was clipped, on the device.
        """
        (group,) = self.param_groups
        group["lr"] = learning_rate
        gradients: list[Tensor] = [weight.grad for weight in group["params"]]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self._gradient_norm / (norm + _LEAST_NORM)).clamp(max=1.0))
        if self._moments is None:
            self.step()  # makes them, unless they were loaded
            states = [self.state[weight] for weight in group["params"]]
            self._moments = [[state[name] for state in states] for name in _MOMENTS]
            return norm
        beta1, beta2 = group["betas"]
        means, mean_squares, highest_mean_squares, steps = self._moments
        adam(
            group["params"],
            gradients,
            means,
            mean_squares,
            highest_mean_squares,
            steps,
            fused=True,
            amsgrad=True,
            beta1=beta1,
            beta2=beta2,
            lr=learning_rate,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        return norm

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in PyTorch."""
        super().load_state_dict(state_dict)
        self._moments = None
