"""Lightning callbacks: prune, share and save while a network trains."""

from featherweight.training.callbacks.dropout import AdjustDropout
from featherweight.training.callbacks.iterative_pruning import IterativePruning
from featherweight.training.callbacks.log_compression import LogCompression
from featherweight.training.callbacks.pruning_functions import L1Threshold
from featherweight.training.callbacks.quantization import Quantization
from featherweight.training.callbacks.recipe_callbacks import PruneByRecipe, ShareByRecipe
from featherweight.training.callbacks.save_compressed import SaveCompressed

__all__ = [
    "AdjustDropout",
    "IterativePruning",
    "L1Threshold",
    "LogCompression",
    "PruneByRecipe",
    "Quantization",
    "SaveCompressed",
    "ShareByRecipe",
]
