"""The loop, short enough to be read in one sitting.

``Run`` holds the assembled parts, ``fit`` walks through the steps, ``train_step`` is one of them;
its file holds the only call of ``backward``. The loop asks nobody which model, objective or
parallelism it has: those are chosen at assembly.
"""
