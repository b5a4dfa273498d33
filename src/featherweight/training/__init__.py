"""Training with Lightning: the module, the callbacks, and the phases of a whole run."""
