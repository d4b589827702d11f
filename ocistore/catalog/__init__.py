"""The catalog: rows about repositories, tags, manifests, blobs and uploads, in one database. It knows no files."""
