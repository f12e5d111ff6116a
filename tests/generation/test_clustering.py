import pytest
import torch

from npas_bench.generation.clustering import gather, k_means


def test_members_of_one_key_come_together_in_the_order_of_first_members():
    assert gather("abcdef", [2, 1, 2, None, 1, 2]) == [["a", "c", "f"], ["b", "e"], ["d"]]
    assert gather([], []) == []
    with pytest.raises(ValueError, match="shorter"):
        gather("ab", [1])


def test_k_means_finds_the_same_clusters_whatever_was_drawn_before():
    points = torch.cat([torch.randn(20, 3) + 9 * i for i in range(3)])
    torch.manual_seed(1)
    first = k_means(points, 3, seed=4)
    torch.rand(7)
    assert k_means(points, 3, seed=4) == first
    assert [len(members) for members in gather(range(60), first)] == [20, 20, 20]
    assert k_means(points.t().contiguous().t(), 3, seed=4) == first


def test_fewer_clusters_are_found_where_points_coincide_without_a_warning(recwarn):
    assert len(set(k_means(torch.ones(6, 2), 3, seed=0))) == 1
    assert list(recwarn) == []
