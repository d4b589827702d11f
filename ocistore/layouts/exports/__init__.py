"""The parts of an export, in the order in which it uses them.

``forms`` says what a destination asks for, ``choosing`` what goes out, and ``bases`` what the other side has. A
directory is written by ``writing``; an archive by ``archiving`` or ``dockerwriting``, to an ``outlet``.
:mod:`ocistore.layouts.exporting` puts them together, and :mod:`ocistore.layouts.copying` chooses with the same.
"""
