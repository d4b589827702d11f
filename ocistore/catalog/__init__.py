"""The catalog: rows about repositories, tags, manifests, blobs and uploads, in one SQLite database. It knows no files."""
