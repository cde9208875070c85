"""A run stopped anywhere can go on.

A checkpoint is a folder in Hugging Face layout with the training state beside the weights. It is
written beside its final name, hashed, forced to the disk and only then renamed, so that a folder
named ``checkpoint-<step>`` is whole or was damaged afterwards, which its manifest tells. Tensors
are safetensors, everything else is JSON; no pickle is read or written.
"""
