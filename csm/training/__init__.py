"""Training a voice: CSM fine-tuned on recordings. docs/TRAINING.md leads from recordings to a voice that speaks.

From the ground up: `loss` is what is learnt, `lora` and `adapters` what changes and how it is kept, `dataset` what it
is learnt from, `trainer` the loop around them; the commands are thin scripts over these.
"""
