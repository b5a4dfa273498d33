"""Quantization: codebooks, and the assignment of weights to their values."""

from featherweight.quantization.assign import assign_nearest, midpoints
from featherweight.quantization.kmeans import INITIALIZATIONS, kmeans_codebook, lloyd, quantize_kmeans

__all__ = [
    "INITIALIZATIONS",
    "assign_nearest",
    "kmeans_codebook",
    "lloyd",
    "midpoints",
    "quantize_kmeans",
]
