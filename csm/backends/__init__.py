"""The ways to compute a frame: eagerly, as CUDA graphs, or with packed weights on a CPU."""
