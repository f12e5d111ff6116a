import math

from npas_bench.database.cleaning import storable


def test_what_some_database_refuses_is_taken_out():
    fields = {
        "message": "a\0b \udce4",
        "device": "x" * 300,
        "structure": {"clusters": [1.5, math.nan], "names": ("y\0",)},
        "parameters": 5,
        "largest": None,
    }
    assert storable(fields) == {
        "message": "a\\0b \\udce4",
        "device": "x" * 200,
        "structure": {"clusters": [1.5, None], "names": ["y\\0"]},
        "parameters": 5,
        "largest": None,
    }
