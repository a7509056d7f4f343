"""The random numbers of each step of a training: a function of the seed, the step and the process.

Nothing needs to be saved for a resume to draw what it would have drawn, on whatever device and with
however many processes it goes on.
"""

import random

import numpy as np
import torch


def reseed(seed: int, step: int, rank: int = 0) -> None:
    """Seed every generator that a training step draws from.

    Args:
        seed: of the training.
        step: that is about to begin, from 0.
        rank: of this process; each draws its own numbers.
    """
    for_torch, for_numpy, for_python = np.random.SeedSequence([seed, step, rank]).generate_state(3).tolist()
    torch.manual_seed(for_torch)
    np.random.seed(for_numpy)
    random.seed(for_python)
