"""CSM and Mimi in MLX, Apple's array library: on Apple silicon the way that is fastest (docs/PERFORMANCE.md).

Needs the package mlx. On Linux it computes on the processor, which serves the tests.
"""
