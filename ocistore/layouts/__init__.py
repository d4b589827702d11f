"""OCI layouts, in and out (image specification, "OCI Image Layout")."""
