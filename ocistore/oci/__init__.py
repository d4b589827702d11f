"""The values of the OCI specifications: digests, references, descriptors, manifests. Pure: nothing here does I/O."""
