"""Direct preference optimization: learn from pairs, without a reward model and without sampling.

    h = log pi(chosen) / pi_ref(chosen) - log pi(rejected) / pi_ref(rejected)
    loss = -log sigmoid(beta h)

beta log(pi / pi_ref) is the reward of which pi is the best policy at a price of beta per nat of KL;
put into Bradley-Terry, the reward itself drops out. Rafailov et al. 2023, section 4.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch.nn.functional as F
from torch import Tensor


def dpo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float = 0.1
) -> Tensor:
    """The mean loss of the pairs.

    All are log-probabilities of whole answers (B,): the policy's, and those of the reference,
    which stays as it was.
    """
    h = (chosen - ref_chosen) - (rejected - ref_rejected)  # (B,)
    return -F.logsigmoid(beta * h).mean()


def main() -> None:
    """Show what the loss asks for: the difference counts, so both may become less likely."""
    import torch

    start = torch.tensor([-10.0])
    print("chosen  rejected  loss")
    for chosen, rejected in ((0, 0), (2, -2), (-10, -50), (5, 5)):
        loss = dpo_loss(start + chosen, start + rejected, start, start)
        print(f"{chosen:+6d}  {rejected:+8d}  {loss:.3f}")


if __name__ == "__main__":
    run_program(main)
