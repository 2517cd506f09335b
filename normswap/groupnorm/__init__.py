"""BatchNormalization to group normalization: another network, and provably the one it says it is.

::

    planner -> plan     which nodes, how many groups (policy), which form (choose, by what
                        forms/ say of themselves and cpu of speed), and what goes along
                        (neighbours: constants beside it; fusion: the activation)
    normalize           the same network, whose statistics are in what is before its layers:
                        that is the one that is swapped
    calibrate           the affine that follows the original network on the user's data
    apply, builder      nodes in the place of nodes; forms/: one file a way to write it
    intent              what it should come to: the original, its layers written out by definition,
                        which the check (:mod:`normswap.check`) compares with what was written
    behaviour, drift,   how far the network has moved, a sample in its batch, and how often it is
    accuracy            right, which is no error
    statistics          whose running statistics are whose, in functions and in two places too
    recalibrate         new ones for BatchNormalization itself; freeze: training mode to inference
    estimate            those of all data as one batch, level by level (levels), in a network that
                        is fed them (opened); turns: what is in bodies comes out of them
"""
