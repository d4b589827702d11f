"""OCI layouts and archives of images, in and out, and from store to store.

``importing``, ``exporting`` and ``copying`` are the three ways; what only one direction needs is in ``imports/`` and
``exports/``; what they share is here: the ``directory`` of a layout, its ``index`` with the rules for names, the
``intake`` of a store, and ``progress``.
"""
