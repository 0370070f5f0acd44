"""CSM and Mimi in MLX, Apple's array library: the fastest way on Apple silicon (docs/PERFORMANCE.md).

Needs the package mlx. On Linux MLX computes on the CPU, which is useful for tests.
"""
