"""What a third party needs to test its own parts of a store: conformance suites, shipped and run by pytest."""
