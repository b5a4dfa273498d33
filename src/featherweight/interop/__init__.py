"""Files of other systems: PyTorch checkpoints and safetensors."""
