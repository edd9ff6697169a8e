from rempart.kernel.ids import new_id


def test_ids_are_unique_and_carry_their_prefix() -> None:
    ids = {new_id("dec") for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(i) == 30 and i.startswith("dec_") for i in ids)


def test_ids_sort_by_time(monkeypatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    earlier = new_id("evt")
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_001_000_000)
    assert earlier < new_id("evt")
