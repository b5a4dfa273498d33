"""A mask that is revised while the weights behind it go on training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from featherweight.constraints.latent import Latent
from featherweight.errors import TensorError
from featherweight.pruning.surgery import revised_mask, revises

if TYPE_CHECKING:
    from featherweight.pruning.surgery import SurgeryOptions


@dataclass(eq=False)
class Surgery(Latent):
    """Dynamic network surgery (Guo, Yao & Chen 2016): the network computes with shadow ∘ mask.

    The gradient of the masked weight moves all of the shadow, so that a pruned weight can come back. As in
    the paper's algorithm the mask is revised by the shadow before the step's own update.

    Attributes:
        mask: bool, in the weight's shape; false where pruned for the time being.
        name: of the parameter, for the draws and for errors.
        threshold: t of the layer.
        gamma: as in :class:`~featherweight.pruning.surgery.SurgeryOptions`.
        power: as there.
        iter_stop: as there.
        seed: as there.
        iteration: optimizer steps so far.
        allow_empty: whether the mask may keep nothing.
    """

    quantizes: ClassVar[bool] = False

    mask: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    name: str = ""
    threshold: float = 0.0
    gamma: float = 1e-4
    power: float = 1.0
    iter_stop: int = 1
    seed: int = 0
    iteration: int = 0
    allow_empty: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        weight: torch.Tensor,
        options: SurgeryOptions,
        mask: torch.Tensor | None = None,
        *,
        allow_empty: bool = False,
    ) -> Surgery:
        """Begin on a weight, with nothing pruned or the mask so far."""
        shadow = weight.detach().clone()
        return cls(
            shadow,
            mask=torch.ones_like(shadow, dtype=torch.bool) if mask is None else mask.clone(),
            name=name,
            threshold=options.threshold(shadow),
            gamma=options.gamma,
            power=options.power,
            iter_stop=options.iter_stop,
            seed=options.seed,
            allow_empty=allow_empty,
        )

    def nonzero(self) -> torch.Tensor:
        """Where the weight may differ from zero: the mask as it is now."""
        return self.mask

    def before_update(self, weight: torch.nn.Parameter) -> None:
        """Revise the mask if it is this step's turn, and put the shadow in the weight's place.

        Raises:
            TensorError: where nothing would be left.
        """
        if revises(self.name, self.iteration, self.gamma, self.power, self.iter_stop, self.seed):
            self.mask = revised_mask(self.shadow, self.mask, self.threshold)
            if not self.allow_empty and self.mask.numel() and not self.mask.any():
                raise TensorError(
                    f"{self.name}: surgery has pruned it to nothing; give a smaller c_rate, "
                    f"or set allow_empty: true"
                )
        super().before_update(weight)

    def updated(self, weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer | None) -> None:
        """Count the step."""
        self.iteration += 1

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set the weight to what the mask keeps of the shadow."""
        weight.copy_(self.shadow.masked_fill(~self.mask, 0))

    def sound(self) -> bool:
        """Whether what a checkpoint held fits together: a mask in the weight's shape."""
        return super().sound() and self._is_mask(self.mask)
