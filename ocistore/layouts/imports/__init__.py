"""The parts of an import, in the order in which it uses them.

``detection`` opens its argument as a ``source``: a ``directorysource`` or an ``archivesource``, which reads an
``archive`` in place or a ``stream`` once, its ``members`` checked, and ``docker`` archives as layouts; ``storebacked``
adds what the store has. For a ``request``, ``planning`` reads the ``manifests`` and makes a ``plan``, which
:mod:`ocistore.layouts.importing` carries out.
"""
