"""BatchNormalization put back into models whose exporter folded it, as an exact identity.

``layers``
    What the linear layers of a network are.
``places``
    Behind which of them a BatchNormalization belongs.
``observe``
    The statistics of what comes out of these on data.
``identity``
    The BatchNormalization that has these statistics and changes nothing.
``plan``
    All of it as data: what is put where, and what is left out and why.
``apply``
    Puts it into the model.
"""
