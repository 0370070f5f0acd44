"""The ways to compute a frame: eagerly, as CUDA graphs, with packed weights on a CPU, or in MLX."""
