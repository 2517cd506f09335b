"""What changed between two models, as a person would say it.

``pairs``
    Which node of one is which of the other, by the classes of the proof's table, by names, and by
    what they read and what reads them.
``changes``
    What is different in those that are the same node.
"""
