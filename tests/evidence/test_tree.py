from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.tree import EMPTY_ROOT, GrowingTree, leaf_hash, node_hash, root_from_run, root_of, run_proof


def reference(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, as it is written there."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + reference(leaves[:k]) + reference(leaves[k:])).digest()


def test_known_answers() -> None:
    """Of RFC 6962's widely used test vectors: the tree over these eight inputs."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(one)) for one in inputs]
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaves[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of(leaves[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root_of(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_a_growing_tree_has_the_reference_head_at_every_size(leaves: list[bytes]) -> None:
    tree = GrowingTree()
    for size, leaf in enumerate(leaves):
        assert tree.root() == reference(leaves[:size])
        tree.add(leaf)
    assert tree.root() == reference(leaves)
    assert tree.count == len(leaves)


@given(st.data())
def test_a_run_proves_itself_and_nothing_else(data: st.DataObject) -> None:
    leaves = [leaf_hash(bytes([one])) for one in range(data.draw(st.integers(1, 40)))]
    first = data.draw(st.integers(0, len(leaves) - 1))
    count = data.draw(st.integers(1, len(leaves) - first))
    proof = run_proof(leaves, first, count)
    run = leaves[first : first + count]
    root = root_of(leaves)
    assert root_from_run(run, first, len(leaves), proof) == root
    assert len(proof) <= 2 * len(leaves).bit_length()
    wrong = [*run]
    at = data.draw(st.integers(0, count - 1))
    wrong[at] = leaf_hash(b"another")
    assert root_from_run(wrong, first, len(leaves), proof) != root
    if count > 1:
        with pytest.raises(ValueError):
            run_proof(leaves, first, len(leaves) - first + 1)
        assert _fails(run[:-1], first, len(leaves), proof, root)
    if first:
        assert _fails(run, first - 1, len(leaves), proof, root)


def _fails(run: list[bytes], first: int, size: int, proof: list[bytes], root: bytes) -> bool:
    try:
        return root_from_run(run, first, size, proof) != root
    except ValueError:
        return True


def test_an_inclusion_proof_has_the_hashes_of_the_rfc() -> None:
    leaves = [leaf_hash(bytes([one])) for one in range(7)]
    left = root_of(leaves[:4])
    assert set(run_proof(leaves, 5, 1)) == {left, leaves[4], leaves[6]}
    assert node_hash(left, node_hash(node_hash(leaves[4], leaves[5]), leaves[6])) == root_of(leaves)


@pytest.mark.parametrize("change", [lambda proof: proof[:-1], lambda proof: [*proof, bytes(32)]])
def test_a_proof_of_another_length_is_none(change: object) -> None:
    leaves = [leaf_hash(bytes([one])) for one in range(9)]
    assert callable(change)
    with pytest.raises(ValueError, match="too"):
        root_from_run(leaves[2:4], 2, 9, change(run_proof(leaves, 2, 2)))
