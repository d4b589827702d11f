"""The parts of an export, in the order in which it uses them.

``formats`` says what a destination asks for, ``selection`` what is exported, and ``exclusions`` what the other side
has. A directory is written by ``layoutfiles``; an archive by ``ociarchive`` or ``dockerarchive``, to a ``sink``.
:mod:`ocistore.layouts.exporting` puts them together, and :mod:`ocistore.layouts.copying` uses the same ``selection``.
"""
