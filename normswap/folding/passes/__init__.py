"""The passes of a fold, one a file.

A pass takes a draft and a graph of it, makes what edits it knows, notes in the draft's records what
came of them, and says whether it has edited anything. It may rely on nothing but the draft: what
another pass has done is there, and what it undoes itself is gone.
:func:`normswap.folding.planner.make_plan` lists them in order.
"""
