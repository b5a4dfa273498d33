"""Featherweight: trained PyTorch networks in files tens to hundreds of times smaller."""
