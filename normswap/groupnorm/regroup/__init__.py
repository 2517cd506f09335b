"""Which channels share a group: chosen so that the statistics of each group hold still.

A group normalization of a normalized tensor does least where the mean of each group is near 0 and
its mean square near 1, in every sample. Which channels are in a group is free, as far as the
network can be permuted (:mod:`normswap.permuting`). With m the mean of a channel over one sample
and v the mean of its square, the cost of a group is ``E[m^2] + E[(v - 1)^2] / 4``, m and v averaged
over the group's channels.

- :mod:`~normswap.groupnorm.regroup.measured` : what the channels do on data.
- :mod:`~normswap.groupnorm.regroup.implied` : the same by the weights before, without data.
- :mod:`~normswap.groupnorm.regroup.exchange` : the search.
- :mod:`~normswap.groupnorm.regroup.regroup` : the model in the order that was found.
"""
