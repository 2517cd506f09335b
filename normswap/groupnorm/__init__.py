"""BatchNormalization to group normalization: another network, and provably the one it says it is.

::

    planner -> plan     which nodes, how many groups (policy), which form (choose, by what
                        forms/ say of themselves and cpu of speed), and what goes along
                        (neighbours: constants beside it; fusion: the activation)
    calibrate           the affine that follows the original network on the user's data
    apply, builder      nodes in the place of nodes; forms/: one file a way to write it
    verify              the float64 reference against every node (layercheck; isolation, where
                        its activations can't be seen) and the network (hybrid)
    drift               how far the network has moved, which is no error
    recalibrate         new running statistics for BatchNormalization itself
"""
