"""A prediction in shards: several processes, on one machine or many, predict a share of the images each.

Each appends what it predicted to a file of its own in ``S.parts/`` beside ``S.csv``. A run with ``--resume``
takes all that is there, of whichever processes, predicts what is missing, such as the share of a process that
was killed, and writes the same files as a run that predicted everything itself; where images came or went
meanwhile, and batches have several, up to the rounding of other batches.
"""
