"""What a compressed model costs: sizes and nonzeros as data, and the tables that show them.

- :mod:`featherweight.analysis.sizes`: bytes of a ``.fwt`` file beside Han's accounting of its layers;
- :mod:`featherweight.analysis.sparsity`: how many weights of a model are nonzero;
- :mod:`featherweight.analysis.tables`: both as tables for a terminal.
"""
