"""The parts of an import, in the order in which it uses them.

``recognition`` opens what there is as a ``source``: a ``directorysource`` or an ``archivesource``, which reads an
``archive`` in place or a ``stream`` once, its ``members`` checked, and ``docker`` archives as layouts; ``completion``
adds what the store has. Of what is ``wanted`` a ``survey`` reads the ``manifests``. :mod:`ocistore.layouts.importing`
takes it in.
"""
