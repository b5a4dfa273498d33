"""What a compressed model costs: sizes, nonzeros and accuracy as data, and the tables and figures of them.

- :mod:`featherweight.analysis.sizes`: bytes of a ``.fwt`` file beside Han's accounting of its layers;
- :mod:`featherweight.analysis.sparsity`: how many weights of a model are nonzero;
- :mod:`featherweight.analysis.tables`: both as tables for a terminal;
- :mod:`featherweight.analysis.sweep`, :mod:`~featherweight.analysis.sensitivity`: accuracy against sparsity
  or bits, what to measure and what was found, kept in a :mod:`~featherweight.analysis.journal`;
- :mod:`featherweight.analysis.report`: a page about a run or a file, to open in a browser;
- :mod:`featherweight.analysis.side_by_side`: files of one network, and how far their weights are apart;
- :mod:`featherweight.analysis.plots`: the style of all figures, which
  :mod:`~featherweight.analysis.sensitivity_plots` and :mod:`~featherweight.analysis.histograms` draw.
"""
