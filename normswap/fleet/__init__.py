"""One command on many models: which there are, who works on them, and what is not done twice.

::

    places      what names stand for: files, folders, patterns, URLs; where each result goes
    work        a model's job, and what came of it
    records     what was done already, and needs no doing again
    pool        processes of this machine
    cluster     Dask, for more than one machine
    remote      files behind a URL

What a job does is the command of one model, which the edge of the program knows.
"""
