"""Fine-tune CSM on recordings of a voice. docs/TRAINING.md leads from recordings to a voice that speaks.

From the bottom up: `loss` defines the training objective, `lora` and `adapters` which weights are trained and how they
are stored, `dataset` the training data, `trainer` the training loop. The commands are thin scripts on top.
"""
