"""How a frame is computed: plainly, as CUDA graphs, or with packed weights on a processor."""
