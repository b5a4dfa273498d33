"""Quantization: codebooks, and the assignment of weights to their values; each method by its paper's name."""

from featherweight.quantization.assign import assign_nearest, midpoints
from featherweight.quantization.compact import drop_unused, round_codebook
from featherweight.quantization.ecsq import RATES, quantize_ecsq
from featherweight.quantization.fixed_point import quantize_fixed_point
from featherweight.quantization.kmeans import INITIALIZATIONS, kmeans_codebook, lloyd, quantize_kmeans
from featherweight.quantization.optimal import quantize_optimal
from featherweight.quantization.output_aware import (
    InputCovariance,
    output_error,
    prior_covariance,
    round_to_outputs,
    round_to_outputs_and_bits,
)
from featherweight.quantization.per_channel import quantize_per_channel
from featherweight.quantization.rounding import round_to
from featherweight.quantization.ternary import quantize_ternary
from featherweight.quantization.uniform import quantize_uniform
from featherweight.quantization.weighted import adam_second_moments, fisher_diagonal, quantize_weighted

__all__ = [
    "INITIALIZATIONS",
    "RATES",
    "InputCovariance",
    "adam_second_moments",
    "assign_nearest",
    "drop_unused",
    "fisher_diagonal",
    "kmeans_codebook",
    "lloyd",
    "midpoints",
    "output_error",
    "prior_covariance",
    "quantize_ecsq",
    "quantize_fixed_point",
    "quantize_kmeans",
    "quantize_optimal",
    "quantize_per_channel",
    "quantize_ternary",
    "quantize_uniform",
    "quantize_weighted",
    "round_codebook",
    "round_to",
    "round_to_outputs",
    "round_to_outputs_and_bits",
]
