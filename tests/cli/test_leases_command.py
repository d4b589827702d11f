"""ocistore leases: listing leases, and ending them."""

import json
from datetime import timedelta

import pytest

from ocistore import LeaseExpiredError


def test_leases_are_listed_with_what_they_keep(run, store, repository):
    assert run("leases") == ""
    with store.lease(ttl=timedelta(hours=1), reason="a build") as lease:
        repository.put_blob(b"kept")
        [printed] = json.loads(run("leases", "--json"))
        assert (printed["id"], printed["reason"]) == (lease.id, "a build")
        assert (printed["manifests"], printed["blobs"]) == (0, 1)
        assert printed["expires"].endswith("Z")
        line = run("leases", "list")
        assert line.startswith(f"{lease.id}  0 manifests, 1 blobs  until ")
        assert line.endswith("  a build\n")


def test_leases_are_ended_by_their_ids(run, store, repository):
    with store.lease(ttl=timedelta(hours=1)) as one, store.lease(ttl=timedelta(hours=1)) as two:
        run("leases", "end", one.id, two.id)
        assert run("leases") == ""
        with pytest.raises(LeaseExpiredError):
            repository.put_blob(b"more")
    assert run.try_("leases", "end", one.id).exit_code == LeaseExpiredError.exit_code
