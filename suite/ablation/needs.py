"""What training on real data takes, found out before it starts."""

import itertools
import time

import torch

from suite.ablation.dataset import Dataset
from suite.ablation.jobs import shape_of
from suite.ablation.model import Classifier, inputs
from suite.ablation.studies import Row
from suite.core import memory
from suite.report import units


def sentence(dataset: Dataset, row: Row, batch: int, device: str) -> str:
    """Memory of a process and time of an epoch, from reading and learning a few batches, in words."""
    model = Classifier(row.variant, shape_of(dataset), width=row.width, reads=row.reads).to(device)
    batch_s, before = 0.0, time.perf_counter()
    # the last of three counts, for which nothing is done for the first time any more
    for examples in itertools.islice(dataset.training(0, 0, batch), 3):
        model(inputs(examples, device)).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        batch_s, before = now - before, now
    epoch = units.seconds(batch_s * dataset.batches(batch))
    # this process has read the questions and learnt from regions, as one that trains does; that has Adam's moments, too
    moments_B = 8 * sum(parameter.numel() for parameter in model.parameters())
    process = units.binary(memory.peak_B() + moments_B)
    gpu = ""
    if device == "cuda":
        gpu = f" and {units.binary(torch.cuda.max_memory_allocated() + moments_B)} of the GPU's"
    return f"an epoch of {row.label} takes about {epoch}, a process about {process} of memory{gpu}"
