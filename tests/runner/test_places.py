from npas_bench.runner.cluster.places import CONTEXT_BYTES, MOST_ON_A_GPU, Needs, Place, places_of

GIB = 2**30


def gpu(memory=80 * GIB, threads=16):
    return Place("node/0", "node", threads, gpus=1, memory=memory)


def test_a_node_holds_as_many_cells_as_it_has_threads():
    place = Place("node", "node", 2)
    assert place.fits(Needs(1))
    place.taken["a"] = Needs(1)
    assert place.fits(Needs(1))
    assert not place.fits(Needs(2))
    place.taken["b"] = Needs(1)
    assert not place.fits(Needs(1))


def test_what_is_larger_than_an_empty_place_is_run_there_all_the_same():
    assert Place("node", "node", 2, memory=GIB).fits(Needs(4, 9 * GIB))


def test_a_node_holds_as_many_cells_as_fit_into_its_memory():
    place = Place("node", "node", 8, memory=10 * GIB)
    place.taken["a"] = Needs(1, 4 * GIB)
    assert place.fits(Needs(1, 4 * GIB))
    assert not place.fits(Needs(1, 5 * GIB))
    # Nobody knows: as on any machine that runs what it is given.
    assert place.fits(Needs(1))


def test_cells_of_known_memory_share_a_gpu_until_it_is_full():
    place = gpu()
    for number in range(4):
        assert place.fits(Needs(1, 16 * GIB))
        place.taken[str(number)] = Needs(1, 16 * GIB)
    assert not place.fits(Needs(1, 16 * GIB))
    assert place.fits(Needs(1, GIB))


def test_a_cell_of_unknown_memory_has_a_gpu_to_itself_until_it_is_measured():
    place = gpu()
    place.taken["a"] = Needs(1)
    assert not place.fits(Needs(1, GIB))
    place.taken["a"] = Needs(1, GIB)
    assert place.fits(Needs(1, GIB))
    assert not place.fits(Needs(1))


def test_a_gpu_of_unknown_size_is_not_shared():
    place = gpu(memory=None)
    place.taken["a"] = Needs(1, GIB)
    assert not place.fits(Needs(1, GIB))


def test_who_wants_to_be_alone_is():
    place = gpu()
    assert place.fits(Needs(1, GIB, alone=True))
    place.taken["a"] = Needs(1, GIB, alone=True)
    assert not place.fits(Needs(1, GIB))
    place.taken["a"] = Needs(1, GIB)
    assert not place.fits(Needs(1, GIB, alone=True))


def test_a_gpu_is_shared_by_few():
    place = gpu()
    for number in range(MOST_ON_A_GPU):
        assert place.fits(Needs(1, 1))
        place.taken[str(number)] = Needs(1, 1)
    assert not place.fits(Needs(1, 1))


def test_cells_that_share_a_gpu_share_its_nodes_threads():
    place = gpu(threads=2)
    place.taken |= {"a": Needs(1, GIB), "b": Needs(1, GIB)}
    assert not place.fits(Needs(1, GIB))


def test_nothing_is_run_on_a_place_in_trouble():
    place = gpu()
    place.trouble = "another version"
    assert not place.fits(Needs(1, GIB))


def test_a_share_follows_from_measured_memory():
    place = gpu()
    place.taken["a"] = Needs(1)
    assert place.share("a") == 1.0
    place.taken["a"] = Needs(1, 16 * GIB)
    assert place.share("a") == (1.15 * 16 * GIB + CONTEXT_BYTES) / (80 * GIB)
    assert Place("node", "node", 2, taken={"a": Needs(1)}).share("a") is None


def test_the_places_of_a_cluster_are_nodes_or_gpus():
    resources = {
        "a": {"CPU": 16.0, "GPU": 4.0, "memory": 8.0 * GIB, "gpu_memory": 24.0 * GIB},
        "b": {"CPU": 2.0, "memory": 4.0 * GIB},
        "head": {"memory": 4.0 * GIB},
    }
    assert [(p.name, p.threads, p.gpus, p.memory) for p in places_of(resources, "cpu", 1)] == [
        ("a", 16, 0, 8 * GIB),
        ("b", 2, 0, 4 * GIB),
    ]
    assert [(p.name, p.threads, p.gpus, p.memory) for p in places_of(resources, "cuda", 1)] == [
        (f"a/{number}", 4, 1, 24 * GIB) for number in range(4)
    ]
    assert [(p.name, p.threads, p.gpus) for p in places_of(resources, "cuda", 2)] == [("a/0", 8, 2), ("a/1", 8, 2)]


def test_idle_workers_on_a_gpu_take_memory_too():
    place = gpu(memory=10 * GIB)
    place.taken["a"] = Needs(1, 7 * GIB)
    assert place.spares(0)
    assert place.spares(1)
    assert not place.spares(3)
    place.taken["a"] = Needs(1)
    assert not place.spares(1)
