"""What ocistore costs, beside the least that the same guarantees can cost; run it as ``python -m benchmarks``."""
