from npas_bench.runner.cluster.slots import CONTEXT_BYTES, MOST_ON_A_GPU, Needs, Slot, slots_of

GIB = 2**30


def gpu(memory=80 * GIB, threads=16):
    return Slot("node/0", "node", threads, gpus=1, memory=memory)


def test_a_node_holds_as_many_cells_as_it_has_threads():
    slot = Slot("node", "node", 2)
    assert slot.fits(Needs(1))
    slot.taken["a"] = Needs(1)
    assert slot.fits(Needs(1))
    assert not slot.fits(Needs(2))
    slot.taken["b"] = Needs(1)
    assert not slot.fits(Needs(1))


def test_what_is_larger_than_an_empty_place_is_run_there_all_the_same():
    assert Slot("node", "node", 2, memory=GIB).fits(Needs(4, 9 * GIB))


def test_a_node_holds_as_many_cells_as_fit_into_its_memory():
    slot = Slot("node", "node", 8, memory=10 * GIB)
    slot.taken["a"] = Needs(1, 4 * GIB)
    assert slot.fits(Needs(1, 4 * GIB))
    assert not slot.fits(Needs(1, 5 * GIB))
    # Nobody knows: as on any machine that runs what it is given.
    assert slot.fits(Needs(1))


def test_cells_of_known_memory_share_a_gpu_until_it_is_full():
    slot = gpu()
    for number in range(4):
        assert slot.fits(Needs(1, 16 * GIB))
        slot.taken[str(number)] = Needs(1, 16 * GIB)
    assert not slot.fits(Needs(1, 16 * GIB))
    assert slot.fits(Needs(1, GIB))


def test_a_cell_of_unknown_memory_has_a_gpu_to_itself_until_it_is_measured():
    slot = gpu()
    slot.taken["a"] = Needs(1)
    assert not slot.fits(Needs(1, GIB))
    slot.taken["a"] = Needs(1, GIB)
    assert slot.fits(Needs(1, GIB))
    assert not slot.fits(Needs(1))


def test_a_gpu_of_unknown_size_is_not_shared():
    slot = gpu(memory=None)
    slot.taken["a"] = Needs(1, GIB)
    assert not slot.fits(Needs(1, GIB))


def test_who_wants_to_be_alone_is():
    slot = gpu()
    assert slot.fits(Needs(1, GIB, alone=True))
    slot.taken["a"] = Needs(1, GIB, alone=True)
    assert not slot.fits(Needs(1, GIB))
    slot.taken["a"] = Needs(1, GIB)
    assert not slot.fits(Needs(1, GIB, alone=True))


def test_a_gpu_is_shared_by_few():
    slot = gpu()
    for number in range(MOST_ON_A_GPU):
        assert slot.fits(Needs(1, 1))
        slot.taken[str(number)] = Needs(1, 1)
    assert not slot.fits(Needs(1, 1))


def test_cells_that_share_a_gpu_share_its_nodes_threads():
    slot = gpu(threads=2)
    slot.taken |= {"a": Needs(1, GIB), "b": Needs(1, GIB)}
    assert not slot.fits(Needs(1, GIB))


def test_nothing_is_run_on_a_place_in_trouble():
    slot = gpu()
    slot.trouble = "another version"
    assert not slot.fits(Needs(1, GIB))


def test_a_share_follows_from_measured_memory():
    slot = gpu()
    slot.taken["a"] = Needs(1)
    assert slot.share("a") == 1.0
    slot.taken["a"] = Needs(1, 16 * GIB)
    assert slot.share("a") == (1.15 * 16 * GIB + CONTEXT_BYTES) / (80 * GIB)
    assert Slot("node", "node", 2, taken={"a": Needs(1)}).share("a") is None


def test_the_places_of_a_cluster_are_nodes_or_gpus():
    resources = {
        "a": {"CPU": 16.0, "GPU": 4.0, "memory": 8.0 * GIB, "gpu_memory": 24.0 * GIB},
        "b": {"CPU": 2.0, "memory": 4.0 * GIB},
        "head": {"memory": 4.0 * GIB},
    }
    assert [(p.name, p.threads, p.gpus, p.memory) for p in slots_of(resources, "cpu", 1)] == [
        ("a", 16, 0, 8 * GIB),
        ("b", 2, 0, 4 * GIB),
    ]
    assert [(p.name, p.threads, p.gpus, p.memory) for p in slots_of(resources, "cuda", 1)] == [
        (f"a/{number}", 4, 1, 24 * GIB) for number in range(4)
    ]
    assert [(p.name, p.threads, p.gpus) for p in slots_of(resources, "cuda", 2)] == [("a/0", 8, 2), ("a/1", 8, 2)]


def test_idle_workers_on_a_gpu_take_memory_too():
    slot = gpu(memory=10 * GIB)
    slot.taken["a"] = Needs(1, 7 * GIB)
    assert slot.spares(0)
    assert slot.spares(1)
    assert not slot.spares(3)
    slot.taken["a"] = Needs(1)
    assert not slot.spares(1)
