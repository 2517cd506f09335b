"""Which channels share a group: chosen so that the statistics of each group hold still."""
