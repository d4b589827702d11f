"""OCI layouts and archives of images: importing and exporting them, and copying from store to store.

``importing``, ``exporting`` and ``copying`` are the entrances; what only one direction needs is in ``imports/`` and
``exports/``; what they share is here: the ``directory`` of a layout, its ``index`` with the rules for names, the
``transfer`` into a store, and ``progress``.
"""
